//! Deadlines: made at the top, handed down, only ever sooner.

use std::time::{Duration, Instant};

use stelae_model::ExitCode;

/// The moment at which a wait has to end.
///
/// It remembers *whose* moment it is: the run's budget, or a limit that somebody below set. What is said when it
/// passes differs (124 or the step's own code), and only the deadline knows which of the two was the sooner.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    whose: Whose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Budget,
    Limit,
}

impl Deadline {
    /// The end of the whole run's budget.
    pub fn budget(budget: Duration) -> Self {
        Self { at: from_now(budget), whose: Whose::Budget }
    }

    /// A limit of one step or wait.
    pub fn after(limit: Duration) -> Self {
        Self { at: from_now(limit), whose: Whose::Limit }
    }

    /// The sooner of this deadline and a limit from now. There is no way to make it later.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        self.min(Self::after(limit))
    }

    /// The sooner of the two; of two equal ones this.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }

    /// What is left; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Whether it is the run's budget that ends here.
    pub fn is_budget(&self) -> bool {
        self.whose == Whose::Budget
    }

    /// The exit code for "it has passed": 124 for the budget, `otherwise` for a limit.
    pub fn exit_code(&self, otherwise: ExitCode) -> ExitCode {
        if self.is_budget() { ExitCode::BudgetExhausted } else { otherwise }
    }
}

/// Far enough to be "never", and still a moment that the platform can express.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn from_now(duration: Duration) -> Instant {
    Instant::now() + duration.min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_shrinks_and_knows_whose_it_is() {
        let budget = Deadline::budget(Duration::from_secs(60));
        assert!(budget.within(Duration::from_secs(3600)).is_budget());
        let limit = budget.within(Duration::from_secs(1));
        assert!(!limit.is_budget() && limit.remaining() <= Duration::from_secs(1));
        assert_eq!(limit.exit_code(ExitCode::StepFailed), ExitCode::StepFailed);
        assert_eq!(budget.exit_code(ExitCode::StepFailed), ExitCode::BudgetExhausted);
    }

    #[test]
    fn zero_has_passed_and_for_ever_does_not_overflow() {
        assert!(Deadline::after(Duration::ZERO).passed());
        assert!(!Deadline::after(Duration::MAX).passed());
    }
}
