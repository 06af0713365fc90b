//! The kernel's table of listening TCP sockets.

use std::io::{self, BufRead as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::files::{kernel_text, open_config};

/// One listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListeningSocket {
    /// What it is bound to, possibly a wildcard.
    pub address: SocketAddr,
    /// The user who made it.
    pub uid: u32,
    /// Its identity.
    pub inode: u64,
}

/// Every listening socket that a connection to `address` could reach, the one bound to exactly it first.
///
/// Empty where the platform has no such table.
pub fn listeners_on(address: SocketAddr) -> Vec<ListeningSocket> {
    let mut found: Vec<_> = all().into_iter().filter(|socket| reaches(socket.address, address)).collect();
    found.sort_by_key(|socket| socket.address.ip().is_unspecified());
    found
}

/// Every listening socket.
pub(super) fn all() -> Vec<ListeningSocket> {
    let rows = |path| kernel_text(path).unwrap_or_default();
    let (v4, v6) = (rows("/proc/net/tcp"), rows("/proc/net/tcp6"));
    v4.lines().chain(v6.lines()).filter_map(parse).collect()
}

/// One TCP socket, in whatever state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpSocket {
    /// `listen`, `established`, …
    pub(crate) state: &'static str,
    /// Its own address.
    pub(crate) local: SocketAddr,
    /// The other end; none of one that listens.
    pub(crate) remote: Option<SocketAddr>,
    /// Its identity.
    pub(crate) inode: u64,
}

/// One of the kernel's tables of TCP sockets. Making one takes it a millisecond or two, however few there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketTable {
    /// Of IPv4.
    V4,
    /// Of IPv6, and of IPv4 through it.
    V6,
}

impl SocketTable {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The sockets that somebody holds. Read line by line: a busy machine has a hundred thousand that nobody does.
    ///
    /// # Errors
    /// There is no such table, or it cannot be read.
    pub(crate) fn sockets(self) -> io::Result<Vec<TcpSocket>> {
        let mut held = Vec::new();
        for line in self.lines()? {
            held.extend(parse_any(&line?).filter(|socket| socket.inode != 0));
        }
        Ok(held)
    }

    fn lines(self) -> io::Result<impl Iterator<Item = io::Result<String>>> {
        let path = match self {
            Self::V4 => "/proc/net/tcp",
            Self::V6 => "/proc/net/tcp6",
        };
        let file = match open_config(path) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self == Self::V6 => None,
            opened => Some(opened?),
        };
        Ok(file.into_iter().flat_map(|file| io::BufReader::new(file).lines()))
    }
}

/// Inode and uid of the socket whose own address is `own`, whose other end is `other`, and which a process holds and can still
/// be answered on. An IPv4 address through IPv6 is that address. Reads a table of the kernel: a millisecond or more.
///
/// # Errors
/// The tables cannot be read, or have more rows than are looked at.
pub fn connected_between(own: SocketAddr, other: SocketAddr) -> io::Result<Option<(u64, u32)>> {
    const MOST_ROWS: usize = 200_000;
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let wanted = (canonical(own), canonical(other));
    for table in SocketTable::ALL {
        for (row, line) in table.lines()?.enumerate() {
            if row == MOST_ROWS {
                return Err(io::Error::other("the kernel's table of sockets is too long"));
            }
            let line = line?;
            let Some(TcpSocket { state, local, remote: Some(remote), inode }) = parse_any(&line) else {
                continue;
            };
            let connected = matches!(state, "established" | "fin-wait-1" | "fin-wait-2");
            if connected && inode != 0 && (canonical(local), canonical(remote)) == wanted {
                let uid = line.split_ascii_whitespace().nth(7).and_then(|uid| uid.parse().ok());
                return Ok(uid.map(|uid| (inode, uid)));
            }
        }
    }
    Ok(None)
}

