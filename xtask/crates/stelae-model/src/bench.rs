//! What measurements come to: medians over rounds, differences within a round, and whether the aims hold.
//!
//! Rounds are interleaved: every target is measured once in each. What a target costs more than no gateway at all is
//! worked out within a round, where the machine was in the same mood, and only then is the median taken.

use serde::Serialize;

/// The median may be so much above that of stdio directly.
pub const ABOVE_STDIO_MS: f64 = 0.4;
/// With three servers behind it.
pub const RSS_MB: f64 = 30.0;
/// After the slowest of its servers, by itself, has told its list.
pub const LIST_AFTER_MS: f64 = 30.0;

/// One target in one round. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Each of the sequential calls.
    pub calls_ns: Vec<u64>,
    /// From the start of the process until every tool was listed; for stdio directly, that of the slowest server.
    pub listed_ns: u64,
    /// Resident memory without that of the servers, if the platform tells. `None` for stdio directly.
    pub rss_kib: Option<u64>,
    /// Many clients at once. `None` for stdio directly, which has room for one.
    pub crowd: Option<Crowd>,
}

/// What became of the calls of many clients at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Crowd {
    /// How many should have been answered.
    pub asked: usize,
    /// Answered by the server that was meant, with what it was asked.
    pub right: usize,
    /// Answered with something else.
    pub wrong: usize,
    /// Not answered, or with an error.
    pub missing: usize,
    /// From the first call to the last answer.
    pub elapsed_ns: u64,
}

/// All rounds of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name.
    pub target: String,
    /// One for each round, in the order of the rounds.
    pub rounds: Vec<Measured>,
}

/// One row of the table: medians over the rounds, and sums of what was counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The target.
    pub target: String,
    /// Milliseconds: half of the calls took less.
    pub p50_ms: f64,
    /// Milliseconds: 99 of 100 calls took less.
    pub p99_ms: f64,
    /// Milliseconds: the `p50_ms` of a round less that of stdio directly.
    pub above_stdio_ms: f64,
    /// The `p50_ms` of a round as a multiple of that of stdio directly.
    pub times_stdio: f64,
    /// Milliseconds from the start until every tool was listed.
    pub listed_ms: f64,
    /// The same less what the slowest server takes by itself.
    pub list_after_slowest_ms: f64,
    /// Megabytes (10⁶ bytes) of resident memory without that of the servers.
    pub rss_mb: Option<f64>,
    /// Many clients at once, over all rounds.
    pub crowd: Option<Crowd>,
    /// Calls in a second while there were many clients.
    pub calls_per_s: Option<f64>,
}

/// One aim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Aim {
    /// What is to hold.
    pub what: String,
    /// What was measured; absent if it was not.
    pub measured: Option<f64>,
    /// Whether it holds. What was not measured does not.
    pub holds: bool,
}

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of this schema: 1.
    pub schema: u32,
    /// How many rounds there were.
    pub rounds: usize,
    /// Sequential calls of one target in one round.
    pub calls: usize,
    /// Clients at once.
    pub clients: usize,
    /// Calls of each of them.
    pub calls_each: usize,
    /// The targets, in the order in which they took turns.
    pub rows: Vec<Row>,
    /// What is aimed at for the gateway.
    pub aims: Vec<Aim>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

/// The value below which `share` of the sorted values lie. Of none it is no number, and no aim holds for that.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).ceil() as usize).copied().unwrap_or(f64::NAN)
}

/// Of an even number of values, the higher of the two in the middle.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&sorted(values), 0.5)
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

impl Measured {
    fn calls_ms(&self, share: f64) -> f64 {
        quantile(&sorted(self.calls_ns.iter().map(|&nanos| millis(nanos))), share)
    }
}

