//! What is kept of a stack at one moment: who there is, what they hold, what they wrote, how far they had come.
//!
//! A snapshot is taken before the first signal, so it has to be cheap, and small enough to be kept for every run. What
//! did not fit, or was not looked at any more, is counted. It holds no secret: of an environment the names, and the
//! values of variables that are declared and not secret; everything else is a digest.

mod bounds;
mod probes;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::lifecycle::ProcessRow;

pub use probes::{Probe, Probes};

/// Version of the shape of a snapshot. A field may be added within a version; nothing is renamed or removed.
pub const SNAPSHOT_SCHEMA: u32 = 1;

/// The most that a snapshot has, as it is written, in bytes.
pub const MOST_BYTES: usize = 1024 * 1024;

/// Everything below one process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// [`SNAPSHOT_SCHEMA`].
    pub schema: u32,
    /// Milliseconds that taking it took.
    pub taken_ms: u64,
    /// Parents before their children, zombies included.
    pub processes: Vec<SnapshotProcess>,
    /// The end of each log.
    pub logs: Vec<LogTail>,
    /// How far each service had come, and what was seen last.
    pub probes: Probes,
    /// What there was besides.
    pub left_out: LeftOut,
    /// What could not be seen, and why.
    pub problems: Vec<String>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            schema: SNAPSHOT_SCHEMA,
            taken_ms: 0,
            processes: Vec::new(),
            logs: Vec::new(),
            probes: Probes::default(),
            left_out: LeftOut::default(),
            problems: Vec::new(),
        }
    }
}

/// What is not in a snapshot, by count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Processes that are not listed.
    pub processes: usize,
    /// Processes that are listed, and that were not looked at any more, or had more to say than there was room for.
    pub details: usize,
    /// Environments that had no room, of processes that have everything else.
    pub environments: usize,
}

/// One process in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotProcess {
    /// Where it stands in the table.
    #[serde(rename = "process")]
    pub row: ProcessRow,
    /// Everything else, if it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// What one process is and holds. A part that could not be read is absent, and named in `unreadable`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// Its command line, shortened.
    pub command: String,
    /// The kernel's word: `S (sleeping)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Its working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Its resident memory, in KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_kib: Option<u64>,
    /// The environment that it was started with; see [`seen_environment`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// Its TCP sockets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketSeen>,
    /// How many more sockets it has, of whatever kind.
    #[serde(default)]
    pub other_sockets: usize,
    /// What could not be read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// One TCP socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketSeen {
    /// `listen`, `established`, …
    pub state: String,
    /// Its own address.
    pub local: SocketAddr,
    /// Who is at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
}

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogTail {
    /// Whose it is.
    pub process: String,
    /// Where all of it is.
    pub path: String,
    /// Bytes that were written since the start.
    pub bytes: u64,
    /// The last lines of these.
    pub lines: Vec<String>,
    /// Bytes of these that are not here.
    pub left_out_bytes: u64,
    /// Why it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// An environment as it may be kept: see [`shown`](crate::env::attest::shown).
pub fn seen_environment(environment: &[(String, String)]) -> BTreeMap<String, String> {
    environment.iter().map(|(name, text)| (name.clone(), crate::env::attest::shown(name, text))).collect()
}

/// The values in an environment that are declared secrets. What the process wrote may quote them.
pub fn secrets_in(environment: &[(String, String)]) -> impl Iterator<Item = &str> {
    /// A shorter one would be found in any text.
    const SHORTEST: usize = 6;
    let secret = |name: &str| crate::env::programs::declared(name).is_some_and(|declared| declared.secret);
    environment
        .iter()
        .filter(move |(name, text)| secret(name) && text.len() >= SHORTEST)
        .map(|(_, text)| text.as_str())
}

impl Snapshot {
    /// The same, with everything that people or processes wrote passed through `hide`.
    #[must_use]
    pub fn hiding(mut self, hide: &dyn Fn(&str) -> String) -> Self {
        let each = |text: &mut String| *text = hide(text);
        let details = self.processes.iter_mut().filter_map(|process| process.details.as_mut());
        for details in details {
            each(&mut details.command);
            details.cwd.as_mut().map(each);
            details.environment.iter_mut().flat_map(BTreeMap::values_mut).for_each(each);
        }
        self.logs.iter_mut().flat_map(|log| log.lines.iter_mut()).for_each(each);
        self.probes.statuses_mut().for_each(each);
        self.problems.iter_mut().for_each(each);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn only_declared_values_that_are_no_secret_are_shown() {
        let environment = pairs(&[
            ("PROXY_PORT", "9090"),
            ("STELAE_CONTROL_TOKEN", "hunter2hunter2"),
            ("SOMEBODYS_API_KEY", "hunter3hunter3"),
            ("HTTPS_PROXY", "x"),
        ]);
        let seen = seen_environment(&environment);
        assert_eq!(seen["PROXY_PORT"], "9090");
        for name in ["STELAE_CONTROL_TOKEN", "SOMEBODYS_API_KEY", "HTTPS_PROXY"] {
            assert!(seen[name].starts_with("sha256:"), "{seen:?}");
        }
        assert_eq!(secrets_in(&environment).collect::<Vec<_>>(), ["hunter2hunter2"]);
    }

    #[test]
    fn nothing_that_was_written_keeps_a_hidden_text() {
        let environment = BTreeMap::from([("PATH".to_owned(), "/hunter2".to_owned())]);
        let details = Details {
            command: "run --token hunter2".into(),
            cwd: Some("/hunter2".into()),
            environment: Some(environment),
            ..Details::default()
        };
        let row = ProcessRow { pid: 1, parent: 0, group: 1, session: 1, started: 1, zombie: false };
        let mut probes = Probes::default();
        probes.record(1, "gateway", "http", "it said hunter2");
        let snapshot = Snapshot {
            processes: vec![SnapshotProcess { row, details: Some(details) }],
            logs: vec![LogTail { lines: vec!["my token is hunter2".into()], ..LogTail::default() }],
            probes,
            problems: vec!["hunter2".into()],
            ..Snapshot::default()
        };
        assert_eq!(serde_json::to_string(&snapshot).unwrap().matches("hunter2").count(), 6);
        let hidden = snapshot.hiding(&|text| text.replace("hunter2", "(secret)"));
        assert_eq!(serde_json::to_string(&hidden).unwrap().matches("hunter2").count(), 0);
    }
}
