//! The only place of the workspace that starts processes, and the one that ends them.
//!
//! * [`run`] carries out a short command within a deadline.
//! * [`Service`] is a process that is meant to stay.
//! * [`Foreign`] is one of somebody else's that gets everything that this process has.
//! * [`Piped`] is one that somebody else speaks with, over pipes of theirs: a server behind the gateway.
//! * [`Family`] makes every process below us ours to wait for, whatever it did to get away, and stops them all.
//!
//! A process gets, unless it says otherwise, exactly the environment of its [`Invocation`](stelae_model::env::Invocation), plus `STELAE_PROCESS`
//! and what a passed socket needs; nothing of ours is inherited. Output goes into files, never into pipes: a pipe is
//! at its end only when the last grandchild that holds it is gone, and waiting for that is how harnesses hang. (A server
//! that speaks on its standard output has one, [`Stdin::Dialogue`]: nobody waits for its end, and every read has a deadline.)
//!
//! Every wait for a child goes through `reaper`: `waitpid(-1)`, which a teardown needs, takes the statuses that
//! somebody else waits for, so there is one map for all of them.

mod child;
mod command;
mod family;
mod foreign;
mod half;
mod launch;
mod launcher;
mod os;
mod output;
mod piped;
mod reaper;
mod service;
mod starts;
mod stuck;
mod sweep;
mod teardown;
pub mod tree;

use stelae_model::lifecycle::ProcessRow;

use crate::deadline::Deadline;
use crate::signals::Interrupt;

/// Waits so long, or until one of the descriptors has something to read.
pub(crate) fn pause(wakers: &[std::os::fd::OwnedFd], at_most: std::time::Duration) {
    os::wait_any(std::iter::empty(), wakers, at_most);
}

/// The process at the other end of a socket; none where the kernel does not tell.
pub(crate) fn peer(stream: &std::os::unix::net::UnixStream) -> Option<i32> {
    os::peer(stream)
}

/// Waits until all of them have ended, whosoever they are, with all of their threads.
pub(crate) fn await_ends(rows: &[ProcessRow], deadline: Deadline, interrupt: &Interrupt) {
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);
    let wakers = interrupt.wakers();
    for handle in rows.iter().filter_map(os::Handle::open) {
        while !handle.has_ended() && !deadline.passed() && interrupt.check().is_none() {
            os::wait_any(std::iter::once(&handle), &wakers, deadline.remaining().min(LOOK_EVERY));
        }
    }
}

pub use command::{Finished, Limits, Stream, run, run_unless};
pub use family::{Family, reap_orphans};
pub(crate) use family::{end_everything, spare, user};
pub use foreign::Foreign;
pub use half::{Network, OtherHalf, told_to_end_by_the_death_of};
pub(crate) use half::{
    continued_by_the_death_of_the_other_half, is_in_a_namespace_of_ours, is_root, namespaces_are_allowed,
};
pub use launcher::launch;
pub(crate) use launcher::words as launcher_words;
pub use piped::Piped;
pub use service::{RELEASED, Service, Session, Stdin};
pub(crate) use starts::started;
pub use starts::{Executes, beside_calls, record_start, record_starts};
pub(crate) use stuck::is_exiting;
pub use sweep::{Swept, sweep};
pub(crate) use sweep::{run_of, sweep_lost};
pub use teardown::Present;
