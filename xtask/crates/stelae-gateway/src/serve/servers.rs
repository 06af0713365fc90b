//! The account of the servers: each start, readiness and death, counted for as long as the gateway runs, and written beside the
//! account of the calls where that is kept ([`stelae_model::server_account`]).
//!
//! One thread writes the file, so that a disk that hangs does not hold up the servers. A line that cannot be written still takes
//! its number: a reader who compares the numbers sees that it is missing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use camino::Utf8Path;
use stelae_model::proxy::ServerEntry;
use stelae_model::server_account::{Happened, ServerEvent};
use stelae_model::{ExitCode, Failure};
use stelae_run::files::open_append;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::drain::{Guard, InFlight};
use super::log::event;

/// How long a reader of the account waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The account.
#[derive(Clone, Debug)]
pub(super) struct ServerAccount {
    state: Arc<Mutex<State>>,
    /// Servers that are lost, and of which it is not yet written how they ended.
    ending: InFlight,
}

#[derive(Debug)]
struct State {
    deaths: BTreeMap<String, u32>,
    file: Option<Lines>,
}

/// The file, in the hands of its thread.
#[derive(Debug)]
struct Lines {
    next: u64,
    entries: mpsc::Sender<Entry>,
}

#[derive(Debug)]
enum Entry {
    Line(Box<ServerEvent>),
    /// Everything before this is dealt with when the other end is told.
    Dealt(oneshot::Sender<()>),
}

impl ServerAccount {
    /// An account that is only counted.
    pub(super) fn counted() -> Self {
        Self::of(None)
    }

    /// An account that is also written to `path`, after the lines that are there. A last line without its end is cut off.
    ///
    /// # Errors
    /// Exit 40, `calls-unwritable`.
    pub(super) fn open(path: &Utf8Path) -> Result<Self, Failure> {
        let (mut file, next) = open(path).map_err(|error| {
            let what = "the file for the account of the servers cannot be written";
            Failure::new(ExitCode::PrerequisiteMissing, "calls-unwritable", what)
                .on(path.as_str())
                .because(error.to_string())
        })?;
        let (entries, received) = mpsc::channel();
        let path = path.to_owned();
        thread::spawn(move || write_all(&path, &received, &mut |line| file.write_all(line.as_bytes())));
        Ok(Self::of(Some(Lines { next, entries })))
    }

    fn of(file: Option<Lines>) -> Self {
        let state = State { deaths: BTreeMap::new(), file };
        Self { state: Arc::new(Mutex::new(state)), ending: InFlight::new() }
    }

    /// Notes what happened to the server of this entry.
    pub(super) fn note(&self, server: &str, entry: &ServerEntry, happened: Happened) {
        let mut state = self.state();
        if matches!(happened, Happened::Died(_)) {
            *state.deaths.entry(server.to_owned()).or_default() += 1;
        }
        let Some(file) = &mut state.file else { return };
        let (number, server) = (file.next, server.to_owned());
        file.next += 1;
        let (required, allowed_deaths) = (entry.required, entry.allowed_deaths);
        let line = ServerEvent { number, server, required, allowed_deaths, happened };
        // The thread lives as long as this sender; without it the line is missing, which its number shows.
        file.entries.send(Entry::Line(Box::new(line))).ok();
    }

    /// A server is lost: until the guard is dropped, [`Self::settled`] waits for what is noted of it.
    pub(super) fn ending(&self) -> Guard {
        self.ending.enter()
    }

    /// Waits until everything is written that has happened, and for servers that are about to be told of: at most `limit`.
    pub(super) async fn settled(&self, limit: Duration) {
        let left = self.ending.drained(limit).await;
        if left > 0 {
            event!("{left} servers have not ended within {} ms", limit.as_millis());
        }
        let (told, dealt) = oneshot::channel();
        let sent = self.state().file.as_ref().map(|file| file.entries.send(Entry::Dealt(told)).is_ok());
        if sent == Some(true) {
            timeout(LAST_LINES, dealt).await.ok();
        }
    }

    /// How often each server that died has died.
    pub(super) fn deaths(&self) -> BTreeMap<String, u32> {
        self.state().deaths.clone()
    }

