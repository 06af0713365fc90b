//! What a soak came to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Outcome;
use super::lifecycle::Lifecycle;

/// The whole of it.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Version of this schema: 1.
    pub schema: u32,
    /// The number that the random choices began with: with the same one they are the same.
    pub seed: u64,
    /// How many lifecycles there were.
    pub runs: usize,
    /// Of how many of them somebody, or something, was killed while it was there.
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
        let named = |what: String| format!("{what} ({lifecycle})");
        self.survivors.extend(outcome.survivors.into_iter().map(named));
        self.failed.extend(outcome.failed.map(named));
        if let Some(latency) = outcome.latency {
            self.killed += 1;
            let key = (lifecycle.isolation.name(), lifecycle.victim.name());
            samples.entry(key).or_default().push(latency);
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
    pub fn text(&self) -> String {
        let mut text =
            format!("soak: {} lifecycles, {} killed, seed {}\n", self.runs, self.killed, self.seed);
        for latency in &self.latencies {
            text += &format!(
                "  {:<6} {:<24} {:>5} times  gone after p50 {:>7.1} ms  p99 {:>7.1} ms  max {:>7.1} ms\n",
                latency.isolation,
                latency.victim,
                latency.count,
                latency.p50_ms,
                latency.p99_ms,
                latency.max_ms
            );
        }
        for (what, list) in [
            ("survivors", &self.survivors),
            ("leaked leases", &self.leaked_leases),
            ("leaked ports", &self.leaked_ports),
            ("leaked folders", &self.leaked_folders),
            ("failed", &self.failed),
        ] {
            text += &format!("{what}: {}\n", list.len());
            text.extend(list.iter().map(|one| format!("  {one}\n")));
        }
        text.extend(self.left_out.iter().map(|one| format!("not exercised: {one}\n")));
        text
    }
}

/// Latencies by isolation and victim.
pub(super) type Samples = BTreeMap<(&'static str, &'static str), Vec<Duration>>;

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
