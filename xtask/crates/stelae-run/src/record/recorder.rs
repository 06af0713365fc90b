//! Writes events, one a line, flushed one by one; hands each to whoever listens.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use camino::Utf8Path;
use stelae_model::Failure;
use stelae_model::event::{Event, Record, SCHEMA};
use stelae_model::evidence::Probes;
use stelae_model::failure::shortened;
use stelae_model::hidden::Hidden;
use stelae_model::value::Secret;

use crate::files::{limits, open_append};
use crate::process::Finished;

/// Characters of a line of somebody's output that an event has.
const LONGEST_LINE: usize = 2_000;

/// Whoever listens to the events of a run: the terminal, a JSON stream.
pub type Listener = Box<dyn FnMut(&Record) + Send>;

/// The recorder of a run. A disk that is full does not stop a run: the recorder says so once, remembers that the
/// evidence is incomplete, and goes on telling its listeners.
pub struct Recorder {
    inner: Mutex<Inner>,
}

struct Inner {
    started: Instant,
    seq: u64,
    file: Option<File>,
    listeners: Vec<Listener>,
    hidden: Hidden,
    warnings: Vec<String>,
    probes: Probes,
    broken: bool,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("seq", &self.lock().seq).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder that appends to `path`.
    pub fn to_file(path: &Utf8Path, listeners: Vec<Listener>) -> Self {
        let recorder = Self::to_listeners(listeners);
        let opened = open_append(path).and_then(|file| Ok((records_in(&file)?, file)));
        match opened {
            Ok((records, file)) => {
                let mut inner = recorder.lock();
                // A resumed run goes on counting where its earlier session stopped.
                inner.seq = records;
                inner.file = Some(file);
            }
            Err(error) => recorder.evidence_failed(path.as_str(), &error),
        }
        recorder
    }

    /// A recorder that keeps nothing.
    pub fn to_listeners(listeners: Vec<Listener>) -> Self {
        let inner = Inner {
            started: Instant::now(),
            seq: 0,
            file: None,
            listeners,
            hidden: Hidden::default(),
            warnings: Vec::new(),
            probes: Probes::default(),
            broken: false,
        };
        Self { inner: Mutex::new(inner) }
    }

    /// From now on this text is never written.
    pub fn hide<T: AsRef<str>>(&self, secret: &Secret<T>) {
        self.lock().hidden.hide(secret.expose().as_ref());
    }

    /// A text without what is never written: for evidence that is no event.
    pub fn masked(&self, text: &str) -> String {
        self.lock().hidden.masked(text)
    }

    /// A failure without what is never written: for the verdict.
    pub fn masked_failure(&self, failure: Failure) -> Failure {
        failure.masked(&self.lock().hidden)
    }

    /// How far each service has come, and what was seen on the way; not all of it, for ever.
    pub fn probes(&self) -> Probes {
        self.lock().probes.clone()
    }

    /// Records an event.
    pub fn event(&self, event: Event) {
        let mut inner = self.lock();
        // First of all: what is kept of it may be shortened.
        let event = inner.masked(event);
        if let Event::Warning { text } = &event {
            inner.warnings.push(text.clone());
        }
        if let Event::Rung { process, rung, status } = &event {
            let at_ms = millis(inner.started);
            inner.probes.record(at_ms, process, rung, status);
        }
        if let Some(error) = inner.record(event) {
            drop(inner);
            self.evidence_failed("events.jsonl", &error);
        }
    }

    /// Records a line that a process wrote.
    pub fn line(&self, source: &str, text: &str) {
        // The log itself has all of it. Half a secret would not be found any more.
        let text = shortened(&self.masked(text), LONGEST_LINE);
        self.event(Event::Line { source: source.to_owned(), text });
    }

    /// Records something worth knowing.
    pub fn note(&self, text: impl Into<String>) {
        self.event(Event::Note { text: text.into() });
    }

    /// Records something that is not as it should be.
    pub fn warn(&self, text: impl Into<String>) {
        self.event(Event::Warning { text: text.into() });
    }

    /// Tells of a command that left processes behind, which were killed; gives it back.
    pub fn minding_leaks(&self, finished: Finished) -> Finished {
        if finished.leaky {
            let Finished { process, command, .. } = &finished;
            self.warn(format!("{process} left processes behind, which were killed: {command}"));
        }
        finished
    }

