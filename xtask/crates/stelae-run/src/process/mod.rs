//! The only place of the workspace that starts processes, and the one that ends them.
//!
//! * [`run`] carries out a short command within a deadline.
//! * [`Service`] is a process that is meant to stay.
//! * [`Family`] makes every process below us ours to wait for, whatever it did to get away, and stops them all.
//!
//! A process gets exactly the environment of its [`Invocation`](stelae_model::env::Invocation), plus `STELAE_PROCESS`
//! and what a passed socket needs; nothing of ours is inherited. Output goes into files, never into pipes: a pipe is
//! at its end only when the last grandchild that holds it is gone, and waiting for that is how harnesses hang.
//!
//! Every wait for a child goes through `reaper`: `waitpid(-1)`, which a teardown needs, takes the statuses that
//! somebody else waits for, so there is one map for all of them.

mod command;
mod family;
mod half;
mod launch;
mod os;
mod output;
mod reaper;
mod service;
mod sweep;
mod teardown;
pub mod tree;

/// Waits so long, or until one of the descriptors has something to read.
pub(crate) fn pause(wakers: &[std::os::fd::OwnedFd], at_most: std::time::Duration) {
    os::wait_any(std::iter::empty(), wakers, at_most);
}

pub use command::{Finished, Limits, Stream, run};
pub use family::Family;
pub(crate) use family::{end_everything, spare};
pub(crate) use half::{OtherHalf, namespaces_are_allowed};
pub use service::{RELEASED, Service, Session, Stdin};
pub(crate) use sweep::run_of;
pub use sweep::{Swept, sweep};
