//! The kernel's own list of TCP sockets: by netlink, or where that is not there (gVisor, a kernel without `INET_DIAG`) by the
//! table in `/proc`, which takes a millisecond or more for each question.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::{fmt, io};

use stelae_run::ports::{self, socket_inode};

use super::diag::Diag;

/// A socket that the kernel has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its process may still get an answer on it.
    pub(super) connected: bool,
    /// Its own address.
    pub(super) own: SocketAddr,
    /// Its other end.
    pub(super) other: SocketAddr,
    pub(super) uid: u32,
    /// 0 of one that no process holds any more.
    pub(super) inode: u64,
}

impl Found {
    /// Whether a process holds it, and so whether its uid is that of one.
    pub(super) fn is_held(&self) -> bool {
        self.connected && self.inode != 0
    }

    /// Whether its ends are these.
    pub(super) fn is_between(&self, own: SocketAddr, other: SocketAddr) -> bool {
        let same = |one: SocketAddr, two: SocketAddr| {
            one.port() == two.port() && one.ip().to_canonical() == two.ip().to_canonical()
        };
        same(self.own, own) && same(self.other, other)
    }
}

/// Where it is asked.
pub(super) enum Kernel {
    Netlink(Diag),
    Table,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netlink(_) => "netlink",
            Self::Table => "/proc/net/tcp",
        })
    }
}

impl Kernel {
    /// The first way by which the kernel finds `listener` itself. A socket that was made in another network namespace is found
    /// by neither, and nor would its peers be.
    ///
    /// # Errors
    /// What each way came to, as a sentence.
    pub(super) fn that_knows(listener: &TcpListener) -> Result<Self, String> {
        let netlink = match Diag::open() {
            Ok(diag) => {
                let mut netlink = Self::Netlink(diag);
                match netlink.knows(listener) {
                    Ok(true) => return Ok(netlink),
                    Ok(false) => "it does not know this socket".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        let table = match Self::Table.knows(listener) {
            Ok(true) => return Ok(Self::Table),
            Ok(false) => "this socket is not in it".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(format!("NETLINK_SOCK_DIAG: {netlink}; /proc/net/tcp: {table}"))
    }

    fn knows(&mut self, listener: &TcpListener) -> io::Result<bool> {
        let address = listener.local_addr()?;
        let inode = socket_inode(listener);
        if let Self::Table = self {
            return Ok(ports::listeners_on(address).iter().any(|socket| Some(socket.inode) == inode));
        }
        let nothing = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        Ok(self.socket_between(address, nothing)?.is_some_and(|found| Some(found.inode) == inode))
    }

    /// The socket whose own address is `own` and whose other end is `other`.
    pub(super) fn socket_between(&mut self, own: SocketAddr, other: SocketAddr) -> io::Result<Option<Found>> {
        match self {
            Self::Netlink(diag) => diag.ask(own, other),
            Self::Table => {
                let socket = ports::connected_between(own, other)?;
                Ok(socket.map(|(inode, uid)| Found { connected: true, own, other, uid, inode }))
            }
        }
    }
}
