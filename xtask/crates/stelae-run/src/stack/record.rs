//! The record of a stack that was left up: who supervises it. One per supervisor home.

use std::fs::{File, TryLockError};
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use stelae_model::env::Environment;
use stelae_model::env::declared::STELAE_SUPERVISOR_HOME;
use stelae_model::lifecycle::StopLimits;
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

use super::child::StackChild;
use crate::deadline::Deadline;
use crate::files::{Readable, create_private_dirs, limits, open_lock, read_untrusted_json, replace};
use crate::process::{self, tree};
use crate::signals::Interrupt;

/// More than any stack's own grace: it is asked once, and goes in its own order.
const GRACE: StopLimits = StopLimits { grace: Duration::from_secs(10), ceiling: Duration::from_secs(2) };

/// How often a record is asked for that somebody else has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The record is this process's alone, until this is dropped.
#[derive(Debug)]
pub struct StackLock {
    _file: File,
}

/// Where the record is.
#[derive(Debug)]
pub struct StackRecord {
    path: Utf8PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    run: String,
    pid: i32,
    started: u64,
    url: String,
}

impl StackRecord {
    /// The record of an environment's supervisor home.
    ///
    /// # Errors
    /// Exit 20, `missing-variable`.
    pub fn of(environment: &Environment) -> Result<Self, Failure> {
        Ok(Self { path: environment.get::<STELAE_SUPERVISOR_HOME>()?.join("stack.json") })
    }

    /// Has it for this process alone: from the end of the stack that is up to the record of the next one, nobody else may
    /// do either. Waits for whoever has it.
    ///
    /// # Errors
    /// Exit 40, `stack-busy`, at the deadline; `stack-record`; 129, 130, 143 on a signal.
    pub fn lock(&self, deadline: Deadline, interrupt: &Interrupt) -> Result<StackLock, Failure> {
        let path = self.path.with_extension("lock");
        let made = self.path.parent().map_or(Ok(()), create_private_dirs);
        let opened = made.and_then(|()| open_lock(&path));
        let file = opened.map_err(|error| self.failed("locked", &error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(StackLock { _file: file }),
                Err(TryLockError::Error(error)) => return Err(self.failed("locked", &error)),
                Err(TryLockError::WouldBlock) if deadline.passed() => {
                    let what = "another restart or down of this stack is under way";
                    return Err(Failure::new(ExitCode::PrerequisiteMissing, "stack-busy", what)
                        .on(path.to_string())
                        .hint(format!("wait for it; who it is: fuser -v {}", shell_word(path.as_str()))));
                }
                Err(TryLockError::WouldBlock) => interrupt.wait(LOOK_EVERY.min(deadline.remaining())),
            }
            interrupt.bail("waiting for another restart of this stack")?;
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// Exit 40, `stack-record`: a stack that nobody could find again must not stay up.
    pub fn write(&self, run: &str, child: &StackChild) -> Result<(), Failure> {
        let recorded = Recorded {
            run: run.to_owned(),
            pid: child.pid(),
            started: child.started,
            url: child.endpoints.url.clone(),
        };
        let text = serde_json::to_string_pretty(&recorded)
            .map_err(|error| Failure::unexpected(error.to_string()))?;
        // Whole or not at all: half a record would be in the way of every later start.
        replace(&self.path, (text + "\n").as_bytes(), Readable::ByOwner)
            .map_err(|error| self.failed("written", &error))
    }

    /// Ends the recorded stack, if it is still the one that was recorded. Gives what was ended.
    ///
    /// # Errors
    /// Exit 40 for a record that cannot be read; 34, `survivor`, when something of it does not go.
    pub fn stop_recorded(&self, interrupt: &Interrupt) -> Result<Option<String>, Failure> {
        let recorded: Recorded = match read_untrusted_json(&self.path, limits::RECORD) {
            Ok(recorded) => recorded,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", &error)),
        };
        // Only processes that carry the run's id are touched, so a reused pid is nobody's danger.
        let alive = tree::started_ticks(recorded.pid) == Some(recorded.started);
        let swept = process::sweep(&recorded.run, GRACE, interrupt);
        if !swept.survivors.is_empty() {
            let failure = Failure::new(
                ExitCode::Survivor,
                "survivor",
                "something of the stack that was up does not go",
            );
            return Err(swept.survivors.into_iter().fold(failure, Failure::on).hint("end it by its pid"));
        }
        std::fs::remove_file(&self.path).map_err(|error| self.failed("removed", &error))?;
        Ok((alive || !swept.ended.is_empty()).then(|| format!("{} (pid {})", recorded.url, recorded.pid)))
    }

    fn failed(&self, verb: &str, error: &std::io::Error) -> Failure {
        Failure::new(
            ExitCode::PrerequisiteMissing,
            "stack-record",
            format!("the record of the stack cannot be {verb}"),
        )
        .on(self.path.to_string())
        .because(error.to_string())
        .hint(format!("if no stack is up: rm {}", self.path))
    }
}
