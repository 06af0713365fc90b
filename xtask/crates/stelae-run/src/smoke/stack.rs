//! The stack of a run: started by this session, or by the one that is resumed.

use std::time::Duration;

use stelae_model::lifecycle::StopLimits;
use stelae_model::{ExitCode, Failure};

use super::state::Restarted;
use crate::process::{self, tree};
use crate::record::Recorder;
use crate::signals::Interrupt;
use crate::stack::StackChild;

/// How a stack of an earlier session is ended: within half of what is kept for a teardown. Of the 15 s that there are by
/// default this leaves a little more to ask than the gateway may take.
fn leftovers(reserve: Duration) -> StopLimits {
    let half = reserve / 2;
    let ceiling = Duration::from_secs(1).min(half / 4);
    StopLimits { grace: half - ceiling, ceiling }
}

/// A stack that is up.
#[derive(Debug)]
pub(crate) enum LiveStack {
    /// Started by this session.
    Child(Box<StackChild>),
    /// Started by an earlier session of the same run, and left up for a manual stage.
    Resumed {
        /// Pid of its supervisor.
        supervisor: i32,
        /// When that was started.
        started: u64,
    },
}

impl LiveStack {
    /// The stack of an earlier session, if it is still up.
    pub(crate) fn resume(restarted: &Restarted) -> Option<Self> {
        let (supervisor, started) = (restarted.supervisor, restarted.supervisor_started);
        // The pid alone could be somebody else's by now.
        (started != 0 && tree::started_ticks(supervisor) == Some(started))
            .then_some(Self::Resumed { supervisor, started })
    }

    /// Pid of its supervisor.
    pub(crate) fn supervisor(&self) -> i32 {
        match self {
            Self::Child(child) => child.pid(),
            Self::Resumed { supervisor, .. } => *supervisor,
        }
    }

    /// Tells what it said, and fails when it has died.
    ///
    /// # Errors
    /// Exit 10, `service-died`, or the supervisor's own failure.
    pub(crate) fn check(&mut self, run: &str, recorder: &Recorder) -> Result<(), Failure> {
        match self {
            Self::Child(child) => child.check(recorder),
            Self::Resumed { supervisor, started } if tree::started_ticks(*supervisor) == Some(*started) => {
                Ok(())
            }
            Self::Resumed { supervisor, .. } => {
                Err(Failure::new(ExitCode::StepFailed, "service-died", "the stack that was left up is gone")
                    .on(format!("pid {supervisor}"))
                    .hint(format!("cargo xtask smoke --resume {run} --from restart")))
            }
        }
    }
}

/// Ends what an earlier session of the run left up: every process that carries the run's id, other than us and our
/// children, whom the family's teardown ends. Takes half of the reserve at the most. Gives what survived.
pub(super) fn end_leftovers(run: &str, reserve: Duration, interrupt: &Interrupt) -> Vec<String> {
    process::sweep(run, leftovers(reserve), interrupt).survivors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_stack_takes_half_of_the_reserve_however_small_that_is() {
        let limits = leftovers(Duration::from_secs(15));
        assert_eq!((limits.grace.as_millis(), limits.ceiling.as_millis()), (6_500, 1_000));
        for ms in [0, 100, 4_000, 60_000] {
            let (reserve, limits) = (Duration::from_millis(ms), leftovers(Duration::from_millis(ms)));
            assert!(limits.grace + limits.ceiling <= reserve / 2, "{limits:?} of {reserve:?}");
        }
    }
}
