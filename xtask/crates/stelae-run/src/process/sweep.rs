//! Ends the processes of a run that are not below us: what an earlier session of it left up on purpose, or lost.
//!
//! They are recognised by the run's id in their environment. It is only ever asked for one id, of a run that this
//! process owns; a process that cleared its environment is not found this way.

use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid};

use super::{os, tree};

/// How long they may take to end when asked, and again when killed.
const GRACE: Duration = Duration::from_secs(4);
const KILLED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Who was ended, as `pid 7: command`.
    pub ended: Vec<String>,
    /// Who is still there.
    pub survivors: Vec<String>,
}

/// Ends every process that carries `STELAE_RUN_ID=<run>` and is neither this one nor below or above it.
pub fn sweep(run: &str) -> Swept {
    let mut swept = Swept::default();
    for (signal, limit) in [(Signal::TERM, GRACE), (Signal::KILL, KILLED_WITHIN)] {
        let until = Instant::now() + limit;
        let mut asked: Vec<i32> = Vec::new();
        loop {
            let rows = members(run);
            if rows.is_empty() {
                return swept;
            }
            for row in rows {
                if asked.contains(&row.pid) {
                    continue;
                }
                let described =
                    format!("pid {}: {}", row.pid, tree::command_line(row.pid).unwrap_or_default());
                // One that ended meanwhile is what is wanted; one that may not be signalled is found again below.
                if let Some(handle) = os::Handle::open(&row) {
                    handle.send(signal).ok();
                }
                asked.push(row.pid);
                if !swept.ended.contains(&described) {
                    swept.ended.push(described);
                }
            }
            if Instant::now() >= until {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    swept.survivors = members(run)
        .into_iter()
        .map(|row| format!("pid {}: {}", row.pid, tree::command_line(row.pid).unwrap_or_default()))
        .collect();
    swept
}

/// Who carries the run's id, and is not ours to wait for.
fn members(run: &str) -> Vec<stelae_model::lifecycle::ProcessRow> {
    let us = getpid().as_raw_nonzero().get();
    let below = tree::descendants(us);
    // A shell that sourced a run's variables, and whoever started it from there, carry the id as well.
    let above = tree::ancestry(us);
    let mine = |pid: i32| pid == us || above.contains(&pid) || below.iter().any(|row| row.pid == pid);
    let carries = |pid: i32| {
        tree::environ(pid)
            .is_ok_and(|pairs| pairs.iter().any(|(name, text)| name == "STELAE_RUN_ID" && text == run))
    };
    let pids = tree::all_pids().into_iter().filter(|&pid| !mine(pid) && carries(pid));
    pids.filter_map(os::process_row).filter(|row| !row.zombie).collect()
}
