//! One server process on stdio: a process group of its own, an environment of its own, and an end that is proven.
//!
//! Its end is that of everything below it, and of what has left it: orphans fall to the gateway, which is a subreaper, and are
//! known by the label in their environment. One that cleared its environment *and* left its group before its parent died is
//! nobody's, and ends with the gateway.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use stelae_model::hidden::Hidden;
use stelae_model::lifecycle::{Ended, StopLimits};
use stelae_model::proxy::ServerEntry;
use stelae_model::throttle::{Admission, Throttle};
use stelae_run::process::Piped;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::environment;
use super::log::{self, event};

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
/// Of a server that floods no more than this is told on: one that does must not fill the disk with the gateway's log.
const LINES_PER_SECOND: usize = 200;
/// A longer line is cut into pieces of this size.
const STDERR_LINE_BYTES: u64 = 8 * 1024;

/// A running server process.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    tree: Piped,
    stderr: JoinHandle<()>,
    last_words: Arc<Mutex<String>>,
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
        let (tree, child) = Piped::start(&environment::label(name), &mut command)?;
        let (stdin, stdout, stderr) = pipes(child)?;
        let last_words = Arc::default();
        let stderr = tokio::spawn(relay(name.to_owned(), stderr, confided.clone(), Arc::clone(&last_words)));
        Ok((Self { name: name.to_owned(), tree, stderr, last_words }, stdin, stdout))
    }

    /// Waits until the process has exited, and does not reap it: as long as it is a zombie, the number of its group
    /// belongs to nobody else, so that [`Process::end`] cannot hit a stranger.
    pub(super) async fn exited(&self) -> io::Result<()> {
        // Before the first look, so that no exit falls between looking and waiting.
        let mut children = signal(SignalKind::child())?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let pid = Pid::from_raw(self.tree.pid()).ok_or(io::ErrorKind::InvalidInput)?;
        while waitid(WaitId::Pid(pid), options)?.is_none() {
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

    /// Ends all of it: TERM, a grace, KILL, until nothing is left. Whoever calls this has closed its stdin.
    ///
    /// `exiting` says that it seems to exit by itself already: then it may do so, for the status it gives.
    pub(super) async fn end(self, exiting: bool) -> Remains {
        let by_itself = exiting && timeout(EXIT_LINGER, self.exited()).await.is_ok();
        let grace = if by_itself { LEFTOVERS_GRACE } else { TERM_GRACE };
        let Self { name, tree, mut stderr, last_words } = self;
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
        Remains { status, last_words: last_words.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }
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
async fn relay(
    name: String,
    stderr: impl AsyncRead + Unpin,
    confided: Hidden,
    last_words: Arc<Mutex<String>>,
) {
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
            // Before it is cut: half a secret would not be found any more.
            let short = confided.masked(text.trim()).chars().take(200).collect();
            *last_words.lock().unwrap_or_else(PoisonError::into_inner) = short;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn last_words_quote_no_secret_not_even_the_beginning_of_one() {
        let mut confided = Hidden::default();
        confided.hide("hun\"ter");
        let last_words = Arc::new(Mutex::new(String::new()));
        for (said, kept) in [
            ("no entry with hun\"ter\n", "no entry with (secret)"),
            (&format!("{}hun\"ter", "x".repeat(196)), "x(sec"),
        ] {
            relay("a".to_owned(), said.as_bytes(), confided.clone(), Arc::clone(&last_words)).await;
            let remains = Remains { status: None, last_words: last_words.lock().unwrap().clone() };
            let why = remains.explain("exited");
            assert!(why.ends_with(&format!("{kept}\")")) && !why.contains("hun"), "{why}");
        }
    }
}
