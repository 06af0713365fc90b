//! The way to one server: a transport, the handshake over it, and what its owner can wait for.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientCapabilities, ClientConfig, ClientRequest, Implementation, PingRequest, ProtocolVersion, Tool,
};
use rmcp::service::{NotificationContext, Peer, ServiceError, serve_client_with_ct};
use rmcp::transport::IntoTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ClientHandler, RoleClient};
use stelae_model::proxy::ServerEntry;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::link::Link;
use crate::client;

/// The newest protocol that is spoken, with servers and with clients. In 2026-07-28 a server cannot ask its client
/// anything, which breaks sampling and elicitation through servers that were written for it.
pub(super) const PROTOCOL: ProtocolVersion = ProtocolVersion::V_2025_11_25;

/// How often an HTTP server, which has no process to watch, is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long it may take to say so.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// How long closing a session may take: an HTTP server gets a DELETE.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// An open session with a server.
#[derive(Debug)]
pub(super) struct Connection {
    peer: Peer<RoleClient>,
    session: JoinHandle<()>,
    stop: CancellationToken,
    gone: CancellationToken,
    suspect: Arc<Notify>,
    list_changed: Arc<Notify>,
}

/// Hears what a server says on its own account.
struct Ear {
    list_changed: Arc<Notify>,
}

impl ClientHandler for Ear {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), us).with_protocol_version(PROTOCOL)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.list_changed.notify_one();
    }
}

impl Connection {
    /// The handshake over the pipes of a process.
    pub(super) async fn over_stdio(stdin: ChildStdin, stdout: ChildStdout) -> Result<Self, String> {
        Self::greet(AsyncRwTransport::new_client(stdout, stdin)).await
    }

    /// The handshake with an HTTP endpoint.
    pub(super) async fn over_http(url: &str) -> Result<Self, String> {
        let transport = client::transport(url).map_err(|error| error.to_string())?;
        Self::greet(transport).await.map_err(|why| format!("{url}: {why}"))
    }

    async fn greet<T, E, A>(transport: T) -> Result<Self, String>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let list_changed = Arc::<Notify>::default();
        let stop = CancellationToken::new();
        let ear = Ear { list_changed: Arc::clone(&list_changed) };
        let service = serve_client_with_ct(ear, transport, stop.clone())
            .await
            .map_err(|error| client::explain_start(&error))?;
        let peer = service.peer().clone();
        if let Some(version) = peer.peer_info().map(|info| info.protocol_version.clone())
            && version.as_str() > PROTOCOL.as_str()
        {
            return Err(format!("initialize failed: the server insists on protocol {version}"));
        }
        let gone = CancellationToken::new();
        let ended = gone.clone();
        let session = tokio::spawn(async move {
            service.waiting().await.ok();
            ended.cancel();
        });
        Ok(Self { peer, session, stop, gone, suspect: Arc::default(), list_changed })
    }

    /// All tools of the server.
    pub(super) async fn tools(&self) -> Result<Vec<Tool>, String> {
        if self.peer.peer_info().is_some_and(|info| info.capabilities.tools.is_none()) {
            return Ok(Vec::new());
        }
        self.peer
            .list_all_tools()
            .await
            .map_err(|error| format!("tools/list failed: {}", client::explain_request(&error)))
    }

    /// What callers get.
    pub(super) fn link(&self, entry: &ServerEntry) -> Link {
        let call_limit = Duration::from_millis(entry.call_timeout_ms.unwrap_or(60_000));
        Link::new(self.peer.clone(), call_limit, self.gone.clone(), Arc::clone(&self.suspect))
    }

    /// Waits until the server says that its tools changed.
    pub(super) async fn list_changed(&self) {
        self.list_changed.notified().await;
    }

    /// Waits until the session is over, whoever ended it.
    pub(super) async fn closed(&self) {
        self.gone.cancelled().await;
    }

    /// Waits until the server no longer answers, or the session is over; says how it was noticed.
    pub(super) async fn silent(&self) -> String {
        loop {
            tokio::select! {
                () = self.closed() => return "the session was closed".to_owned(),
                () = self.suspect.notified() => {}
                () = sleep(PING_EVERY) => {}
            }
            let ping = self.peer.send_request(ClientRequest::PingRequest(PingRequest::default()));
            match timeout(PING_LIMIT, ping).await {
                // A server that refuses `ping` has answered.
                Ok(Ok(_) | Err(ServiceError::McpError(_))) => {}
                Ok(Err(error)) => return format!("no answer to ping: {}", client::explain_request(&error)),
                Err(_) => return format!("no answer to ping within {} ms", PING_LIMIT.as_millis()),
            }
        }
    }

    /// Fails the calls in flight at once and closes the transport: a process sees end of file.
    pub(super) async fn close(mut self) {
        self.gone.cancel();
        self.stop.cancel();
        if timeout(CLOSE_LIMIT, &mut self.session).await.is_err() {
            self.session.abort();
        }
    }
}

/// A start that is given up in the middle drops its connection; the session must not live on without an owner.
impl Drop for Connection {
    fn drop(&mut self) {
        self.gone.cancel();
        self.stop.cancel();
    }
}