impl Row {
    /// The row of a target that took turns with stdio directly.
    pub fn of(series: &Series, stdio: &Series) -> Self {
        let rounds = || series.rounds.iter();
        let pairs = || rounds().zip(&stdio.rounds);
        let crowd = rounds().filter_map(|round| round.crowd).reduce(|sum, crowd| Crowd {
            asked: sum.asked + crowd.asked,
            right: sum.right + crowd.right,
            wrong: sum.wrong + crowd.wrong,
            missing: sum.missing + crowd.missing,
            elapsed_ns: sum.elapsed_ns + crowd.elapsed_ns,
        });
        let rss: Option<Vec<f64>> =
            rounds().map(|round| round.rss_kib.map(|kib| kib as f64 * 1024.0 / 1e6)).collect();
        Self {
            target: series.target.clone(),
            p50_ms: median(rounds().map(|round| round.calls_ms(0.5))),
            p99_ms: median(rounds().map(|round| round.calls_ms(0.99))),
            above_stdio_ms: median(pairs().map(|(ours, stdio)| ours.calls_ms(0.5) - stdio.calls_ms(0.5))),
            times_stdio: median(pairs().map(|(ours, stdio)| ours.calls_ms(0.5) / stdio.calls_ms(0.5))),
            listed_ms: median(rounds().map(|round| millis(round.listed_ns))),
            list_after_slowest_ms: median(
                pairs().map(|(ours, stdio)| millis(ours.listed_ns) - millis(stdio.listed_ns)),
            ),
            rss_mb: rss.map(median),
            calls_per_s: crowd
                .filter(|crowd| crowd.elapsed_ns > 0)
                .map(|crowd| (crowd.right + crowd.wrong) as f64 / (crowd.elapsed_ns as f64 / 1e9)),
            crowd,
        }
    }

    /// What the gateway's row is to hold.
    pub fn aims(&self) -> Vec<Aim> {
        let at_most = |what: String, measured: Option<f64>, limit: f64| Aim {
            what,
            measured,
            holds: measured.is_some_and(|measured| measured <= limit),
        };
        let unanswered =
            self.crowd.filter(|crowd| crowd.asked > 0).map(|crowd| (crowd.asked - crowd.right) as f64);
        vec![
            at_most(
                format!("p50 at most {ABOVE_STDIO_MS} ms above stdio directly"),
                Some(self.above_stdio_ms),
                ABOVE_STDIO_MS,
            ),
            at_most("no call of many clients unanswered, or by the wrong server".to_owned(), unanswered, 0.0),
            at_most(format!("at most {RSS_MB} MB with three servers"), self.rss_mb, RSS_MB),
            at_most(
                format!("list complete at most {LIST_AFTER_MS} ms after the slowest server"),
                Some(self.list_after_slowest_ms),
                LIST_AFTER_MS,
            ),
        ]
    }
}

impl Report {
    /// Whether every aim holds, and there is one.
    pub fn holds(&self) -> bool {
        !self.aims.is_empty() && self.aims.iter().all(|aim| aim.holds)
    }

