//! INT, TERM and HUP as something that every wait looks at, instead of something that ends us between two lines.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use stelae_model::{ExitCode, Failure};

use crate::files::kernel_text;

/// The signals that we have got, shared by everyone who waits.
///
/// The first one says how we exit and starts the teardown; the second shortens the grace, the third ends it (see
/// `stelae_model::lifecycle::Stop`).
#[derive(Clone, Debug)]
pub struct Interrupt {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    pipes: Vec<SignalPipe>,
    first: Option<ExitCode>,
    count: usize,
    /// Said by whoever raised the first one, when it was no signal.
    why: Option<String>,
}

/// The handler writes one byte for each signal; nothing but this byte happens in the handler.
#[derive(Debug)]
struct SignalPipe {
    code: ExitCode,
    ours: UnixStream,
    /// The handler's end once more: what is raised in here takes the same way, and wakes whoever waits.
    raised: UnixStream,
}

impl Interrupt {
    /// Takes the three signals over, for this process and as long as it lives.
    ///
    /// # Errors
    /// The operating system does not let us (no descriptors left).
    pub fn install() -> Result<Self, Failure> {
        let mut pipes = Vec::new();
        for (signal, code) in
            [(SIGINT, ExitCode::Interrupted), (SIGTERM, ExitCode::Terminated), (SIGHUP, ExitCode::Hangup)]
        {
            // Whoever starts us under `nohup` wants exactly this signal to mean nothing.
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            let (ours, raised) = subscribe(signal).map_err(|error| cannot_install(&error))?;
            pipes.push(SignalPipe { code, ours, raised });
        }
        Ok(Self { state: Arc::new(Mutex::new(State { pipes, ..State::default() })) })
    }

    /// One that never comes: for what cannot be interrupted, and for tests, which `raise` it.
    pub fn never() -> Self {
        Self { state: Arc::default() }
    }

    /// As if the signal that exits with `code` had come. Wakes whoever waits for one.
    pub fn raise(&self, code: ExitCode) {
        let mut state = self.lock();
        let pipe = state.pipes.iter_mut().find(|pipe| pipe.code == code);
        // A full pipe holds more signals than anybody counts.
        if pipe.is_none_or(|pipe| pipe.raised.write_all(&[0]).is_err()) {
            state.note(code, 1);
        }
    }

    /// The same, for a reason that is no signal; [`Interrupt::why`] gives it.
    pub fn raise_because(&self, code: ExitCode, why: &str) {
        self.lock().why.get_or_insert_with(|| why.to_owned());
        self.raise(code);
    }

    /// Why it is over, when no signal said so.
    pub fn why(&self) -> Option<String> {
        self.lock().why.clone()
    }

    /// The exit code of the first signal, once one has come.
    pub fn check(&self) -> Option<ExitCode> {
        let mut state = self.lock();
        state.drain();
        state.first
    }

    /// How many signals have come.
    pub fn count(&self) -> usize {
        let mut state = self.lock();
        state.drain();
        state.count
    }

    /// `Err` once a signal has come: for loops between two waits.
    ///
    /// # Errors
    /// `interrupted`, with 129, 130 or 143.
    pub fn bail(&self, what: &str) -> Result<(), Failure> {
        self.check().map_or(Ok(()), |code| Err(interrupted(code, what)))
    }

    /// Waits so long, or until a signal comes: for loops that have nothing else to wait on.
    pub fn wait(&self, limit: Duration) {
        crate::process::pause(&self.wakers(), limit);
    }

