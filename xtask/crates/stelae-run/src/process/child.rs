//! One child that is waited for and signalled, whatever it is.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stelae_model::lifecycle::Ended;

use super::{os, reaper};

/// A running child; or one that has ended, and how.
#[derive(Debug)]
pub(super) struct Child {
    pid: i32,
    handle: Option<os::Handle>,
    ended: Option<Ended>,
}

impl Child {
    /// Starts it.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let (pid, ()) = reaper::spawn(|| command.spawn().map(|child| (child.id(), ())))?;
        let handle = os::process_row(pid).and_then(|row| os::Handle::open(&row));
        Ok(Self { pid, handle, ended: None })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended; `None` while it runs.
    pub(super) fn try_exit(&mut self) -> Option<Ended> {
        self.ended = self.ended.or_else(|| reaper::status(self.pid));
        self.ended
    }

    /// Waits until it ends, one of the wakers has something to read, or the time is over.
    pub(super) fn wait(&self, wakers: &[OwnedFd], at_most: Duration) {
        os::wait_any(self.handle.iter(), wakers, at_most);
    }

    /// Sends it a signal. One that has ended gets none.
    pub(super) fn send(&self, signal: Signal) {
        // Nobody but `try_exit` waits for it, so that its number is nobody else's until then.
        if let (None, Some(pid)) = (self.ended, Pid::from_raw(self.pid)) {
            kill_process(pid, signal).ok();
        }
    }
}
