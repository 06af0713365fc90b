//! One teardown, carried out: look who is there, do what `stelae_model::lifecycle::Stop` says, wait, look again.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use stelae_model::lifecycle::{
    Ended, Kin, Move, ProcessRow, Proof, Seen, Stop, StopLimits, StoppedProcess, Survivor, TeardownProof,
    descendants,
};

use super::family::us;
use super::{launch, os, reaper, stuck, tree};
use crate::guardian::host_pid;
use crate::signals::Interrupt;

/// How long a round may last: who was forked in it is seen at the next look only.
const ASKING_ROUND: Duration = Duration::from_millis(20);
const KILLING_ROUND: Duration = Duration::from_millis(2);
/// When there is nobody whose end could be waited for.
const AT_ONCE: Duration = Duration::from_micros(500);

/// Who is to be stopped.
pub(super) enum Scope {
    /// Everything below us that was not released.
    Everyone,
    /// One process that we started, and its kin.
    Tree { root: i32, process: String, kin: Kin },
}

impl Scope {
    pub(super) fn tree(root: i32, process: &str) -> Self {
        Self::Tree { root, process: process.to_owned(), kin: Kin::new(root) }
    }
}

/// Who is there while everything is still as it was, for whoever takes evidence.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// Everyone who is about to be stopped.
    pub rows: &'a [ProcessRow],
    /// Why nobody knows who is there.
    pub unreadable: Option<&'a str>,
}

/// What one look at the process table found.
struct Look {
    /// Who is still there, zombies that nobody can wait for included.
    members: Vec<ProcessRow>,
    /// Who was waited for.
    reaped: Vec<(i32, Ended)>,
    proof: Proof,
    /// Why nobody knows who is there.
    unreadable: Option<String>,
}

impl Look {
    /// Somebody who is still there only has to be waited for, which the next look does.
    fn is_over_at_once(&self) -> bool {
        let no_one_runs = self.members.iter().all(|row| row.zombie);
        self.unreadable.is_none()
            && (no_one_runs || self.members.iter().any(|row| row.zombie && row.parent == us()))
    }

    fn present(&self) -> Present<'_> {
        Present { rows: &self.members, unreadable: self.unreadable.as_deref() }
    }

    fn blind(reaped: Vec<(i32, Ended)>, error: &io::Error) -> Self {
        let unreadable = Some(format!("the process table cannot be read: {error}"));
        Self { members: Vec::new(), reaped, proof: Proof::None, unreadable }
    }
}

impl Scope {
    fn look(&mut self) -> Look {
        match self {
            Self::Everyone => look_at_everyone(),
            Self::Tree { root, process, kin } => look_at_tree(*root, process, kin),
        }
    }

    /// The one process whose tree it is.
    fn root(&self) -> Option<i32> {
        match self {
            Self::Everyone => None,
            Self::Tree { root, .. } => Some(*root),
        }
    }
}

fn look_at_everyone() -> Look {
    let sweep = reaper::sweep();
    if sweep.no_child_left {
        let (members, proof) = (Vec::new(), Proof::NoChildLeft);
        return Look { members, reaped: sweep.reaped, proof, unreadable: None };
    }
    let rows = match os::process_table() {
        Ok(rows) => rows,
        Err(error) => return Look::blind(sweep.reaped, &error),
    };
    let released = reaper::released();
    let members = everyone_but(&rows, us(), &released);
    let only_released = members.is_empty() && !released.is_empty();
    let proof = if only_released { Proof::OnlyReleased } else { Proof::None };
    Look { members, reaped: sweep.reaped, proof, unreadable: None }
}

/// Everyone below us, without what was released and what belongs to it by parent, group or session.
fn everyone_but(rows: &[ProcessRow], us: i32, released: &[i32]) -> Vec<ProcessRow> {
    let mut spared: Vec<i32> = released.to_vec();
    let mut members = Vec::new();
    for row in descendants(rows, us) {
        if [row.pid, row.parent, row.group, row.session].iter().any(|id| spared.contains(id)) {
            spared.push(row.pid);
        } else {
            members.push(row.clone());
        }
    }
    members
}

