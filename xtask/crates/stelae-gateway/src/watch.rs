//! Watching the half of this program that does the work, from the half that was started: it waits, passes signals on, and sees
//! to it that an end comes.

use std::io;
use std::time::Duration;

use rustix::process::{Signal, setsid};
use stelae_model::lifecycle::Ended;
use stelae_model::{ExitCode, Failure};
use stelae_run::deadline::Deadline;
use stelae_run::process::{OtherHalf, told_to_end_by_the_death_of};
use stelae_run::signals::{Each, interrupted};

/// How often the half is looked at, when nothing else wakes us.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// For the half that works: from now on it is told to end when `watcher` dies.
///
/// # Errors
/// 2, `not-watched`: there is no such watcher, or it has died already.
pub(crate) fn follow(watcher: i32) -> Result<(), Failure> {
    if cfg!(target_os = "linux") {
        // Out of reach of whoever kills the watcher's group, and of a terminal, whose Ctrl-C the watcher passes on. It
        // fails for who leads a group already, which is as good.
        setsid().ok();
    }
    told_to_end_by_the_death_of(watcher).map_err(|error| {
        Failure::new(ExitCode::Usage, "not-watched", "nobody watches this process")
            .because(error.to_string())
            .hint("leave --watched out: it is for the program itself")
    })
}

/// What SIGHUP means to a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hangup {
    Reloads,
    Ends,
}

/// The time in which it works.
pub(crate) struct Watch {
    half: OtherHalf,
    signals: Each,
    /// The first signal to end that was passed on.
    told: Option<Signal>,
    hangup: Hangup,
    /// When it has to have ended.
    over: Option<Deadline>,
}

impl Watch {
    pub(crate) fn new(half: OtherHalf, signals: Each, hangup: Hangup) -> Self {
        Self { half, signals, told: None, hangup, over: None }
    }

    /// The first signal to end that was passed on.
    pub(crate) fn told(&self) -> Option<Signal> {
        self.told
    }

    /// How it ended; `None` if it did not in `ends_within` once it was told to.
    pub(crate) fn until_the_end(&mut self, ends_within: Duration) -> io::Result<Option<Ended>> {
        let wakers = self.signals.wakers()?;
        loop {
            if let Some(ended) = self.half.try_exit() {
                return Ok(Some(ended));
            }
            for signal in self.signals.take() {
                self.half.send(signal);
                if signal != Signal::HUP || self.hangup == Hangup::Ends {
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

/// What this program ends with once it was told to by this signal.
pub(crate) fn ended_by(signal: Signal, what: &str) -> Failure {
    let code = match signal {
        Signal::INT => ExitCode::Interrupted,
        Signal::HUP => ExitCode::Hangup,
        _ => ExitCode::Terminated,
    };
    interrupted(code, what)
}
