//! `target/xtask/runs/<run-id>/`: what is kept of a run when its workspace is gone.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

use camino::{Utf8DirEntry, Utf8Path, Utf8PathBuf};
use serde::Serialize;
use stelae_model::verdict::Verdict;
use stelae_model::{ExitCode, Failure};

use super::id::run_id;
use crate::files::{self, Readable, limits};

/// So many ids in a row that are taken are no coincidence.
const MOST_IDS: usize = 100;

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
    /// Makes the folder of a new run, and its id.
    ///
    /// # Errors
    /// Exit 40, `evidence-folder`.
    pub fn create_new(root: &Utf8Path) -> Result<(String, Self), Failure> {
        Self::create_first(root, std::iter::repeat_with(run_id).take(MOST_IDS))
    }

    /// With the first of these ids that nobody has.
    fn create_first(
        root: &Utf8Path,
        ids: impl IntoIterator<Item = String>,
    ) -> Result<(String, Self), Failure> {
        for id in ids {
            match Self::make(root, &id) {
                Err((_, error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return Ok((id, made.map_err(|(path, error)| no_folder(&path, &error))?)),
            }
        }
        Err(Failure::unexpected("no run's id is free").on(runs_folder(root).to_string()))
    }

    /// Makes the folder of a new run: never one that is there already, whose evidence is another run's.
    ///
    /// # Errors
    /// Exit 40, `evidence-folder`: without it there would be no record at all, so the run does not begin;
    /// `run-exists`.
    pub fn create(root: &Utf8Path, run: &str) -> Result<Self, Failure> {
        Self::make(root, run).map_err(|(path, error)| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::new(ExitCode::PrerequisiteMissing, "run-exists", "there is a run with that id")
                    .on(path.to_string())
                    .hint("try again: a new run has a new id")
            }
            _ => no_folder(&path, &error),
        })
    }

    fn make(root: &Utf8Path, run: &str) -> Result<Self, (Utf8PathBuf, io::Error)> {
        let runs = runs_folder(root);
        files::create_private_dirs(&runs).map_err(|error| (runs.clone(), error))?;
        let folder = Self { path: runs.join(run) };
        let make = |path: Utf8PathBuf| match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(()),
            Err(error) => Err((path, error)),
        };
        make(folder.path.clone())?;
        for part in ["logs", "manifests", "transcripts", "rendered", "steps"] {
            make(folder.join(part))?;
        }
        Ok(folder)
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// Exit 2, `unknown-run`, with the newest run as a suggestion.
    pub fn open(root: &Utf8Path, run: &str) -> Result<Self, Failure> {
        let path = runs_folder(root).join(run);
        let plain = !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if plain && path.symlink_metadata().is_ok_and(|entry| entry.is_dir()) {
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

    /// Removes it: of a run that never began, or of a plan that was only shown.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self) -> io::Result<()> {
        files::discard(&self.path)
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

    /// Writes a file, whole: a kill or a full disk leaves the one that was there.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        files::replace(&self.join(name), bytes, Readable::ByOwner)
    }

    /// Writes a JSON file, pretty.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        files::replace_json(&self.join(name), value)
    }

    /// All its files, relative, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir_utf8().into_iter().flatten().flatten() {
                let path = entry.path();
                // A symlink is a file of it, wherever it leads.
                if is_folder(&entry) {
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
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        files::read_untrusted_json(self.join(name), limits::RECORD)
    }
}

fn is_folder(entry: &Utf8DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn no_folder(path: &Utf8Path, error: &io::Error) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "evidence-folder", "the run's folder cannot be made")
        .on(path.to_string())
        .because(error.to_string())
        .hint("make room, or make the folder writable")
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
        .filter(is_folder)
        .map(|entry| {
            let folder = RunFolder { path: entry.path().to_owned() };
            // A run without a readable verdict is still a run.
            RunSummary { run: entry.file_name().to_owned(), verdict: folder.read_json("verdict.json").ok() }
        })
        .collect();
    runs.sort_by(|a, b| b.run.cmp(&a.run));
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_folder_to_itself() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(guard.path()).unwrap();
        RunFolder::create(root, "one").unwrap().write("verdict.json", b"{}").unwrap();
        let failure = RunFolder::create(root, "one").unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::PrerequisiteMissing, "run-exists"));
        let ids = ["one", "one", "two", "three"].map(str::to_owned);
        let (id, folder) = RunFolder::create_first(root, ids).unwrap();
        assert_eq!((id.as_str(), folder.files()), ("two", Vec::new()));
        assert_eq!(RunFolder::open(root, "one").unwrap().files(), ["verdict.json"]);
        let (id, folder) = RunFolder::create_new(root).unwrap();
        assert_eq!(folder.path(), runs_folder(root).join(id));
    }

    #[test]
    fn a_file_that_is_written_again_was_never_half_there() {
        let guard = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(Utf8Path::from_path(guard.path()).unwrap(), "one").unwrap();
        folder.write("plan.json", b"the first").unwrap();
        let open = fs::File::open(folder.join("plan.json")).unwrap();
        folder.write("plan.json", b"2").unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "the first");
        assert_eq!(folder.files(), ["plan.json"]);
    }
}
