//! What can be read about processes: who is below whom, with which command line, environment and sockets.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};
use stelae_model::env::attest::entries;
use stelae_model::lifecycle::{self, ProcessRow};
use stelae_model::starts::FileIdentity;

use super::os;

use crate::files::{kernel_bytes, kernel_text};

/// Why something about a process is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// There is no such process (any more), or it is a zombie, which has nothing left to read.
    Gone,
    /// It belongs to another user, or protects itself.
    NotPermitted,
    /// It lives, and there is no memory where this was.
    NotMapped,
    /// The platform does not tell.
    Unsupported,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the process is gone",
            Self::NotPermitted => "not permitted to read it",
            Self::NotMapped => "the memory in which it was passed is not there any more",
            Self::Unsupported => "this platform does not tell",
        })
    }
}

impl std::error::Error for Unreadable {}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Self::NotMapped,
            _ if cfg!(target_os = "linux") => Self::Gone,
            _ => Self::Unsupported,
        }
    }
}

/// Every process there is.
///
/// # Errors
/// The table cannot be read (no descriptors left), which is no proof that anybody is gone.
pub fn table() -> io::Result<Vec<ProcessRow>> {
    os::process_table()
}

/// All processes below `root` that have not ended, without `root`; none where the table cannot be read.
pub fn descendants(root: i32) -> Vec<ProcessRow> {
    let rows = table().unwrap_or_default();
    lifecycle::descendants(&rows, root).into_iter().filter(|row| is_alive(row)).cloned().collect()
}

/// The row of one live process.
pub(crate) fn row(pid: i32) -> Option<ProcessRow> {
    os::process_row(pid).filter(is_alive)
}

/// Whether a process of the table runs. One whose main thread has ended looks like a zombie, and runs for as long as one of
/// its other threads does.
pub(crate) fn is_alive(row: &ProcessRow) -> bool {
    !row.zombie || !live_threads(row.pid).is_empty()
}

