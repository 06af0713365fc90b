//! The socket: passed to us by whoever started us, or bound here.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use stelae_model::{ExitCode, Failure};
use stelae_run::ports::owner_of;

/// A socket that listens on `address`: the one passed as LISTEN_FDS if there is one, else a new one.
///
/// To be called while the process has one thread, because it takes LISTEN_FDS and LISTEN_PID out of the environment.
///
/// # Errors
/// Exit code 33 when the address is taken, 20 when a socket was passed that is not one for `address`.
pub(crate) fn open(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = match adopt(address)? {
        Some(listener) => listener,
        None => TcpListener::bind(address).map_err(|error| cannot_bind(address, &error))?,
    };
    listener.set_nonblocking(true).map_err(|error| cannot_bind(address, &error))?;
    Ok(listener)
}

fn adopt(address: SocketAddr) -> Result<Option<TcpListener>, Failure> {
    let unusable = |why: String| {
        Failure::new(ExitCode::Environment, "passed-socket", "the socket passed as LISTEN_FDS cannot be used")
            .because(why)
            .hint("pass one listening socket as descriptor 3, with LISTEN_FDS=1")
    };
    let mut passed = ListenFd::from_env();
    if passed.len() > 1 {
        return Err(unusable(format!("{} sockets were passed, one is needed", passed.len())));
    }
    let Some(listener) = passed.take_tcp_listener(0).map_err(|error| unusable(error.to_string()))? else {
        return Ok(None);
    };
    let actual = listener.local_addr().map_err(|error| unusable(error.to_string()))?;
    // Somebody rendered another port than the one that was leased: the very fault this harness was built after.
    if actual != address {
        return Err(unusable(format!("it listens on {actual}, and {address} was configured")));
    }
    Ok(Some(listener))
}

fn cannot_bind(address: SocketAddr, error: &io::Error) -> Failure {
    // The wording of Go's net package: supervisors and log readers of the original proxy look for it.
    if error.kind() == io::ErrorKind::AddrInUse {
        let what = format!("listen tcp {address}: bind: address already in use");
        let failure = Failure::new(ExitCode::PortTaken, "port-taken", what);
        match owner_of(address) {
            Some(owner) => failure.because(format!("it is held by {}", owner.describe())),
            None => failure,
        }
    } else {
        Failure::new(ExitCode::Environment, "bind", format!("listen tcp {address}: {error}"))
    }
}
