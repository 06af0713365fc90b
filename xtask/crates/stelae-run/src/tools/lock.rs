//! One installation of a tool at a time.

use std::fs::{File, TryLockError};
use std::time::Duration;

use camino::Utf8Path;
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

use super::Job;
use crate::files::open_lock;

/// How often a held lock is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Held while a tool is installed. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a tool's folder, after whoever has it.
    ///
    /// # Errors
    /// Exit 40, `tools-folder`; the deadline's code, `tool-busy`, when it passes; 129, 130, 143.
    pub(super) fn take(folder: &Utf8Path, name: &str, job: &Job<'_>) -> Result<Self, Failure> {
        let path = folder.join(".lock");
        let file = open_lock(&path).map_err(|error| unusable(&path, &error))?;
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !std::mem::replace(&mut said, true) {
                job.recorder.note(format!("{name}: waits for another installation of it"));
            }
            if job.deadline.passed() {
                let what = format!("another installation of {name} did not end in time");
                let code = job.deadline.exit_code(ExitCode::StepFailed);
                return Err(Failure::new(code, "tool-busy", what)
                    .on(path.to_string())
                    .hint(format!("wait for it; who it is: fuser -v {}", shell_word(path.as_str()))));
            }
            job.interrupt.bail("waiting for another installation")?;
            job.interrupt.wait(LOOK_EVERY.min(job.deadline.remaining()));
        }
    }
}

/// The failure of everything that goes wrong with the folder itself.
pub(super) fn unusable(path: &Utf8Path, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "tools-folder", "the folder of tools cannot be used")
        .on(path.to_string())
        .because(error.to_string())
        .hint("make it writable, make room, or name another: --set STELAE_CACHE_HOME=PATH")
}
