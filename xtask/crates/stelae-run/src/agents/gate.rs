//! The gate in front of an agent: its process is held until its environment was read, and compared.
//!
//! ```text
//! harness                         stelae-gateway held
//!   listens on a socket  ◄─────── connects; says as which descriptor it has the agent's program open
//!   its pid, from the kernel
//!   environment, program
//!   "go" ───────────────────────► executes the program, in this process, with this environment
//! ```
//! So no agent lives too briefly to be looked at. What an agent does to its environment after that is seen by a second look,
//! if it still lives when it has said its first word.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::Invocation;
use stelae_model::env::attest::Attestation;
use stelae_model::starts::{FileIdentity, StartRecord};
use stelae_model::{ExitCode, Failure};

use crate::attestation::{attest_process, start_of};
use crate::deadline::Deadline;
use crate::files::{create_private_dirs, open_folder};
use crate::process::{self, tree};

/// Its name in its folder.
const SOCKET: &str = "gate";
/// What lets the agent go.
const GO: &[u8] = b"g";
/// `stelae-gateway held` says what it has to say at once, or is stopped by a signal.
const SAYS_WITHIN: Duration = Duration::from_secs(60);
/// The number of a descriptor.
const LONGEST_WORD: u64 = 64;

/// The place where an agent waits.
#[derive(Debug)]
pub(crate) struct Gate {
    path: Utf8PathBuf,
    listener: UnixListener,
}

/// An agent that has passed the gate.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    /// Its pid.
    pub(crate) pid: i32,
    /// What it was given.
    pub(crate) start: Option<StartRecord>,
    /// Its environment, compared.
    pub(crate) attestation: Attestation,
}

impl Gate {
    /// Opens it in this folder, which is made for its owner only.
    ///
    /// # Errors
    /// Exit 10, `agent-gate`.
    pub(crate) fn open(folder: &Utf8Path) -> Result<Self, Failure> {
        let open = || {
            create_private_dirs(folder)?;
            let folder_itself = open_folder(folder)?;
            let path = folder.join(SOCKET);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // The name of a socket has 107 bytes at the most, and that of a folder more.
            let name = format!("/proc/self/fd/{}/{SOCKET}", folder_itself.as_raw_fd());
            let listener = UnixListener::bind(name)?;
            listener.set_nonblocking(true)?;
            Ok(Self { path, listener })
        };
        open().map_err(|error: io::Error| cannot_hold(folder.as_str(), &error.to_string()))
    }

    /// Where it is, for `stelae-gateway held --at`.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Waits for the agent, compares its environment with its invocation, and its program with `program`; lets it go if both
    /// are right. Nothing if none came until `over` is set, which wakes this by `wakers`.
    ///
    /// # Errors
    /// Exit 20: `environment-differs`, `environment-unreadable`; 50, `program-changed`; 10, `agent-gate`. The agent is not
    /// started then.
    pub(crate) fn attend(
        self,
        invocation: &Invocation,
        program: Option<(&Utf8Path, FileIdentity)>,
        until: Deadline,
        over: &AtomicBool,
        waker: &OwnedFd,
    ) -> Result<Option<Passed>, Failure> {
        let cannot = |error: io::Error| cannot_hold(self.path.as_str(), &error.to_string());
        let wakers =
            [self.listener.as_fd().try_clone_to_owned().map_err(cannot)?, waker.try_clone().map_err(cannot)?];
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return let_pass(&stream, invocation, program).map(Some),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(cannot(error)),
            }
            if over.load(Ordering::Acquire) || until.passed() {
                return Ok(None);
            }
            process::pause(&wakers, until.remaining());
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It goes with its folder otherwise.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Looks at the process that has come, and lets it go if it is as it should be.
fn let_pass(
    stream: &UnixStream,
    invocation: &Invocation,
    program: Option<(&Utf8Path, FileIdentity)>,
) -> Result<Passed, Failure> {
    let text = |error: io::Error| cannot_hold(&invocation.process, &error.to_string());
    stream.set_nonblocking(false).map_err(text)?;
    stream.set_read_timeout(Some(SAYS_WITHIN)).map_err(text)?;
    let pid = process::peer(stream)
        .ok_or_else(|| cannot_hold(&invocation.process, "the kernel does not tell which process has come"))?;
    let mut said = String::new();
    BufReader::new(stream.take(LONGEST_WORD)).read_line(&mut said).map_err(text)?;
    let start = start_of(invocation, pid);
    let unseen = || {
        Failure::new(ExitCode::Environment, "environment-unreadable", "the agent ended while it was held")
            .on(format!("pid {pid}"))
    };
    let attestation = attest_process(invocation, pid, None).ok_or_else(unseen)?;
    attestation.verdict()?;
    if let (Some((path, identity)), Ok(descriptor)) = (program, said.trim().parse::<u32>()) {
        let opened = Utf8PathBuf::from(format!("/proc/{pid}/fd/{descriptor}"));
        if !tree::identity(&opened).is_ok_and(|found| found.is_same_file(&identity)) {
            return Err(crate::sealed::changed("the agent", path)
                .because("the file that is about to be executed is not the one that was compared"));
        }
    }
    let mut stream = stream;
    stream.write_all(GO).map_err(text)?;
    Ok(Passed { pid, start, attestation })
}

fn cannot_hold(on: &str, why: &str) -> Failure {
    Failure::new(ExitCode::StepFailed, "agent-gate", "the agent cannot be held until it was looked at")
        .on(on)
        .because(why)
}

impl Passed {
    /// Looks at it once more: it is what it was started as, or has become something else.
    pub(crate) fn look_again(&self, invocation: &Invocation) -> Option<Attestation> {
        // The pid alone could be another process's by now.
        let still = self.start.as_ref().map(|start| start.started) == tree::started_ticks(self.pid);
        still.then(|| attest_process(invocation, self.pid, self.start.as_ref())).flatten()
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts the process that it looks at"
)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A process that comes to the gate in a folder, as `stelae-gateway held` does, and then says whether it was let go.
    const COMES: &str = "
import os, socket, sys
gate = socket.socket(socket.AF_UNIX)
gate.connect(sys.argv[1])
program = os.open(sys.argv[2], os.O_RDONLY)
gate.send(b'%d\\n' % program)
sys.exit(0 if gate.recv(1) == b'g' else 20)
";

