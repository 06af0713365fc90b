//! Two processes in place of one, so that SIGKILL of either leaves no server behind.
//!
//! The one that is started starts this very program once more, which serves; it does nothing but watch that one, pass signals on
//! to it, and end what it leaves below. Dies the watcher, the kernel sends the one that serves SIGTERM, and it stops its servers as
//! it would for anybody. Both are subreapers, so that what a server starts falls to one of them, however it tries to get
//! away. Both have the same environment: the attestation reads it in each process that carries the label.
//!
//! What is left: both killed in one instant leave the servers that do not end with their stdin. The harness has its own guardian
//! around that. On macOS nobody is told of the death of the watcher.

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use camino::Utf8PathBuf;
use listenfd::ListenFd;
use rustix::process::{Signal, getpid};
use stelae_model::lifecycle::{Ended, StopLimits};
use stelae_model::{ExitCode, Failure, Isolation};
use stelae_run::files::open_null;
use stelae_run::process::{Family, OtherHalf};
use stelae_run::signals::{Each, Interrupt};

use crate::watch::{self, Hangup, Watch};

/// What announces passed sockets.
const PASSED: &str = "LISTEN_FDS";

static WATCHER: OnceLock<u32> = OnceLock::new();

/// The process that was started, and is to be told when this one is to end.
pub(super) fn pid() -> u32 {
    WATCHER.get().copied().unwrap_or_else(std::process::id)
}

/// For the process that serves: from now on it ends when `watcher` dies.
///
/// # Errors
/// 2, `not-watched`: there is no such watcher, or it has died already.
pub(super) fn follow(watcher: i32) -> Result<(), Failure> {
    watch::follow(watcher)?;
    WATCHER.get_or_init(|| watcher.unsigned_abs());
    Ok(())
}

/// Starts the process that serves, and returns when nothing of it is left, with its exit code; it has said why itself. It has
/// to end in `ends_within` once it was told to.
///
/// # Errors
/// 10: `gateway-killed`, or `gateway-hangs`. 34, `survivor`. 129, 130, 143 when it died of a signal before it could listen to any.
pub(super) fn watch(ends_within: Duration) -> Result<u8, Failure> {
    // Signals first: one that comes before there is anybody to pass it on to waits.
    let (signals, family) = (Each::install()?, Family::enter()?);
    let (half, sockets) = start()?;
    let mut watch = Watch::new(half, signals, Hangup::Reloads);
    let ended =
        let_go(sockets).and_then(|()| watch.until_the_end(ends_within)).map_err(|error| unwatchable(&error));
    // What it leaves has had its chance.
    family.stop(StopLimits::at_once(), &Interrupt::never(), &mut |_| ()).check()?;
    match ended? {
        Some(Ended::Status(code)) => Ok(u8::try_from(code).unwrap_or(ExitCode::Unexpected.number())),
        Some(how) => Err(killed(how, watch.told())),
        None => Err(Failure::new(
            ExitCode::StepFailed,
            "gateway-hangs",
            "the gateway did not end in time, and was killed",
        )
        .because(format!("it was told to end {} s before", ends_within.as_secs()))
        .because("everything that it had started is gone")),
    }
}

/// The same arguments and the same environment. Sockets that were passed to us pass through us, as they are.
fn start() -> Result<(OtherHalf, ListenFd), Failure> {
    let cannot =
        |error: io::Error| Failure::unexpected("the gateway cannot be started").because(error.to_string());
    let program = Utf8PathBuf::try_from(std::env::current_exe().map_err(cannot)?)
        .map_err(|error| cannot(error.into_io_error()))?;
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    // Behind the name of the verb.
    let watched = ["--watched".to_owned(), getpid().as_raw_nonzero().to_string()];
    args.splice(1..1, watched);
    let told = std::env::var(PASSED).ok().map(|count| (PASSED.to_owned(), count));
    // Takes it out of our environment, and LISTEN_PID, which means us and not the one that serves.
    let sockets = ListenFd::from_env();
    let env: Vec<_> = told.into_iter().filter(|_| sockets.len() > 0).collect();
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(cannot)?;
    let half = OtherHalf::start(&program, &args, &env, Isolation::Guard, stdin, None).map_err(cannot)?;
    Ok((half, sockets))
}

/// Closes the sockets on our side: while we hold them, connecting would go on working when nobody serves any more.
fn let_go(mut sockets: ListenFd) -> io::Result<()> {
    // While standard input is open still, so that this is another descriptor.
    let nothing = open_null()?;
    for index in 0..sockets.len() {
        // What is no such socket is refused by the one that serves, which ends.
        drop(sockets.take_tcp_listener(index));
    }
    Ok(rustix::stdio::dup2_stdin(nothing)?)
}

fn killed(how: Ended, told: Option<Signal>) -> Failure {
    let by_us = told.filter(|signal| how == Ended::Signal(signal.as_raw()));
    let failure = match by_us {
        Some(signal) => watch::ended_by(signal, "the start of the gateway"),
        None => {
            Failure::new(ExitCode::StepFailed, "gateway-killed", "the gateway was killed by somebody else")
                .hint("if nobody did that on purpose, was there no memory left? see: dmesg | tail")
        }
    };
    failure.because(format!("it ended with {how}; everything that it had started is gone"))
}

fn unwatchable(error: &io::Error) -> Failure {
    Failure::unexpected("the gateway cannot be watched").because(error.to_string())
}
