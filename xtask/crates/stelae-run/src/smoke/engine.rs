//! Drives the steps: budgets, records, resumes, stops where it was told to.

use std::time::{Duration, Instant};

use stelae_model::Failure;
use stelae_model::event::{Event, StepOutcome};
use stelae_model::flow::{Engine, Halt, Step, Stop, stop_after};
use stelae_model::verdict::StepReport;

use super::context::SmokeContext;
use crate::deadline::Deadline;

/// The engine of one session of a run.
#[derive(Debug)]
pub(crate) struct SmokeEngine {
    /// What the steps work with.
    pub(crate) context: SmokeContext,
    /// What became of each step of the plan.
    pub(crate) reports: Vec<StepReport>,
    /// So many steps are read back instead of being carried out.
    resumed: usize,
    started: Instant,
    /// Time that does not count against the run: a cold build.
    uncounted: Duration,
}

impl SmokeEngine {
    /// An engine that reads the first `resumed` steps back.
    pub(crate) fn new(context: SmokeContext, resumed: usize) -> Self {
        let steps = context.plan.budgets.steps.iter();
        let reports =
            steps.map(|step| StepReport { step: step.step.clone(), outcome: None, elapsed_ms: 0 }).collect();
        Self { context, reports, resumed, started: Instant::now(), uncounted: Duration::ZERO }
    }

    /// What is left of the run's budget, the teardown's reserve included.
    pub(crate) fn left(&self) -> Duration {
        let budget = Duration::from_millis(self.context.plan.budgets.run_ms) + self.uncounted;
        budget.saturating_sub(self.started.elapsed())
    }

    /// The steps that this session has carried out, in their order.
    pub(crate) fn passed(&self) -> Vec<String> {
        let passed = self.reports.iter().filter(|report| report.outcome == Some(StepOutcome::Passed));
        passed.map(|report| report.step.clone()).collect()
    }

    /// The deadline of a step: its own budget, and never past what the run has left for steps.
    fn deadline(&self, name: &str) -> Deadline {
        let budgets = &self.context.plan.budgets;
        let own = budgets.of(name).map_or(0, |step| step.budget_ms);
        if budgets.of(name).is_some_and(|step| !step.counted) {
            return Deadline::after(Duration::from_millis(own));
        }
        let reserve = Duration::from_millis(budgets.teardown_reserve_ms);
        Deadline::budget(self.left().saturating_sub(reserve)).within(Duration::from_millis(own))
    }

    fn stop_after(&self, index: usize) -> Option<Stop> {
        let plan = &self.context.plan;
        let steps: Vec<&str> = plan.budgets.steps.iter().map(|step| step.step.as_str()).collect();
        stop_after(&steps, index, plan.until.as_deref(), plan.manual_stage.as_deref())
    }

    fn carry_out<S: Step<Context = SmokeContext>>(
        &mut self,
        step: &S,
        needs: S::Needs,
    ) -> Result<S::Gives, Failure> {
        let name = step.name();
        self.context.interrupt.bail(&name)?;
        self.context.deadline = self.deadline(&name);
        let budget_ms = u64::try_from(self.context.deadline.remaining().as_millis()).unwrap_or(u64::MAX);
        self.context.recorder.event(Event::StepStarted { step: name.clone(), budget_ms });
        let gives = step.perform(&mut self.context, needs)?;
        // A signal that came while nothing waited for it ends the run here.
        self.context.interrupt.bail(&name)?;
        Ok(gives)
    }

    fn read_back<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Failure> {
        self.context.folder.read_json(&file_of(name)).map_err(|error| {
            Failure::new(
                stelae_model::ExitCode::Usage,
                "not-resumable",
                format!("{name} left nothing to go on from"),
            )
            .on(self.context.folder.join(&file_of(name)).to_string())
            .because(error.to_string())
            .hint(format!("cargo xtask smoke --resume {} --from {name}", self.context.plan.run))
        })
    }
}

/// The file in the run's folder that keeps what a step gave.
pub(crate) fn file_of(step: &str) -> String {
    format!("steps/{}.json", step.replace(':', "-"))
}

impl Engine<SmokeContext> for SmokeEngine {
    fn step<S: Step<Context = SmokeContext>>(&mut self, step: &S, needs: S::Needs) -> Result<S::Gives, Halt> {
        let name = step.name();
        let index = self.reports.iter().position(|report| report.step == name).unwrap_or(self.reports.len());
        let begun = Instant::now();
        let resumed = index < self.resumed;
        let result = if resumed { self.read_back(&name) } else { self.carry_out(step, needs) };
        let elapsed = begun.elapsed();
        if self.context.plan.budgets.of(&name).is_some_and(|step| !step.counted) {
            self.uncounted += elapsed;
        }
        let outcome = match &result {
            Ok(_) if resumed => StepOutcome::Resumed,
            Ok(_) => StepOutcome::Passed,
            Err(_) => StepOutcome::Failed,
        };
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if let Some(report) = self.reports.get_mut(index) {
            (report.outcome, report.elapsed_ms) = (Some(outcome), elapsed_ms);
        }
        self.context.recorder.event(Event::StepFinished { step: name.clone(), outcome, elapsed_ms });
        let gives = result.map_err(|failure| {
            self.context.recorder.event(Event::Failed { step: name.clone(), failure: failure.clone() });
            Halt::Failed { step: name.clone(), failure }
        })?;
        if !resumed {
            self.context.keep_json(&file_of(&name), &gives);
        }
        // A session that goes on does not stop where the one before it stopped for a person. That `until` is not among what
        // is read back was checked.
        match self.stop_after(index).filter(|_| !resumed) {
            Some(stop) => Err(Halt::Reached { step: name, stop }),
            None => Ok(gives),
        }
    }
}
