//! What the model was asked, and what it answered: a JSON object a line, and in all for whoever asks for the state.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use camino::Utf8Path;
use serde::Serialize;
use serde_json::Value;
use stelae_model::{ExitCode, Failure};

/// One request.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Entry {
    /// Counted from 0.
    pub(super) number: usize,
    /// `POST /v1/responses`.
    pub(super) route: String,
    /// The turn, if it is a request for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) turn: Option<usize>,
    /// The tools of the script's server that the agent offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) offered: Vec<String>,
    /// The tool that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) called: Option<String>,
    /// The status of the answer.
    pub(super) status: u16,
    /// What was wrong with the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<String>,
    /// Its body; no header, as keys stand there.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) body: Value,
}

/// The state, for `/__stub/state`.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct State {
    /// How many requests there were.
    pub(super) requests: usize,
    /// The tools that were called, in order.
    pub(super) called: Vec<String>,
    /// What was wrong, in order.
    pub(super) faults: Vec<String>,
}

/// The record.
#[derive(Debug)]
pub(super) struct Record {
    file: File,
    state: Mutex<State>,
}

impl Record {
    /// An empty record at `path`, for its owner only: prompts are nobody else's business.
    ///
    /// # Errors
    /// Exit 40, `record-unwritable`.
    pub(super) fn create(path: &Utf8Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            let what = "the record of the model's requests cannot be made";
            Failure::new(ExitCode::PrerequisiteMissing, "record-unwritable", what)
                .on(path.as_str())
                .because(error.to_string())
        })?;
        Ok(Self { file, state: Mutex::default() })
    }

    /// Keeps a request. One that cannot be kept is counted as a fault: what is not in the record did not happen.
    pub(super) fn keep(&self, mut entry: Entry) {
        let mut state = self.state();
        entry.number = state.requests;
        state.requests += 1;
        state.called.extend(entry.called.clone());
        state.faults.extend(entry.fault.clone());
        let line = serde_json::to_string(&entry).map(|line| line + "\n").map_err(std::io::Error::other);
        if let Err(error) = line.and_then(|line| (&self.file).write_all(line.as_bytes())) {
            state.faults.push(format!("request {} cannot be recorded: {error}", entry.number));
        }
    }

    /// What was asked so far.
    pub(super) fn so_far(&self) -> State {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
