//! One question to `NETLINK_SOCK_DIAG`: `struct inet_diag_req_v2` there, `struct inet_diag_msg` back, in the machine's own byte
//! order but for addresses and ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use super::kernel::Found;

const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Established, and the two states of one that has ended its sending half: a client may do so after its last request.
const CONNECTED: [u8; 3] = [1, 4, 5];
/// An answer to an earlier question is skipped; more than this there cannot be.
const MOST_STALE: usize = 16;

/// A socket on which the kernel is asked.
#[derive(Debug)]
pub(super) struct Diag {
    socket: OwnedFd,
    sequence: u32,
}

impl Diag {
    /// A new one, for the network and user namespace of this process.
    pub(super) fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The socket whose own address is `own` and whose other end is `other`; a listening one if there is none.
    ///
    /// The kernel answers before `sendto` returns, so that nothing here waits.
    pub(super) fn ask(&mut self, own: SocketAddr, other: SocketAddr) -> io::Result<Option<Found>> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(self.sequence, own, other);
        sendto(&self.socket, &question, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 1024];
        for _ in 0..MOST_STALE {
            let (_, length) = recv(&self.socket, &mut answer, RecvFlags::DONTWAIT)?;
            let answer = &answer[..length.min(answer.len())];
            if number(answer, 8) == Some(self.sequence) {
                return read(answer);
            }
        }
        Err(io::Error::other("the kernel answers something else"))
    }
}

fn question(sequence: u32, own: SocketAddr, other: SocketAddr) -> Vec<u8> {
    const LENGTH: u32 = HEADER as u32 + 56;
    /// `INET_DIAG_NOCOOKIE`: whichever socket it is.
    const ANY: [u8; 8] = [0xff; 8];
    let (own, other) = (canonical(own), canonical(other));
    let family = if own.is_ipv4() { AF_INET } else { AF_INET6 };
    [
        &LENGTH.to_ne_bytes()[..],
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &[family, TCP, 0, 0],
        // Every state.
        &u32::MAX.to_ne_bytes(),
        &own.port().to_be_bytes(),
        &other.port().to_be_bytes(),
        &bytes(own.ip()),
        &bytes(other.ip()),
        // Any interface.
        &[0; 4],
        &ANY,
    ]
    .concat()
}

fn read(answer: &[u8]) -> io::Result<Option<Found>> {
    let strange = || io::Error::other("the kernel answers something else");
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match kind {
        Some(NLMSG_ERROR) => match number(answer, HEADER).map(u32::cast_signed) {
            Some(error) if error == -rustix::io::Errno::NOENT.raw_os_error() => Ok(None),
            Some(error) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(strange()),
        },
        Some(SOCK_DIAG_BY_FAMILY) => found(&answer[HEADER..]).map(Some).ok_or_else(strange),
        _ => Err(strange()),
    }
}

fn found(message: &[u8]) -> Option<Found> {
    let (family, state) = (*message.first()?, *message.get(1)?);
    let port = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let ip = |at: usize| {
        Some(match family {
            AF_INET => IpAddr::from(<[u8; 4]>::try_from(message.get(at..at + 4)?).ok()?),
            AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(message.get(at..at + 16)?).ok()?),
            _ => return None,
        })
    };
    Some(Found {
        connected: CONNECTED.contains(&state),
        own: SocketAddr::new(ip(8)?, port(4)?),
        other: SocketAddr::new(ip(24)?, port(6)?),
        uid: number(message, 64)?,
        inode: number(message, 68)?.into(),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Sixteen, of which IPv4 has the first four.
fn bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&Ipv4Addr::octets(&ip));
            all
        }
        IpAddr::V6(ip) => Ipv6Addr::octets(&ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_has_the_length_that_it_says() {
        for own in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let question = question(7, own.parse().unwrap(), own.parse().unwrap());
            assert_eq!((question.len(), number(&question, 0)), (72, Some(72)), "{own}");
            assert_eq!(question[HEADER], if own == "[::1]:1" { AF_INET6 } else { AF_INET }, "{own}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_short_or_of_another_kind_is_none() {
        let answer = |kind: u16, rest: &[u8]| [&[0; 4][..], &kind.to_ne_bytes(), &[0; 10], rest].concat();
        let error = |error: i32| read(&answer(NLMSG_ERROR, &error.to_ne_bytes()));
        assert!(matches!(error(-2), Ok(None)));
        assert_eq!(error(-1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(error(0).is_err() && error(5).is_err());
        assert!(read(&answer(3, &[0; 72])).is_err());
        assert!(read(&answer(SOCK_DIAG_BY_FAMILY, &[AF_INET; 71])).is_err());
        assert!(read(&answer(SOCK_DIAG_BY_FAMILY, &[9; 72])).is_err(), "a family that is none");
        assert!(read(&answer(SOCK_DIAG_BY_FAMILY, &[AF_INET; 72])).unwrap().is_some());
        assert!(read(&[]).is_err());
    }
}
