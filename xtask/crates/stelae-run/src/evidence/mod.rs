//! Evidence first: what is seen of a stack before anybody in it gets a signal, and where it is kept.
//!
//! Taking it comes before the teardown, so it may cost a little time and must never cost the teardown. Everything that
//! can keep one waiting (a process whose memory is locked, a log on a dead disk) is read in threads that nobody waits
//! for; at the deadline, whatever they have told is the snapshot, and the rest is counted.

mod kept;
mod logs;
mod processes;

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use stelae_model::evidence::{Details, LogTail, MOST_BYTES, Snapshot, SnapshotProcess, SocketSeen};
use stelae_model::lifecycle::ProcessRow;

use crate::deadline::Deadline;
use crate::record::Recorder;

pub use kept::Evidence;
pub use logs::LogFile;

/// How long taking a snapshot may take. A stack of twenty processes takes some milliseconds.
pub const AT_MOST: Duration = Duration::from_secs(1);

/// What the readers tell, as they go.
#[derive(Debug)]
enum Piece {
    /// Everyone there is. Comes before everything else about them.
    Table(Vec<ProcessRow>),
    /// About one of them, by its place in the table.
    Looked(usize, Box<Details>),
    /// Which sockets one of them has, and how many that are no TCP sockets.
    Sockets(usize, Vec<SocketSeen>, usize),
    /// A value that must not be found in what is kept.
    Secret(String),
    /// The end of a log.
    Log(LogTail),
    /// Something that cannot be seen.
    Problem(String),
    /// A reader has told everything.
    Done,
}

/// A reader: returns when it has told everything, or as soon as nobody listens any more.
type Reader = Box<dyn FnOnce(&Sender<Piece>) -> Option<()> + Send>;

/// Takes a snapshot of everything below `root`, of the end of these logs, and of what the recorder knows about how far
/// the services have come. Returns at the deadline at the latest; what is missing then is said in the snapshot.
pub fn take(root: i32, logs: &[LogFile], recorder: &Recorder, deadline: Deadline) -> Snapshot {
    let begun = Instant::now();
    let logs = logs.to_vec();
    let readers: [Reader; 2] =
        [Box::new(move |tell| processes::look(root, tell)), Box::new(move |tell| logs::read(&logs, tell))];
    let mut snapshot = collect(readers, deadline);
    snapshot.probes = recorder.probes();
    snapshot.taken_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    snapshot.hiding(&|text| recorder.masked(text)).bounded(MOST_BYTES)
}

/// Puts together what the readers tell until the deadline.
fn collect(readers: impl IntoIterator<Item = Reader>, deadline: Deadline) -> Snapshot {
    let (tell, told) = channel();
    let mut collected = Collected::default();
    for reader in readers {
        let tell = tell.clone();
        // Unlike `spawn`, this does not panic where there is no thread to be had.
        let started = thread::Builder::new().name("evidence".to_owned()).spawn(move || reader(&tell));
        match started {
            Ok(_never_waited_for) => collected.running += 1,
            Err(error) => collected.problem(format!("a reader cannot be started: {error}")),
        }
    }
    drop(tell);
    collected.listen(&told, deadline);
    collected.into_snapshot()
}

#[derive(Debug, Default)]
struct Collected {
    snapshot: Snapshot,
    secrets: BTreeSet<String>,
    running: usize,
}

impl Collected {
    fn listen(&mut self, told: &Receiver<Piece>, deadline: Deadline) {
        while self.running > 0 {
            match told.recv_timeout(deadline.remaining()) {
                Ok(piece) => self.add(piece),
                Err(RecvTimeoutError::Timeout) => {
                    return self.problem("there was no time to look at everything".to_owned());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return self
                        .problem("a reader ended before it was done: a bug in the harness".to_owned());
                }
            }
        }
    }

