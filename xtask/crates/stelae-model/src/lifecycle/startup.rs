//! The start-up watch: from what is seen of a starting service to one verdict.
//!
//! Two limits. The *idle window* is how long a service may show no sign of life: a line in its log, or a rung that it
//! had not reached before, opens it anew. The *ceiling* bounds the whole start, however chatty the service is. A slow
//! service and a hanging one differ only in this, so one limit can not tell them apart.
//!
//! The idle window ends no start before the service was looked at on its rung: on a machine without a moment to spare, it
//! is the watch that was silent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ended, Lacking, Rung, Standing};
use crate::ExitCode;

/// How long a start may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The longest time without a sign of life.
    pub idle: Duration,
    /// The longest time of all.
    pub ceiling: Duration,
}

/// Which of the two limits passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhichLimit {
    /// Nothing was heard for the idle window.
    Idle,
    /// The start took longer than its ceiling.
    Ceiling,
}

impl WhichLimit {
    /// The failure's `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ceiling => "ceiling",
        }
    }
}

/// Something that was seen. Time is a duration since the start, passed beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing, but time passed.
    Tick,
    /// The log grew.
    Output,
    /// The service was asked how it stands on a rung.
    Rung(Rung, Standing),
    /// The process ended.
    Exited(Ended),
    /// Somebody else holds the address.
    Stranger,
    /// A person, or whoever started us, wants us to stop.
    Interrupted(ExitCode),
    /// The deadline of the whole run passed.
    BudgetPassed,
    /// Something else failed, and nobody waits for this start any more.
    CutShort,
}

/// What a start came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every rung holds.
    Ready,
    /// The process ended first; status 0 counts too.
    Exited(Ended),
    /// A limit passed while the service stood on `rung`.
    TooLate {
        /// Which limit.
        limit: WhichLimit,
        /// The first rung that does not hold.
        rung: Rung,
        /// What was seen last on that rung.
        status: String,
    },
    /// The service answers, but something required is not there.
    Incomplete {
        /// The rung on which it is missed.
        rung: Rung,
        /// What was seen last.
        status: String,
        /// What is missing and what is there.
        lacking: Lacking,
    },
    /// A rung can not hold any more.
    Failed {
        /// Which one.
        rung: Rung,
        /// Why.
        why: String,
    },
    /// A stranger holds the address.
    PortTaken,
    /// The budget of the run is exhausted.
    BudgetPassed {
        /// Where the service stood.
        rung: Rung,
        /// What was seen last there.
        status: String,
    },
    /// We were told to stop.
    Interrupted(ExitCode),
    /// It was given up because of somebody else: no verdict on this service.
    CutShort,
}

/// The state of one start.
#[derive(Clone, Debug)]
pub struct Startup {
    patience: Patience,
    /// What is still to be climbed, lowest first; never empty before the verdict.
    ahead: Vec<Rung>,
    seen_alive: Duration,
    last: Option<(String, Option<Lacking>)>,
    /// What was said about rungs above: several watchers look, and none waits for the other.
    early: BTreeMap<Rung, Standing>,
    reached: BTreeMap<Rung, Duration>,
}

impl Startup {
    /// A start that has to climb `rungs` (any order).
    pub fn new(patience: Patience, mut rungs: Vec<Rung>) -> Self {
        rungs.sort_unstable();
        rungs.dedup();
        Self {
            patience,
            ahead: rungs,
            seen_alive: Duration::ZERO,
            last: None,
            early: BTreeMap::new(),
            reached: BTreeMap::new(),
        }
    }

    /// Takes one event at its time since the start, and says what the start came to, if it came to something.
    pub fn observe(&mut self, at: Duration, event: Event) -> Option<Verdict> {
        match event {
            Event::Tick => self.check_limits(at),
            Event::Output => {
                self.seen_alive = at;
                self.check_limits(at)
            }
            Event::Rung(rung, standing) => self.climb(at, rung, standing),
            Event::Exited(ended) => Some(Verdict::Exited(ended)),
            Event::Stranger => Some(Verdict::PortTaken),
            Event::Interrupted(code) => Some(Verdict::Interrupted(code)),
            Event::CutShort => Some(Verdict::CutShort),
            Event::BudgetPassed => {
                let (rung, status) = self.stands_on();
                Some(Verdict::BudgetPassed { rung, status })
            }
        }
    }

    /// The rungs that hold, each with the time when it was reached.
    pub fn reached(&self) -> &BTreeMap<Rung, Duration> {
        &self.reached
    }

    /// The lowest rung that does not hold, and what was seen last on it.
    pub fn stands_on(&self) -> (Rung, String) {
        let rung = self.ahead.first().copied().unwrap_or(Rung::Spawned);
        let status =
            self.last.as_ref().map_or_else(|| "nothing seen yet".to_owned(), |(status, _)| status.clone());
        (rung, status)
    }

    /// How long until the next limit passes, if nothing is seen.
    pub fn until_next_limit(&self, at: Duration) -> Duration {
        self.idle_ends().min(self.patience.ceiling).saturating_sub(at)
    }

    fn idle_ends(&self) -> Duration {
        match self.last {
            Some(_) => self.seen_alive.saturating_add(self.patience.idle),
            None => self.patience.ceiling,
        }
    }

    fn climb(&mut self, at: Duration, rung: Rung, standing: Standing) -> Option<Verdict> {
        if self.ahead.first() != Some(&rung) {
            // What is said about a rung above counts when we get there; one that is behind us stays reached.
            if self.ahead.contains(&rung) {
                self.early.insert(rung, standing);
            }
            return self.check_limits(at);
        }
        match standing {
            Standing::Ready => {
                self.reached.insert(rung, at);
                self.seen_alive = at;
                self.last = None;
                self.ahead.remove(0);
                let Some(&next) = self.ahead.first() else { return Some(Verdict::Ready) };
                match self.early.remove(&next) {
                    Some(standing) => self.climb(at, next, standing),
                    None => self.check_limits(at),
                }
            }
            Standing::NotYet { status, lacking } => {
                self.last = Some((status, lacking));
                self.check_limits(at)
            }
            Standing::Failed { why, lacking: Some(lacking) } => {
                Some(Verdict::Incomplete { rung, status: why, lacking })
            }
            Standing::Failed { why, lacking: None } => Some(Verdict::Failed { rung, why }),
        }
    }

    fn check_limits(&self, at: Duration) -> Option<Verdict> {
        let limit = if at >= self.patience.ceiling {
            WhichLimit::Ceiling
        } else if at >= self.idle_ends() {
            WhichLimit::Idle
        } else {
            return None;
        };
        let (rung, status) = self.stands_on();
        match self.last.clone() {
            Some((_, Some(lacking))) => Some(Verdict::Incomplete { rung, status, lacking }),
            _ => Some(Verdict::TooLate { limit, rung, status }),
        }
    }
}

#[cfg(test)]
mod tests;
