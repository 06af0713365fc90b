//! Every process below us, and how all of them are stopped.
//!
//! A process can leave its group, its session and its parent, but not its ancestors: once we are a *child subreaper*,
//! whoever loses its parent falls to us instead of to init. So our descendants are everything that we ever started,
//! and `waitpid` answering ECHILD is the kernel's own word that nothing of it is left. Both halves of the mutual
//! guardian run this same code, each for its own descendants.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid};
use signal_hook::consts::SIGCHLD;
use stelae_model::lifecycle::{
    Ended, Kin, Move, ProcessRow, Proof, Seen, Stop, StopLimits, StoppedProcess, Survivor, TeardownProof,
    descendants,
};
use stelae_model::{ExitCode, Failure};

use super::tree::{self, Snapshot};
use super::{launch, os, reaper};
use crate::signals::{self, Interrupt};

/// How long a round may last: who was forked in it is seen at the next look only.
const ASKING_ROUND: Duration = Duration::from_millis(20);
const KILLING_ROUND: Duration = Duration::from_millis(2);

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
    /// `before` gets a snapshot while everything is still as it was: write it down before returning. The number of
    /// signals that `interrupt` has got shortens the grace.
    pub fn stop(
        mut self,
        limits: StopLimits,
        interrupt: &Interrupt,
        before: &mut dyn FnMut(&Snapshot),
    ) -> TeardownProof {
        reaper::set_closing(true);
        self.stopped = true;
        before(&tree::snapshot(us()));
        Teardown::new(Scope::Everyone, limits, interrupt).carry_out()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if !self.stopped {
            reaper::set_closing(true);
            Teardown::new(Scope::Everyone, StopLimits::at_once(), &Interrupt::never()).carry_out();
        }
    }
}

/// Stops the tree of one process that we started; everything else lives on.
pub(super) fn stop_tree(
    root: i32,
    process: &str,
    limits: StopLimits,
    interrupt: &Interrupt,
) -> TeardownProof {
    let scope = Scope::Tree { root, process: process.to_owned(), kin: Kin::new(root) };
    Teardown::new(scope, limits, interrupt).carry_out()
}

fn us() -> i32 {
    getpid().as_raw_nonzero().get()
}

enum Scope {
    Everyone,
    Tree { root: i32, process: String, kin: Kin },
}

/// One process that was met during a teardown.
struct Met {
    command: String,
    handle: Option<os::Handle>,
    signal: Option<Signal>,
    refused: Option<String>,
    ended: Option<Ended>,
}

struct Teardown<'a> {
    scope: Scope,
    stop: Stop,
    interrupt: &'a Interrupt,
    begun: Instant,
    rounds: u32,
    /// By pid and start time, which together are never used twice.
    met: BTreeMap<(i32, u64), Met>,
    order: Vec<(i32, u64)>,
}

