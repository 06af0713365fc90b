//! An installation on its way: nobody's until it is whole.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Failure;
use stelae_model::tools::Pin;

use super::lock::unusable;
use super::shelf::RECORD;
use crate::files::{create_private, create_private_dirs, sync_dir};

/// The folder that is filled. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Stage {
    path: Utf8PathBuf,
    target: Utf8PathBuf,
    is_there: bool,
}

impl Stage {
    /// An empty folder beside the one that it is to become. Only for who holds the lock: then every leftover is a dead
    /// one's, and goes.
    ///
    /// # Errors
    /// Exit 40, `tools-folder`.
    pub(super) fn begin(folder: &Utf8Path, version: &str) -> Result<Self, Failure> {
        let begin = || {
            for entry in folder.read_dir_utf8()? {
                let entry = entry?;
                if [".stage-", ".gone-"].iter().any(|prefix| entry.file_name().starts_with(prefix)) {
                    remove(entry.path())?;
                }
            }
            let path = folder.join(format!(".stage-{version}"));
            create_private_dirs(&path)?;
            Ok(Self { path, target: folder.join(version), is_there: true })
        };
        begin().map_err(|error| unusable(folder, &error))
    }

    /// The folder.
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// What it is going to be.
    pub(super) fn target(&self) -> &Utf8Path {
        &self.target
    }

    /// Makes it the installation, with a record of what it was made from.
    ///
    /// # Errors
    /// Exit 40, `tools-folder`.
    pub(super) fn commit(mut self, pin: &Pin) -> Result<(), Failure> {
        let commit = || {
            let record = serde_json::to_string_pretty(&pin.installed()).map_err(io::Error::other)?;
            create_private(&self.path.join(RECORD), (record + "\n").as_bytes())?;
            sync_dir(&self.path)?;
            let parent = self.target.parent().unwrap_or(&self.target);
            // One that is there is of another pin, or not whole: whoever has started a program of it keeps that.
            let gone = self.target.file_name().map(|name| parent.join(format!(".gone-{name}")));
            if let Some(gone) = gone.filter(|_| self.target.symlink_metadata().is_ok()) {
                fs::rename(&self.target, &gone)?;
                fs::rename(&self.path, &self.target)?;
                // The change has happened; what does not go now goes with the next installation.
                remove(&gone).ok();
            } else {
                fs::rename(&self.path, &self.target)?;
            }
            sync_dir(parent)
        };
        commit().map_err(|error| unusable(&self.target, &error))?;
        self.is_there = false;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.is_there {
            // What cannot be removed now is removed by the next installation.
            remove(&self.path).ok();
        }
    }
}

fn remove(path: &Utf8Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