    fn add(&mut self, piece: Piece) {
        let processes = &mut self.snapshot.processes;
        match piece {
            Piece::Table(rows) => {
                *processes = rows.into_iter().map(|row| SnapshotProcess { row, details: None }).collect();
            }
            Piece::Looked(index, details) => {
                if let Some(process) = processes.get_mut(index) {
                    process.details = Some(*details);
                }
            }
            Piece::Sockets(index, sockets, other) => {
                let process = processes.get_mut(index);
                if let Some(details) = process.and_then(|process| process.details.as_mut()) {
                    (details.sockets, details.other_sockets) = (sockets, other);
                }
            }
            Piece::Secret(secret) => drop(self.secrets.insert(secret)),
            Piece::Log(log) => self.snapshot.logs.push(log),
            Piece::Problem(problem) => self.problem(problem),
            Piece::Done => self.running -= 1,
        }
    }

    fn problem(&mut self, problem: String) {
        self.snapshot.problems.push(problem);
    }

    fn into_snapshot(self) -> Snapshot {
        let Self { snapshot, secrets, .. } = self;
        let hide = |text: &str| {
            secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "(secret)"))
        };
        snapshot.hiding(&hide)
    }
}

/// Why something cannot be seen, as it stands in a snapshot.
fn unseen(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn row(pid: i32) -> ProcessRow {
        ProcessRow { pid, parent: 1, group: pid, session: pid, started: 1, zombie: false }
    }

    fn looked(command: &str) -> Box<Details> {
        Box::new(Details { command: command.to_owned(), ..Details::default() })
    }

    /// A reader that is kept waiting for as long as the test likes: as one that reads a process whose memory is locked.
    #[test]
    fn who_is_kept_waiting_keeps_nobody_waiting() {
        let (_let_go, stuck) = sync_channel::<()>(0);
        let slow: Reader = Box::new(move |tell| {
            tell.send(Piece::Table((1..=3).map(row).collect())).ok()?;
            tell.send(Piece::Looked(0, looked("the first"))).ok()?;
            stuck.recv().ok();
            tell.send(Piece::Done).ok()
        });
        let quick: Reader = Box::new(|tell| {
            tell.send(Piece::Log(LogTail::default())).ok()?;
            tell.send(Piece::Done).ok()
        });
        let snapshot =
            collect([slow, quick], Deadline::after(Duration::from_millis(300))).bounded(MOST_BYTES);
        let commands: Vec<_> = snapshot
            .processes
            .iter()
            .map(|process| process.details.as_ref().map(|details| details.command.as_str()))
            .collect();
        assert_eq!(commands, [Some("the first"), None, None]);
        assert_eq!((snapshot.left_out.details, snapshot.logs.len()), (2, 1));
        assert_eq!(snapshot.problems, ["there was no time to look at everything"]);
    }

    #[test]
    fn a_reader_that_panics_is_a_problem_and_no_more() {
        let bad: Reader = Box::new(|tell| {
            tell.send(Piece::Table(vec![row(1)])).ok()?;
            panic!("a bug");
        });
        let snapshot = collect([bad], Deadline::after(Duration::from_secs(60))).bounded(MOST_BYTES);
        assert_eq!((snapshot.processes.len(), snapshot.left_out.details), (1, 1));
        assert!(snapshot.problems[0].contains("a bug in the harness"), "{snapshot:?}");
    }

    #[test]
    fn a_secret_of_a_process_is_hidden_wherever_it_is_quoted() {
        let reader: Reader = Box::new(|tell| {
            tell.send(Piece::Log(LogTail { lines: vec!["it is hunter2".into()], ..LogTail::default() }))
                .ok()?;
            tell.send(Piece::Secret("hunter2".into())).ok()?;
            tell.send(Piece::Done).ok()
        });
        let snapshot = collect([reader], Deadline::after(Duration::from_secs(60)));
        assert_eq!(snapshot.logs[0].lines, ["it is (secret)"]);
        assert_eq!(snapshot.problems, Vec::<String>::new());
    }
}
