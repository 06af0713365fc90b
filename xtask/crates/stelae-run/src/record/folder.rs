//! `target/xtask/runs/<run-id>/`: what is kept of a run when its workspace is gone.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use stelae_model::verdict::Verdict;
use stelae_model::{ExitCode, Failure};

/// The folder of all runs of a repository.
pub fn runs_folder(root: &Utf8Path) -> Utf8PathBuf {
    root.join("target/xtask/runs")
}

/// A run's folder. Files are 0600 and folders 0700: logs can hold what only their owner should read.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: Utf8PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// Exit 40, `evidence-folder`: without it there would be no record at all, so the run does not begin.
    pub fn create(root: &Utf8Path, run: &str) -> Result<Self, Failure> {
        let path = runs_folder(root).join(run);
        let make = |path: &Utf8Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        for part in ["", "logs", "transcripts", "rendered", "steps"] {
            make(&path.join(part)).map_err(|error| {
                Failure::new(
                    ExitCode::PrerequisiteMissing,
                    "evidence-folder",
                    "the run's folder cannot be made",
                )
                .on(path.join(part).to_string())
                .because(error.to_string())
                .hint("make room, or make the folder writable")
            })?;
        }
        Ok(Self { path })
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// Exit 2, `unknown-run`, with the newest run as a suggestion.
    pub fn open(root: &Utf8Path, run: &str) -> Result<Self, Failure> {
        let path = runs_folder(root).join(run);
        let plain = !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if plain && path.is_dir() {
            return Ok(Self { path });
        }
        let failure = Failure::new(ExitCode::Usage, "unknown-run", format!("there is no run {run:?}"))
            .on(runs_folder(root).to_string());
        Err(match list_runs(root).first() {
            Some(newest) => {
                failure.hint(format!("the newest is {}; cargo xtask runs list shows all", newest.run))
            }
            None => failure.hint("there are no runs yet: cargo xtask smoke"),
        })
    }

    /// Its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Whether its disk has room for what a run writes.
    pub fn has_room(&self) -> bool {
        const ENOUGH: u64 = 4 * 1024 * 1024;
        // A disk that does not say is tried.
        rustix::fs::statvfs(self.path.as_str())
            .map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ENOUGH)
    }

    /// Path of a file in it.
    pub fn join(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }

    /// Writes a file, whole.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.join(name))?.write_all(bytes)
    }

    /// Writes a JSON file, pretty.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> std::io::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        self.write(name, &text)
    }

    /// All its files, relative, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir_utf8().into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path.to_owned());
                } else if let Ok(relative) = path.strip_prefix(&self.path) {
                    files.push(relative.to_string());
                }
            }
        }
        files.sort();
        files
    }

    /// Reads a JSON file of it.
    ///
    /// # Errors
    /// What the system says, or that it is not the JSON that was expected.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> std::io::Result<T> {
        let text = fs::read_to_string(self.join(name))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// One run in `runs list`.
#[derive(Debug, Serialize)]
pub struct RunSummary {
    /// Its id.
    pub run: String,
    /// Its verdict; absent while it runs, or when it was killed.
    pub verdict: Option<Verdict>,
}

/// All runs, newest first.
pub fn list_runs(root: &Utf8Path) -> Vec<RunSummary> {
    let entries = runs_folder(root).read_dir_utf8().into_iter().flatten().flatten();
    let mut runs: Vec<_> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            let folder = RunFolder { path: entry.path().to_owned() };
            // A run without a readable verdict is still a run.
            RunSummary { run: entry.file_name().to_owned(), verdict: folder.read_json("verdict.json").ok() }
        })
        .collect();
    runs.sort_by(|a, b| b.run.cmp(&a.run));
    runs
}