fn look_at_tree(root: i32, process: &str, kin: &mut Kin) -> Look {
    let rows = match os::process_table() {
        Ok(rows) => rows,
        Err(error) => return Look::blind(Vec::new(), &error),
    };
    let others: Vec<i32> = reaper::roots().into_iter().filter(|&pid| pid != root).collect();
    let marked =
        |row: &ProcessRow| launch::mark_of(row.pid).is_some_and(|mark| launch::marks(&mark, process));
    let (mut members, mut reaped) = (Vec::new(), Vec::new());
    for row in kin.members(&rows, us(), &others, &marked) {
        let ended = if row.zombie && row.parent == us() { reaper::reap_adopted(row.pid) } else { None };
        match ended {
            Some(ended) => reaped.push((row.pid, ended)),
            None => members.push(row.clone()),
        }
    }
    let proof = if members.is_empty() { Proof::TreeGone } else { Proof::None };
    Look { members, reaped, proof, unreadable: None }
}

/// One process that was met.
struct Met {
    command: String,
    /// It had ended already, and nobody had waited for it.
    zombie: bool,
    /// None when it is gone, or could not be addressed for want of descriptors.
    handle: Option<os::Handle>,
    signal: Option<Signal>,
    refused: Option<String>,
    ended: Option<Ended>,
}

impl Met {
    fn new(row: &ProcessRow) -> Self {
        let command = tree::command_line(row.pid).unwrap_or_default();
        Self { command, zombie: row.zombie, handle: None, signal: None, refused: None, ended: None }
    }

    fn send(&mut self, row: &ProcessRow, signal: Signal) {
        if self.signal == Some(signal) {
            return;
        }
        if self.handle.is_none() {
            self.handle = os::Handle::open(row);
        }
        let Some(handle) = &self.handle else { return };
        match handle.send(signal) {
            // It had ended before this one came.
            Ok(()) if row.zombie && self.signal.is_some() => {}
            Ok(()) => self.signal = Some(signal),
            Err(error) => self.refused = Some(error.to_string()),
        }
        if signal == Signal::TERM {
            // A stopped process gets round to its SIGTERM only when it is continued. Nobody else minds.
            let _continued = handle.send(Signal::CONT);
        }
    }
}

/// The state of one teardown.
pub(super) struct Teardown<'a> {
    scope: Scope,
    stop: Stop,
    before: Option<&'a mut dyn FnMut(&Present<'_>)>,
    interrupt: &'a Interrupt,
    begun: Instant,
    rounds: u32,
    /// By pid and start time, which together are never used twice.
    met: BTreeMap<(i32, u64), Met>,
    order: Vec<(i32, u64)>,
    /// The last signal that was sent without a look at the table.
    unseen_got: Option<Signal>,
}

impl<'a> Teardown<'a> {
    pub(super) fn new(scope: Scope, limits: StopLimits, interrupt: &'a Interrupt) -> Self {
        let stop = Stop::new(limits);
        Self {
            scope,
            stop,
            before: None,
            interrupt,
            begun: Instant::now(),
            rounds: 0,
            met: BTreeMap::new(),
            order: Vec::new(),
            unseen_got: None,
        }
    }

