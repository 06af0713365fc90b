//! Whether anything is heard of a server for which callers wait, and what is done when nothing is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::connect::PING_LIMIT;
use super::link::Link;

/// How often a server is asked whether it lives, without a reason.
const IDLE_EVERY: Duration = Duration::from_secs(5);
/// How long it may take to say so then. More than for one that gave a reason: somebody may be looking at it with a debugger.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

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
            self.doubt();
        }
    }

    /// There is reason to doubt that the server lives.
    pub(super) fn doubt(&self) {
        self.doubts.notify_one();
    }

    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the server does not answer any more; says how it was noticed.
///
/// One that carries out its calls one after the other answers no ping meanwhile, and may do so for as long as a call may take:
/// its silence counts when they are over.
pub(super) async fn lost(link: &Link) -> String {
    loop {
        let (doubt, limit) = tokio::select! {
            () = link.pulse.doubts.notified() => ("a call had no answer in time, and then there was ", PING_LIMIT),
            // Nobody may be calling it for hours, and `/readyz` says all the time that it is ready.
            () = sleep(IDLE_EVERY) => ("", IDLE_LIMIT),
        };
        if let Err(why) = link.peer.ping(limit).await {
            if link.peer.is_over() {
                // Whoever waits for its end is about to say so, and knows why.
                sleep(PING_LIMIT).await;
            }
            return format!("{doubt}{why}");
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
