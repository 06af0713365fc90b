//! Evidence first: what is seen of a stack before anybody in it gets a signal, and where it is kept.
//!
//! Taking it comes before the teardown, so it may cost a little time and must never cost the teardown. Everything that
//! can keep one waiting (a process whose memory is locked, a log on a dead disk) is read in threads that nobody waits
//! for; at the deadline, whatever they have told is the snapshot, and the rest is counted.

mod kept;
mod logs;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use stelae_model::evidence::{Details, LogTail, MOST_BYTES, Snapshot, SnapshotProcess, SocketSeen};
use stelae_model::hidden::Hidden;
use stelae_model::lifecycle::ProcessRow;

use crate::deadline::Deadline;
use crate::ports::{SocketTable, TcpSocket};
use crate::process::Present;
use crate::record::Recorder;

pub use kept::Evidence;
pub use logs::LogFile;

/// How long taking a snapshot may take. A stack of twenty processes takes some milliseconds.
pub const AT_MOST: Duration = Duration::from_secs(1);

/// Sockets that are listed of one process.
const MOST_SOCKETS: usize = 100;

/// What the readers tell, as they go.
#[derive(Debug)]
enum Piece {
    /// About one process, by its place among those who are present, and the inodes of its sockets.
    Looked(usize, Box<Details>, Vec<u64>),
    /// One of the tables of sockets.
    Sockets(Vec<TcpSocket>),

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

/// Takes a snapshot of everyone who is present, of the end of these logs, and of what the recorder knows about how far
/// the services have come. Returns at the deadline at the latest; what is missing then is said in the snapshot.
pub fn take(present: &Present<'_>, logs: &[LogFile], recorder: &Recorder, deadline: Deadline) -> Snapshot {
    let begun = Instant::now();
    let logs = logs.to_vec();
    let pids = processes::worth_a_look(present.rows);
    let mut readers: Vec<Reader> = vec![
        Box::new(move |tell| processes::look(&pids, tell)),
        Box::new(move |tell| logs::read(&logs, tell)),
    ];
    // Making one of the tables of sockets takes the kernel longer than everything else here together.
    readers.extend(SocketTable::ALL.map(|table| -> Reader { Box::new(move |tell| sockets(table, tell)) }));
    let mut snapshot = collect(present, readers, deadline);
    snapshot.probes = recorder.probes();
    snapshot.taken_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    snapshot.hiding(&|text| recorder.masked(text)).bounded(MOST_BYTES)
}

/// Puts together what the readers tell until the deadline.
fn collect(present: &Present<'_>, readers: impl IntoIterator<Item = Reader>, deadline: Deadline) -> Snapshot {
    let (tell, told) = channel();
    let mut collected = Collected::new(present);

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
    /// By the place of the process: the inodes of its sockets. The same socket can be open twice.
    held: BTreeMap<usize, BTreeSet<u64>>,
    sockets: Vec<TcpSocket>,
    secrets: Hidden,
    running: usize,
}

impl Collected {
    fn new(present: &Present<'_>) -> Self {
        let process = |row: &ProcessRow| SnapshotProcess { row: row.clone(), details: None };
        let mut collected = Self::default();
        collected.snapshot.processes = present.rows.iter().map(process).collect();
        collected.snapshot.problems.extend(present.unreadable.map(str::to_owned));
        collected
    }

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
        match piece {
            Piece::Looked(index, details, inodes) => {
                if let Some(process) = self.snapshot.processes.get_mut(index) {
                    process.details = Some(*details);
                    self.held.insert(index, inodes.into_iter().collect());
                }
            }
            Piece::Sockets(sockets) => self.sockets.extend(sockets),

            Piece::Secret(secret) => self.secrets.hide(&secret),
            Piece::Log(log) => self.snapshot.logs.push(log),
            Piece::Problem(problem) => self.problem(problem),
            Piece::Done => self.running -= 1,
        }
    }

    fn problem(&mut self, problem: String) {
        self.snapshot.problems.push(problem);
    }

