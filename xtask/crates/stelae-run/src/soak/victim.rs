//! Who is killed, and the processes of one lifecycle as they are seen from outside.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use stelae_model::Isolation;
use stelae_model::lifecycle::ProcessRow;

use crate::deadline::Deadline;
use crate::process::{self, tree};
use crate::signals::Interrupt;

/// Who is killed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// Nobody: it ends by itself.
    Nobody,
    /// The outer half, SIGKILL.
    Outer,
    /// The outer half's process group, SIGKILL.
    OuterGroup,
    /// The inner half, SIGKILL.
    Inner,
    /// Both halves in one instant, SIGKILL.
    Both,
    /// The outer half, SIGTERM.
    Term,
    /// The service's first process, SIGKILL.
    Service,
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Nobody, Self::Outer, Self::OuterGroup, Self::Inner, Self::Both, Self::Term, Self::Service];

    /// Whether the harness is killed, or a half of it: how long that takes is measured.
    pub(super) fn is_harness(self) -> bool {
        !matches!(self, Self::Nobody | Self::Service)
    }

    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Outer => "outer half",
            Self::OuterGroup => "outer half's group",
            Self::Inner => "inner half",
            Self::Both => "both halves",
            Self::Term => "TERM to the outer half",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The processes of one lifecycle.
pub(super) struct Seen {
    outer: i32,
    isolation: Isolation,
    rows: Vec<ProcessRow>,
}

impl Seen {
    /// What is below the outer half now.
    pub(super) fn below(outer: i32, isolation: Isolation) -> Self {
        Self { outer, isolation, rows: tree::descendants(outer) }
    }

    /// The inner half; in a namespace that is the child of `unshare`.
    fn inner(&self) -> Option<i32> {
        let child_of = |pid: i32| self.rows.iter().find(|row| row.parent == pid).map(|row| row.pid);
        let child = child_of(self.outer)?;
        match self.isolation {
            Isolation::Guard => Some(child),
            Isolation::Pidns => child_of(child),
        }
    }

    fn service(&self) -> Option<i32> {
        let inner = self.inner()?;
        self.rows.iter().find(|row| row.parent == inner).map(|row| row.pid)
    }

    /// Kills. Whoever is not there (yet, or any more) is not killed: that is one of the moments, too.
    pub(super) fn kill(&self, victim: Victim) {
        let pid = |pid: Option<i32>| pid.and_then(Pid::from_raw);
        let kill = |whom: Option<i32>, signal| pid(whom).map(|pid| kill_process(pid, signal));
        match victim {
            Victim::Nobody => None,
            Victim::Outer => kill(Some(self.outer), Signal::KILL),
            Victim::OuterGroup => pid(Some(self.outer)).map(|pid| kill_process_group(pid, Signal::KILL)),
            Victim::Inner => kill(self.inner(), Signal::KILL),
            Victim::Both => {
                // Stopped first: on a busy machine there is time between two kills, and this is about no time at all.
                for signal in [Signal::STOP, Signal::KILL] {
                    kill(self.inner(), signal);
                    kill(Some(self.outer), signal);
                }
                None
            }
            Victim::Term => kill(Some(self.outer), Signal::TERM),
            Victim::Service => kill(self.service(), Signal::KILL),
        };
    }

    /// Waits until everyone who was seen is gone; says how long that took.
    pub(super) fn await_end(&self, since: Instant, deadline: Deadline, interrupt: &Interrupt) -> Duration {
        process::await_ends(&self.rows, deadline, interrupt);
        since.elapsed()
    }

    /// Waits until the inner half is gone: what is dying holds its locks still, and counts as alive.
    pub(super) fn await_inner(&self, deadline: Deadline, interrupt: &Interrupt) {
        let inner = self.inner();
        let inner: Vec<_> = self.rows.iter().filter(|row| Some(row.pid) == inner).cloned().collect();
        process::await_ends(&inner, deadline, interrupt);
    }
}

/// Everyone alive who has `mark` in the command line: `pid command`. Where nobody can be seen, that is said in their place.
pub(super) fn marked(mark: &str) -> Vec<String> {
    let rows = match tree::table() {
        Ok(rows) => rows,
        Err(error) => return vec![format!("whoever there is: the process table cannot be read: {error}")],
    };
    let command = |pid: i32| tree::command_line(pid).filter(|line| line.contains(mark));
    rows.iter().filter_map(|row| Some(format!("pid {}: {}", row.pid, command(row.pid)?))).collect()
}