    /// A piece of evidence could not be written: said once, remembered for the verdict.
    pub fn evidence_failed(&self, what: &str, error: &io::Error) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.broken, true) {
            return;
        }
        let text = format!("the evidence is incomplete from here on: {what}: {error}");
        let text = inner.hidden.masked(&text);
        inner.warnings.push(text.clone());
        // The disk may have room again for one line; if it has not, the listeners still hear it.
        inner.record(Event::Warning { text });
    }

    /// Whether everything was written so far.
    pub fn is_complete(&self) -> bool {
        !self.lock().broken
    }

    /// All warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.lock().warnings.clone()
    }

    /// Milliseconds since the recorder was made.
    pub fn elapsed_ms(&self) -> u64 {
        millis(self.lock().started)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A listener that panicked has left a recorder that still records.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn record(&mut self, event: Event) -> Option<io::Error> {
        let record = Record { schema: SCHEMA, seq: self.seq, at_ms: millis(self.started), event };
        self.seq += 1;
        for listener in &mut self.listeners {
            listener(&record);
        }
        let mut line =
            serde_json::to_string(&record).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
        line.push('\n');
        self.file.as_mut().and_then(|file| file.write_all(line.as_bytes()).err())
    }

    /// The event without what is never written. Of one whose form is a secret nothing is left.
    fn masked(&self, event: Event) -> Event {
        if self.hidden.is_empty() {
            return event;
        }
        let mut value = serde_json::to_value(event).unwrap_or_default();
        self.hidden.mask(&mut value);
        serde_json::from_value(value).unwrap_or_else(|_| Event::Warning {
            text: "an event is withheld: a secret is a word of it".to_owned(),
        })
    }
}

/// How many records an earlier session left.
fn records_in(file: &File) -> io::Result<u64> {
    if file.metadata()?.len() > limits::EVENTS {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let (mut lines, mut chunk, mut file) = (0, [0; 64 * 1024], file.take(limits::EVENTS));
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(lines),
            read => lines += chunk[..read].iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn heard() -> (Arc<Mutex<Vec<Record>>>, Listener) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        (heard, Box::new(move |record: &Record| into.lock().unwrap().push(record.clone())))
    }

    #[test]
    fn records_are_numbered_flushed_and_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("events.jsonl");
        let (heard, listener) = heard();
        let recorder = Recorder::to_file(&path, vec![listener]);
        recorder.line("git", "hello");
        recorder.note("world");
        let lines: Vec<Record> = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.iter().map(|record| record.seq).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(heard.lock().unwrap().len(), 2);
        assert!(recorder.is_complete());
    }

    #[test]
    fn a_full_disk_is_said_once_and_the_run_goes_on() {
        let (heard, listener) = heard();
        let recorder = Recorder::to_listeners(vec![listener]);
        let full = std::fs::OpenOptions::new().append(true).open("/dev/full").unwrap();
        recorder.lock().file = Some(full);
        recorder.note("one");
        recorder.note("two");
        assert!(!recorder.is_complete());
        assert_eq!(recorder.warnings().len(), 1);
        assert!(recorder.warnings()[0].contains("No space left"), "{:?}", recorder.warnings());
        assert_eq!(heard.lock().unwrap().len(), 3);
    }

    #[test]
    fn a_hidden_text_is_never_written() {
        let (heard, listener) = heard();
        let recorder = Recorder::to_listeners(vec![listener]);
        recorder.hide(&Secret::new("hunter2".to_owned()));
        recorder.line("gateway", "token is hunter2!");
        let text = format!("{:?}", heard.lock().unwrap());
        assert!(text.contains("token is (secret)!") && !text.contains("hunter2"), "{text}");
        assert_eq!(recorder.masked("hunter2 hunter3"), "(secret) hunter3");
        recorder.warn("it is hunter2");
        assert_eq!(recorder.warnings(), ["it is (secret)"]);
    }

    #[test]
    fn a_hidden_text_is_never_written_in_part_nor_because_of_its_characters() {
        let (heard, listener) = heard();
        let recorder = Recorder::to_listeners(vec![listener]);
        let secret = r#"start"mid\dle"end"#;
        recorder.hide(&Secret::new(secret.to_owned()));
        recorder.line("gateway", &format!("{}{secret}", "x".repeat(LONGEST_LINE - 8)));
        recorder.line("gateway", &format!("it is {secret:?}"));
        recorder.note(secret);
        let text = format!("{:?}", heard.lock().unwrap());
        for part in ["start", "mid", "dle", "end"] {
            assert!(!text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("(secret)").count(), 3, "{text}");
    }

    #[test]
    fn an_event_whose_form_is_hidden_is_withheld() {
        let (heard, listener) = heard();
        let recorder = Recorder::to_listeners(vec![listener]);
        recorder.hide(&Secret::new("torn-down".to_owned()));
        recorder.event(Event::TornDown {
            signalled: 1,
            survivors: vec!["torn-down".to_owned()],
            elapsed_ms: 1,
        });
        let text = format!("{:?}", heard.lock().unwrap());
        assert!(text.contains("an event is withheld") && !text.contains("torn-down"), "{text}");
    }

    #[test]
    fn the_way_of_each_service_is_remembered() {
        let recorder = Recorder::to_listeners(Vec::new());
        let rung = |rung: &str, status: &str| Event::Rung {
            process: "gateway".to_owned(),
            rung: rung.to_owned(),
            status: status.to_owned(),
        };
        recorder.event(rung("spawned", "ready"));
        recorder.note("something else");
        recorder.event(rung("listening", "nothing listens"));
        let history = recorder.probes().history;
        let seen: Vec<_> = history.iter().map(|probe| (probe.rung.as_str(), probe.status.as_str())).collect();
        assert_eq!(seen, [("spawned", "ready"), ("listening", "nothing listens")]);
    }
}
