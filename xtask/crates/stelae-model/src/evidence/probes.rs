//! How far services had come, as far as anybody remembers.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many are remembered.
const MOST: usize = 200;
/// Characters of a status. A service may answer whatever it likes.
const LONGEST: usize = 300;
/// The status of a rung that holds; the other statuses are texts of the rung.
const READY: &str = "ready";

/// One word about a rung.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Milliseconds since the run started.
    pub at_ms: u64,
    /// The service.
    pub process: String,
    /// The rung.
    pub rung: String,
    /// `ready`, or what was seen.
    pub status: String,
}

/// The history of the probes: bounded, and of two that have to go, the one that says less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    /// The oldest first.
    pub history: VecDeque<Probe>,
    /// How many are forgotten.
    pub left_out: usize,
}

impl Probes {
    /// Remembers one. The oldest of those that do not say that a rung was reached is forgotten first.
    pub fn record(&mut self, at_ms: u64, process: &str, rung: &str, status: &str) {
        if self.history.len() == MOST {
            let oldest = self.history.iter().position(|probe| probe.status != READY).unwrap_or(0);
            self.history.remove(oldest);
            self.left_out += 1;
        }
        let shortened = |text: &str| text.chars().take(LONGEST).collect();
        self.history.push_back(Probe {
            at_ms,
            process: shortened(process),
            rung: shortened(rung),
            status: shortened(status),
        });
    }

    pub(super) fn statuses_mut(&mut self) -> impl Iterator<Item = &mut String> {
        self.history.iter_mut().map(|probe| &mut probe.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rungs_that_were_reached_outlive_what_was_seen_on_the_way() {
        let mut probes = Probes::default();
        probes.record(0, "gateway", "spawned", READY);
        for at in 1..=1_000 {
            probes.record(at, "gateway", "http", &format!("status {at} {}", "x".repeat(1_000)));
        }
        assert_eq!((probes.history.len(), probes.left_out), (MOST, 801));
        assert_eq!((probes.history[0].rung.as_str(), probes.history[1].at_ms), ("spawned", 802));
        assert_eq!(probes.history[MOST - 1].status.chars().count(), LONGEST);
        // When all of them say the same, the oldest goes.
        let mut probes = Probes::default();
        (0..=MOST as u64).for_each(|at| probes.record(at, "gateway", "http", READY));
        assert_eq!((probes.history[0].at_ms, probes.left_out), (1, 1));
    }
}