    /// The same, with a call to `before` while everything is still as it was.
    pub(super) fn with_snapshot(
        scope: Scope,
        limits: StopLimits,
        interrupt: &'a Interrupt,
        before: &'a mut dyn FnMut(&Present<'_>),
    ) -> Self {
        let stop = Stop::with_snapshot(limits);
        Self { stop, before: Some(before), ..Self::new(scope, limits, interrupt) }
    }

    pub(super) fn carry_out(mut self) -> TeardownProof {
        let wakers = self.interrupt.wakers();
        loop {
            self.rounds += 1;
            let look = self.scope.look();
            self.note(&look);
            let mut next = self.stop.next(self.seen(&look));
            if next == Move::Snapshot {
                if let Some(before) = &mut self.before {
                    before(&look.present());
                }
                // Who came meanwhile is met at the next look; nobody can be signalled in another's place.
                next = self.stop.next(self.seen(&look));
            }
            let round = match next {
                // There is one snapshot; a second would be a round that waits for nothing.
                Move::Snapshot => continue,
                Move::Gone | Move::GiveUp => return self.report(&look),
                Move::Ask => {
                    self.signal_unseen(&look, Signal::TERM);
                    // A zombie has nothing to be asked, and would read as if it had ended because of us.
                    look.members
                        .iter()
                        .filter(|row| !row.zombie)
                        .for_each(|row| self.signal(row, Signal::TERM));
                    ASKING_ROUND
                }
                Move::Kill => {
                    self.signal_unseen(&look, Signal::KILL);
                    // A zombie that nobody can wait for is a process whose main thread ended before the others.
                    look.members.iter().for_each(|row| self.signal(row, Signal::KILL));
                    KILLING_ROUND
                }
            };
            let alive = look.members.iter().filter(|row| !row.zombie);
            let handles = alive.filter_map(|row| self.met.get(&key(row))?.handle.as_ref());
            os::wait_any(handles, &wakers, if look.is_over_at_once() { AT_ONCE } else { round });
        }
    }

    fn seen(&self, look: &Look) -> Seen {
        Seen {
            elapsed: self.begun.elapsed(),
            interrupts: self.interrupt.count(),
            nothing_left: look.proof != Proof::None,
        }
    }

    /// When the table cannot be read, what we started is still known by number; whatever left its group is not.
    fn signal_unseen(&mut self, look: &Look, signal: Signal) {
        if look.unreadable.is_none() || self.unseen_got == Some(signal) {
            return;
        }
        self.unseen_got = Some(signal);
        reaper::signal_groups(self.scope.root(), signal);
    }

    fn signal(&mut self, row: &ProcessRow, signal: Signal) {
        let order = &mut self.order;
        let met = self.met.entry(key(row)).or_insert_with(|| {
            order.push(key(row));
            Met::new(row)
        });
        met.send(row, signal);
    }

    /// Keeps how processes ended, and gives the descriptors of those that are gone back.
    fn note(&mut self, look: &Look) {
        for &(pid, ended) in &look.reaped {
            if let Some((_, met)) = self.met.range_mut((pid, 0)..=(pid, u64::MAX)).last() {
                met.ended = Some(ended);
            }
        }
        let gone = |key: &(i32, u64)| !look.members.iter().any(|row| self::key(row) == *key);
        self.met.iter_mut().filter(|(key, _)| gone(key)).for_each(|(_, met)| met.handle = None);
    }

    fn report(mut self, look: &Look) -> TeardownProof {
        let left = if look.proof == Proof::None { look.members.as_slice() } else { &[] };
        let mut survivors: Vec<_> =
            left.iter().map(|row| survivor(row, self.met.remove(&key(row)))).collect();
        survivors.extend(look.unreadable.as_ref().map(|why| Survivor {
            pid: self.scope.root().unwrap_or_else(us),
            host_pid: None,
            wait_channel: None,
            command: "(whoever is left below it)".to_owned(),
            why: why.clone(),
        }));
        let stopped = self.order.iter().filter_map(|&key| stopped(key.0, self.met.get(&key)?)).collect();
        TeardownProof {
            proof: look.proof,
            stopped,
            survivors,
            rounds: self.rounds,
            elapsed_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn key(row: &ProcessRow) -> (i32, u64) {
    (row.pid, row.started)
}

fn survivor(row: &ProcessRow, met: Option<Met>) -> Survivor {
    let wait_channel = stuck::wait_channel(row.pid);
    let why = match &met {
        Some(Met { refused: Some(refused), .. }) => refused.as_str(),
        Some(Met { signal: Some(_), .. }) => "it does not die of SIGKILL",
        _ => "there was no time, or no descriptor, to signal it",
    };
    Survivor {
        pid: row.pid,
        host_pid: host_pid(row.pid),
        why: why.to_owned(),
        command: met.map(|met| met.command).unwrap_or_default(),
        wait_channel,
    }
}

fn stopped(pid: i32, met: &Met) -> Option<StoppedProcess> {
    if met.zombie {
        return None;
    }
    let signal = if met.signal? == Signal::KILL { "SIGKILL" } else { "SIGTERM" };
    Some(StoppedProcess { pid, command: met.command.clone(), signal: signal.to_owned(), ended: met.ended })
}
