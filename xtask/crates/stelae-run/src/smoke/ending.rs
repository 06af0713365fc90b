//! The end of a session, whatever led to it: evidence first, teardown second, verdict third.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stelae_model::Failure;
use stelae_model::event::{Event, StepOutcome};
use stelae_model::flow::{Ended, Halt};
use stelae_model::lifecycle::StopLimits;
use stelae_model::verdict::{Facts, Verdict, decide};

use super::engine::{SmokeEngine, file_of};
use super::manifest;
use super::play::take_back_all;
use super::stack::{LiveStack, end_leftovers};
use super::state::Restarted;
use super::{Finished, TEARDOWN, steps};
use crate::deadline::Deadline;
use crate::evidence::{self, LogFile};
use crate::process::Family;
use crate::record::Recorder;
use crate::signals::{self, Interrupt};

/// Everything that is needed to end a session.
pub(super) struct Ending {
    pub(super) engine: SmokeEngine,
    pub(super) family: Family,
    pub(super) recorder: Arc<Recorder>,
    pub(super) interrupt: Interrupt,
    pub(super) started: Instant,
}

impl Ending {
    /// Ends it.
    pub(super) fn conclude(mut self, halt: Option<Halt>) -> Finished {
        let (mut ended, mut failed, stopped_after) = match halt {
            None => (Ended::Passed, None, None),
            Some(Halt::Reached { step, stop }) => (Ended::Stopped(stop), None, Some(step)),
            Some(Halt::Failed { step, failure }) => (ended_by(&failure), Some((step, failure)), None),
        };
        let mut instructions = None;
        if ended.leaves_stack_up() {
            match self.leave_up() {
                Ok(text) => instructions = Some(text),
                Err(failure) => {
                    ended = ended_by(&failure);
                    failed = Some(("manual-stage".to_owned(), failure));
                }
            }
        }
        for warning in std::mem::take(&mut self.engine.context.server_warnings) {
            self.recorder.warn(warning);
        }
        let begun = Instant::now();
        let survivors = self.tear_down(ended);
        let mut untouched = true;
        let passed = self.engine.passed();
        if failed.is_none()
            && !ended.leaves_stack_up()
            && let Err(failure) = manifest::check_last(&mut self.engine.context, &passed)
        {
            (ended, untouched) = (ended_by(&failure), false);
            failed = Some((TEARDOWN.to_owned(), failure));
        }
        let cleared = self.clear_workspace(ended);
        let clean = survivors.is_empty() && cleared.is_ok() && untouched;
        if let Err(failure) = cleared {
            match &failed {
                None => failed = Some((TEARDOWN.to_owned(), failure)),
                Some(_) => self.recorder.warn(failure.to_string().replace('\n', "; ")),
            }
        }
        // A signal that nothing waited for any more is still a signal.
        if let (None, Some(code)) = (&failed, self.interrupt.check()) {
            let mut failure = signals::interrupted(code, "the end of the run");
            if ended.leaves_stack_up() {
                let run = &self.engine.context.plan.run;
                failure = failure
                    .because("the stack had been left up by then, and still is")
                    .hint(format!("cargo xtask runs stop {run}"));
            }
            failed = Some((TEARDOWN.to_owned(), failure));
        }
        self.report_teardown(clean, begun);
        let recorder = &self.recorder;
        let failed = failed.map(|(step, failure)| (step, recorder.masked_failure(failure)));
        let survivors = survivors.iter().map(|survivor| recorder.masked(survivor)).collect();
        let verdict = decide(Facts {
            run: self.engine.context.plan.run.clone(),
            steps: self.engine.reports,
            failed,
            stopped_after,
            survivors,
            warnings: self.recorder.warnings(),
            evidence_complete: self.recorder.is_complete(),
            elapsed_ms: millis(self.started),
        });
        self.engine.context.keep_json("verdict.json", &verdict);
        self.recorder.event(Event::Verdict { verdict: Box::new(verdict.clone()) });
        // The verdict itself may be what did not fit.
        let evidence_complete = self.recorder.is_complete();
        Finished { verdict: Verdict { evidence_complete, ..verdict }, instructions }
    }

