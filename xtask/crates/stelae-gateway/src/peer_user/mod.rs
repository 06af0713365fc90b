//! Which user's process is at the other end of a loopback connection.
//!
//! The kernel is asked once for each connection, right after it was accepted and before a byte of it is read: for the socket
//! whose own address is the peer's, and whose other end is ours. Three things in its answer are not what they look like:
//!
//! * A socket that its process has closed stays in the table for a while, and then says that it is root's. It has no inode.
//! * A listening socket is found where no connected one is. Its other end is not ours.
//! * A user that our user namespace does not map is shown as the overflow user (65534), which can be our own name for
//!   ourselves.
//!
//! After the answer our own end is looked at: while it is connected, no other socket can have had the peer's address, so that
//! the answer is not about a later user of the same port.

#[cfg(target_os = "linux")]
mod descriptors;
#[cfg(target_os = "linux")]
mod diag;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod user_namespace;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use stelae_model::{ExitCode, Failure};

/// The user at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerUser {
    /// The user that this process runs as, or root.
    Same,
    /// Another user, with the uid and the inode of its socket.
    Other {
        /// As this process's user namespace has it.
        uid: u32,
        /// The identity of the peer's socket.
        inode: u64,
    },
    /// The kernel does not say.
    Unknown(&'static str),
    /// Its socket is closed already, and says no user any more. There is no client to answer.
    Gone,
}

impl PeerUser {
    /// `pid 123: "curl -s …"`, where the process that holds the peer's socket can be seen. Looks at every process.
    pub(crate) fn holder(self) -> Option<String> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Other { inode, .. } => descriptors::holder(inode),
            _ => None,
        }
    }
}

impl fmt::Display for PeerUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("the same user"),
            Self::Other { uid, .. } => write!(f, "uid {uid}"),
            Self::Unknown(why) => write!(f, "an unknown user ({why})"),
            Self::Gone => f.write_str("a client that is gone"),
        }
    }
}

/// Our end of an accepted connection.
pub(crate) trait OurEnd {
    /// Our own address.
    fn local(&self) -> io::Result<SocketAddr>;
    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected`, once the connection is reset.
    fn remote(&self) -> io::Result<SocketAddr>;
}

impl OurEnd for tokio::net::TcpStream {
    fn local(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn remote(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

/// Answers for the connections of one listening socket.
#[derive(Debug)]
pub(crate) struct PeerUsers {
    #[cfg(target_os = "linux")]
    kernel: kernel::Kernel,
    #[cfg(target_os = "linux")]
    namespace: user_namespace::UserNamespace,
}

#[cfg(target_os = "linux")]
impl PeerUsers {
    /// Those of `listener`, once the kernel has shown that it knows that one.
    ///
    /// # Errors
    /// Why the kernel cannot tell, as a sentence: the socket is of another network namespace, or there is neither
    /// `NETLINK_SOCK_DIAG` nor `/proc/net/tcp`.
    pub(crate) fn of(listener: &TcpListener) -> Result<Self, String> {
        let kernel = kernel::Kernel::that_knows(listener)?;
        let namespace = user_namespace::UserNamespace::read().map_err(|error| error.to_string())?;
        Ok(Self { kernel, namespace })
    }

    /// Who is at the other end of `ours`, which was just accepted.
    pub(crate) fn ask(&mut self, ours: &impl OurEnd) -> PeerUser {
        let (Ok(local), Ok(remote)) = (ours.local(), ours.remote()) else {
            return PeerUser::Gone;
        };
        let found = match self.kernel.socket_between(remote, local) {
            Ok(Some(found)) => found,
            // Reset, or the socket is one that is not looked for: bound to a device.
            Ok(None) if ours.remote().is_err() => return PeerUser::Gone,
            Ok(None) => return PeerUser::Unknown("the kernel does not find its socket"),
            Err(_) => return PeerUser::Unknown("the kernel does not answer"),
        };
        if !found.is_held() {
            return PeerUser::Gone;
        }
        if !(found.is_between(remote, local) && ours.remote().is_ok_and(|now| now == remote)) {
            return PeerUser::Gone;
        }
        self.namespace.judge(found.uid, found.inode)
    }
}

#[cfg(not(target_os = "linux"))]
impl PeerUsers {
    /// No other system has been tried.
    pub(crate) fn of(_listener: &TcpListener) -> Result<Self, String> {
        Err("only Linux is asked for it".to_owned())
    }

    /// Nothing is known.
    pub(crate) fn ask(&mut self, _ours: &impl OurEnd) -> PeerUser {
        PeerUser::Unknown("only Linux is asked for it")
    }
}

/// The failure of a process that must know its peers' users, and cannot: exit 20, `peer-unknown`.
pub(crate) fn unknowable(listener: &TcpListener, why: String) -> Failure {
    let what = "the kernel does not tell whose connections come in";
    let failure = Failure::new(ExitCode::Environment, "peer-unknown", what).because(why);
    match listener.local_addr() {
        Ok(address) => failure.on(address.to_string()),
        Err(_) => failure,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
