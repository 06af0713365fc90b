//! Linux: `/proc` for who there is, pidfds for whom we mean.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper,
    set_parent_process_death_signal,
};
use stelae_model::lifecycle::ProcessRow;

use crate::files::{kernel_bytes, kernel_text};

/// Makes orphans below us fall to us instead of to init.
pub(in crate::process) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Asks for this signal when the thread that started us dies.
pub(in crate::process) fn signal_without_parent(signal: Signal) -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(signal))?)
}

/// The process at the other end of a socket, as it was when it connected.
pub(in crate::process) fn peer(stream: &std::os::unix::net::UnixStream) -> Option<i32> {
    let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
    Some(peer.pid.as_raw_nonzero().get())
}

/// Every process there is. Not read in one instant: who forks meanwhile is seen at the next look.
///
/// All of it, or an error: a table with holes, for want of descriptors, would read as a proof of death.
pub(in crate::process) fn process_table() -> io::Result<Vec<ProcessRow>> {
    let mut rows = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            rows.extend(read_row(pid)?);
        }
    }
    Ok(rows)
}

/// How many processes this machine has started since it booted. While it stays the same, a look at the table misses nobody.
pub(in crate::process) fn forks() -> Option<u64> {
    let stat = kernel_text("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("processes "))?.trim().parse().ok()
}

/// One process, or `None` if it is gone, or cannot be read.
pub(in crate::process) fn process_row(pid: i32) -> Option<ProcessRow> {
    read_row(pid).ok().flatten()
}

/// One process; `None` if it is gone, or hidden from us (`hidepid`), which only a stranger's is.
fn read_row(pid: i32) -> io::Result<Option<ProcessRow>> {
    match kernel_bytes(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse_stat(pid, &String::from_utf8_lossy(&stat))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `pid (name) state ppid pgrp session …`, with the start time in field 22. The name may contain anything, `)` too.
fn parse_stat(pid: i32, stat: &str) -> Option<ProcessRow> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
    Some(ProcessRow {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        started: fields.get(19)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
    })
}

/// One process, addressed so that a reused pid cannot be meant by mistake.
#[derive(Debug)]
pub(in crate::process) struct Handle {
    pidfd: OwnedFd,
}

impl Handle {
    /// Addresses the process of this row; `None` if it is gone.
    pub(in crate::process) fn open(row: &ProcessRow) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(row.pid)?, PidfdFlags::empty()).ok()?;
        // The pid may have been reused between the look at the table and the line above; not any more after it.
        (process_row(row.pid)?.started == row.started).then_some(Self { pidfd })
    }

    /// Whether the process has ended, all of its threads with it.
    pub(in crate::process) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Sends a signal. A process that has just gone is no error.
    pub(in crate::process) fn send(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits until one of the processes ends, one of the wakers has something to read, or the time is over.
pub(in crate::process) fn wait_any<'a>(
    handles: impl Iterator<Item = &'a Handle>,
    wakers: &[OwnedFd],
    at_most: Duration,
) {
    let readable = |fd: BorrowedFd<'a>| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut fds: Vec<PollFd<'_>> = handles.map(|handle| readable(handle.pidfd.as_fd())).collect();
    fds.extend(wakers.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
    let timeout = Timespec::try_from(at_most).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    if poll(&mut fds, Some(&timeout)).is_err_and(|error| error != rustix::io::Errno::INTR) {
        // More descriptors than poll takes: look again after a moment instead.
        std::thread::sleep(at_most.min(Duration::from_millis(5)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_past() {
        let stat = "7 (a) b (c)) S 3 4 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2";
        let row = parse_stat(7, stat).unwrap();
        assert_eq!((row.parent, row.group, row.session, row.started, row.zombie), (3, 4, 5, 777, false));
    }

    #[test]
    fn we_are_in_the_table_with_our_parent() {
        let us = getpid().as_raw_nonzero().get();
        let row = process_table().unwrap().into_iter().find(|row| row.pid == us).unwrap();
        assert_eq!(row.parent, rustix::process::getppid().unwrap().as_raw_nonzero().get());
        assert!(Handle::open(&row).is_some());
        assert!(Handle::open(&ProcessRow { started: row.started + 1, ..row }).is_none());
    }
}
