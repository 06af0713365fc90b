//! Ends the processes of a run that are not below us: what an earlier session of it left up on purpose, or lost.
//!
//! They are recognised by the run's id in their environment. It is only ever asked for one id, of a run that this
//! process owns; a process that cleared its environment is not found this way.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid};
use stelae_model::lifecycle::{Move, ProcessRow, Seen, Stop, StopLimits};

use super::{os, stuck, tree};
use crate::guardian;
use crate::signals::Interrupt;

/// How long a round may last: who was forked in it is seen at the next look only.
const ROUND: Duration = Duration::from_millis(20);

/// A process that starts the next one and ends, again and again, can be missed by a look: whoever is not below us is not
/// ours to wait for, and so there is no ECHILD here. One look is exact if nobody was started anywhere meanwhile; of
/// others it takes so many in a row in which nobody was seen.
const EMPTY_LOOKS: u32 = 8;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Who was ended, as `pid 7: command`.
    pub ended: Vec<String>,
    /// Who is still there.
    pub survivors: Vec<String>,
}

/// Ends every process that carries `STELAE_RUN_ID=<run>` and is neither this one nor below or above it.
///
/// Not for the inside of a PID namespace of ours: what an earlier session left is outside, and cannot be seen from there. No verb
/// that asks for this takes one.
pub fn sweep(run: &str, limits: StopLimits, interrupt: &Interrupt) -> Swept {
    end(&|| members(run), limits, interrupt)
}

/// The same for a run whose harness is dead, as far as its locks tell. Whoever has a living guardian above is spared all
/// the same: a run's id can be handed on to a verb that keeps its locks elsewhere.
pub(crate) fn sweep_lost(run: &str, limits: StopLimits, interrupt: &Interrupt) -> Swept {
    let lost = || {
        let mut members = members(run)?;
        members.retain(|row| !is_guarded(row.pid, run));
        Ok(members)
    };
    end(&lost, limits, interrupt)
}

/// Ends whoever is found, until nobody is.
fn end(find: &dyn Fn() -> io::Result<Vec<ProcessRow>>, limits: StopLimits, interrupt: &Interrupt) -> Swept {
    let (begun, mut stop, mut empty_looks) = (Instant::now(), Stop::new(limits), 0);
    let mut asked: Vec<(i32, Signal)> = Vec::new();
    let mut swept = Swept::default();
    let lost = hopeless(find);
    swept.survivors.extend(lost.iter().map(described_survivor));
    loop {
        let forks = os::forks();
        // A table that cannot be read is no proof that nobody is left.
        let (members, unreadable) = match find() {
            Ok(mut members) => {
                members.retain(|row| !lost.contains(row));
                (members, None)
            }
            Err(error) => (Vec::new(), Some(format!("the process table cannot be read: {error}"))),
        };
        empty_looks = if members.is_empty() && unreadable.is_none() { empty_looks + 1 } else { 0 };
        let exact = forks.is_some() && os::forks() == forks;
        let nothing_left = empty_looks >= if exact { 1 } else { EMPTY_LOOKS };
        let seen = Seen { elapsed: begun.elapsed(), interrupts: interrupt.count(), nothing_left };
        let signal = match stop.next(seen) {
            Move::Snapshot => continue,
            Move::Gone => return swept,
            Move::GiveUp => {
                swept.survivors.extend(members.iter().map(described_survivor).chain(unreadable));
                return swept;
            }
            Move::Ask => Signal::TERM,
            Move::Kill => Signal::KILL,
        };
        let mut handles = Vec::new();
        for row in &members {
            let Some(handle) = os::Handle::open(row) else { continue };
            if !asked.contains(&(row.pid, signal)) {
                asked.push((row.pid, signal));
                let described = described(row);
                // One that may not be signalled is found again, and named as a survivor.
                handle.send(signal).ok();
                if !swept.ended.contains(&described) {
                    swept.ended.push(described);
                }
            }
            handles.push(handle);
        }
        os::wait_any(handles.iter(), &[], ROUND);
    }
}

fn described(row: &ProcessRow) -> String {
    format!("pid {}: {}", row.pid, tree::command_line(row.pid).unwrap_or_default())
}

fn described_survivor(row: &ProcessRow) -> String {
    match stuck::wait_channel(row.pid) {
        Some(channel) => {
            format!("{} (it is in uninterruptible sleep (state D) in {channel})", described(row))
        }
        None => described(row),
    }
}

/// Those that were killed before this, and cannot die yet: waiting for them would hold up every later start for as long as the
/// kernel holds them.
fn hopeless(find: &dyn Fn() -> io::Result<Vec<ProcessRow>>) -> Vec<ProcessRow> {
    // A table that cannot be read is told by the first look at it that counts.
    let mut members = find().unwrap_or_default();
    members.retain(|row| stuck::is_killed_but_stuck(row.pid));
    members
}

/// Who carries the run's id, and is not ours to wait for.
///
/// # Errors
/// The process table cannot be read: then nobody knows.
fn members(run: &str) -> io::Result<Vec<ProcessRow>> {
    let us = getpid().as_raw_nonzero().get();
    let below = tree::descendants(us);
    // A shell that sourced a run's variables, and whoever started it from there, may carry the id as well.
    let above = tree::ancestry(us);
    let mine = |pid: i32| pid == us || above.contains(&pid) || below.iter().any(|row| row.pid == pid);
    let carries = |pid: i32| run_of(pid).is_some_and(|of| of == run);
    // The row comes first: with its start time it names the very process whose environment is read after it.
    let rows = tree::table()?.into_iter().filter(|row| tree::is_alive(row) && !mine(row.pid));
    Ok(rows.filter(|row| carries(row.pid)).collect())
}

/// Whether the process is, or is below, the inner half of a guardian that may be this run's. One that carries another id is
/// not: what lost its own guardian can fall to it.
fn is_guarded(pid: i32, run: &str) -> bool {
    let guards =
        |&above: &i32| tree::has_argument(above, guardian::INNER) && run_of(above).is_none_or(|of| of == run);
    tree::ancestry(pid).iter().any(guards)
}

/// The id of the run that a process is of.
pub(crate) fn run_of(pid: i32) -> Option<String> {
    let mut pairs = tree::environ(pid).ok()?.into_iter();
    pairs.find_map(|(name, text)| (name == "STELAE_RUN_ID").then_some(text))
}
