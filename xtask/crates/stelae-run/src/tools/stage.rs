//! An installation on its way: nobody's until it is whole.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Failure;
use stelae_model::tools::{Installed, Pin};

use super::content::Content;
use super::lock::unusable;
use super::shelf::{CONTENT, RECORD};
use crate::files::{create_private, create_private_dirs, discard, sync_dir};

/// The installers' temporary files, no part of what is installed.
const TEMPORARY: &str = ".tmp";

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
                let name = entry.file_name();
                let is_leftover = [".stage-", ".gone-"].iter().any(|prefix| name.starts_with(prefix));
                // What was known of an installation that is about to be replaced, or is not there any more.
                let is_stale =
                    name.strip_prefix(CONTENT).is_some_and(|of| of == version || !folder.join(of).exists());
                if is_leftover || is_stale {
                    discard(entry.path())?;
                }
            }
            let path = folder.join(format!(".stage-{version}"));
            create_private_dirs(&path.join(TEMPORARY))?;
            Ok(Self { path, target: folder.join(version), is_there: true })
        };
        begin().map_err(|error| unusable(folder, &error))
    }

    /// The folder.
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Where the installers' temporary files go: a killed one leaves them in here, and they go with the rest.
    pub(super) fn temporary(&self) -> Utf8PathBuf {
        self.path.join(TEMPORARY)
    }

    /// What it is going to be.
    pub(super) fn target(&self) -> &Utf8Path {
        &self.target
    }

    /// Makes it the installation, with a record of what it was made from, and of its content, which is kept at `content_at`.
    ///
    /// # Errors
    /// Exit 40, `tools-folder`.
    pub(super) fn commit(mut self, pin: &Pin, content_at: &Utf8Path) -> Result<(), Failure> {
        let commit = || {
            discard(&self.temporary())?;
            let content = Content::of(&self.path, &Content::default())?;
            let installed = Installed { content: Some(content.digest()), ..pin.installed() };
            let record = serde_json::to_string_pretty(&installed).map_err(io::Error::other)?;
            create_private(&self.path.join(RECORD), (record + "\n").as_bytes())?;
            sync_dir(&self.path)?;
            content.keep(content_at)?;
            let parent = self.target.parent().unwrap_or(&self.target);
            // One that is there is of another pin, or not whole: whoever has started a program of it keeps that.
            let gone = self.target.file_name().map(|name| parent.join(format!(".gone-{name}")));
            if let Some(gone) = gone.filter(|_| self.target.symlink_metadata().is_ok()) {
                fs::rename(&self.target, &gone)?;
                fs::rename(&self.path, &self.target)?;
                // The change has happened; what does not go now goes with the next installation.
                discard(&gone).ok();
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
            discard(&self.path).ok();
        }
    }
}