    /// What becomes of a process that is started with `given`, in front of a gate that expects `A=1` and `program`.
    fn comes(given: &[(&str, &str)], program: &Utf8Path) -> (Result<Option<Passed>, Failure>, Option<i32>) {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let gate = Gate::open(&folder.join("gate")).unwrap();
        let invocation = Invocation::for_test("agent", "/bin/true".into(), folder.to_owned(), &[("A", "1")]);
        let path = gate.path().to_owned();
        let mut child: Child = Command::new("python3")
            .args(["-c", COMES, path.as_str(), program.as_str()])
            .env_clear()
            .envs(given.iter().copied())
            .spawn()
            .unwrap();
        let expected = (Utf8Path::new("/bin/true"), tree::identity(Utf8Path::new("/bin/true")).unwrap());
        let (waker, _held) = io::pipe().unwrap();
        let deadline = Deadline::after(Duration::from_secs(60));
        let seen = gate.attend(&invocation, Some(expected), deadline, &AtomicBool::new(false), &waker.into());
        assert!(!path.exists(), "the gate is gone");
        (seen, child.wait().unwrap().code())
    }

    const RIGHT: [(&str, &str); 2] = [("A", "1"), ("STELAE_PROCESS", "agent")];

    #[test]
    fn what_has_what_it_was_given_is_let_go_and_known() {
        let (seen, code) = comes(&RIGHT, Utf8Path::new("/bin/true"));
        let passed = seen.unwrap().unwrap();
        assert_eq!((code, passed.attestation.processes.len()), (Some(0), 1));
        assert_eq!(passed.start.unwrap().pid, passed.pid);
    }

    #[test]
    fn what_has_another_environment_or_another_program_is_not_let_go() {
        let (seen, code) = comes(&[("A", "2"), RIGHT[1]], Utf8Path::new("/bin/true"));
        assert_eq!((seen.unwrap_err().kind.as_str(), code), ("environment-differs", Some(20)));
        let (seen, code) = comes(&[RIGHT[0], RIGHT[1], ("B", "")], Utf8Path::new("/bin/true"));
        assert_eq!((seen.unwrap_err().kind.as_str(), code), ("environment-differs", Some(20)));
        let (seen, code) = comes(&RIGHT, Utf8Path::new("/bin/false"));
        assert_eq!((seen.unwrap_err().kind.as_str(), code), ("program-changed", Some(20)));
    }

    #[test]
    fn one_that_never_comes_is_waited_for_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let invocation = Invocation::for_test("agent", "/bin/true".into(), folder.to_owned(), &[]);
        let over = AtomicBool::new(false);
        let (waker, writer) = io::pipe().unwrap();
        let waker = waker.into();
        let gate = Gate::open(&folder.join("a".repeat(200))).unwrap();
        let deadline = Deadline::after(Duration::from_secs(3600));
        std::thread::scope(|scope| {
            let attended = scope.spawn(|| gate.attend(&invocation, None, deadline, &over, &waker));
            over.store(true, Ordering::Release);
            drop(writer);
            assert!(attended.join().unwrap().unwrap().is_none());
        });
    }
}