    /// Descriptors that become readable when a signal comes, for waits that poll.
    pub(crate) fn wakers(&self) -> Vec<OwnedFd> {
        self.lock().pipes.iter().filter_map(|pipe| pipe.ours.as_fd().try_clone_to_owned().ok()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drain(&mut self) {
        let mut arrived = Vec::new();
        for pipe in &mut self.pipes {
            let mut bytes = [0; 64];
            // `WouldBlock` is the ordinary answer; nothing else can be wrong with a socket pair of our own.
            while let Ok(count @ 1..) = pipe.ours.read(&mut bytes) {
                arrived.push((pipe.code, count));
            }
        }
        for (code, count) in arrived {
            self.note(code, count);
        }
    }

    fn note(&mut self, code: ExitCode, count: usize) {
        self.first.get_or_insert(code);
        self.count += count;
    }
}

/// The same three signals, for whoever passes them on: which ones came, and each as often as it did.
#[derive(Debug)]
pub struct Each {
    pipes: Vec<(Signal, UnixStream)>,
}

impl Each {
    /// Takes the three signals over, for this process and as long as it lives.
    ///
    /// # Errors
    /// The operating system does not let us (no descriptors left).
    pub fn install() -> Result<Self, Failure> {
        let mut pipes = Vec::new();
        for (signal, number) in [(Signal::INT, SIGINT), (Signal::TERM, SIGTERM), (Signal::HUP, SIGHUP)] {
            let (ours, _) = subscribe(number).map_err(|error| cannot_install(&error))?;
            pipes.push((signal, ours));
        }
        Ok(Self { pipes })
    }

    /// Those that came since the last time.
    pub fn take(&mut self) -> Vec<Signal> {
        let mut arrived = Vec::new();
        for (signal, pipe) in &mut self.pipes {
            let mut bytes = [0; 64];
            // As in `State::drain`.
            while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                arrived.extend(std::iter::repeat_n(*signal, count));
            }
        }
        arrived
    }

    /// Descriptors that become readable when one comes.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn wakers(&self) -> std::io::Result<Vec<OwnedFd>> {
        self.pipes.iter().map(|(_, pipe)| pipe.as_fd().try_clone_to_owned()).collect()
    }
}

/// Does some printing. A signal that comes meanwhile ends this process as it would any: whoever should read may not, and a
/// write has no deadline. Nothing may be going on that has to be torn down, or somebody else has to see to that.
pub fn while_printing<T>(print: impl FnOnce() -> T) -> T {
    PRINTING.store(true, Ordering::SeqCst);
    let given = print();
    PRINTING.store(false, Ordering::SeqCst);
    given
}

/// The failure of whatever was going on when the signal came.
pub fn interrupted(code: ExitCode, what: &str) -> Failure {
    let signal = match code {
        ExitCode::Hangup => "SIGHUP",
        ExitCode::Terminated => "SIGTERM",
        _ => "SIGINT",
    };
    Failure::new(code, "interrupted", format!("{what} was interrupted by {signal}"))
}

/// While this is set, a signal ends this process as it would any.
static PRINTING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Our end, and one more of the handler's.
fn subscribe(signal: i32) -> std::io::Result<(UnixStream, UnixStream)> {
    let (ours, handlers) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let raised = handlers.try_clone()?;
    flag::register_conditional_default(signal, Arc::clone(&PRINTING))?;

    pipe::register(signal, handlers)?;
    Ok((ours, raised))
}

fn cannot_install(error: &std::io::Error) -> Failure {
    Failure::unexpected("signal handlers cannot be installed").because(error.to_string())
}

/// Reads the disposition that we were started with; asking the kernel directly needs `unsafe`.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let status = kernel_text("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_decides_and_all_are_counted() {
        let interrupt = Interrupt::never();
        assert_eq!((interrupt.check(), interrupt.count()), (None, 0));
        let other = interrupt.clone();
        other.raise(ExitCode::Terminated);
        other.raise(ExitCode::Interrupted);
        assert_eq!((interrupt.check(), interrupt.count()), (Some(ExitCode::Terminated), 2));
        let failure = interrupt.bail("the clone").unwrap_err();
        assert_eq!((failure.exit_code.number(), failure.kind.as_str()), (143, "interrupted"));
    }
}
