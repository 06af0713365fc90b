//! Holding a port for a program that only takes a number.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

use super::PortTaken;

/// A port that is bound and never listened on.
///
/// With `SO_REUSEADDR` on both sides, a program can bind and listen on it while we hold it (Node, Python and Go set the
/// option), and the kernel gives it to nobody who asks for any port. A program that does not set it gets EADDRINUSE.
#[derive(Debug)]
pub struct Placeholder {
    _socket: OwnedFd,
    address: SocketAddr,
}

impl Placeholder {
    /// Holds `port` on `ip`; 0 lets the kernel choose one.
    ///
    /// # Errors
    /// [`PortTaken`]: somebody listens on it.
    pub fn hold(ip: IpAddr, port: u16) -> Result<Self, PortTaken> {
        let wanted = SocketAddr::new(ip, port);
        let held = hold(wanted).map_err(|error| PortTaken::look_up(wanted, error))?;
        Ok(held)
    }

    /// The address that is held.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn hold(wanted: SocketAddr) -> io::Result<Placeholder> {
    let family = if wanted.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::empty(), None)?;
    // Not every platform can do it in one call. A child that is started between the two lines would hold the port a
    // little longer than we do, which is no harm: nobody can connect to it.
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &wanted)?;
    let address = SocketAddr::try_from(getsockname(&socket)?).map_err(io::Error::other)?;
    Ok(Placeholder { _socket: socket, address })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::deadline::Deadline;

    /// A child that another test is just forking has a copy of the last listener.
    fn bound(address: SocketAddr) -> TcpListener {
        let deadline = Deadline::after(Duration::from_secs(30));
        loop {
            match TcpListener::bind(address) {
                Ok(listener) => return listener,
                Err(error) => assert!(!deadline.passed(), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_program_can_take_it_and_give_it_back_while_it_is_held() {
        let held = Placeholder::hold([127, 0, 0, 1].into(), 0).unwrap();
        for _ in 0..3 {
            let program = bound(held.address());
            assert_eq!(program.local_addr().unwrap(), held.address());
        }
    }

    #[test]
    fn nobody_can_connect_to_it() {
        let held = Placeholder::hold([127, 0, 0, 1].into(), 0).unwrap();
        let refused = std::net::TcpStream::connect(held.address()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_port_with_a_listener_is_not_held() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stranger.local_addr().unwrap();
        let taken = Placeholder::hold(address.ip(), address.port()).unwrap_err();
        assert_eq!(taken.address, address);
    }
}
