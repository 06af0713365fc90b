//! What a soak came to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use stelae_model::terminal::Lines;

use super::Outcome;
use super::lifecycle::{Kill, Lifecycle};

/// The whole of it.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Version of this schema: 1.
    pub schema: u32,
    /// The number that the random choices began with: with the same one they are the same.
    pub seed: u64,
    /// How many lifecycles there were.
    pub runs: usize,
    /// In how many of them the harness, or a half of it, was to be killed.
    pub to_kill: usize,
    /// In how many of those it was, while it was there.
    pub killed: usize,
    /// Who outlived a lifecycle.
    pub survivors: Vec<String>,
    /// Addresses that are still leased.
    pub leaked_leases: Vec<String>,
    /// Addresses that are still listened on.
    pub leaked_ports: Vec<String>,
    /// Folders, and files of live runs, that are still there after the next start.
    pub leaked_folders: Vec<String>,
    /// Lifecycles that ended in a way that nobody's kill explains.
    pub failed: Vec<String>,
    /// What was not exercised, and why.
    pub left_out: Vec<String>,
    /// From the kill until everyone was gone, above the grace; by isolation and victim.
    pub latencies: Vec<Latency>,
}

/// How long it took until everyone was gone.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// `guard` or `pidns`.
    pub isolation: &'static str,
    /// Who was killed.
    pub victim: &'static str,
    /// How many.
    pub count: usize,
    /// Milliseconds: half of them took less.
    pub p50_ms: f64,
    /// Milliseconds: 99 of 100 took less.
    pub p99_ms: f64,
    /// Milliseconds: the longest.
    pub max_ms: f64,
}

impl Tally {
    /// Whether nothing is left, and nothing failed.
    pub fn is_clean(&self) -> bool {
        let lists =
            [&self.survivors, &self.leaked_leases, &self.leaked_ports, &self.leaked_folders, &self.failed];
        lists.iter().all(|list| list.is_empty())
    }

    /// Adds one lifecycle.
    pub(super) fn add(&mut self, samples: &mut Samples, lifecycle: &Lifecycle, outcome: Outcome) {
        self.runs += 1;
        self.to_kill += usize::from(lifecycle.victim.is_harness());
        let named = |what: String| format!("{what} ({lifecycle})");
        self.survivors.extend(outcome.survivors.into_iter().map(named));
        self.failed.extend(outcome.failed.map(named));
        if let Some(latency) = outcome.latency {
            self.killed += 1;
            let key = (lifecycle.isolation.name(), lifecycle.victim.name());
            samples.entry(key).or_default().push(latency);
        }
    }

    /// Says so if nobody was killed; it is a failure if that is no chance. At a moment of its own a lifecycle may be over.
    pub(super) fn miss_kills(&mut self, kill: Kill) {
        /// With so many, all of them were over before only if something is wrong.
        const ENOUGH: usize = 20;
        let fewest = match kill {
            Kill::Never => return,
            Kill::Each => 1,
            Kill::Random => ENOUGH,
        };
        if self.killed == 0 {
            let what = format!("kills: of {} lifecycles that were to be killed none was there", self.to_kill);
            if self.to_kill >= fewest { self.failed.push(what) } else { self.left_out.push(what) }
        }
    }

    /// Works the latencies out.
    pub(super) fn conclude(&mut self, samples: Samples) {
        self.latencies = samples
            .into_iter()
            .map(|((isolation, victim), mut latencies)| {
                latencies.sort();
                let at =
                    |share: f64| millis(latencies[((latencies.len() - 1) as f64 * share).ceil() as usize]);
                Latency {
                    isolation,
                    victim,
                    count: latencies.len(),
                    p50_ms: at(0.5),
                    p99_ms: at(0.99),
                    max_ms: at(1.0),
                }
            })
            .collect();
    }

    /// For a person.
    pub fn lines(&self) -> Lines {
        let mut lines =
            Lines::one(format!("soak: {} lifecycles, {} killed, seed {}", self.runs, self.killed, self.seed));
        for latency in &self.latencies {
            lines.push(format!(
                "  {:<6} {:<24} {:>5} times  gone after p50 {:>7.1} ms  p99 {:>7.1} ms  max {:>7.1} ms",
                latency.isolation,
                latency.victim,
                latency.count,
                latency.p50_ms,
                latency.p99_ms,
                latency.max_ms
            ));
        }
        for (what, list) in [
            ("survivors", &self.survivors),
            ("leaked leases", &self.leaked_leases),
            ("leaked ports", &self.leaked_ports),
            ("leaked folders", &self.leaked_folders),
            ("failed", &self.failed),
        ] {
            lines.push(format!("{what}: {}", list.len()));
            lines.extend(list.iter().map(|one| format!("  {one}")));
        }
        lines.extend(self.left_out.iter().map(|one| format!("not exercised: {one}")));
        lines
    }
}

/// Latencies by isolation and victim.
pub(super) type Samples = BTreeMap<(&'static str, &'static str), Vec<Duration>>;

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use stelae_model::Isolation;

    use super::*;
    use crate::soak::{Shape, Victim};

    /// What becomes of a soak in which each lifecycle of these victims was over before it could be killed.
    fn missed(kill: Kill, victims: &[Victim]) -> Tally {
        let mut tally = Tally::default();
        for &victim in victims {
            let lifecycle = Lifecycle::new(Shape::Plain, Isolation::Guard, victim, None);
            tally.add(&mut Samples::new(), &lifecycle, Outcome::default());
        }
        tally.miss_kills(kill);
        tally
    }

    #[test]
    fn a_soak_that_killed_nobody_is_red_if_it_could_have() {
        let red = [missed(Kill::Each, &[Victim::Inner]), missed(Kill::Random, &[Victim::Outer; 20])];
        assert!(red.iter().all(|tally| !tally.is_clean() && tally.failed[0].contains("none was there")));
        for said in
            [missed(Kill::Random, &[Victim::Outer]), missed(Kill::Each, &[Victim::Nobody, Victim::Service])]
        {
            assert!(said.is_clean() && said.left_out.len() == 1, "{said:?}");
        }
        assert!(missed(Kill::Never, &[Victim::Nobody]).left_out.is_empty());
        let killed = Outcome { latency: Some(Duration::ZERO), ..Outcome::default() };
        let lifecycle = Lifecycle::new(Shape::Plain, Isolation::Guard, Victim::Inner, None);
        let mut tally = Tally::default();
        tally.add(&mut Samples::new(), &lifecycle, killed);
        tally.miss_kills(Kill::Each);
        assert!(tally.is_clean() && tally.left_out.is_empty(), "{tally:?}");
    }
}
