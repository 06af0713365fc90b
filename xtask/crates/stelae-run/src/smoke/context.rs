//! What the steps of a run work with, besides what they give each other.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::programs::XTASK;
use stelae_model::env::{Base, Environment, Invocation, ProgramEnv as _, XtaskEnv};
use stelae_model::{ExitCode, Failure};

use super::options::Plan;
use super::sandbox::Sandbox;
use super::stack::LiveStack;
use super::workspace::Workspace;
use crate::deadline::Deadline;
use crate::files::read_text;
use crate::git::Git;
use crate::ports::{AddressLease, Placeholder};
use crate::process::{self, Finished, Limits, Stream};
use crate::record::{Recorder, RunFolder};
use crate::report::failure_in;
use crate::signals::Interrupt;

/// The hands of a run.
#[derive(Debug)]
pub(crate) struct SmokeContext {
    /// What happened.
    pub(crate) recorder: Arc<Recorder>,
    /// Where it is kept.
    pub(crate) folder: RunFolder,
    /// Ctrl-C and its kin.
    pub(crate) interrupt: Interrupt,
    /// What was decided before the run started.
    pub(crate) plan: Plan,
    /// The host's variables.
    pub(crate) host: Environment,
    /// Where the run's processes live.
    pub(crate) sandbox: Sandbox,
    /// git, for the source: as its user has configured it.
    pub(crate) git: Git,
    /// git, for the clone: without anybody's configuration.
    pub(crate) clone_git: Git,
    /// Deadline of the step that is under way.
    pub(crate) deadline: Deadline,
    /// The workspace, from the first step on.
    pub(crate) workspace: Option<Workspace>,
    /// Keeps the address for the run; absent while a stack that is up keeps it by itself.
    pub(crate) lease: Option<AddressLease>,
    /// Keeps the port for the gateway.
    pub(crate) placeholder: Option<Placeholder>,
    /// The stack, while it is up.
    pub(crate) stack: Option<LiveStack>,
    /// So many calls had the gateway been given when the last stage of this session was judged.
    pub(crate) calls_seen: Option<usize>,
}

impl SmokeContext {
    /// Path of a file that the run itself goes on to read: in the run's folder; while that has no room, in the
    /// workspace, so that a disk that is full under the evidence does not decide the verdict.
    pub(crate) fn place(&self, name: &str) -> Utf8PathBuf {
        if self.folder.has_room() {
            return self.folder.join(name);
        }
        self.recorder.evidence_failed(name, &std::io::ErrorKind::StorageFull.into());
        let path = beside(&self.sandbox.workspace).join(name);
        if let Some(folder) = path.parent() {
            // Whoever opens the file says what is wrong with its folder.
            std::fs::create_dir_all(folder).ok();
        }
        path
    }

    /// Path of such a file that may be there already: in the one place or in the other, whatever room there is by now.
    pub(crate) fn found(&self, name: &str) -> Utf8PathBuf {
        in_either(self.folder.path(), &self.sandbox.workspace, name).unwrap_or_else(|| self.place(name))
    }

    /// Path of a log.
    pub(crate) fn log(&self, name: &str) -> Utf8PathBuf {
        self.place(&format!("logs/{name}.log"))
    }

    /// Runs a git command of the clone, and gives its standard output.
    pub(crate) fn git(&self, cwd: &Utf8Path, args: &[&str]) -> Result<String, Failure> {
        self.git_with(|git, limits| git.run(cwd, args, limits, &self.recorder))
    }

    /// Runs something that uses the clone's git.
    pub(crate) fn git_with<T>(
        &self,
        work: impl FnOnce(&Git, &Limits<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (out, talk) = (self.log("git-stdout"), self.log("git"));
        let limits =
            Limits { deadline: self.deadline, interrupt: &self.interrupt, stdout: &out, stderr: &talk };
        work(&self.clone_git, &limits)
    }

    /// The clone's own `xtask`, in the sandbox's environment.
    pub(crate) fn xtask(&self, args: &[&str]) -> Result<Invocation, Failure> {
        let inside = self.sandbox.environment(&self.host)?;
        let base = Base::from_environment(&inside)?;
        let env = XtaskEnv::from_environment(&inside)?;
        let invocation = XTASK.invoke(self.sandbox.bin_dir().join("xtask"), self.sandbox.repo(), &base, &env);
        Ok(invocation.args(["--format", "json"]).args(args.iter().copied()))
    }

    /// Runs a verb of the clone's own `xtask`; its talk is shown under `source`, its failure becomes ours.
    pub(crate) fn run_xtask(&self, source: &str, args: &[&str]) -> Result<Finished, Failure> {
        let invocation = self.xtask(args)?;
        let (out, talk) = (self.log(&format!("{source}-stdout")), self.log(source));
        let limits =
            Limits { deadline: self.deadline, interrupt: &self.interrupt, stdout: &out, stderr: &talk };
        let finished =
            self.recorder.minding_leaks(process::run(&invocation, &limits, &mut |stream, text| {
                if stream == Stream::Stderr {
                    self.recorder.line(source, text);
                }
            })?);
        if finished.status.is_success() {
            return Ok(finished);
        }
        match failure_in(&finished.stdout_text) {
            Some(failure) => Err(failure),
            None => finished.success_or_failure(),
        }
    }

    /// Keeps a file as evidence; a disk that is full does not end the run.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) {
        if let Err(error) = self.folder.write(name, bytes) {
            self.recorder.evidence_failed(name, &error);
        }
    }

    /// Keeps a value as evidence.
    pub(crate) fn keep_json(&self, name: &str, value: &impl serde::Serialize) {
        if let Err(error) = self.folder.write_json(name, value) {
            self.recorder.evidence_failed(name, &error);
        }
    }
}

/// Where a run writes what it goes on to read, while its folder has no room.
pub(super) fn beside(workspace: &Utf8Path) -> Utf8PathBuf {
    workspace.join("evidence")
}

fn in_either(folder: &Utf8Path, workspace: &Utf8Path, name: &str) -> Option<Utf8PathBuf> {
    [folder.join(name), beside(workspace).join(name)].into_iter().find(|path| path.exists())
}

/// Reads a file of the clone.
pub(super) fn read(path: &Utf8Path) -> Result<String, Failure> {
    let failure = read_text(path, ExitCode::PrerequisiteMissing, "file", "a file of the clone");
    failure.map_err(|failure| failure.hint("commit it: a run sees only what is committed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_where_it_is_and_not_where_there_is_room() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(guard.path()).unwrap();
        let (folder, workspace) = (root.join("run"), root.join("w"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(beside(&workspace)).unwrap();
        assert_eq!(in_either(&folder, &workspace, "one"), None);
        for place in [beside(&workspace), folder.clone()] {
            std::fs::write(place.join("one"), "").unwrap();
            assert_eq!(in_either(&folder, &workspace, "one"), Some(place.join("one")));
            std::fs::remove_file(place.join("one")).unwrap();
        }
    }
}
