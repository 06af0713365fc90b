//! Making a snapshot small enough, and counting what goes.

use serde::Serialize;

use super::{Details, LogTail, Snapshot};

/// Processes that are listed at the most.
const MOST_PROCESSES: usize = 500;
/// Characters of a line of a log.
const LONGEST_LINE: usize = 2_000;
/// Problems that are told.
const MOST_PROBLEMS: usize = 20;
/// Characters of each.
const LONGEST_PROBLEM: usize = 500;

impl Snapshot {
    /// The same, so that it has at most `most` bytes when it is written. Half of them are for processes, a quarter is for
    /// logs; what has no room, or was not looked at, is counted.
    #[must_use]
    pub fn bounded(mut self, most: usize) -> Self {
        self.bound_processes(most / 2);
        let each = (most / 4).checked_div(self.logs.len()).unwrap_or(0);
        self.logs.iter_mut().for_each(|log| bound_log(log, each));
        self.bound_probes(most / 8);
        self.problems.truncate(MOST_PROBLEMS);
        self.problems.iter_mut().for_each(|problem| *problem = shortened(problem, LONGEST_PROBLEM));
        self
    }

    /// Environments go first, then everything but the row, then the process.
    fn bound_processes(&mut self, mut room: usize) {
        let all = std::mem::take(&mut self.processes);
        self.left_out.processes += all.len().saturating_sub(MOST_PROCESSES);
        for mut process in all.into_iter().take(MOST_PROCESSES) {
            if printed(&process) > room {
                let environment = |details: &mut Details| details.environment.take();
                self.left_out.environments +=
                    usize::from(process.details.as_mut().and_then(environment).is_some());
            }
            if printed(&process) > room {
                process.details = None;
            }
            let bytes = printed(&process);
            if bytes > room {
                self.left_out.processes += 1;
            } else {
                room -= bytes;
                self.processes.push(process);
            }
        }
        self.left_out.details = self.processes.iter().filter(|process| process.details.is_none()).count();
    }

    /// They are bounded in number and length already, but not in what their characters become when they are written.
    fn bound_probes(&mut self, room: usize) {
        let mut bytes: usize = self.probes.history.iter().map(printed).sum();
        while bytes > room
            && let Some(probe) = self.probes.history.pop_front()
        {
            bytes -= printed(&probe);
            self.probes.left_out += 1;
        }
    }
}

/// Keeps the last lines.
fn bound_log(log: &mut LogTail, mut room: usize) {
    let mut kept = 0;
    for line in log.lines.iter_mut().rev() {
        let short = shortened(line, LONGEST_LINE);
        let printed = printed(&short);
        if printed > room {
            break;
        }
        log.left_out_bytes += (line.len() - short.len()) as u64;
        *line = short;
        room -= printed;
        kept += 1;
    }
    let gone = log.lines.len() - kept;
    log.left_out_bytes += log.lines.drain(..gone).map(|line| line.len() as u64 + 1).sum::<u64>();
}

fn shortened(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// Bytes of a part when it is written as a part of the whole: deeper by three levels at the most.
fn printed(part: &impl Serialize) -> usize {
    // What cannot be written takes no room.
    let text = serde_json::to_string_pretty(part).unwrap_or_default();
    text.len() + 6 * (text.matches('\n').count() + 1) + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{LeftOut, MOST_BYTES, Probes, SnapshotProcess};
    use crate::lifecycle::ProcessRow;

    fn process(pid: i32, variables: usize) -> SnapshotProcess {
        let row = ProcessRow { pid, parent: 1, group: pid, session: pid, started: 1, zombie: false };
        let variable = |number| (format!("VARIABLE_{number}"), "sha256:0123456789ab".to_owned());
        let environment = Some((0..variables).map(variable).collect());
        SnapshotProcess {
            row,
            details: Some(Details { command: "x".repeat(200), environment, ..Details::default() }),
        }
    }

    fn size(snapshot: &Snapshot) -> usize {
        serde_json::to_vec_pretty(snapshot).unwrap().len()
    }

    #[test]
    fn the_worst_of_everything_fits_and_is_counted() {
        let mut probes = Probes::default();
        (0..1_000).for_each(|at| probes.record(at, "gateway", "http", &"\u{1}".repeat(1_000)));
        let log = LogTail { lines: vec!["\u{1}".repeat(3_000); 200], bytes: 600_200, ..LogTail::default() };
        let worst = Snapshot {
            processes: (0..2_000).map(|pid| process(pid, 50)).collect(),
            logs: vec![log; 10],
            probes,
            problems: vec!["\u{1}".repeat(10_000); 1_000],
            ..Snapshot::default()
        };
        assert!(size(&worst) > 10 * MOST_BYTES);
        let bounded = worst.bounded(MOST_BYTES);
        assert!(size(&bounded) <= MOST_BYTES, "{}", size(&bounded));
        let LeftOut { processes, details, environments } = bounded.left_out;
        assert_eq!(bounded.processes.len() + processes, 2_000);
        assert!(details > 0 && environments > 0 && bounded.processes[0].details.is_some());
        for log in &bounded.logs {
            let kept: u64 = log.lines.iter().map(|line| line.len() as u64 + 1).sum();
            assert!(!log.lines.is_empty());
            assert_eq!(kept + log.left_out_bytes, log.bytes);
        }
        assert!(!bounded.probes.history.is_empty() && bounded.probes.left_out > 800);
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let small = Snapshot {
            processes: (0..20).map(|pid| process(pid, 50)).collect(),
            logs: vec![LogTail { lines: vec!["one".into(), "two".into()], ..LogTail::default() }],
            ..Snapshot::default()
        };
        assert_eq!(small.clone().bounded(MOST_BYTES), small);
    }

    #[test]
    fn of_a_log_the_last_lines_stay() {
        let lines = (0..100).map(|number| format!("line {number}")).collect();
        let log = LogTail { lines, ..LogTail::default() };
        let bounded = Snapshot { logs: vec![log], ..Snapshot::default() }.bounded(400);
        assert_eq!(bounded.logs[0].lines.last().map(String::as_str), Some("line 99"));
        assert!(bounded.logs[0].lines.len() < 10);
    }
}
