//! Watching a service come up: its log, its exit, its port, and what it answers.
//!
//! Two threads. The *prober* climbs the rungs that ask the service something, and may be kept waiting by it. The
//! watcher, in the caller's thread, follows the log, the exit, the signals and the limits, and is never kept waiting.
//! Every decision is made by `stelae_model::lifecycle::Startup`.

mod follow;
mod ladder;
mod probe;
mod report;
mod servers;
mod tools;
mod wanted;

pub use follow::Follower;
pub(crate) use ladder::wait_ready_unless;
pub use ladder::{Progress, Ready, wait_ready};
pub(crate) use servers::ask_servers;
pub use wanted::{Canary, McpEndpoint, McpWanted, Wanted};
