//! What can be read about processes: who is below whom, with which command line, environment and sockets.

use std::fs;
use std::io;

use stelae_model::lifecycle::{self, ProcessRow};

use super::os;

/// Why something about a process is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// There is no such process (any more), or it is a zombie, which has nothing left to read.
    Gone,
    /// It belongs to somebody else, or protects itself.
    NotPermitted,
    /// The platform does not tell.
    Unsupported,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the process is gone",
            Self::NotPermitted => "not permitted to read it",
            Self::Unsupported => "this platform does not tell",
        })
    }
}

impl std::error::Error for Unreadable {}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
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

/// All processes below `root` that have not ended, without `root`; nobody where the table cannot be read.
pub fn descendants(root: i32) -> Vec<ProcessRow> {
    let rows = table().unwrap_or_default();
    lifecycle::descendants(&rows, root).into_iter().filter(|row| !row.zombie).cloned().collect()
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
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let words = line.split(|&byte| byte == 0).filter(|_| !line.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The command line for a person, or the name in square brackets for a process that has none; shortened to 200 characters.
/// Whoever compares takes the words of it.
pub fn command_line(pid: i32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let text = words.join(" ").trim_end().to_owned();
    let text = if text.is_empty() {
        format!("[{}]", fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end())
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
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// When the process was started, in seconds since the epoch.
pub fn start_time(pid: i32) -> Option<u64> {
    /// `USER_HZ`: what the kernel counts in towards programs. 100 on every architecture that Rust has a std for.
    const TICKS_PER_SECOND: u64 = 100;
    let started = os::process_row(pid)?.started;
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let booted: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + started / TICKS_PER_SECOND)
}

/// When a live process was started, in clock ticks since boot: with its pid, this names one process for ever.
///
/// None for one that has ended and that nobody waits for (its parent is gone, and pid 1 does not care).
pub fn started_ticks(pid: i32) -> Option<u64> {
    os::process_row(pid).filter(|row| !row.zombie).map(|row| row.started)
}

/// The environment that the process was started with, in its order.
///
/// # Errors
/// [`Unreadable`]: gone, somebody else's, or a platform that does not tell.
pub fn environ(pid: i32) -> Result<Vec<(String, String)>, Unreadable> {
    let bytes = fs::read(format!("/proc/{pid}/environ"))?;
    // A zombie's is empty without an error; so is that of a process that cleared it, which is alive.
    if bytes.is_empty() && os::process_row(pid).is_none_or(|row| row.zombie) {
        return Err(Unreadable::Gone);
    }
    let entries = bytes.split(|&byte| byte == 0).filter(|entry| !entry.is_empty());
    Ok(entries
        .map(|entry| {
            let entry = String::from_utf8_lossy(entry);
            let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect())
}

/// The inodes of the sockets that the process holds.
///
/// # Errors
/// [`Unreadable`], as for [`environ`].
pub fn sockets(pid: i32) -> Result<Vec<u64>, Unreadable> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect())
}

#[cfg(all(test, target_os = "linux"))]
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
}