/// The threads of a process that have not ended, by number; none of one that is gone.
fn live_threads(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let threads = threads.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let runs = |thread: &i32| {
        let stat = kernel_text(format!("/proc/{pid}/task/{thread}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    };
    threads.filter(runs).collect()
}

/// The folders of `/proc` that show the memory, the files and the program of a process: its own, and, as that is empty for
/// one whose main thread has ended, that of another thread.
fn views(pid: i32) -> impl Iterator<Item = String> {
    let is_zombie = move || os::process_row(pid).is_some_and(|row| row.zombie);
    let others = std::iter::once_with(move || if is_zombie() { live_threads(pid) } else { Vec::new() });
    let others = others.flatten().map(move |thread| format!("/proc/{pid}/task/{thread}"));
    std::iter::once(format!("/proc/{pid}")).chain(others)
}

/// What one file of the process's folder says. Empty only for a process that lives.
fn read_view(pid: i32, name: &str) -> Result<Vec<u8>, Unreadable> {
    let mut why = None;
    for folder in views(pid) {
        match kernel_bytes(format!("{folder}/{name}")) {
            Ok(bytes) if !bytes.is_empty() => return Ok(bytes),
            Ok(_) => {}
            Err(error) => why = why.or(Some(Unreadable::from(error))),
        }
    }
    match why {
        Some(why) => Err(why),
        None if os::process_row(pid).is_some_and(|row| is_alive(&row)) => Ok(Vec::new()),
        None => Err(Unreadable::Gone),
    }
}

/// The pids of every process there is; none where the table cannot be read.
pub fn all_pids() -> Vec<i32> {
    table().unwrap_or_default().into_iter().map(|row| row.pid).collect()
}

/// The pids from `pid` up to init, `pid` first.
pub fn ancestry(pid: i32) -> Vec<i32> {
    let mut chain = vec![pid];
    while let Some(row) = chain.last().and_then(|&pid| os::process_row(pid)) {
        if row.parent <= 0 || chain.contains(&row.parent) {
            break;
        }
        chain.push(row.parent);
    }
    chain
}

/// Whether the process was started with this argument.
pub(crate) fn has_argument(pid: i32, argument: &str) -> bool {
    words(pid).iter().any(|word| word == argument)
}

/// What the process was started as: its program and its arguments, whole; nothing for one that is gone, or has none.
pub(crate) fn words(pid: i32) -> Vec<String> {
    let line = read_view(pid, "cmdline").unwrap_or_default();
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let words = line.split(|&byte| byte == 0).filter(|_| !line.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The command line for a person, or the name in square brackets for a process that has none; shortened to 200 characters.
/// Whoever compares takes the words of it.
pub fn command_line(pid: i32) -> Option<String> {
    let line = read_view(pid, "cmdline").or_else(|_| kernel_bytes(format!("/proc/{pid}/cmdline"))).ok()?;
    let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let text = words.join(" ").trim_end().to_owned();
    let text = if text.is_empty() {
        format!("[{}]", kernel_text(format!("/proc/{pid}/comm")).ok()?.trim_end())
    } else {
        text
    };
    Some(shortened(&text))
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// Whether the process was stopped by a signal; one that a debugger holds was not.
pub(crate) fn is_stopped(pid: i32) -> bool {
    let stat = kernel_text(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// The pid that the process has in the PID namespace next below the one of `/proc`; none if it is in no other.
pub(crate) fn pid_one_below(pid: i32) -> Option<i32> {
    let status = kernel_bytes(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// When the process was started, in seconds since the epoch.
pub fn start_time(pid: i32) -> Option<u64> {
    /// `USER_HZ`: what the kernel counts in towards programs. 100 on every architecture that Rust has a std for.
    const TICKS_PER_SECOND: u64 = 100;
    let started = os::process_row(pid)?.started;
    let stat = kernel_text("/proc/stat").ok()?;
    let booted: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + started / TICKS_PER_SECOND)
}

/// When a live process was started, in clock ticks since boot: with its pid, this names one process for ever.
///
/// None for one that has ended and that nobody waits for (its parent is gone, and pid 1 does not care).
pub fn started_ticks(pid: i32) -> Option<u64> {
    row(pid).map(|row| row.started)
}

/// The environment that the process was started with, in its order.
///
/// # Errors
/// [`Unreadable`]: gone, of another user, or a platform that does not tell.
pub fn environ(pid: i32) -> Result<Vec<(String, String)>, Unreadable> {
    Ok(entries(&environ_bytes(pid)?).collect())
}

/// The memory in which the process was passed its environment, as it is now.
///
/// # Errors
/// As for [`environ`].
pub fn environ_bytes(pid: i32) -> Result<Vec<u8>, Unreadable> {
    read_view(pid, "environ")
}

/// Identifies what the process executes: it stays the same until the process executes something anew, the same program
/// included. It is a digest of the addresses that the kernel passes to a program, which are random.
pub(crate) fn image(pid: i32) -> Option<String> {
    let vector = read_view(pid, "auxv").ok().filter(|vector| !vector.is_empty())?;
    Some(Sha256::digest(&vector).iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// The file that the process executes: its path, as far as it has one, and its identity.
pub(crate) fn executed(pid: i32) -> Option<(Utf8PathBuf, FileIdentity)> {
    views(pid).find_map(|folder| {
        let link = Utf8PathBuf::from(format!("{folder}/exe"));
        let path = Utf8PathBuf::from_path_buf(fs::read_link(&link).ok()?).ok()?;
        Some((path, identity(&link).ok()?))
    })
}

/// The identity of a file, symbolic links followed.
///
/// # Errors
/// What the system says.
pub(crate) fn identity(path: &Utf8Path) -> io::Result<FileIdentity> {
    Ok(identity_of(&fs::metadata(path)?))
}

/// The identity of the file that this is the metadata of.
pub(crate) fn identity_of(metadata: &fs::Metadata) -> FileIdentity {
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// The pid of a process in its own PID namespace.
pub(crate) fn own_pid(pid: i32) -> i32 {
    let status = kernel_text(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(pid)
}

/// The user that a process runs as.
pub(crate) fn user(pid: i32) -> Option<u32> {
    let status = kernel_text(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The inodes of the sockets that the process holds.
///
/// # Errors
/// [`Unreadable`], as for [`environ`].
pub fn sockets(pid: i32) -> Result<Vec<u64>, Unreadable> {
    let mut why = Unreadable::Gone;
    for folder in views(pid) {
        match fs::read_dir(format!("{folder}/fd")) {
            Ok(entries) => {
                let sockets: Vec<u64> = entries.flatten().filter_map(|entry| socket(&entry)).collect();
                // A main thread that has ended has no files any more, or none that it shows.
                if !sockets.is_empty() || os::process_row(pid).is_some_and(|row| !row.zombie) {
                    return Ok(sockets);
                }
            }
            Err(error) => why = error.into(),
        }
    }
    match why {
        Unreadable::Gone if os::process_row(pid).is_some_and(|row| is_alive(&row)) => Ok(Vec::new()),
        why => Err(why),
    }
}

fn socket(entry: &fs::DirEntry) -> Option<u64> {
    let target = fs::read_link(entry.path()).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "a test starts the process that it looks at")]
mod tests {
    use super::*;

    #[test]
    fn we_can_be_read() {
        let us = i32::try_from(std::process::id()).unwrap();
        assert!(command_line(us).unwrap().contains("stelae_run"));
        assert!(start_time(us).unwrap() > 1_500_000_000);
        assert!(environ(us).unwrap().iter().any(|(name, _)| name == "PATH"));
        assert_eq!(ancestry(us)[0], us);
    }

    #[test]
    fn the_words_of_a_command_line_are_whole() {
        let us = i32::try_from(std::process::id()).unwrap();
        assert_eq!(words(us), std::env::args().collect::<Vec<_>>());
        assert_eq!(words(i32::MAX), Vec::<String>::new());
    }

    #[test]
    fn nobody_is_gone_not_an_empty_environment() {
        assert_eq!(environ(i32::MAX), Err(Unreadable::Gone));
        assert_eq!(command_line(i32::MAX), None);
    }

    /// A process whose main thread ends, and whose other thread waits until its standard input does.
    const LOSES_ITS_MAIN_THREAD: &str = "import ctypes, os, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0))).start()
ctypes.CDLL(None).pthread_exit(None)";

    #[test]
    fn a_process_whose_main_thread_has_ended_is_read_through_its_others() {
        let mut child = std::process::Command::new("python3")
            .args(["-c", LOSES_ITS_MAIN_THREAD])
            .env_clear()
            .env("STELAE_TEST", "of its own")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !os::process_row(pid).unwrap().zombie {
            assert!(std::time::Instant::now() < until, "its main thread does not end");
            std::thread::yield_now();
        }
        assert!(is_alive(&os::process_row(pid).unwrap()));
        let us = std::process::id().cast_signed();
        assert!(descendants(us).iter().any(|row| row.pid == pid));
        assert_eq!(environ(pid).unwrap()[0], ("STELAE_TEST".to_owned(), "of its own".to_owned()));
        assert!(words(pid).contains(&"-c".to_owned()));
        assert!(image(pid).is_some() && executed(pid).is_some() && sockets(pid).is_ok());
        drop(child.stdin.take());
        while os::process_row(pid).is_some_and(|row| is_alive(&row)) {
            assert!(std::time::Instant::now() < until, "it does not end");
            std::thread::yield_now();
        }
        assert_eq!(environ(pid), Err(Unreadable::Gone));
        child.wait().unwrap();
    }

    #[test]
    fn an_image_is_one_for_as_long_as_nothing_is_executed_anew() {
        let us = std::process::id().cast_signed();
        assert!(image(us).is_some() && image(us) == image(us));
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert_ne!(image(us), image(parent));
        assert_eq!(image(i32::MAX), None);
        let (path, identity_now) = executed(us).unwrap();
        assert_eq!(identity(&path).unwrap(), identity_now);
        assert_eq!(own_pid(us), us);
        assert_eq!(user(us), Some(rustix::process::geteuid().as_raw()));
    }
}
