//! Two processes in place of one, so that SIGKILL of either leaves no server behind.
//!
//! The one that is started starts this very program once more, which serves; it does nothing but watch that one, pass signals on
//! to it, and end what it leaves below. Dies the watcher, the kernel sends the one that serves SIGTERM, and it stops its servers as
//! it would for anybody. Both are subreapers, so that what a server starts falls to one of them, however it tries to get
//! away. Both have the same environment: the attestation reads it in each process that carries the label.
//!
//! What is left: both killed in one instant leave the servers that do not end with their stdin. The harness has its own guardian
//! around that. On macOS nobody is told of the death of the watcher.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use camino::Utf8PathBuf;
use listenfd::ListenFd;
use rustix::process::{Signal, getpid, setsid};
use stelae_model::lifecycle::{Ended, StopLimits};
use stelae_model::{ExitCode, Failure, Isolation};
use stelae_run::deadline::Deadline;
use stelae_run::process::{Family, OtherHalf, told_to_end_by_the_death_of};
use stelae_run::signals::{Each, Interrupt, interrupted};

/// How often the process that serves is looked at, when nothing else wakes us.
const LOOK_EVERY: Duration = Duration::from_millis(500);
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
    if cfg!(target_os = "linux") {
        // Out of reach of whoever kills the watcher's group, and of a terminal, whose Ctrl-C the watcher passes on. It
        // fails for who leads a group already, which is as good.
        setsid().ok();
    }
    told_to_end_by_the_death_of(watcher).map_err(|error| {
        Failure::new(ExitCode::Usage, "not-watched", "nobody watches this process")
            .because(error.to_string())
            .hint("leave --watched out: it is for the program itself")
    })?;
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
    let mut watch = Watch { half, signals, told: None, over: None };
    let ended =
        let_go(sockets).and_then(|()| watch.until_the_end(ends_within)).map_err(|error| unwatchable(&error));
    // What it leaves has had its chance.
    family.stop(StopLimits::at_once(), &Interrupt::never(), &mut |_| ()).check()?;
    match ended? {
        Some(Ended::Status(code)) => Ok(u8::try_from(code).unwrap_or(ExitCode::Unexpected.number())),
        Some(how) => Err(killed(how, watch.told)),
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
    let half = OtherHalf::start(&program, &args, &env, Isolation::Guard, stdin).map_err(cannot)?;
    Ok((half, sockets))
}

/// Closes the sockets on our side: while we hold them, connecting would go on working when nobody serves any more.
fn let_go(mut sockets: ListenFd) -> io::Result<()> {
    // While standard input is open still, so that this is another descriptor.
    let nothing = File::open("/dev/null")?;
    for index in 0..sockets.len() {
        // What is no such socket is refused by the one that serves, which ends.
        drop(sockets.take_tcp_listener(index));
    }
    Ok(rustix::stdio::dup2_stdin(nothing)?)
}

/// The time in which it serves.
struct Watch {
    half: OtherHalf,
    signals: Each,
    /// The first signal to end that was passed on.
    told: Option<Signal>,
    /// When it has to have ended.
    over: Option<Deadline>,
}

impl Watch {
    /// How it ended; `None` if it did not when it should have.
    fn until_the_end(&mut self, ends_within: Duration) -> io::Result<Option<Ended>> {
        let wakers = self.signals.wakers()?;
        loop {
            if let Some(ended) = self.half.try_exit() {
                return Ok(Some(ended));
            }
            for signal in self.signals.take() {
                self.half.send(signal);
                if signal != Signal::HUP {
                    self.told.get_or_insert(signal);
                    self.over.get_or_insert_with(|| Deadline::after(ends_within));
                    // One that is stopped gets round to it only when it is continued. Nobody else minds.
                    self.half.send(Signal::CONT);
                }
            }
            if self.over.is_some_and(|over| over.passed()) {
                return Ok(None);
            }
            let at_most = self.over.map_or(LOOK_EVERY, |over| over.remaining().min(LOOK_EVERY));
            self.half.wait(&wakers, at_most);
        }
    }
}

fn killed(how: Ended, told: Option<Signal>) -> Failure {
    let by_us = told.filter(|signal| how == Ended::Signal(signal.as_raw()));
    let failure = match by_us {
        Some(Signal::INT) => interrupted(ExitCode::Interrupted, "the start of the gateway"),
        Some(_) => interrupted(ExitCode::Terminated, "the start of the gateway"),
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
