//! The record of starts: one JSON object for each process that the harness, the supervisor or the gateway has started, with
//! the environment that it was given. Values are digests.
//!
//! The attestation needs it where a process's own memory says nothing: a program may overwrite the memory that its
//! environment was passed in, and any process may carry the label of another one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::value::full_digest;
use crate::{ExitCode, Failure};

/// One file, as the kernel identifies it. A change of the content changes this, too: nothing but the system's clock sets
/// `changed_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Time of the last change of the content, in nanoseconds since the epoch.
    pub modified_ns: i64,
    /// Time of the last change of the content or of the inode (owner, mode, links, name), in nanoseconds since the epoch.
    pub changed_ns: i64,
}

impl FileIdentity {
    /// Whether both are the same inode, whatever it holds.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// One start of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRecord {
    /// Its label.
    pub process: String,
    /// Its pid, in the PID namespace of the process that started it.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub started: u64,
    /// The pid of the process that started it, in the same namespace.
    pub by: i32,
    /// When that one was started, in clock ticks since boot.
    pub by_started: u64,
    /// The path of the program.
    pub program: String,
    /// The file that the kernel executed, as far as the process lived long enough to be looked at.
    pub executed: Option<FileIdentity>,
    /// Identifies the process image that was seen with exactly this environment, before the process could replace
    /// itself by another one (`exec`). None if it was not seen in time.
    pub image: Option<String>,
    /// What it was given: SHA-256 of each value, by name.
    pub environment: BTreeMap<String, String>,
    /// How many bytes of its memory that environment takes.
    pub environment_bytes: usize,
}

impl StartRecord {
    /// Writes the environment down: digests, and its length.
    pub fn with_environment<'a>(mut self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        // A later value of a name replaces the earlier one, as in the start itself.
        let given: BTreeMap<&str, &str> = pairs.collect();
        // `NAME=value` and a NUL each.
        self.environment_bytes = given.iter().map(|(name, text)| name.len() + text.len() + 2).sum();
        self.environment =
            given.into_iter().map(|(name, text)| (name.to_owned(), full_digest(text))).collect();
        self
    }

    /// Whether this environment is exactly what was given.
    pub fn is_given<'a>(&self, mut pairs: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let mut count = 0;
        let all = pairs.all(|(name, text)| {
            count += 1;
            self.environment.get(name).is_some_and(|given| *given == full_digest(text))
        });
        all && count == self.environment.len()
    }
}

/// Reads a record of starts. A last line without its end is left out: its writer was killed over it.
///
/// # Errors
/// Exit 10, `starts-unreadable`, with the line.
pub fn read_starts(path: &str, text: &str) -> Result<Vec<StartRecord>, Failure> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let what = "the record of what was started cannot be read";
            Failure::new(ExitCode::StepFailed, "starts-unreadable", what)
                .on(format!("{path}:{}", index + 1))
                .because(error.to_string())
                .hint("another process writes into this file: look for it in the servers of the stack")
        })
    };
    whole.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(parse).collect()
}

/// A live process, as far as it tells which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveProcess {
    /// Its pid, as it is seen from here.
    pub pid: i32,
    /// Its pid in its own PID namespace.
    pub own_pid: i32,
    /// The pid of its parent, as it is seen from here.
    pub parent: i32,
    /// When it was started, in clock ticks since boot.
    pub started: u64,
}

/// Where a live process comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its start is recorded.
    Recorded(Box<StartRecord>),
    /// A server or service has started it, or left it behind: whose label that one has, where it is known. What it has in
    /// its environment is that one's own affair.
    Descendant(Option<String>),
    /// Nothing is recorded of it: the second process of a supervisor or gateway, or a server of a gateway that keeps no
    /// record. It is known by the label in its environment.
    Unrecorded,
}

/// Where each of the live processes comes from, in their order.
pub fn origins(live: &[LiveProcess], starts: &[StartRecord]) -> Vec<Origin> {
    let by_pid: BTreeMap<i32, &LiveProcess> = live.iter().map(|one| (one.pid, one)).collect();
    let is = |one: &LiveProcess, pid: i32, started: u64| one.own_pid == pid && one.started == started;
    let starts_something = |one: &LiveProcess| starts.iter().any(|start| is(one, start.by, start.by_started));
    let record_of = |one: &LiveProcess| {
        starts.iter().rfind(|start| {
            // While the process lives that started it, that one is its parent: so a server cannot be recorded in
            // the name of the gateway.
            let starter = live.iter().find(|starter| is(starter, start.by, start.by_started));
            is(one, start.pid, start.started) && starter.is_none_or(|starter| starter.pid == one.parent)
        })
    };
    let origin = |one: &LiveProcess| {
        if let Some(record) = record_of(one) {
            return Origin::Recorded(Box::new(record.clone()));
        }
        let mut above = one.parent;
        // The table is not read in one instant: no chain is longer than the number of processes.
        for _ in 0..live.len() {
            let Some(parent) = by_pid.get(&above) else { break };
            match record_of(parent) {
                Some(record) if is_of_another_program(&record.process) => {
                    return Origin::Descendant(Some(record.process.clone()));
                }
                // A process that records its starts did not start this one: it was left behind, and fell to it.
                _ if starts_something(parent) => return Origin::Descendant(None),
                Some(_) => break,
                None => above = parent.parent,
            }
        }
        Origin::Unrecorded
    };
    live.iter().map(origin).collect()
}

