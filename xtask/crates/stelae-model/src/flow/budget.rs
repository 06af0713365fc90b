//! Budgets: one for the run, one per step, a reserve for the teardown; inner ones fit into outer ones.

use serde::{Deserialize, Serialize};

use crate::{ExitCode, Failure};

/// How long one step may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepBudget {
    /// The step's name.
    pub step: String,
    /// Milliseconds.
    pub budget_ms: u64,
    /// Whether its time counts against the run's budget. A cold build's does not, unless the run's budget was asked
    /// for on the command line: then the whole run ends within it, whatever happens.
    pub counted: bool,
}

/// The budgets of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Milliseconds for the whole run.
    pub run_ms: u64,
    /// Milliseconds of `run_ms` that only the teardown may use.
    pub teardown_reserve_ms: u64,
    /// The steps, in order.
    pub steps: Vec<StepBudget>,
}

impl Budgets {
    /// Checks that they nest, before anything is started.
    ///
    /// # Errors
    /// Exit 2, `budget-impossible`, with a table of what does not fit.
    pub fn check(&self) -> Result<(), Failure> {
        let usable = self.run_ms.saturating_sub(self.teardown_reserve_ms);
        let too_long = |step: &&StepBudget| step.counted && step.budget_ms > usable;
        let mut failure =
            Failure::new(ExitCode::Usage, "budget-impossible", "the budgets do not fit into each other").on(
                format!(
                    "run: {} ms, of which {} ms are kept for the teardown",
                    self.run_ms, self.teardown_reserve_ms
                ),
            );
        let mut impossible = usable < MINIMUM_MS;
        for step in self.steps.iter().filter(too_long) {
            impossible = true;
            failure = failure.because(format!("{:<20} {:>8} ms > {usable} ms", step.step, step.budget_ms));
        }
        let hint = format!("give the run more: --budget-s {}", self.needed_ms().div_ceil(1000));
        if impossible { Err(failure.hint(hint)) } else { Ok(()) }
    }

    /// Makes every counted step fit, because the run's budget was given by a person: steps shrink to it.
    #[must_use]
    pub fn shrunk_to(mut self, run_ms: u64) -> Self {
        self.run_ms = run_ms;
        self.teardown_reserve_ms = self.teardown_reserve_ms.min(run_ms / 3);
        let usable = run_ms.saturating_sub(self.teardown_reserve_ms);
        for step in &mut self.steps {
            step.counted = true;
            step.budget_ms = step.budget_ms.min(usable);
        }
        self
    }

    /// The budget of a step.
    pub fn of(&self, name: &str) -> Option<&StepBudget> {
        self.steps.iter().find(|step| step.step == name)
    }

    /// Milliseconds after which the run is over whatever happens: its own, and those of the steps that do not count.
    pub fn longest_ms(&self) -> u64 {
        let besides = self.steps.iter().filter(|step| !step.counted).map(|step| step.budget_ms);
        besides.fold(self.run_ms, u64::saturating_add)
    }

    fn needed_ms(&self) -> u64 {
        let longest = self.steps.iter().filter(|step| step.counted).map(|step| step.budget_ms).max();
        (longest.unwrap_or(0) + self.teardown_reserve_ms).max(MINIMUM_MS + self.teardown_reserve_ms)
    }
}

/// Less than this, and not even a clone can be made.
const MINIMUM_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets() -> Budgets {
        let step = |name: &str, budget_ms, counted| StepBudget { step: name.into(), budget_ms, counted };
        Budgets {
            run_ms: 120_000,
            teardown_reserve_ms: 10_000,
            steps: vec![step("clone", 20_000, true), step("build", 900_000, false)],
        }
    }

    #[test]
    fn what_fits_is_accepted_and_what_does_not_is_named() {
        assert_eq!(budgets().check(), Ok(()));
        assert_eq!(budgets().longest_ms(), 1_020_000);

        let mut tight = budgets();
        tight.run_ms = 25_000;
        let failure = tight.check().unwrap_err();
        assert!(failure.why[0].contains("clone") && failure.why.len() == 1, "{failure}");
        assert_eq!(failure.hint.as_deref(), Some("give the run more: --budget-s 30"));
    }

    #[test]
    fn a_budget_of_the_command_line_covers_everything() {
        let budgets = budgets().shrunk_to(12_000);
        assert_eq!((budgets.teardown_reserve_ms, budgets.check()), (4_000, Ok(())));
        assert!(budgets.steps.iter().all(|step| step.counted && step.budget_ms <= 8_000));
        assert!(self::budgets().shrunk_to(0).check().is_err());
    }
}