fn parse_any(line: &str) -> Option<TcpSocket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let state = match *fields.get(3)? {
        "01" => "established",
        "02" => "syn-sent",
        "03" => "syn-received",
        "04" => "fin-wait-1",
        "05" => "fin-wait-2",
        "06" => "time-wait",
        "07" => "closed",
        "08" => "close-wait",
        "09" => "last-ack",
        "0A" => "listen",
        "0B" => "closing",
        // The header, or a state of a kernel to come.
        _ => return None,
    };
    Some(TcpSocket {
        state,
        local: parse_address(fields.get(1)?)?,
        remote: parse_address(fields.get(2)?).filter(|_| state != "listen"),
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Whether a socket bound to `bound` gets connections to `wanted`. `[::]` takes IPv4 too, unless told otherwise, which
/// the table does not show: reporting a stranger who may not be in the way is better than missing one who is.
fn reaches(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let (ip, wanted_ip) = (bound.ip().to_canonical(), wanted.ip().to_canonical());
    let wildcard = match ip {
        IpAddr::V4(ip) => ip.is_unspecified() && wanted_ip.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    bound.port() == wanted.port() && (ip == wanted_ip || wildcard || wanted_ip.is_unspecified())
}

/// `sl local_address rem_address st … uid timeout inode`; the state 0A is LISTEN, the header has none.
fn parse(line: &str) -> Option<ListeningSocket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    Some(ListeningSocket {
        address: parse_address(fields.get(1)?)?,
        uid: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Hexadecimal, each group of four bytes in the byte order of the machine.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = if ip.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let mut bytes = [0; 16];
        for (index, group) in bytes.chunks_exact_mut(4).enumerate() {
            group.copy_from_slice(&word(index * 8)?);
        }
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_are_read() {
        let row = "   0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0";
        let socket = parse(row).unwrap();
        assert_eq!(
            (socket.address.to_string().as_str(), socket.uid, socket.inode),
            ("127.0.0.1:9090", 1000, 4242)
        );
        let connected = row.replace(" 0A ", " 01 ");
        assert_eq!(parse(&connected), None);
        let any = |row: &str| {
            parse_any(row)
                .map(|socket| (socket.state, socket.remote.map(|remote| remote.to_string()), socket.inode))
        };
        assert_eq!(any(row), Some(("listen", None, 4242)));
        assert_eq!(any(&connected), Some(("established", Some("0.0.0.0:0".to_owned()), 4242)));
        assert_eq!(any("  sl  local_address rem_address   st tx_queue"), None);
        let v6 = parse_address("00000000000000000000000001000000:2382").unwrap();
        assert_eq!(v6.to_string(), "[::1]:9090");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_connection_is_found_by_both_ends_while_a_process_holds_it() {
        use std::net::{TcpListener, TcpStream};

        use rustix::process::getuid;

        for on in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(on).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (own, other) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let (inode, uid) = connected_between(own, other).unwrap().unwrap();
            assert_eq!((uid, inode), (getuid().as_raw(), rustix::fs::fstat(&client).unwrap().st_ino));
            assert_eq!(connected_between(own, "127.0.0.9:1".parse().unwrap()).unwrap(), None);
            // Closed by its process, with our end still open.
            let _ours = listener.accept().unwrap();
            drop(client);
            // A child that another test is just forking has a copy of it.
            let gone = (0..60_000).any(|_| {
                let gone = connected_between(own, other).unwrap().is_none();
                if !gone {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                gone
            });
            assert!(gone);
        }
    }

    #[test]
    fn wildcards_reach_what_they_cover() {
        let reaches = |bound: &str, wanted: &str| reaches(bound.parse().unwrap(), wanted.parse().unwrap());
        assert!(reaches("127.0.0.1:1", "127.0.0.1:1"));
        assert!(reaches("0.0.0.0:1", "127.0.0.2:1"));
        assert!(reaches("[::]:1", "127.0.0.1:1"));
        assert!(reaches("[::ffff:127.0.0.1]:1", "127.0.0.1:1"));
        assert!(!reaches("0.0.0.0:1", "[::1]:1"));
        assert!(!reaches("127.0.0.2:1", "127.0.0.1:1"));
        assert!(!reaches("127.0.0.1:2", "127.0.0.1:1"));
    }
}
