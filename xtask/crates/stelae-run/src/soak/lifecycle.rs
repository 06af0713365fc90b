//! One lifecycle of a soak: what it is, and how its end is judged. Chosen by number, so that a seed repeats it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use stelae_model::lifecycle::Ended;
use stelae_model::{ExitCode, Isolation};

use super::shape::Shape;
use super::victim::Victim;
use crate::files::random;

/// Between the polite signal and the kill: long enough to tell who needed it.
pub(super) const GRACE: Duration = Duration::from_millis(200);
/// How long a lifecycle stays up that is killed at a moment of its own.
const HOLD: Duration = Duration::from_millis(30);
/// How long one stays up that is killed once it is up.
const HOLD_UNTIL_KILLED: Duration = Duration::from_secs(60);
/// Within this every lifecycle has been everywhere: starting, up, stopping, gone.
const LATEST_MOMENT_MS: u64 = 160;
/// Which kills there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// None.
    Never,
    /// Every way to get away, with every victim, in turn; once the service is up.
    Each,
    /// Any of them, at any moment.
    Random,
}

/// One lifecycle, as it was chosen.
#[derive(Clone, Debug)]
pub(super) struct Lifecycle {
    pub(super) shape: Shape,
    pub(super) isolation: Isolation,
    pub(super) victim: Victim,
    /// Milliseconds from its start; absent: once it is up.
    pub(super) moment_ms: Option<u64>,
    pub(super) run: String,
    pub(super) mark: String,
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, isolation, victim, run, .. } = self;
        match self.moment_ms {
            Some(moment) => write!(f, "{run}: {shape}, {isolation}, {victim} killed after {moment} ms"),
            None => write!(f, "{run}: {shape}, {isolation}, {victim} killed once it was up"),
        }
    }
}

impl Lifecycle {
    /// Whether nobody is left to end it but whoever starts next.
    pub(super) fn needs_next_start(&self) -> bool {
        self.victim == Victim::Both && self.isolation == Isolation::Guard
    }

    /// How long everyone had who does not die of SIGTERM. In a namespace nobody is asked, if its first process is killed.
    pub(super) fn grace(&self) -> Duration {
        let killed =
            matches!(self.victim, Victim::Inner | Victim::Both) && self.isolation == Isolation::Pidns;
        if self.shape.takes_the_grace() && !killed { GRACE } else { Duration::ZERO }
    }

    /// How long it stays up by itself.
    pub(super) fn hold(&self) -> Duration {
        let ends_by_itself = matches!(self.victim, Victim::Nobody | Victim::Service);
        if self.moment_ms.is_some() || ends_by_itself { HOLD } else { HOLD_UNTIL_KILLED }
    }

    /// The `index`-th of a soak.
    pub(super) fn choose(kill: Kill, seed: u64, isolations: &[Isolation], index: usize) -> Self {
        let all = combinations(isolations);
        let chance = mixed(seed.wrapping_add(index as u64));
        let (shape, isolation, victim) = match kill {
            Kill::Never => {
                let (shape, isolation, _) = all[index % all.len()];
                (shape, isolation, Victim::Nobody)
            }
            Kill::Each => all[index % all.len()],
            Kill::Random => all[chance as usize % all.len()],
        };
        let moment_ms = (kill == Kill::Random).then(|| mixed(chance) % (LATEST_MOMENT_MS + 1));
        Self::new(shape, isolation, victim, moment_ms)
    }

    /// One with an id and a mark that nobody else has.
    pub(super) fn new(shape: Shape, isolation: Isolation, victim: Victim, moment_ms: Option<u64>) -> Self {
        let (run, mark) = (format!("soak-{:016x}", random()), format!("600.{:09}", random() % 1_000_000_000));
        Self { shape, isolation, victim, moment_ms, run, mark }
    }
}

/// Every way to get away with every victim, but for the one that is known to leave something.
fn combinations(isolations: &[Isolation]) -> Vec<(Shape, Isolation, Victim)> {
    let mut all = Vec::new();
    for &isolation in isolations {
        for shape in Shape::ALL {
            for victim in Victim::ALL {
                let hole =
                    victim == Victim::Both && isolation == Isolation::Guard && shape.clears_environment();
                if !hole {
                    all.push((shape, isolation, victim));
                }
            }
        }
    }
    all
}

/// Why the outer half should not have ended like that; `None` when it may.
pub(super) fn unexplained(victim: Victim, ended: Option<Ended>) -> Option<String> {
    let Some(ended) = ended else { return Some("it hangs".to_owned()) };
    let explained: BTreeSet<i32> = match victim {
        Victim::Nobody => [0].into(),
        // It may have been killed before it was up.
        Victim::Service => [0, i32::from(ExitCode::ExitedBeforeReady.number())].into(),
        // It may have been over before.
        Victim::Term => [0, i32::from(ExitCode::Terminated.number())].into(),
        // Before there is an inner half, the child is the one that sees whether namespaces are allowed.
        Victim::Inner => [ExitCode::Pass, ExitCode::StepFailed, ExitCode::PrerequisiteMissing]
            .map(|code| i32::from(code.number()))
            .into(),
        Victim::Outer | Victim::OuterGroup | Victim::Both => [0].into(),
    };
    let killed = matches!(victim, Victim::Outer | Victim::OuterGroup | Victim::Both);
    match ended {
        Ended::Status(status) if explained.contains(&status) => None,
        Ended::Signal(9) if killed => None,
        // It came before anything was begun.
        Ended::Signal(15) if victim == Victim::Term => None,
        other => Some(format!("it ended with {other}")),
    }
}

/// Well mixed bits, the same for the same number: the finalizer of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_its_turn_but_the_known_hole() {
        let guard = combinations(&[Isolation::Guard]);
        assert_eq!(guard.len(), 11 * 7 - 3);
        assert!(!guard.contains(&(Shape::ClearedEnv, Isolation::Guard, Victim::Both)));
        assert_eq!(combinations(&[Isolation::Guard, Isolation::Pidns]).len(), 11 * 7 * 2 - 3);
    }

    #[test]
    fn an_end_that_nobodys_kill_explains_is_a_failure() {
        assert_eq!(unexplained(Victim::Nobody, Some(Ended::Status(0))), None);
        assert!(unexplained(Victim::Nobody, Some(Ended::Status(34))).is_some());
        assert!(unexplained(Victim::Outer, Some(Ended::Signal(9))).is_none());
        assert!(unexplained(Victim::Term, Some(Ended::Signal(9))).is_some());
        assert!(unexplained(Victim::Term, None).is_some());
    }

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        assert_eq!(mixed(7), mixed(7));
        assert!((0..100).map(mixed).collect::<BTreeSet<_>>().len() == 100);
    }
}
