//! Counting answers that are still on their way out, so that shutting down can wait for them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::watch;

use super::body::looked_at;

/// Counts the POSTs that are not fully answered. GETs do not count: the event stream of a session never ends.
#[derive(Clone, Debug)]
pub(super) struct InFlight(Arc<watch::Sender<usize>>);

impl InFlight {
    /// Nothing is in flight.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Waits until nothing is in flight, at most for `grace`; gives what is left.
    pub(super) async fn drained(&self, grace: Duration) -> usize {
        let mut count = self.0.subscribe();
        tokio::time::timeout(grace, count.wait_for(|count| *count == 0)).await.ok();
        *self.0.borrow()
    }

    /// One more, until the guard is dropped.
    pub(super) fn enter(&self) -> Guard {
        self.0.send_modify(|count| *count += 1);
        Guard(self.clone())
    }
}

/// One that is in flight.
#[derive(Debug)]
pub(super) struct Guard(InFlight);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Keeps a POST counted until the last byte of its answer was handed over, or its client is gone.
pub(super) async fn count(State(in_flight): State<InFlight>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let guard = in_flight.enter();
    next.run(request).await.map(|response| {
        looked_at(response, move |_| {
            let _counted = &guard;
        })
    })
}