    /// Leaves the stack up for a person, and says what to type.
    fn leave_up(&mut self) -> Result<String, Failure> {
        let context = &mut self.engine.context;
        let restarted: Restarted = context
            .folder
            .read_json(&file_of("restart"))
            .map_err(|error| Failure::unexpected(format!("the restart left no record: {error}")))?;
        let stage = context.plan.manual_stage.clone().unwrap_or_default();
        let text = steps::manual_instructions(context, &stage, &restarted)?;
        // The last moment in which a signal can still end the stack with the run.
        self.interrupt.bail("the end of the run")?;
        if let Some(LiveStack::Child(child)) = context.stack.take() {
            child.release();
        }
        Ok(text)
    }

    /// Ends every process of the run, but a stack that is left up on purpose. Gives what survived.
    fn tear_down(&mut self, ended: Ended) -> Vec<String> {
        let budgets = &self.engine.context.plan.budgets;
        let budget_ms = budgets.teardown_reserve_ms;
        self.recorder.event(Event::StepStarted { step: TEARDOWN.to_owned(), budget_ms });
        let reserve = Duration::from_millis(budget_ms);
        let resumed = matches!(self.engine.context.stack, Some(LiveStack::Resumed { .. }));
        let run = self.engine.context.plan.run.clone();
        // A stack that is not below us takes half of the reserve; what is below us then is a command at the most.
        let (mut survivors, left) = if resumed && !ended.leaves_stack_up() {
            (end_leftovers(&run, reserve, &self.interrupt), reserve / 2)
        } else {
            (Vec::new(), reserve)
        };
        // A look at everything first, out of the same reserve.
        let look = evidence::AT_MOST.min(reserve / 8);
        let left = left - look;
        // As much to ask as to kill: together they fit into the reserve.
        let limits = StopLimits { grace: left / 2, ceiling: left / 2 };
        let family = std::mem::replace(&mut self.family, Family::none());
        let context = &mut self.engine.context;
        let logs = ["restart", "gateway"].map(|name| LogFile::whole(name, context.log(name)));
        let proof = family.stop(limits, &self.interrupt, &mut |root| {
            let snapshot = evidence::take(root, &logs, &self.recorder, Deadline::after(look));
            context.keep_json("snapshot.json", &snapshot);
        });
        if let Some(LiveStack::Child(child)) = &mut context.stack {
            child.tell(&self.recorder);
        }
        survivors.extend(proof.left());
        if ended.leaves_stack_up() {
            self.recorder.note("the stack stays up");
        }
        self.recorder.event(Event::TornDown {
            signalled: proof.stopped.len(),
            survivors: survivors.clone(),
            elapsed_ms: proof.elapsed_ms,
        });
        context.keep_json("teardown.json", &proof);
        if !ended.leaves_stack_up() {
            self.check_port();
        }
        // Not before everything that could use them is gone.
        self.engine.context.placeholder = None;
        self.engine.context.lease = None;
        survivors
    }

    /// An assertion, and no more: when everything is dead, the port is free.
    fn check_port(&self) {
        let address = self.engine.context.sandbox.endpoint();
        if let Some(owner) = crate::ports::owner_of(address) {
            self.recorder
                .warn(format!("{address} is still listened on after the teardown, by {}", owner.describe()));
        }
    }

    fn clear_workspace(&mut self, ended: Ended) -> Result<(), Failure> {
        let keep = ended.keeps_workspace(self.engine.context.plan.keep);
        if let Some(workspace) = self.engine.context.workspace.as_ref().filter(|_| !ended.leaves_stack_up()) {
            // Nobody plays any more. If they do not go back, they are in the workspace, and that stays.
            take_back_all(workspace.path(), &self.engine.context.folder)?;
        }
        match self.engine.context.workspace.take() {
            Some(workspace) if keep => {
                self.recorder.note(format!("the workspace stays: {}", workspace.path()));
                Ok(())
            }
            Some(workspace) => workspace.remove(),
            None => Ok(()),
        }
    }

    fn report_teardown(&mut self, clean: bool, begun: Instant) {
        let outcome = if clean { StepOutcome::Passed } else { StepOutcome::Failed };
        let elapsed_ms = millis(begun);
        if let Some(report) = self.engine.reports.iter_mut().find(|report| report.step == TEARDOWN) {
            (report.outcome, report.elapsed_ms) = (Some(outcome), elapsed_ms);
        }
        self.recorder.event(Event::StepFinished { step: TEARDOWN.to_owned(), outcome, elapsed_ms });
    }
}

/// How a run ends that this has stopped, at whichever moment. What is kept for a look at a failure is not kept for a signal.
fn ended_by(failure: &Failure) -> Ended {
    if failure.kind == "interrupted" { Ended::Signalled } else { Ended::Failed }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
