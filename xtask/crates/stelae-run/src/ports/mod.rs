//! Ports: taken before anyone is told about them, and, when somebody else has one, named with who it is.
//!
//! * A program of ours gets a listening socket ([`listen`], then `Stdin::Listener`): there is no moment in which the
//!   port is free.
//! * A foreign program that only takes a number gets one that we hold with a [`Placeholder`] as long as it runs.
//! * A run gets a loopback address of its own, an [`AddressLease`]: on that, no port is another run's.

mod lease;
mod owner;
mod placeholder;
mod table;

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::fs::fstat;

pub use lease::AddressLease;
pub(crate) use owner::owner_of_socket;
pub use owner::{Holder, Owner, PortTaken, listening_addresses, name_stranger, owner_of, port_taken};
pub use placeholder::Placeholder;
pub use table::{ListeningSocket, connected_between, listeners_on};
pub(crate) use table::{SocketTable, TcpSocket};

/// Binds and listens.
///
/// # Errors
/// [`PortTaken`], with its owner if one can be seen; or that the address is none of ours.
pub fn listen(address: SocketAddr) -> Result<TcpListener, PortTaken> {
    TcpListener::bind(address).map_err(|error| PortTaken::look_up(address, error))
}

/// The inode of a socket: its identity in the kernel's tables, shared by everyone who inherited it.
pub fn socket_inode(listener: &TcpListener) -> Option<u64> {
    // The type of `st_ino` differs between platforms.
    #[allow(clippy::useless_conversion, reason = "it is another type elsewhere")]
    fstat(listener).ok().map(|stat| u64::from(stat.st_ino))
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}
