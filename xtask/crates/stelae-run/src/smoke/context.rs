//! What the steps of a run work with, besides what they give each other.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::programs::XTASK;
use stelae_model::env::{Base, Environment, Invocation, ProgramEnv as _, XtaskEnv};
use stelae_model::flow::Keep;
use stelae_model::protection::WriteProtection;
use stelae_model::starts::FileIdentity;
use stelae_model::{ExitCode, Failure};

use super::description::Description;
use super::manifest::Kept;
use super::options::Plan;
use super::sandbox::Sandbox;
use super::stack::LiveStack;
use super::steps::check_stack;
use super::workspace::Workspace;
use crate::deadline::Deadline;
use crate::environment::OF_RUN;
use crate::files::{LastingId, read_text};
use crate::git::Git;
use crate::guardian::{self, Dead};
use crate::ports::{AddressLease, Placeholder};
use crate::process::{self, Finished, Limits, Stream};
use crate::record::{Recorder, RunFolder};
use crate::report::failure_in;
use crate::sealed::Sealed;
use crate::signals::Interrupt;
use crate::tools::Shelf;

/// How often it is looked whether the stack lives, while something else is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
    /// What describes the run: the commit's, whatever another process writes into the clone.
    pub(crate) described: Description,
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
    /// What the verdict has to say of servers, as they stood at the last look.
    pub(crate) server_warnings: Vec<String>,
    /// What the stack and the agents cannot write to; decided when the first of them is about to start.
    pub(crate) protection: OnceLock<Option<WriteProtection>>,
    /// What the clone and the config home have to be; read back when a session that goes on first asks.
    pub(crate) kept: Option<Kept>,
    /// The programs that were built from the clone, once they are.
    pub(crate) programs: Mutex<Vec<Sealed>>,
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

    /// Does work that waits for the stack, in a thread of its own, and gives it up as soon as the stack dies or a signal comes. The
    /// thread ends with its work, which has a deadline of its own.
    ///
    /// # Errors
    /// What [`check_stack`] finds; 129, 130, 143 on a signal.
    pub(crate) fn while_up<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, outcome) = mpsc::channel();
        let worker = thread::spawn(move || done.send(work()));
        loop {
            match outcome.recv_timeout(LOOK_EVERY) {
                Ok(outcome) => return Ok(outcome),
                Err(RecvTimeoutError::Timeout) => {
                    check_stack(self)?;
                    self.interrupt.bail("waiting for the stack")?;
                }
                // It has panicked.
                Err(RecvTimeoutError::Disconnected) => match worker.join() {
                    Err(panic) => std::panic::resume_unwind(panic),
                    Ok(_) => return Err(Failure::unexpected("a thread ended without its outcome")),
                },
            }
        }
    }

    /// Tells the guardian which folder the workspace is, in case that a server renames it and the harness is killed.
    pub(crate) fn register_workspace(&self, made: LastingId) -> Result<(), Failure> {
        let Some(guarded) = guardian::guarded().filter(|_| self.plan.keep != Keep::Always) else {
            return Ok(());
        };
        let dead = Dead::new(&self.plan.run, Some(self.plan.workspace.clone()));
        guarded.register(&Dead { folder: Some(made), ..dead })
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

    /// That the programs of the clone are still those that were built: asked for before and after each start of one, and at
    /// the end.
    ///
    /// # Errors
    /// Exit 50, `program-changed`.
    pub(crate) fn check_programs(&self) -> Result<(), Failure> {
        self.programs().iter_mut().try_for_each(|program| {
            let name = program.path.file_name().unwrap_or("a program").to_owned();
            program.check_untouched(&format!("{name}, as it was built from the clone,"))
        })
    }

    /// That the agent CLI is still the program that was found: asked for before each start of it, and at the end.
    ///
    /// # Errors
    /// Exit 50, `program-changed`; 40, `agent-not-started`, `tool-changed`.
    pub(crate) fn check_agent(&self) -> Result<(), Failure> {
        match &self.plan.agent_program {
            Some(program) => {
                program.check(self.plan.agent, &Shelf::of_pins(self.described.tools()?, &self.host)?)
            }
            None => Ok(()),
        }
    }

    /// The file that an agent's process executes, if its identity is known.
    pub(crate) fn program_of_agent(&self) -> Option<(Utf8PathBuf, FileIdentity)> {
        let sealed = match &self.plan.agent_program {
            Some(program) => program.sealed.clone(),
            None => {
                let programs = self.programs();
                programs.iter().find(|program| program.path.file_name() == Some("stelae-gateway"))?.clone()
            }
        };
        Some((sealed.path, sealed.identity?))
    }

    /// The programs that were built from the clone.
    pub(crate) fn programs(&self) -> MutexGuard<'_, Vec<Sealed>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clone's own `xtask`, in the sandbox's environment.
    pub(crate) fn xtask(&self, args: &[&str]) -> Result<Invocation, Failure> {
        self.check_programs()?;
        let inside = self.sandbox.environment(&self.host)?;
        let base = Base::from_environment(&inside)?;
        let env = XtaskEnv::from_environment(&inside)?;
        let root = self.sandbox.repo();
        let invocation = XTASK.invoke(self.sandbox.bin_dir().join("xtask"), root.clone(), &base, &env);
        // By arguments, because the harness takes nothing of its own from the environment, be it another harness's.
        let of_this_run = ["--format", "json", "--root", root.as_str(), OF_RUN, &self.sandbox.run];
        Ok(invocation.args(of_this_run).args(args.iter().copied()))
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
        // It was that program, and no other one for a while.
        self.check_programs()?;
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