    /// For a person.
    pub fn text(&self) -> String {
        let or_dash = |value: Option<f64>, places: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.places$}"))
        };
        let mut text = format!(
            "{} rounds; {} calls one after the other; {} clients × {} calls at once\n\n{:<16} {:>8} {:>8} {:>9} {:>7} {:>9} {:>9} {:>7} {:>8} {:>6} {:>7}\n",
            self.rounds,
            self.calls,
            self.clients,
            self.calls_each,
            "",
            "p50 ms",
            "p99 ms",
            "+stdio ms",
            "×stdio",
            "listed ms",
            "after ms",
            "RSS MB",
            "calls/s",
            "wrong",
            "missing",
        );
        for row in &self.rows {
            let count = |count: fn(Crowd) -> usize| row.crowd.map(|crowd| count(crowd) as f64);
            text += &format!(
                "{:<16} {:>8.3} {:>8.3} {:>9.3} {:>7.2} {:>9.1} {:>9.1} {:>7} {:>8} {:>6} {:>7}\n",
                row.target,
                row.p50_ms,
                row.p99_ms,
                row.above_stdio_ms,
                row.times_stdio,
                row.listed_ms,
                row.list_after_slowest_ms,
                or_dash(row.rss_mb, 1),
                or_dash(row.calls_per_s, 0),
                or_dash(count(|crowd| crowd.wrong), 0),
                or_dash(count(|crowd| crowd.missing), 0),
            );
        }
        text.push('\n');
        for aim in &self.aims {
            let measured =
                aim.measured.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.3}"));
            text += &format!("{:<5} {}: {measured}\n", if aim.holds { "holds" } else { "FAILS" }, aim.what);
        }
        text.extend(self.notes.iter().map(|note| format!("note: {note}\n")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(calls_us: &[u64], listed_ms: u64) -> Measured {
        let calls_ns = calls_us.iter().map(|micros| micros * 1000).collect();
        let crowd = Crowd { asked: 10, right: 10, elapsed_ns: 1_000_000_000, ..Crowd::default() };
        Measured { calls_ns, listed_ns: listed_ms * 1_000_000, rss_kib: Some(10_000), crowd: Some(crowd) }
    }

    fn series(target: &str, rounds: Vec<Measured>) -> Series {
        Series { target: target.to_owned(), rounds }
    }

    #[test]
    fn differences_are_taken_within_a_round() {
        // The machine was in another mood each time: the difference of the medians would be 0.3 and 15.
        let stdio = series("stdio", vec![measured(&[100], 5), measured(&[1000], 50), measured(&[200], 10)]);
        let ours = series("ours", vec![measured(&[500], 25), measured(&[1200], 60), measured(&[400], 20)]);
        let row = Row::of(&ours, &stdio);
        assert_eq!((row.p50_ms, row.list_after_slowest_ms), (0.5, 10.0));
        assert!((row.above_stdio_ms - 0.2).abs() < 1e-9 && (row.times_stdio - 2.0).abs() < 1e-9);
        assert_eq!((row.rss_mb, row.calls_per_s), (Some(10.24), Some(10.0)));
        assert_eq!(row.crowd.unwrap().right, 30);
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let calls: Vec<u64> = (1..=100).rev().collect();
        let one = series("one", vec![measured(&calls, 1)]);
        let row = Row::of(&one, &one);
        assert_eq!((row.p50_ms, row.p99_ms), (0.051, 0.1));
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn each_aim_can_fail_and_what_is_not_measured_does() {
        let stdio = series("stdio", vec![measured(&[100], 5)]);
        let good = measured(&[200], 10);
        let holds = |round: Measured| -> Vec<bool> {
            Row::of(&series("ours", vec![round]), &stdio).aims().iter().map(|aim| aim.holds).collect()
        };
        assert_eq!(holds(good.clone()), [true; 4]);
        assert_eq!(holds(Measured { calls_ns: vec![600_000], ..good.clone() }), [false, true, true, true]);
        let crowd = Crowd { asked: 10, right: 9, wrong: 1, ..Crowd::default() };
        assert_eq!(holds(Measured { crowd: Some(crowd), ..good.clone() }), [true, false, true, true]);
        assert_eq!(holds(Measured { crowd: None, ..good.clone() }), [true, false, true, true]);
        let nobody = Some(Crowd::default());
        assert_eq!(holds(Measured { crowd: nobody, ..good.clone() }), [true, false, true, true]);
        assert_eq!(holds(Measured { rss_kib: Some(30_000), ..good.clone() }), [true, true, false, true]);
        assert_eq!(holds(Measured { rss_kib: None, ..good.clone() }), [true, true, false, true]);
        assert_eq!(holds(Measured { listed_ns: 40_000_000, ..good }), [true, true, true, false]);
        let none = series("none", vec![]);
        assert!(Row::of(&none, &none).aims().iter().all(|aim| !aim.holds));
    }
}
