//! A clone that shares nothing with its source: a process that writes into the clone's objects does not write into the source's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::{ExitCode, Failure};

use super::Git;
use crate::process::Limits;
use crate::record::Recorder;

/// Where a push from the clone would go: nowhere. Its origin is the user's repository.
const NO_PUSH: &str = "remote.origin.pushURL=/dev/null/not-from-a-clone-of-a-run";

/// The files in which a repository names the objects of others as its own.
const ALTERNATES: [&str; 2] = ["info/alternates", "info/http-alternates"];

impl Git {
    /// Clones all of `source`, and checks its `HEAD` out: without hard links, alternates, hooks, templates and submodules.
    ///
    /// The objects are copied as files where all of them are plain files of the source itself, which takes as long as hard
    /// links for a small repository. Otherwise (alternates, symbolic links, pipes) git's transport is asked for them, which
    /// packs them anew: that takes five times as long, and copies nothing but objects.
    ///
    /// # Errors
    /// What git says; exit 10, `clone-shares-objects`, when the clone is not on its own all the same.
    pub fn clone_apart(
        &self,
        source: &Utf8Path,
        repo: &Utf8Path,
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<(), Failure> {
        let objects = self.run(source, &["rev-parse", "--git-path", "objects"], limits, recorder)?;
        let objects = source.join(objects.trim_end_matches('\n'));
        let clone = |how: &str| {
            let args = ["clone", "--quiet", "--no-tags", "--no-recurse-submodules", "--template=", how];
            let from_to = ["--config", NO_PUSH, "--", source.as_str(), repo.as_str()];
            self.run(source, &[&args[..], &from_to].concat(), limits, recorder).map(drop)
        };
        let made = repo.join(".git/objects");
        let why = match of_its_own(&objects) {
            Err(why) => why,
            Ok(()) => match clone("--no-hardlinks") {
                Ok(()) => return check_apart(&made),
                // Another git may put a pack in the place of what is just being copied.
                Err(failure) if failure.kind == "command-failed" => failure.log_tail.join("; "),
                Err(failure) => return Err(failure),
            },
        };
        recorder.note(format!("the objects of the source are packed anew for the clone: {why}"));
        clone("--no-local")?;
        check_apart(&made)
    }
}

/// That a folder of objects has nothing but files and folders, and names no other. What is found first is named.
fn of_its_own(objects: &Utf8Path) -> Result<(), String> {
    each_entry(objects, &mut |path, entry| {
        let kind = entry.file_type();
        if !kind.is_dir() && !kind.is_file() {
            return Err(format!("{path} is neither a file nor a folder"));
        }
        if ALTERNATES.iter().any(|name| path == objects.join(name)) {
            return Err(format!("{path} names objects of another repository"));
        }
        Ok(())
    })
}

/// That no file of the clone's objects has another name, and none is looked for elsewhere.
fn check_apart(objects: &Utf8Path) -> Result<(), Failure> {
    of_its_own(objects)
        .and_then(|()| {
            each_entry(objects, &mut |path, entry| match entry.nlink() {
                links if entry.is_file() && links > 1 => Err(format!("{path} has {links} names")),
                _ => Ok(()),
            })
        })
        .map_err(|why| {
            let what = "the clone shares objects with another repository";
            Failure::new(ExitCode::StepFailed, "clone-shares-objects", what)
                .on(objects.to_string())
                .because(why)
                .hint("another process may have written into the clone: look at what else runs, and start a new run")
        })
}

/// Looks at a folder and everything below it, without following a link.
fn each_entry(
    folder: &Utf8Path,
    look: &mut dyn FnMut(&Utf8Path, &fs::Metadata) -> Result<(), String>,
) -> Result<(), String> {
    let unreadable = |path: &Utf8Path, error: io::Error| format!("{path}: {error}");
    let mut todo: Vec<Utf8PathBuf> = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let entry = path.symlink_metadata().map_err(|error| unreadable(&path, error))?;
        look(&path, &entry)?;
        if entry.is_dir() {
            for below in path.read_dir_utf8().map_err(|error| unreadable(&path, error))? {
                todo.push(below.map_err(|error| unreadable(&path, error))?.into_path());
            }
        }
    }
    Ok(())
}
