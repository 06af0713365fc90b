//! What callers need of a connection: cheap to clone; outlives the connection, and then says so.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::pulse::Pulse;
use super::rpc::Peer;

/// The way to one server.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The server.
    pub(super) peer: Peer,
    /// How long it may keep a caller waiting without a word.
    pub(super) limit: Duration,
    /// What it has said that it can do.
    pub(super) capabilities: Value,
    /// What callers have heard of it.
    pub(super) pulse: Arc<Pulse>,
}
