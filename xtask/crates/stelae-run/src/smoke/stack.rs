//! The stack of a run: started by this session, or by the one that is resumed.

use std::time::Duration;

use camino::Utf8Path;
use stelae_model::event::{Event, Record};
use stelae_model::lifecycle::StopLimits;
use stelae_model::{ExitCode, Failure};

use super::state::Restarted;
use crate::process::{self, tree};
use crate::record::Recorder;
use crate::signals::Interrupt;
use crate::stack::StackChild;
use crate::watch::Follower;

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
        /// What it says.
        follower: Box<Follower>,
        /// Its failure, once it said one.
        failure: Option<Box<Failure>>,
    },
}

impl LiveStack {
    /// The stack of an earlier session, if it is still up. `log` is where its supervisor writes its records.
    pub(crate) fn resume(restarted: &Restarted, log: &Utf8Path) -> Option<Self> {
        let (supervisor, started) = (restarted.supervisor, restarted.supervisor_started);
        // The pid alone could be somebody else's by now.
        (started != 0 && tree::started_ticks(supervisor) == Some(started)).then(|| {
            // From the beginning of its records: it may have failed since the session before.
            let follower = Box::new(Follower::of_records(log, restarted.supervisor_log_start));
            Self::Resumed { supervisor, started, follower, failure: None }
        })
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
            Self::Resumed { supervisor, started, follower, failure } => {
                // Asked for before its records are read: then those are complete.
                let is_there = tree::started_ticks(*supervisor) == Some(*started);
                follower.poll(&mut |line| said_failure(line, failure));
                match failure {
                    Some(failure) => Err(left_up_died(Failure::clone(failure), run)),
                    None if is_there => Ok(()),
                    None => Err(left_up_gone(run).on(format!("pid {supervisor}"))),
                }
            }
        }
    }
}

/// Keeps the failure of a record, if it is one.
fn said_failure(line: &str, said: &mut Option<Box<Failure>>) {
    if let Ok(Record { event: Event::Failed { failure, .. }, .. }) = serde_json::from_str(line) {
        *said = Some(Box::new(failure));
    }
}

/// A stack that was left up and is gone, with what the records of its supervisor say of its end.
pub(super) fn gone(records: Option<Follower>, run: &str) -> Failure {
    let mut said = None;
    if let Some(mut records) = records {
        records.finish(&mut |line| said_failure(line, &mut said));
    }
    match said {
        Some(failure) => left_up_died(*failure, run),
        None => left_up_gone(run),
    }
}

fn left_up_died(failure: Failure, run: &str) -> Failure {
    failure.hint(format!("cargo xtask smoke --resume {run} --from restart"))
}

fn left_up_gone(run: &str) -> Failure {
    Failure::new(ExitCode::StepFailed, "service-died", "the stack that was left up is gone")
        .because("its supervisor says nothing of a failure: its time was over, or another process ended it")
        .hint(format!("cargo xtask smoke --resume {run} --from restart"))
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
