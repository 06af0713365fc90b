//! One server process on stdio: a process group of its own, an environment of its own, and an end that is proven.

use std::collections::BTreeMap;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use stelae_model::proxy::ServerEntry;
use stelae_model::throttle::{Admission, Throttle};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::log;

/// A process whose pipes just closed is about to exit.
const EXIT_LINGER: Duration = Duration::from_millis(100);
/// From TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(1);
/// From KILL to the proof of death.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// How long what a dead server wrote to stderr is still waited for. A descendant that left the group can hold the pipe
/// open for ever.
const STDERR_GRACE: Duration = Duration::from_millis(200);
/// So long can [`Process::end`] take.
pub(super) const END_LIMIT: Duration =
    EXIT_LINGER.saturating_add(TERM_GRACE).saturating_add(KILL_LIMIT).saturating_add(STDERR_GRACE);
/// Of a server that floods no more than this is told on: one that does must not fill the disk with the gateway's log.
const LINES_PER_SECOND: usize = 200;
/// A longer line is cut into pieces of this size.
const STDERR_LINE_BYTES: u64 = 8 * 1024;

/// A running server process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Pid,
    stderr: JoinHandle<()>,
    last_words: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the program of `entry`; also gives the two pipes on which it speaks MCP.
    ///
    /// The write end of stdin is ours alone (pipes are made close-on-exec), so the server sees end of file as soon as
    /// the gateway is gone, however it went.
    pub(super) fn spawn(
        name: &str,
        program: &str,
        entry: &ServerEntry,
        environment: BTreeMap<String, String>,
    ) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        #[expect(clippy::disallowed_methods, reason = "this module is the one that starts processes")]
        let mut command = Command::new(program);
        command.args(&entry.args).env_clear().envs(environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        if let Some(folder) = &entry.cwd {
            command.current_dir(folder);
        }
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take(), group);
        let (Some(stdin), Some(stdout), Some(stderr), Some(group)) = pipes else {
            return Err(io::Error::other("the process has no id or no pipes"));
        };
        let last_words = Arc::default();
        let stderr = tokio::spawn(relay(name.to_owned(), stderr, Arc::clone(&last_words)));
        Ok((Self { child, group, stderr, last_words }, stdin, stdout))
    }

    /// Waits until the process has exited, and does not reap it: as long as it is a zombie, the number of its group
    /// belongs to nobody else, so that [`Process::end`] cannot hit a stranger.
    pub(super) async fn exited(&self) -> io::Result<()> {
        // Before the first look, so that no exit falls between looking and waiting.
        let mut children = signal(SignalKind::child())?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(self.group), options)?.is_none() {
            children.recv().await;
        }
        Ok(())
    }

    /// `why (stderr ended with "…")`, as far as there is something to tell of one that still runs.
    pub(super) fn explain(&self, why: &str) -> String {
        Remains { status: None, last_words: self.last_words() }.explain(why)
    }

    fn last_words(&self) -> String {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the whole group: TERM, a grace, KILL; then reaps the process. Whoever calls this has closed its stdin.
    ///
    /// `exiting` says that it seems to exit by itself already: then it may do so, for the status it gives.
    pub(super) async fn end(mut self, exiting: bool) -> Remains {
        let by_itself = exiting && timeout(EXIT_LINGER, self.exited()).await.is_ok();
        // ESRCH means that all of it is gone, which is what we are after.
        kill_process_group(self.group, Signal::TERM).ok();
        timeout(TERM_GRACE, self.exited()).await.ok();
        kill_process_group(self.group, Signal::KILL).ok();
        // Bounded, because a process in an uninterruptible system call outlives KILL for as long as that takes.
        let status =
            timeout(KILL_LIMIT, self.child.wait()).await.ok().and_then(Result::ok).filter(|_| by_itself);
        if timeout(STDERR_GRACE, &mut self.stderr).await.is_err() {
            self.stderr.abort();
        }
        Remains { status, last_words: self.last_words() }
    }
}

/// What is left of a process to explain its end.
#[derive(Debug)]
pub(super) struct Remains {
    status: Option<ExitStatus>,
    last_words: String,
}

impl Remains {
    /// Whether the process exited before it was told to.
    pub(super) fn exited(&self) -> bool {
        self.status.is_some()
    }

    /// `why (exit status: 3; stderr ended with "…")`, as far as there is something to tell.
    pub(super) fn explain(&self, why: &str) -> String {
        let status = self.status.map(|status| status.to_string());
        let last_words = Some(&self.last_words).filter(|text| !text.is_empty());
        let last_words = last_words.map(|text| format!("stderr ended with {text:?}"));
        let known: Vec<_> = status.into_iter().chain(last_words).collect();
        if known.is_empty() { why.to_owned() } else { format!("{why} ({})", known.join("; ")) }
    }
}

/// Passes each line of the server's stderr on, under the server's name.
async fn relay(name: String, stderr: ChildStderr, last_words: Arc<Mutex<String>>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    let (mut throttle, begun) = (Throttle::new(LINES_PER_SECOND), Instant::now());
    while let Ok(1..) = (&mut reader).take(STDERR_LINE_BYTES).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Admission::Tell { after_leaving_out } = throttle.admit(begun.elapsed()) {
            if after_leaving_out > 0 {
                log::line(&name, format_args!("({after_leaving_out} lines left out)"));
            }
            log::line(&name, format_args!("{text}"));
        }
        if !text.trim().is_empty() {
            let short = text.trim().chars().take(200).collect();
            *last_words.lock().unwrap_or_else(PoisonError::into_inner) = short;
        }
        line.clear();
    }
}