    /// The number of lines that the file has, if all could be written.
    pub(super) fn lines(&self) -> Option<u64> {
        self.state().file.as_ref().map(|file| file.next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file for its owner only; gives the number of the next line, too.
fn open(path: &Utf8Path) -> io::Result<(File, u64)> {
    let mut file = open_append(path)?;
    let (mut lines, mut line, mut whole, mut next) = (BufReader::new(&file), Vec::new(), 0, 0);
    while lines.read_until(b'\n', &mut line)? > 0 {
        if !line.ends_with(b"\n") {
            file.set_len(whole)?;
            break;
        }
        next = serde_json::from_slice::<ServerEvent>(&line)?.number + 1;
        whole += line.len() as u64;
        line.clear();
    }
    file.rewind()?;
    Ok((file, next))
}

/// Writes each line until the account is gone.
fn write_all(
    path: &Utf8Path,
    entries: &mpsc::Receiver<Entry>,
    write: &mut dyn FnMut(&str) -> io::Result<()>,
) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                let written = line.to_line().map_err(io::Error::from).and_then(|line| write(&line));
                if let Err(error) = written {
                    event!("line {} is missing in {path}: {error}", line.number);
                }
            }
            // Its reader may have gone.
            Entry::Dealt(told) => {
                told.send(()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use camino::Utf8PathBuf;
    use stelae_model::server_account::{Death, read_events};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("servers.jsonl")).unwrap();
        (guard, path)
    }

    fn died() -> Happened {
        Happened::Died(Death::new("exited", None, &[]))
    }

    #[tokio::test]
    async fn a_gateway_that_is_started_again_goes_on_with_the_account() {
        let (_guard, path) = folder();
        let entry = ServerEntry { required: true, allowed_deaths: 3, ..ServerEntry::default() };
        for start in 0..3 {
            let account = ServerAccount::open(&path).unwrap();
            account.note("a", &entry, Happened::Ready);
            account.note("a", &entry, died());
            account.settled(LIMIT).await;
            assert_eq!((account.deaths()["a"], account.lines()), (1, Some(2 * (start + 1))));
            // Killed over its next line.
            open_append(&path).unwrap().write_all(b"{\"numb").unwrap();
        }
        let events = read_events(path.as_str(), &fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(events.len(), 6);
        assert!(events.iter().all(|event| event.required && event.allowed_deaths == 3));
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_written_leaves_a_gap() {
        let (entries, received) = mpsc::channel();
        let account = ServerAccount::of(Some(Lines { next: 0, entries }));
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            let mut full = true;
            write_all("p".into(), &received, &mut |line| {
                let error = std::mem::take(&mut full).then(|| io::Error::from(io::ErrorKind::StorageFull));
                error.map_or_else(|| said.send(line.to_owned()).map_err(io::Error::other), Err)
            });
        });
        account.note("a", &ServerEntry::default(), died());
        account.note("a", &ServerEntry::default(), died());
        account.settled(LIMIT).await;
        let text: String = heard.try_iter().collect();
        assert!(read_events("p", &text).unwrap_err().why[0].contains("it is line 0, and says that it is 1"));
        assert_eq!((account.lines(), account.deaths()["a"]), (Some(2), 2));
    }

    #[tokio::test]
    async fn a_server_that_is_ending_is_waited_for() {
        let account = ServerAccount::counted();
        let ending = account.ending();
        let (waiting, noted) = (account.clone(), account.clone());
        let settled = tokio::spawn(async move {
            waiting.settled(LIMIT).await;
            waiting.deaths()
        });
        tokio::task::yield_now().await;
        noted.note("a", &ServerEntry::default(), died());
        drop(ending);
        assert_eq!(settled.await.unwrap()["a"], 1);
    }

    #[test]
    fn what_is_something_else_is_not_written_into() {
        let (guard, path) = folder();
        fs::write(&path, "the only copy\n").unwrap();
        assert_eq!(ServerAccount::open(&path).unwrap_err().kind, "calls-unwritable");
        assert_eq!(fs::read_to_string(&path).unwrap(), "the only copy\n");
        assert!(ServerAccount::open(Utf8Path::from_path(guard.path()).unwrap()).is_err());
    }
}
