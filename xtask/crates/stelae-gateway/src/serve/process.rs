//! One server process on stdio: a process group of its own, an environment of its own, and an end that is proven.
//!
//! Its end is that of everything below it, and of what has left it: orphans fall to the gateway, which is a subreaper, and are
//! known by the label in their environment. One that cleared its environment *and* left its group before its parent died is
//! nobody's, and ends with the gateway.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use stelae_model::hidden::Hidden;
use stelae_model::lifecycle::{Ended, StopLimits};
use stelae_model::proxy::ServerEntry;
use stelae_run::process::{Executes, Piped, record_start};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::environment;
use super::log::event;
use super::stderr::{LastLines, relay};

/// A process whose pipes just closed is about to exit, when it is given the time to. How it does is what is told of it.
const EXIT_LINGER: Duration = Duration::from_millis(500);
/// From TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(1);
/// The same for what one has left behind that ended by itself: nothing of it ends in order, and its next life waits.
const LEFTOVERS_GRACE: Duration = Duration::from_millis(200);
/// From KILL to the proof of death.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// How long what a dead server wrote to stderr is still waited for. A descendant that left the group can hold the pipe
/// open for ever.
const STDERR_GRACE: Duration = Duration::from_millis(200);
/// So long can [`Process::end`] take.
pub(super) const END_LIMIT: Duration =
    EXIT_LINGER.saturating_add(TERM_GRACE).saturating_add(KILL_LIMIT).saturating_add(STDERR_GRACE);

/// A running server process.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    tree: Piped,
    stderr: JoinHandle<()>,
    last_lines: LastLines,
}

impl Process {
    /// Starts the program of `entry`; also gives the two pipes on which it speaks MCP. What is `confided` to it is not told
    /// when its end is explained.
    ///
    /// The write end of stdin is ours alone (pipes are made close-on-exec), so the server sees end of file as soon as
    /// the gateway is gone, however it went.
    pub(super) fn spawn(
        name: &str,
        program: &str,
        entry: &ServerEntry,
        environment: &BTreeMap<String, String>,
        confided: &Hidden,
    ) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        #[expect(clippy::disallowed_methods, reason = "this module is the one that starts processes")]
        let mut command = Command::new(program);
        command.args(&entry.args).env_clear().envs(environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        if let Some(folder) = &entry.cwd {
            command.current_dir(folder);
        }
        let label = environment::label(name);
        let (tree, child) = Piped::start(&label, &mut command)?;
        let given = environment.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        record_start(&label, program, Executes::AtOnce, tree.pid(), given);
        let (stdin, stdout, stderr) = pipes(child)?;
        let last_lines = LastLines::default();
        let stderr = tokio::spawn(relay(name.to_owned(), stderr, confided.clone(), Arc::clone(&last_lines)));
        Ok((Self { name: name.to_owned(), tree, stderr, last_lines }, stdin, stdout))
    }

    /// Waits until the process has exited, and does not reap it: as long as it is a zombie, the number of its group
    /// belongs to nobody else, so that [`Process::end`] cannot hit a stranger.
    pub(super) async fn exited(&self) -> io::Result<()> {
        // Before the first look, so that no exit falls between looking and waiting.
        let mut children = signal(SignalKind::child())?;
        while !self.has_exited()? {
            children.recv().await;
        }
        Ok(())
    }

    /// Whether it has exited by now; it is not reaped.
    pub(super) fn has_exited(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let pid = Pid::from_raw(self.tree.pid()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(waitid(WaitId::Pid(pid), options)?.is_some())
    }

    /// `why (stderr ended with "…")`, as far as there is something to tell of one that still runs.
    pub(super) fn explain(&self, why: &str) -> String {
        Remains { status: None, last_lines: kept(&self.last_lines) }.explain(why)
    }

    /// Ends all of it: TERM, a grace, KILL, until nothing is left. Whoever calls this has closed its stdin.
    ///
    /// `exiting` says that it seems to exit by itself already: then it may do so, for the status it gives.
    pub(super) async fn end(self, exiting: bool) -> Remains {
        let by_itself = exiting && timeout(EXIT_LINGER, self.exited()).await.is_ok();
        let grace = if by_itself { LEFTOVERS_GRACE } else { TERM_GRACE };
        let Self { name, tree, mut stderr, last_lines } = self;
        // It looks at the table of processes, and waits. Bounded, because a process in an uninterruptible system call
        // outlives KILL for as long as that takes.
        let stopped = spawn_blocking(move || tree.stop(StopLimits { grace, ceiling: KILL_LIMIT })).await;
        let status = stopped.ok().and_then(|(proof, ended)| {
            if let Err(failure) = proof.check() {
                event!("server {name:?}: {failure}");
            }
            ended.and_then(exit_status).filter(|_| by_itself)
        });
        if timeout(STDERR_GRACE, &mut stderr).await.is_err() {
            stderr.abort();
        }
        Remains { status, last_lines: kept(&last_lines) }
    }
}

fn kept(last_lines: &LastLines) -> Vec<String> {
    last_lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Our ends of its three pipes.
fn pipes(child: Child) -> io::Result<(ChildStdin, ChildStdout, ChildStderr)> {
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin, child.stdout, child.stderr) else {
        return Err(io::Error::other("the process has no pipes"));
    };
    Ok((ChildStdin::from_std(stdin)?, ChildStdout::from_std(stdout)?, ChildStderr::from_std(stderr)?))
}

fn exit_status(ended: Ended) -> Option<ExitStatus> {
    match ended {
        Ended::Status(status) => Some(ExitStatus::from_raw(status << 8)),
        Ended::Signal(signal) => Some(ExitStatus::from_raw(signal)),
        Ended::Unseen => None,
    }
}

/// What is left of a process to explain its end.
#[derive(Debug)]
pub(super) struct Remains {
    status: Option<ExitStatus>,
    last_lines: Vec<String>,
}

impl Remains {
    /// Whether the process exited before it was told to.
    pub(super) fn exited(&self) -> bool {
        self.status.is_some()
    }

    /// `why (exit status: 3; stderr ended with "…")`, as far as there is something to tell.
    pub(super) fn explain(&self, why: &str) -> String {
        let status = self.status.map(|status| status.to_string());
        let last_line = self.last_lines.last().map(|text| format!("stderr ended with {text:?}"));
        let known: Vec<_> = status.into_iter().chain(last_line).collect();
        if known.is_empty() { why.to_owned() } else { format!("{why} ({})", known.join("; ")) }
    }

    /// The last lines that it wrote to stderr, oldest first.
    pub(super) fn into_log(self) -> Vec<String> {
        self.last_lines
    }
}
