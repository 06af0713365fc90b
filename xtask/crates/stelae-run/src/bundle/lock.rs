//! One change at a time.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Seek as _, Write as _};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use stelae_model::{ExitCode, Failure};

use super::io_failure;
use crate::files::{bounded, limits, open_lock, open_untrusted};

/// How long another change is waited for: an install takes milliseconds, so whoever holds the lock longer is stuck.
pub(super) const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Held while anything in a folder is changed, or while it has to stay as it is. The kernel lets go of it when the
/// process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Takes the lock file `.lock` of a folder, for one who changes something there.
    ///
    /// # Errors
    /// `bundles-locked` (exit 22) with the holder's process id, when the wait is over.
    pub(super) fn take(dir: &Utf8Path, wait: Duration) -> Result<Self, Failure> {
        let path = dir.join(".lock");
        let mut file = open_lock(&path).map_err(|error| broken(&path, &error))?;
        wait_for(&path, &mut file, wait, File::try_lock)?;
        // Only for the message of whoever waits in vain.
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(|error| broken(&path, &error))?;
        Ok(Self(file))
    }

    /// The same, shared by those who only read; nothing to hold where nobody has ever changed anything.
    ///
    /// # Errors
    /// Those of [`Lock::take`]; `lock-unusable`, when there is one that cannot be opened.
    pub(super) fn share(dir: &Utf8Path, wait: Duration) -> Result<Option<Self>, Failure> {
        let path = dir.join(".lock");
        let mut file = match open_untrusted(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(broken(&path, &error)),
        };
        wait_for(&path, &mut file, wait, File::try_lock_shared)?;
        Ok(Some(Self(file)))
    }
}

fn wait_for(
    path: &Utf8Path,
    file: &mut File,
    wait: Duration,
    attempt: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + wait;
    loop {
        match attempt(file) {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(locked(path, file, wait)),
            Err(TryLockError::Error(error)) => return Err(broken(path, &error)),
        }
    }
}

fn broken(path: &Utf8Path, error: &std::io::Error) -> Failure {
    io_failure("lock-unusable", "the bundles' lock cannot be used", path, error)
}

fn locked(path: &Utf8Path, file: &mut File, wait: Duration) -> Failure {
    // Only its bearer writes it, and a number: what is longer, or something else, is not shown.
    let read = file.rewind().and_then(|()| bounded(file, limits::MARKER));
    let pid = read.ok().and_then(|bytes| String::from_utf8(bytes).ok()?.parse::<u32>().ok());
    let holder = pid.map_or_else(|| "a process".to_owned(), |pid| format!("pid {pid}"));
    Failure::new(ExitCode::Bundle, "bundles-locked", "another process is changing the installed bundles")
        .on(path.as_str())
        .because(format!("{holder} held the lock for {} ms", wait.as_millis()))
        .hint("try again when it is done")
}
