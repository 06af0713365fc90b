//! The two files by which a folder is known as a workspace: the marker says of which run and which folder, the lock whether a
//! run uses it. Both are read as what a server has written: they lie where servers work.

use std::fs::{File, TryLockError};
use std::os::fd::BorrowedFd;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use stelae_model::{ExitCode, Failure};

use super::failed;
use crate::files::{LastingId, Readable, about, limits, open_lock_in, read_in, replace};

/// File that makes a folder a workspace of ours.
pub(super) const MARKER: &str = ".stelae-workspace.json";
/// File that is locked while a run uses the workspace.
pub(super) const LOCK: &str = ".stelae-workspace.lock";

/// What the marker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) run: String,
    /// The folder that it was written into: a copy of the folder is another one. Markers of before had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<LastingId>,
}

impl Marker {
    /// The marker of an open folder, if it has one that is its own.
    pub(super) fn of(folder: BorrowedFd<'_>) -> Result<Self, String> {
        let bytes = read_in(folder, MARKER, limits::MARKER).map_err(|error| format!("{MARKER}: {error}"))?;
        let marker: Self =
            serde_json::from_slice(&bytes).map_err(|error| format!("{MARKER} is not a marker: {error}"))?;
        let found = about(folder).map_err(|error| error.to_string())?.lasting;
        match marker.folder {
            Some(written) if written != found => Err(format!("its {MARKER} is that of another folder")),
            _ => Ok(marker),
        }
    }

    /// Whether it says which folder it was written into.
    pub(super) fn names_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// Writes it, whole or not at all: of a folder with half a marker it could not be told whose it is.
    pub(super) fn write(path: &Utf8Path, folder: BorrowedFd<'_>, run: &str) -> Result<(), Failure> {
        let path = path.join(MARKER);
        let written = about(folder).map_err(std::io::Error::from).and_then(|about| {
            let marker = Self { run: run.to_owned(), folder: Some(about.lasting) };
            let text = serde_json::to_string(&marker)? + "\n";
            replace(&path, text.as_bytes(), Readable::ByOwner)
        });
        written.map_err(|error| failed("the workspace cannot be marked", &path, &error))
    }
}

/// Takes the lock of an open folder.
pub(super) fn lock(path: &Utf8Path, folder: BorrowedFd<'_>) -> Result<File, Failure> {
    let file = open_lock_in(folder, LOCK)
        .map_err(|error| failed("the workspace cannot be locked", &path.join(LOCK), &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            ExitCode::PrerequisiteMissing,
            "workspace-in-use",
            "another run uses that workspace",
        )
        .on(path.to_string())
        .hint("wait for it, or name another: --workspace PATH")),
        Err(TryLockError::Error(error)) => Err(failed("the workspace cannot be locked", path, &error)),
    }
}
