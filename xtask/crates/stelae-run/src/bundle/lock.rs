//! One change at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use stelae_model::{ExitCode, Failure};

use super::io_failure;

/// How long another change is waited for: an install takes milliseconds, so whoever holds the lock longer is stuck.
pub(super) const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Held while anything is changed in a folder. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Takes the lock file `.lock` of a folder.
    ///
    /// # Errors
    /// `bundles-locked` (exit 22) with the holder's process id, when the wait is over.
    pub(super) fn take(dir: &Utf8Path, wait: Duration) -> Result<Self, Failure> {
        let path = dir.join(".lock");
        let broken = |error: std::io::Error| {
            io_failure("lock-unusable", "the bundles' lock cannot be used", &path, &error)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(broken)?;
        let deadline = Instant::now() + wait;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(locked(&path, &mut file, wait)),
                Err(TryLockError::Error(error)) => return Err(broken(error)),
            }
        }
        // Only for the message of whoever waits in vain.
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(broken)?;
        Ok(Self(file))
    }
}

fn locked(path: &Utf8Path, file: &mut File, wait: Duration) -> Failure {
    let mut holder = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut holder));
    let holder =
        if read.is_ok() && !holder.is_empty() { format!("pid {holder}") } else { "a process".to_owned() };
    Failure::new(ExitCode::Bundle, "bundles-locked", "another process is changing the installed bundles")
        .on(path.as_str())
        .because(format!("{holder} held the lock for {} ms", wait.as_millis()))
        .hint("try again when it is done")
}