    fn into_snapshot(self) -> Snapshot {
        let Self { mut snapshot, held, sockets, secrets, .. } = self;
        for (index, inodes) in held {
            let process = snapshot.processes.get_mut(index);
            if let Some(details) = process.and_then(|process| process.details.as_mut()) {
                details.sockets = seen_sockets(&sockets, &inodes);
                details.other_sockets = inodes.len().saturating_sub(details.sockets.len());
            }
        }
        snapshot.hiding(&|text| secrets.masked(text))
    }
}

fn seen_sockets(known: &[TcpSocket], held: &BTreeSet<u64>) -> Vec<SocketSeen> {
    let held = known.iter().filter(|socket| held.contains(&socket.inode)).take(MOST_SOCKETS);
    held.map(|socket| SocketSeen {
        state: socket.state.to_owned(),
        local: socket.local,
        remote: socket.remote,
    })
    .collect()
}

/// Reads one table of sockets.
fn sockets(table: SocketTable, tell: &Sender<Piece>) -> Option<()> {
    tell.send(match table.sockets() {
        Ok(sockets) => Piece::Sockets(sockets),
        Err(error) => Piece::Problem(unseen("a table of sockets", &error)),
    })
    .ok()?;
    tell.send(Piece::Done).ok()
}

/// Why something cannot be seen, as it stands in a snapshot.
fn unseen(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
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
            tell.send(Piece::Looked(0, looked("the first"), Vec::new())).ok()?;
            stuck.recv().ok();
            tell.send(Piece::Done).ok()
        });
        let quick: Reader = Box::new(|tell| {
            tell.send(Piece::Log(LogTail::default())).ok()?;
            tell.send(Piece::Done).ok()
        });
        let rows = [row(1), row(2), row(3)];
        let present = Present { rows: &rows, unreadable: None };
        let deadline = Deadline::after(Duration::from_secs(3));
        let snapshot = collect(&present, [slow, quick], deadline).bounded(MOST_BYTES);
        let commands: Vec<_> = snapshot
            .processes
            .iter()
            .map(|process| process.details.as_ref().map(|details| details.command.as_str()))
            .collect();
        assert_eq!(commands, [Some("the first"), None, None]);
        assert_eq!((snapshot.left_out.details, snapshot.logs.len()), (2, 1));
        assert_eq!(snapshot.problems, ["there was no time to look at everything"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_seen_with_its_sockets_and_its_environment() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let rows = [row(i32::try_from(std::process::id()).unwrap())];
        let present = Present { rows: &rows, unreadable: None };
        let recorder = Recorder::to_listeners(Vec::new());
        let snapshot = take(&present, &[], &recorder, Deadline::after(Duration::from_secs(60)));
        let details = snapshot.processes[0].details.as_ref().unwrap();
        assert!(details.command.contains("stelae_run"), "{details:?}");
        assert!(details.state.is_some() && details.rss_kib > Some(0) && details.cwd.is_some(), "{details:?}");
        assert!(details.environment.as_ref().unwrap().contains_key("PATH"));
        assert_eq!(details.unreadable, Vec::<String>::new());
        let listens = SocketSeen { state: "listen".into(), local: address, remote: None };
        assert!(details.sockets.contains(&listens), "{details:?}");
        let connected = |socket: &SocketSeen| {
            socket.local == client.local_addr().unwrap() && socket.remote == Some(address)
        };
        assert!(details.sockets.iter().any(connected), "{details:?}");
    }

    #[test]
    fn a_reader_that_panics_is_a_problem_and_no_more() {
        let bad: Reader = Box::new(|_| panic!("a bug"));
        let present = Present { rows: &[row(1)], unreadable: None };
        let snapshot = collect(&present, [bad], Deadline::after(Duration::from_secs(60))).bounded(MOST_BYTES);
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
        let present = Present { rows: &[], unreadable: None };
        let snapshot = collect(&present, [reader], Deadline::after(Duration::from_secs(60)));
        assert_eq!(snapshot.logs[0].lines, ["it is (secret)"]);
        assert_eq!(snapshot.problems, Vec::<String>::new());
    }
}
