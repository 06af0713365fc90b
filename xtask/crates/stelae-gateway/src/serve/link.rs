//! Calling a tool of one server: bounded, cancellable, and over at once when the server is gone.

use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ErrorData, RequestMetaObject,
    ServerResult,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestHandle, ServiceError};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client;

/// How long telling a server that nobody waits any more may take: it may be the very server that reads nothing.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// What a caller needs of a connection. Cheap to clone; outlives the connection, and then says so.
#[derive(Clone, Debug)]
pub(super) struct Link {
    peer: Peer<RoleClient>,
    limit: Duration,
    gone: CancellationToken,
    suspect: Arc<Notify>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The server answered with a JSON-RPC error, which is the caller's to see.
    Refused(ErrorData),
    /// The connection ended first.
    Gone,
    /// The limit passed.
    TooLate(Duration),
    /// The caller cancelled.
    Cancelled,
    /// The request could not be sent, or the answer was no answer to it.
    Broken(String),
}

impl Link {
    /// A link over `peer`. `gone` ends all calls; `suspect` is told of a transport that fails.
    pub(super) fn new(
        peer: Peer<RoleClient>,
        limit: Duration,
        gone: CancellationToken,
        suspect: Arc<Notify>,
    ) -> Self {
        Self { peer, limit, gone, suspect }
    }

    /// Calls a tool. `cancelled` is the caller's own wish to stop.
    pub(super) async fn call(
        &self,
        params: CallToolRequestParams,
        meta: RequestMetaObject,
        cancelled: &CancellationToken,
    ) -> Result<CallToolResult, NoAnswer> {
        let mut request = CallToolRequest::default();
        request.params = params;
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let sending = self.peer.send_cancellable_request(ClientRequest::CallToolRequest(request), options);
        let limit = sleep(self.limit);
        tokio::pin!(limit);
        let mut handle = tokio::select! {
            sent = sending => sent.map_err(|error| self.classify(error))?,
            () = self.gone.cancelled() => return Err(NoAnswer::Gone),
            () = &mut limit => return Err(NoAnswer::TooLate(self.limit)),
        };
        let unanswered = tokio::select! {
            // An answer that is there is given, whatever else happened.
            biased;
            answer = &mut handle.rx => return self.read(answer.unwrap_or(Err(ServiceError::TransportClosed))),
            () = self.gone.cancelled() => return Err(NoAnswer::Gone),
            () = cancelled.cancelled() => NoAnswer::Cancelled,
            () = &mut limit => NoAnswer::TooLate(self.limit),
        };
        abandon(handle, &unanswered);
        Err(unanswered)
    }

    fn read(&self, answer: Result<ServerResult, ServiceError>) -> Result<CallToolResult, NoAnswer> {
        match answer.map_err(|error| self.classify(error))? {
            ServerResult::CallToolResult(result) => Ok(result),
            _ => Err(NoAnswer::Broken("it answered tools/call with something else".to_owned())),
        }
    }

    fn classify(&self, error: ServiceError) -> NoAnswer {
        match error {
            ServiceError::McpError(error) => NoAnswer::Refused(error),
            ServiceError::TransportClosed => NoAnswer::Gone,
            other => {
                // Whether the server is dead, its owner finds out; a single call cannot know.
                self.suspect.notify_one();
                NoAnswer::Broken(client::explain_request(&other))
            }
        }
    }
}

/// Tells the server that nobody waits for this answer any more, without waiting for it to listen.
fn abandon(handle: RequestHandle<RoleClient>, why: &NoAnswer) {
    let reason = match why {
        NoAnswer::TooLate(limit) => format!("no answer within {} ms", limit.as_millis()),
        _ => "cancelled by the client".to_owned(),
    };
    tokio::spawn(async move { timeout(CANCEL_LIMIT, handle.cancel(Some(reason))).await });
}