impl<'a> Teardown<'a> {
    fn new(scope: Scope, limits: StopLimits, interrupt: &'a Interrupt) -> Self {
        Self {
            scope,
            stop: Stop::new(limits),
            interrupt,
            begun: Instant::now(),
            rounds: 0,
            met: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    fn carry_out(mut self) -> TeardownProof {
        let wakers = self.interrupt.wakers();
        loop {
            self.rounds += 1;
            let (members, proof) = self.look();
            let seen = Seen {
                elapsed: self.begun.elapsed(),
                interrupts: self.interrupt.count(),
                nothing_left: proof != Proof::None,
            };
            let round = match self.stop.next(seen) {
                Move::Gone | Move::GiveUp => return self.report(proof, &members),
                Move::Ask => {
                    // A zombie has nothing to be asked, and would read as if it had ended because of us.
                    members.iter().filter(|row| !row.zombie).for_each(|row| self.signal(row, Signal::TERM));
                    ASKING_ROUND
                }
                Move::Kill => {
                    // A zombie that nobody can wait for is a process whose main thread ended before the others.
                    members.iter().for_each(|row| self.signal(row, Signal::KILL));
                    KILLING_ROUND
                }
            };
            let alive = members.iter().filter(|row| !row.zombie);
            let handles = alive.filter_map(|row| self.met.get(&key(row))?.handle.as_ref());
            os::wait_any(handles, &wakers, round);
        }
    }

    /// Waits for who has ended, and says who is left.
    fn look(&mut self) -> (Vec<ProcessRow>, Proof) {
        match &mut self.scope {
            Scope::Everyone => {
                let sweep = reaper::sweep();
                let released = reaper::running(true);
                let rows = if sweep.no_child_left { Vec::new() } else { os::process_table() };
                let members = everyone_but(&rows, us(), &released);
                for (pid, ended) in sweep.reaped {
                    self.note_end(pid, ended);
                }
                let proof = match (sweep.no_child_left, members.is_empty() && !released.is_empty()) {
                    (true, _) => Proof::NoChildLeft,
                    (false, true) => Proof::OnlyReleased,
                    (false, false) => Proof::None,
                };
                (members, proof)
            }
            Scope::Tree { root, process, kin } => {
                let others: Vec<i32> = [reaper::running(false), reaper::running(true)]
                    .concat()
                    .into_iter()
                    .filter(|pid| pid != root)
                    .collect();
                let rows = os::process_table();
                let marked = |row: &ProcessRow| carries_mark(row.pid, process);
                let members: Vec<ProcessRow> =
                    kin.members(&rows, us(), &others, &marked).into_iter().cloned().collect();
                let (ended, members) =
                    members.into_iter().partition::<Vec<_>, _>(|row| row.zombie && row.parent == us());
                let mut left = members;
                for row in ended {
                    match reaper::reap_adopted(row.pid) {
                        Some(ended) => self.note_end(row.pid, ended),
                        None => left.push(row),
                    }
                }
                let proof = if left.is_empty() { Proof::TreeGone } else { Proof::None };
                (left, proof)
            }
        }
    }

    fn signal(&mut self, row: &ProcessRow, signal: Signal) {
        let order = &mut self.order;
        let met = self.met.entry(key(row)).or_insert_with(|| {
            order.push(key(row));
            let command = tree::command_line(row.pid).unwrap_or_default();
            Met { command, handle: os::Handle::open(row), signal: None, refused: None, ended: None }
        });
        if met.signal == Some(signal) {
            return;
        }
        let Some(handle) = &met.handle else { return };
        let sent = handle.send(signal);
        if signal == Signal::TERM {
            // A stopped process gets round to its SIGTERM only when it is continued. Nobody else minds.
            let _continued = handle.send(Signal::CONT);
        }
        match sent {
            Ok(()) => met.signal = Some(signal),
            Err(error) => met.refused = Some(error.to_string()),
        }
    }

    fn note_end(&mut self, pid: i32, ended: Ended) {
        let of_pid = self.met.range_mut((pid, 0)..=(pid, u64::MAX));
        if let Some((_, met)) = of_pid.last() {
            met.ended = Some(ended);
        }
    }

    fn report(mut self, proof: Proof, members: &[ProcessRow]) -> TeardownProof {
        let mut survivors = Vec::new();
        if proof == Proof::None {
            for row in members {
                let met = self.met.remove(&key(row));
                let why = met.as_ref().and_then(|met| met.refused.clone());
                survivors.push(Survivor {
                    pid: row.pid,
                    command: met.map(|met| met.command).unwrap_or_default(),
                    why: why.unwrap_or_else(|| "it does not die of SIGKILL".to_owned()),
                });
            }
        }
        let stopped = self.order.iter().filter_map(|&key| {
            let met = self.met.get(&key)?;
            let signal = if met.signal? == Signal::KILL { "SIGKILL" } else { "SIGTERM" };
            Some(StoppedProcess {
                pid: key.0,
                command: met.command.clone(),
                signal: signal.to_owned(),
                ended: met.ended,
            })
        });
        TeardownProof {
            proof,
            stopped: stopped.collect(),
            survivors,
            rounds: self.rounds,
            elapsed_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn key(row: &ProcessRow) -> (i32, u64) {
    (row.pid, row.started)
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

fn carries_mark(pid: i32, process: &str) -> bool {
    let mark = |(name, value): &(String, String)| name == launch::PROCESS_VARIABLE && value == process;
    tree::environ(pid).is_ok_and(|environ| environ.iter().any(mark))
}
