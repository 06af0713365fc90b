//! The other half of a guardian: this very program, started once more.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use camino::Utf8Path;
use rustix::process::Signal;
use stelae_model::Isolation;
use stelae_model::lifecycle::Ended;

use super::child::Child;
use super::{os, reaper, stuck, tree};
use crate::deadline::Deadline;
use crate::guardian;

/// util-linux's, as the next one, which every distribution has.
const UNSHARE: &str = "/usr/bin/unshare";
/// `unshare` does not outlive us: its death is what tells the half below it of ours, even if that was stopped (see
/// [`continued_by_the_death_of_the_other_half`]).
pub(super) const BOUND_TO_US: [&str; 4] = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"];
/// A PID namespace with a `/proc` of its own, whose first process is killed when `unshare` is, until that process says
/// otherwise.
const NAMESPACE: [&str; 4] = ["--pid", "--mount-proc", "--fork", "--kill-child"];

/// Who is not root gets a user namespace around it, in which nobody is anybody else.
const AS_A_USER: &[&str] = &["--user", "--map-current-user"];
/// The user that the kernel shows for each one that is not mapped.
const OVERFLOW_USER: u32 = 65_534;
/// That user is another one in its namespace: under its own number it cannot be told from all that are not mapped, neither as
/// the owner of a file nor as that of a connection.
const AS_THE_OVERFLOW_USER: &[&str] = &["--user", "--map-user=65533", "--map-group=65533"];
/// What is in there has to raise an interface, also after an `exec`.
const ABLE: &str = "--keep-caps";
/// A network namespace: it has one interface, loopback, which is down.
const NO_NETWORK: &str = "--net";
/// What shows whether namespaces are allowed: the same, around a program that does nothing.
const NOTHING: &str = "/bin/true";

/// By what `git` tells its hooks, and every `git` below them, on which repository and index to work: what writes to that
/// would write into the user's. Commands that the harness starts get none of the caller's variables; this is for `ci`, whose
/// cargo and tests get them all.
const GIT_REPOSITORY: [&str; 11] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_WORK_TREE",
];

/// Which network a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The same as this one.
    Same,
    /// A namespace of its own, in which there is nothing but loopback, and that has to be raised first.
    Loopback,
}

/// A process that is the other half of this one.
#[derive(Debug)]
pub struct OtherHalf {
    child: Child,
    isolation: Isolation,
}

impl OtherHalf {
    /// Starts `program`, with the environment (and `env` besides), the folder and the outputs of this process; `stdout`, where
    /// it is given, is its standard output instead.
    /// Which repository `git` is at work on when it calls a hook is not handed on: what this process is run for is another one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        program: &Utf8Path,
        args: &[String],
        env: &[(String, String)],
        isolation: Isolation,
        stdin: OwnedFd,
        stdout: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let mut command = match isolation {
            // No group of its own: it is going to lead a session, and who leads a group cannot.
            Isolation::Guard => command(program),
            Isolation::Pidns => {
                let mut command = unshare();
                command.arg(program);
                command
            }
        };
        for name in GIT_REPOSITORY {
            command.env_remove(name);
        }
        command.args(args).envs(env.iter().map(|(name, value)| (name, value))).stdin(stdin);
        if let Some(stdout) = stdout {
            command.stdout(stdout);
        }
        Ok(Self { child: Child::start(&mut command)?, isolation })
    }

    /// Starts `program` in this network, with the environment, the folder and the standard output of this process. It is this
    /// process's child whichever it is: `unshare` becomes it.
    ///
    /// # Errors
    /// It cannot be started, or there is no `unshare` or `setpriv` where one is needed. What `unshare` may not do it says on
    /// `stderr`, and ends.
    pub fn start_in(
        network: Network,
        program: &Utf8Path,
        args: &[String],
        stdin: OwnedFd,
        stderr: OwnedFd,
    ) -> io::Result<Self> {
        let mut command = match network {
            Network::Same => command(program),
            Network::Loopback => {
                needed()?;
                let mut command = bound();
                if !is_root() {
                    command.arg(ABLE);
                }
                command.args([NO_NETWORK, "--"]).arg(program);
                command
            }
        };
        command.args(args).stdin(stdin).stderr(stderr);
        Ok(Self { child: Child::start(&mut command)?, isolation: Isolation::Guard })
    }

    /// How it ended; `None` while it runs.
    pub fn try_exit(&mut self) -> Option<Ended> {
        self.child.try_exit()
    }

    /// Waits until it ends, one of the wakers has something to read, or the time is over.
    pub fn wait(&self, wakers: &[OwnedFd], at_most: Duration) {
        self.child.wait(wakers, at_most);
    }

    /// Sends it a signal. One that has ended gets none.
    pub fn send(&self, signal: Signal) {
        self.child.send(signal);
    }

    /// Whether it was stopped (SIGSTOP), and so guards nobody. One that a debugger holds is not.
    pub(crate) fn is_stopped(&self) -> bool {
        self.pids().iter().any(|&pid| tree::is_stopped(pid))
    }

    /// Whether the half below `unshare` has ended, but for what the kernel does with its namespace: that waits for the last
    /// process in there, and `unshare` waits for the kernel.
    pub(crate) fn is_exiting(&self) -> bool {
        self.pids().iter().skip(1).any(|&pid| stuck::is_exiting(pid))
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        for row in self.pids().into_iter().filter_map(os::process_row) {
            // It is gone, or goes on.
            os::Handle::open(&row).map(|handle| handle.send(Signal::CONT));
        }
    }

    /// It, and in a namespace the half below `unshare`, which is `unshare`'s only child.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let below = match self.isolation {
            Isolation::Guard => Vec::new(),
            Isolation::Pidns => tree::table().unwrap_or_default(),
        };
        let below = below.into_iter().filter(|row| row.parent == self.child.pid()).map(|row| row.pid);
        std::iter::once(self.child.pid()).chain(below).collect()
    }
}

