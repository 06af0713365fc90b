//! One map of the processes that we started, and the only place that waits for a child.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process_group, wait, waitid, waitpid,
};
use stelae_model::lifecycle::Ended;

#[derive(Debug, Default)]
struct Registry {
    children: BTreeMap<i32, Child>,
    closing: bool,
}

#[derive(Debug, Clone, Copy)]
struct Child {
    /// Set by whoever reaped it.
    ended: Option<Ended>,
    /// Left running on purpose.
    released: bool,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { children: BTreeMap::new(), closing: false });

fn registry() -> MutexGuard<'static, Registry> {
    // The map is consistent between any two statements, so a panic elsewhere does not spoil it.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process and registers it, with no moment between the two in which its status could be taken by a sweep.
/// Refuses when everything is being stopped: what starts now would be seen by nobody.
pub(super) fn spawn<T>(start: impl FnOnce() -> io::Result<(u32, T)>) -> io::Result<(i32, T)> {
    let mut registry = registry();
    if registry.closing {
        return Err(io::Error::other("everything is being stopped"));
    }
    let (pid, started) = start()?;
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    registry.children.insert(pid, Child { ended: None, released: false });
    Ok((pid, started))
}

/// From now on nothing is started any more (`true`), or things are started again (`false`).
pub(super) fn set_closing(closing: bool) {
    registry().closing = closing;
}

/// Whether everything is being stopped.
pub(super) fn is_closing() -> bool {
    registry().closing
}

/// Whether the process has ended, without taking its status: as long as it is a zombie, its pid, and the group that it
/// led, cannot become somebody else's.
pub(super) fn has_ended(pid: i32) -> bool {
    let registry = registry();
    if registry.children.get(&pid).is_none_or(|child| child.ended.is_some()) {
        return true;
    }
    let Some(pid) = Pid::from_raw(pid) else { return true };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None) | Err(rustix::io::Errno::INTR))
}

/// How a registered process ended; `None` while it runs.
pub(super) fn status(pid: i32) -> Option<Ended> {
    registry().status(pid)
}

impl Registry {
    fn status(&mut self, pid: i32) -> Option<Ended> {
        let child = self.children.get_mut(&pid)?;
        if child.ended.is_none() {
            child.ended = reap(pid);
        }
        child.ended
    }
}

fn reap(pid: i32) -> Option<Ended> {
    match waitpid(Pid::from_raw(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => Some(ended(status)),
        Ok(None) | Err(rustix::io::Errno::INTR) => None,
        // Somebody outside this map waited for it. That it is gone is still certain.
        Err(_) => Some(Ended::Unseen),
    }
}

/// Takes a process that has ended out of the map, and says how it ended.
pub(super) fn forget(pid: i32) -> Option<Ended> {
    let mut registry = registry();
    let ended = registry.status(pid)?;
    registry.children.remove(&pid);
    Some(ended)
}

/// Leaves a process running on purpose.
pub(super) fn release(pid: i32) {
    if let Some(child) = registry().children.get_mut(&pid) {
        child.released = true;
    }
}

/// The same for a process that somebody below us started, and that falls to us.
pub(super) fn spare(pid: i32) {
    registry().children.insert(pid, Child { ended: None, released: true });
}

/// The registered processes that were released, and have not been waited for.
pub(super) fn released() -> Vec<i32> {
    let registry = registry();
    let released = registry.children.iter().filter(|(_, child)| child.ended.is_none() && child.released);
    released.map(|(&pid, _)| pid).collect()
}

/// Every registered process that has not been waited for.
pub(super) fn roots() -> Vec<i32> {
    let registry = registry();
    registry.children.iter().filter(|(_, child)| child.ended.is_none()).map(|(&pid, _)| pid).collect()
}

/// Signals the groups of registered processes that were neither waited for nor released: of one of them, or of all.
/// Until somebody waits for its leader, a group's number cannot become somebody else's; and nobody can in here.
pub(super) fn signal_groups(only: Option<i32>, signal: Signal) {
    let registry = registry();
    let ours = registry.children.iter().filter(|(_, child)| child.ended.is_none() && !child.released);
    let ours = ours.map(|(&pid, _)| pid).filter(|&pid| only.is_none_or(|only| only == pid));
    for group in ours.filter_map(Pid::from_raw) {
        // Gone already, or not permitted: either shows at the next look.
        kill_process_group(group, signal).ok();
    }
}

/// What one sweep found.
pub(super) struct Sweep {
    /// Children that were waited for now, registered ones and adopted ones.
    pub(super) reaped: Vec<(i32, Ended)>,
    /// The kernel says that there is no child any more, running or not.
    pub(super) no_child_left: bool,
}

/// Waits for every child that has ended, adopted orphans included, and keeps the statuses of registered ones.
pub(super) fn sweep() -> Sweep {
    let mut registry = registry();
    let mut reaped = Vec::new();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let (pid, ended) = (pid.as_raw_nonzero().get(), ended(status));
                if let Some(child) = registry.children.get_mut(&pid) {
                    child.ended = Some(ended);
                }
                reaped.push((pid, ended));
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Sweep { reaped, no_child_left: false },
            Err(error) => return Sweep { reaped, no_child_left: error == rustix::io::Errno::CHILD },
        }
    }
}

/// Waits for adopted orphans that have ended; somebody has to, or they stay zombies as long as we live.
pub(super) fn reap_adopted(pid: i32) -> Option<Ended> {
    let mut registry = registry();
    if registry.children.contains_key(&pid) { registry.status(pid) } else { reap(pid) }
}

/// Waits for an orphan that has ended; not for what we started.
pub(super) fn reap_orphan(pid: i32) {
    let registry = registry();
    if !registry.children.contains_key(&pid) {
        reap(pid);
    }
}

/// Whether there is a child that has ended and was not waited for, ours or adopted.
pub(super) fn anybody_has_ended() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, options), Ok(Some(_)))
}

fn ended(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Ended::Status(status),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::Unseen,
    }
}
