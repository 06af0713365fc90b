//! Every process below us, and how all of them are stopped.
//!
//! A process can leave its group, its session and its parent, but not its ancestors: once we are a *child subreaper*,
//! whoever loses its parent falls to us instead of to init. So our descendants are everything that we ever started,
//! and `waitpid` answering ECHILD is the kernel's own word that nothing of it is left. Both halves of the mutual
//! guardian run this same code, each for its own descendants.

use rustix::process::getpid;
use signal_hook::consts::SIGCHLD;
use stelae_model::lifecycle::{StopLimits, TeardownProof};
use stelae_model::{ExitCode, Failure};

use super::teardown::{Present, Scope, Teardown};
use super::{os, reaper};
use crate::signals::{self, Interrupt};

/// The processes below us. There is one family per process; while it is there, no orphan gets away from us.
///
/// Dropping it stops everything at once: this is the net for a panic, not the way to do it.
#[derive(Debug)]
pub struct Family {
    stopped: bool,
}

impl Family {
    /// From now on orphans fall to us. Where the platform has no subreapers, what leaves its group gets away.
    ///
    /// # Errors
    /// The kernel refuses (older than 3.4).
    pub fn enter() -> Result<Self, Failure> {
        let refused = |error: std::io::Error| {
            Failure::new(ExitCode::PrerequisiteMissing, "no-subreaper", "orphans cannot be adopted")
                .because(error.to_string())
        };
        os::adopt_orphans().map_err(refused)?;
        // Whoever started us may have left SIGCHLD ignored, and the kernel then throws every exit status away.
        if signals::is_ignored(SIGCHLD) {
            signal_hook::flag::register(SIGCHLD, std::sync::Arc::default()).map_err(refused)?;
        }
        reaper::set_closing(false);
        Ok(Self { stopped: false })
    }

    /// A family that has nobody and stops nobody: what is left in the place of one that was taken to be stopped.
    pub fn none() -> Self {
        Self { stopped: true }
    }

    /// Stops everything below us that was not released, and shows that it is gone. Nothing can be started any more,
    /// from before the first signal on.
    ///
    /// `before` is called while everything is still as it was, with everyone who is there: it is for taking evidence, and has to have an end. The number of signals that `interrupt` has got shortens the grace.
    pub fn stop(
        mut self,
        limits: StopLimits,
        interrupt: &Interrupt,
        before: &mut dyn FnMut(&Present<'_>),
    ) -> TeardownProof {
        reaper::set_closing(true);
        let proof = Teardown::with_snapshot(Scope::Everyone, limits, interrupt, before).carry_out();
        // Not sooner: a panic on the way is for the drop.
        self.stopped = true;
        proof
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if !self.stopped {
            end_everything();
        }
    }
}

/// Stops everything below us at once: for whoever cannot wait for a [`Family`]'s owner any more.
pub(crate) fn end_everything() {
    reaper::set_closing(true);
    Teardown::new(Scope::Everyone, StopLimits::at_once(), &Interrupt::never()).carry_out();
}

/// Waits for the orphans that have fallen to us and have ended. They are zombies until then: whoever lives for long would
/// fill the table of processes with them. What we started ourselves is waited for by whoever started it.
pub fn reap_orphans() {
    if !reaper::anybody_has_ended() {
        return;
    }
    // Where the table cannot be read they stay for the next time.
    let rows = os::process_table().unwrap_or_default();
    for row in rows.iter().filter(|row| row.zombie && row.parent == us()) {
        reaper::reap_orphan(row.pid);
    }
}

/// Leaves a process below us, that somebody else started, running on purpose.
pub(crate) fn spare(pid: i32) {
    reaper::spare(pid);
}

/// Stops the tree of one process that we started; everything else lives on.
pub(super) fn stop_tree(
    root: i32,
    process: &str,
    limits: StopLimits,
    interrupt: &Interrupt,
) -> TeardownProof {
    Teardown::new(Scope::tree(root, process), limits, interrupt).carry_out()
}

/// The number of the user whose rights this process has.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(super) fn us() -> i32 {
    getpid().as_raw_nonzero().get()
}