/// For the half that was started: should it be stopped (SIGSTOP) when the other half dies, it is continued, so that it can
/// see the end of its life line. Without this it would stay as it is for ever: it lives, so that nobody sweeps it.
///
/// # Errors
/// What the system says.
pub(crate) fn continued_by_the_death_of_the_other_half() -> io::Result<()> {
    os::signal_without_parent(Signal::CONT)
}

/// For a half that has no life line: when the other one, `parent`, dies, this process gets SIGTERM. Whoever starts it has to
/// do so from its main thread, as it is the end of that thread which counts. Where the platform has nothing like it, this
/// process is not told.
///
/// # Errors
/// What the system says; `parent` is dead already.
pub fn told_to_end_by_the_death_of(parent: i32) -> io::Result<()> {
    os::signal_without_parent(Signal::TERM)?;
    // Asked after: who died before that was not heard of, and is not our parent any more.
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if now == parent { Ok(()) } else { Err(io::Error::other(format!("process {parent} is not its parent"))) }
}

/// Whether this process lives in a PID namespace that a guardian of ours has made, whose first process is the inner half. Of
/// whoever is outside nothing can be seen from in there, not even that they live.
pub(crate) fn is_in_a_namespace_of_ours() -> bool {
    tree::has_argument(1, guardian::INNER)
}

/// Whether this process may make a PID namespace. Asked by making one.
pub(crate) fn namespaces_are_allowed(at_most: Duration) -> bool {
    if needed().is_err() {
        return false;
    }
    let mut command = unshare();
    command.arg(NOTHING).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = reaper::spawn(|| command.spawn().map(|child| (child.id(), ())));
    let Ok((pid, ())) = started else { return false };
    let handle = os::process_row(pid).and_then(|row| os::Handle::open(&row));
    let deadline = Deadline::after(at_most);
    while !reaper::has_ended(pid) && !deadline.passed() {
        os::wait_any(handle.iter(), &[], deadline.remaining());
    }
    // One that hangs is ended with everything else, at the end.
    reaper::forget(pid).is_some_and(Ended::is_success)
}

/// That what makes a namespace is there.
fn needed() -> io::Result<()> {
    let missing = |program: &&str| !Utf8Path::new(program).exists();
    match [BOUND_TO_US[0], UNSHARE].into_iter().find(missing) {
        _ if !cfg!(target_os = "linux") => Err(io::Error::other("only Linux has namespaces")),
        Some(missing) => Err(io::Error::other(format!("there is no {missing}"))),
        None => Ok(()),
    }
}

/// Whether nobody has to be made anybody to make a namespace.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The beginning of a command that makes a namespace, and does not outlive us.
fn bound() -> Command {
    let [program, arguments @ ..] = BOUND_TO_US;
    let mut command = command(Utf8Path::new(program));
    command.args(arguments).arg(UNSHARE);
    command.args(user_namespace(rustix::process::geteuid().as_raw()));
    command
}

/// What a user needs to make other namespaces.
fn user_namespace(uid: u32) -> &'static [&'static str] {
    match uid {
        0 => &[],
        OVERFLOW_USER => AS_THE_OVERFLOW_USER,
        _ => AS_A_USER,
    }
}

fn unshare() -> Command {
    let mut command = bound();
    // Out of the group of this process: who kills that is not to kill the namespace without a word.
    command.args(NAMESPACE).arg("--").process_group(0);
    command
}

#[allow(clippy::disallowed_methods, reason = "this module is the one that starts processes")]
fn command(program: &Utf8Path) -> Command {
    Command::new(program)
}