/// Whether the label is that of a server or a service, and not of the supervisor or the gateway.
fn is_of_another_program(label: &str) -> bool {
    label.starts_with("server:") || label.starts_with("service:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(process: &str, pid: i32, by: i32) -> StartRecord {
        StartRecord {
            process: process.to_owned(),
            pid,
            started: pid.unsigned_abs().into(),
            by,
            by_started: by.unsigned_abs().into(),
            program: "/p".to_owned(),
            executed: None,
            image: None,
            environment: BTreeMap::new(),
            environment_bytes: 0,
        }
        .with_environment([("A", "1"), ("LONG", "two")].into_iter())
    }

    fn live(pairs: &[(i32, i32)]) -> Vec<LiveProcess> {
        let live = |&(pid, parent): &(i32, i32)| LiveProcess {
            pid,
            own_pid: pid,
            parent,
            started: pid.unsigned_abs().into(),
        };
        pairs.iter().map(live).collect()
    }

    /// 2 watchdog of the supervisor, 3 worker, 4 gateway, 5 the gateway's serving process, 6 and 7 servers.
    const STACK: [(i32, i32); 6] = [(2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 5)];

    fn recorded() -> Vec<StartRecord> {
        vec![start("xtask", 2, 1), start("gateway", 4, 3), start("server:a", 6, 5), start("server:b", 7, 5)]
    }

    fn origin_of(pid: i32, more: &[(i32, i32)], starts: &[StartRecord]) -> Origin {
        let live = live(&[&STACK, more].concat());
        let at = live.iter().position(|one| one.pid == pid).unwrap();
        origins(&live, starts).remove(at)
    }

    #[test]
    fn what_is_given_is_kept_as_digests_and_compared_whole() {
        let record = start("a", 1, 1);
        assert_eq!(record.environment_bytes, "A=1 LONG=two ".len());
        assert!(!format!("{record:?}").contains("two"));
        assert!(record.is_given([("LONG", "two"), ("A", "1")].into_iter()));
        for other in [vec![("A", "1")], vec![("A", "1"), ("LONG", "three")], vec![("A", "1"), ("B", "1")]] {
            assert!(!record.is_given(other.into_iter()));
        }
        let more = [("A", "1"), ("LONG", "two"), ("C", "")];
        assert!(!record.is_given(more.into_iter()));
    }

    #[test]
    fn each_process_of_a_stack_is_known_by_its_start_or_by_its_label() {
        for (pid, label) in [(2, "xtask"), (4, "gateway"), (6, "server:a"), (7, "server:b")] {
            assert!(
                matches!(origin_of(pid, &[], &recorded()), Origin::Recorded(record) if record.process == label)
            );
        }
        for pid in [3, 5] {
            assert_eq!(origin_of(pid, &[], &recorded()), Origin::Unrecorded);
        }
    }

    #[test]
    fn what_a_server_starts_or_leaves_behind_is_its_own_affair() {
        let more = [(60, 6), (61, 60), (62, 5), (63, 62), (64, 3)];
        let of_a = Origin::Descendant(Some("server:a".to_owned()));
        assert_eq!(origin_of(60, &more, &recorded()), of_a);
        assert_eq!(origin_of(61, &more, &recorded()), of_a);
        for pid in [62, 63, 64] {
            assert_eq!(origin_of(pid, &more, &recorded()), Origin::Descendant(None));
        }
    }

    #[test]
    fn behind_a_gateway_that_keeps_no_record_labels_are_all_there_is() {
        let starts = &recorded()[..2];
        for pid in [5, 6, 7, 60] {
            assert_eq!(origin_of(pid, &[(60, 6)], starts), Origin::Unrecorded);
        }
    }

    #[test]
    fn a_record_holds_for_one_process_only_and_only_below_the_process_that_started_it() {
        let mut live = live(&STACK);
        live[4].started += 1;
        assert_eq!(origins(&live, &recorded())[4], Origin::Descendant(None));
        // Server a has written that its child 60 was started by the gateway's process 5 as server b.
        let forged = [recorded(), vec![start("server:b", 60, 5)]].concat();
        assert_eq!(origin_of(60, &[(60, 6)], &forged), Origin::Descendant(Some("server:a".to_owned())));
    }

    #[test]
    fn pids_are_compared_in_the_namespace_in_which_they_were_recorded() {
        let mut live = live(&STACK);
        for one in &mut live {
            one.pid += 1000;
            one.parent += 1000;
        }
        assert!(matches!(origins(&live, &recorded())[4], Origin::Recorded(_)));
    }

    #[test]
    fn a_line_that_was_cut_is_none_and_another_one_has_its_place() {
        let line = serde_json::to_string(&start("a", 1, 1)).unwrap();
        assert_eq!(read_starts("f", &format!("{line}\n{{\"proc")).unwrap(), [start("a", 1, 1)]);
        assert_eq!(read_starts("f", "").unwrap(), []);
        let failure = read_starts("f", &format!("{line}\nnonsense\n")).unwrap_err();
        assert_eq!((failure.kind.as_str(), failure.on[0].as_str()), ("starts-unreadable", "f:2"));
    }
}
