//! Platforms without `/proc` and pidfds: each process that we started stands for its process group.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process_group, test_kill_process_group};
use stelae_model::lifecycle::ProcessRow;

use crate::process::reaper;

pub(in crate::process) fn adopt_orphans() -> io::Result<()> {
    Ok(())
}

pub(in crate::process) fn signal_without_parent(_signal: Signal) -> io::Result<()> {
    Ok(())
}

pub(in crate::process) fn peer(_stream: &std::os::unix::net::UnixStream) -> Option<i32> {
    None
}

pub(in crate::process) fn process_table() -> io::Result<Vec<ProcessRow>> {
    Ok(reaper::roots().into_iter().filter_map(process_row).collect())
}

pub(in crate::process) fn forks() -> Option<u64> {
    None
}

pub(in crate::process) fn process_row(pid: i32) -> Option<ProcessRow> {
    let us = getpid().as_raw_nonzero().get();
    (!reaper::has_ended(pid)).then_some(ProcessRow {
        pid,
        parent: us,
        group: pid,
        session: 0,
        started: 0,
        zombie: false,
    })
}

#[derive(Debug)]
pub(in crate::process) struct Handle {
    group: Pid,
}

impl Handle {
    pub(in crate::process) fn open(row: &ProcessRow) -> Option<Self> {
        Some(Self { group: Pid::from_raw(row.pid)? })
    }

    pub(in crate::process) fn has_ended(&self) -> bool {
        test_kill_process_group(self.group).is_err()
    }

    pub(in crate::process) fn send(&self, signal: Signal) -> io::Result<()> {
        match kill_process_group(self.group, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

pub(in crate::process) fn wait_any<'a>(
    _handles: impl Iterator<Item = &'a Handle>,
    _wakers: &[OwnedFd],
    at_most: Duration,
) {
    std::thread::sleep(at_most.min(Duration::from_millis(5)));
}
