//! Whether anything is heard of a server for which callers wait, and what is done when nothing is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connect::PING_LIMIT;
use super::link::Link;

/// What is heard of one server in its calls.
#[derive(Debug)]
pub(super) struct Pulse {
    last: Mutex<Instant>,
    doubts: Notify,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { last: Mutex::new(Instant::now()), doubts: Notify::new() }
    }
}

impl Pulse {
    /// The server has said something.
    pub(super) fn heard(&self) {
        *self.last() = Instant::now();
    }

    /// How long it has said nothing.
    pub(super) fn silence(&self) -> Duration {
        self.last().elapsed()
    }

    /// A call was given up after `limit`. If nothing was heard in any other meanwhile, that is reason to doubt that the
    /// server lives.
    pub(super) fn too_late(&self, limit: Duration) {
        if self.silence() >= limit {
            self.doubts.notify_one();
        }
    }

    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the server does not answer any more; says how it was noticed.
///
/// It is asked only when there is doubt: one that carries out its calls one after the other answers no ping meanwhile, and
/// may do so for as long as a call may take.
pub(super) async fn lost(link: &Link) -> String {
    loop {
        link.pulse.doubts.notified().await;
        if let Err(why) = link.peer.ping(PING_LIMIT).await {
            return format!("a call had no answer in time, and then there was {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_late_call_is_a_reason_to_doubt_only_when_nothing_else_was_heard() {
        let pulse = Pulse::default();
        let doubts = async || timeout(Duration::ZERO, pulse.doubts.notified()).await.is_ok();
        pulse.too_late(Duration::from_secs(600));
        assert!(!doubts().await, "something was heard within this time");
        pulse.too_late(Duration::ZERO);
        pulse.too_late(Duration::ZERO);
        assert!(doubts().await);
        assert!(!doubts().await, "several late calls are one doubt");
    }
}
