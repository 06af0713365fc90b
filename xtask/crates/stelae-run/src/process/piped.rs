//! Processes that somebody speaks with over pipes, in a way of their own: the servers behind the gateway.

use std::io;
use std::process::{Child, Command};

use rustix::process::Signal;
use stelae_model::lifecycle::{Ended, StopLimits, TeardownProof};

use super::{family, reaper};
use crate::signals::Interrupt;

/// A running process with everything below it; its pipes are its owner's.
///
/// Dropping it kills its group at once, and leaves the rest to [`Family`](super::Family): this is the net for a panic.
#[derive(Debug)]
pub struct Piped {
    process: String,
    root: i32,
}

impl Piped {
    /// Starts it, and gives the child for its pipes. Nobody may wait for that: see `reaper`. It has to lead a group of its own, and
    /// to have the label `process` as its `STELAE_PROCESS`; no two that run at once may have the same one.
    ///
    /// # Errors
    /// What the system says; everything is being stopped.
    pub fn start(process: &str, command: &mut Command) -> io::Result<(Self, Child)> {
        let (root, child) = reaper::spawn(|| command.spawn().map(|child| (child.id(), child)))?;
        Ok((Self { process: process.to_owned(), root }, child))
    }

    /// The pid of its first process, which leads the group. It is nobody else's until [`Piped::stop`].
    pub fn pid(&self) -> i32 {
        self.root
    }

    /// Stops its whole tree, and nothing else: what is below it, what was and has fallen to us, and what carries its label.
    /// Takes as long as `limits` say. Says how its first process ended, if that is known.
    pub fn stop(self, limits: StopLimits) -> (TeardownProof, Option<Ended>) {
        let proof = family::stop_tree(self.root, &self.process, limits, &Interrupt::never());
        (proof, reaper::forget(self.root))
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // One that was stopped is not known any more, and gets nothing.
        reaper::signal_groups(Some(self.root), Signal::KILL);
    }
}
