//! What the model was asked, and what it answered: a JSON object a line, and in all for whoever asks for the state.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use camino::Utf8Path;
use serde::Serialize;
use serde_json::Value;
use stelae_model::model_record::ModelRequest;
use stelae_model::{ExitCode, Failure};

/// A longer record has no more bodies: an agent that asks for ever is not to fill the disk.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The state, for `/__stub/state`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct State {
    /// How many requests there were.
    pub(crate) requests: usize,
    /// The tools that were called, in order.
    pub(crate) called: Vec<String>,
    /// What was wrong, in order.
    pub(crate) faults: Vec<String>,
    /// Where the agent wanted to go, each place once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) outside: Vec<String>,
    /// Why the record does not have everything.
    #[serde(skip)]
    pub(crate) incomplete: Option<String>,
    /// How long the record is.
    #[serde(skip)]
    bytes: usize,
}

/// The record.
#[derive(Debug)]
pub(crate) struct Record {
    file: File,
    most_bytes: usize,
    state: Mutex<State>,
}

impl Record {
    /// An empty record at `path`, for its owner only: prompts are nobody else's business.
    ///
    /// # Errors
    /// Exit 40, `record-unwritable`.
    pub(crate) fn create(path: &Utf8Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            let what = "the record of the model's requests cannot be made";
            Failure::new(ExitCode::PrerequisiteMissing, "record-unwritable", what)
                .on(path.as_str())
                .because(error.to_string())
        })?;
        Ok(Self { file, most_bytes: MOST_BYTES, state: Mutex::default() })
    }

    /// Keeps a request. One that cannot be kept is counted as a fault: what is not in the record did not happen.
    pub(super) fn keep(&self, mut entry: ModelRequest) {
        let mut state = self.state();
        entry.number = state.requests;
        state.requests += 1;
        state.called.extend(entry.called.clone());
        state.faults.extend(entry.fault.clone());
        let new = entry.outside.clone().filter(|place| !state.outside.contains(place));
        state.outside.extend(new);
        let line = self.line(entry, state.bytes);
        if let Err(error) = line.and_then(|line| {
            state.bytes += line.len();
            (&self.file).write_all(line.as_bytes())
        }) {
            let why = format!("request {} cannot be recorded: {error}", state.requests - 1);
            state.faults.push(why.clone());
            state.incomplete.get_or_insert(why);
        }
    }

    /// The line of a request, behind so many bytes of others.
    fn line(&self, mut entry: ModelRequest, behind: usize) -> std::io::Result<String> {
        let line = serde_json::to_string(&entry)? + "\n";
        if behind + line.len() <= self.most_bytes || entry.body.is_null() {
            return Ok(line);
        }
        entry.body_left_out = Some(entry.body.to_string().len());
        entry.body = Value::Null;
        Ok(serde_json::to_string(&entry)? + "\n")
    }

    /// What was asked so far.
    pub(crate) fn so_far(&self) -> State {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use stelae_model::model_record::read_model_requests;

    use super::*;

    #[test]
    fn a_full_record_has_no_more_bodies_and_says_how_much_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("record.jsonl");
        let record = Record { most_bytes: 400, ..Record::create(&path).unwrap() };
        for length in [200, 200, 10] {
            record.keep(ModelRequest { body: json!("x".repeat(length)), ..ModelRequest::default() });
        }
        let requests = read_model_requests(&path, &fs::read_to_string(&path).unwrap()).unwrap();
        let kept: Vec<_> = requests.iter().map(|r| (r.number, r.body.is_null(), r.body_left_out)).collect();
        assert_eq!(kept, [(0, false, None), (1, true, Some(202)), (2, false, None)]);
    }

    #[test]
    fn what_cannot_be_written_is_a_fault_and_makes_it_incomplete() {
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let record = Record { file: full, most_bytes: MOST_BYTES, state: Mutex::default() };
        record.keep(ModelRequest::default());
        let state = record.so_far();
        assert_eq!((state.requests, state.faults.as_slice()), (1, state.incomplete.as_slice()));
        assert!(state.faults[0].starts_with("request 0 cannot be recorded: "), "{state:?}");
    }

    #[test]
    fn a_place_outside_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let record = Record::create(&Utf8Path::from_path(folder.path()).unwrap().join("r")).unwrap();
        for place in ["a.invalid:443", "b.invalid:80", "a.invalid:443"] {
            record.keep(ModelRequest { outside: Some(place.to_owned()), ..ModelRequest::default() });
        }
        assert_eq!(record.so_far().outside, ["a.invalid:443", "b.invalid:80"]);
    }
}
