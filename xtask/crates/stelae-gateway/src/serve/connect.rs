//! The way to one server: the handshake over a transport, its lists, and what its owner can wait for.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::ProtocolVersion;
use serde_json::{Map, Value, json};
use stelae_model::proxy::{ServerEntry, WITHOUT_INITIALIZE, shown_url};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::link::Link;
use super::log::event;
use super::offer::{Kind, Offer};
use super::rpc::{self, Asker, Listener, Peer, RpcError};

/// The newest protocol that is spoken, with clients, and with servers unless their entry says so. In 2026-07-28 a server
/// cannot ask its client anything, which breaks sampling and elicitation through servers that were written for it.
pub(super) const PROTOCOL: ProtocolVersion = ProtocolVersion::V_2025_11_25;

/// How often an HTTP server, which has no process to watch, is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long it may take to say so, when it has nothing else to do.
pub(super) const PING_LIMIT: Duration = Duration::from_secs(5);
/// How long closing a session may take.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// So many pages of a list are asked for: a server whose cursors never end must not keep us for ever.
const MOST_PAGES: usize = 1_000;

/// An open session with a server.
#[derive(Debug)]
pub(super) struct Connection {
    name: String,
    peer: Peer,
    pump: JoinHandle<()>,
    capabilities: Value,
    gone: CancellationToken,
    suspect: Arc<Notify>,
    changes: Arc<Changes>,
}

/// Hears what a server says on its own account.
#[derive(Debug)]
struct Ear {
    name: String,
    hub: Arc<Hub>,
    changes: Arc<Changes>,
}

/// Which of its lists have changed.
#[derive(Debug, Default)]
struct Changes {
    tools: Notify,
    prompts: Notify,
    resources: Notify,
}

impl Listener for Ear {
    fn notified(&self, method: &str, params: &Value, askers: &BTreeSet<Asker>) {
        match method {
            "notifications/tools/list_changed" => self.changes.tools.notify_one(),
            "notifications/prompts/list_changed" => self.changes.prompts.notify_one(),
            "notifications/resources/list_changed" => self.changes.resources.notify_one(),
            "notifications/resources/updated" => self.hub.updated(params),
            "notifications/message" => self.hub.log(params, askers),
            // Whatever this is, it is meant for somebody who knows it, and nobody here does.
            other => event!("server {:?}: said {other:?}, which is not relayed", self.name),
        }
    }
}

impl Connection {
    /// The handshake over the pipes of a process.
    pub(super) async fn over_stdio(
        name: &str,
        entry: &ServerEntry,
        hub: &Arc<Hub>,
        stdin: ChildStdin,
        stdout: ChildStdout,
    ) -> Result<Self, Unready> {
        let gone = CancellationToken::new();
        let (ear, changes) = Ear::new(name, hub);
        let (peer, pump) = rpc::over_stdio(name, stdin, stdout, ear, gone.clone());
        Self::new(name, peer, pump, gone, Arc::default(), changes).greet(entry).await
    }

    /// The handshake with an HTTP endpoint.
    pub(super) async fn over_http(
        name: &str,
        entry: &ServerEntry,
        hub: &Arc<Hub>,
        url: &str,
    ) -> Result<Self, Unready> {
        let (gone, suspect) = (CancellationToken::new(), Arc::<Notify>::default());
        let (ear, changes) = Ear::new(name, hub);
        let (peer, pump) = rpc::over_http(name, url, &entry.headers, ear, Arc::clone(&suspect), gone.clone())
            .map_err(Unready::Refused)?;
        let greeted = Self::new(name, peer, pump, gone, suspect, changes).greet(entry).await;
        greeted.map_err(|why| why.at(&shown_url(url)))
    }

    fn new(
        name: &str,
        peer: Peer,
        pump: JoinHandle<()>,
        gone: CancellationToken,
        suspect: Arc<Notify>,
        changes: Arc<Changes>,
    ) -> Self {
        Self { name: name.to_owned(), peer, pump, capabilities: Value::Null, gone, suspect, changes }
    }

    async fn greet(mut self, entry: &ServerEntry) -> Result<Self, Unready> {
        let mut newest = entry.protocol_version.as_deref().unwrap_or(PROTOCOL.as_str());
        if newest == WITHOUT_INITIALIZE {
            match self.discover().await? {
                true => return Ok(self),
                // One that does not know it yet.
                false => newest = PROTOCOL.as_str(),
            }
        }
        // What a client of ours cannot do is refused when it is asked for: nobody knows yet who will be asked.
        let params = json!({
            "protocolVersion": newest,
            "capabilities": {"sampling": {}, "elicitation": {}},
                        "clientInfo": us(),
        });
        let answer = self.peer.call("initialize", params, None, false).answer().await;
        let greeting = match answer {
            Some(Ok(greeting)) => greeting,
            Some(Err(error)) => return Err(Unready::Refused(format!("initialize was refused: {error}"))),
            None => return Err(Unready::closed()),
        };
        match greeting.get("protocolVersion").and_then(Value::as_str) {
            // Versions are dates, which compare as texts.
            Some(version) if version <= newest => {}
            Some(version) => {
                let why = format!("initialize failed: the server insists on protocol {version}");
                return Err(Unready::Refused(why));
            }
            None => {
                let why = "initialize failed: the answer has no protocolVersion";
                return Err(Unready::Refused(why.to_owned()));
            }
        }
        self.capabilities = greeting.get("capabilities").cloned().unwrap_or_default();
        self.peer.notify("notifications/initialized", None);
        Ok(self)
    }

    /// The handshake of a version that has no `initialize`: every request says who asks. Whether the server knows it.
    async fn discover(&mut self) -> Result<bool, Unready> {
        self.peer.say_with_each([
            ("io.modelcontextprotocol/protocolVersion", json!(WITHOUT_INITIALIZE)),
            ("io.modelcontextprotocol/clientInfo", us()),
            ("io.modelcontextprotocol/clientCapabilities", json!({})),
        ]);
        match self.peer.call("server/discover", json!({}), None, false).answer().await {
            Some(Ok(found)) => {
                self.capabilities = found.get("capabilities").cloned().unwrap_or_default();
                Ok(true)
            }
            Some(Err(_)) => {
                self.peer.say_with_each([]);
                Ok(false)
            }
            None => Err(Unready::closed()),
        }
    }

    /// Whether the server has said that it can do this: a pointer into its capabilities.
    pub(super) fn can(&self, pointer: &str) -> bool {
        self.capabilities.pointer(pointer).is_some_and(|value| *value != Value::Bool(false))
    }

    /// Everything that the server offers.
    ///
    /// # Errors
    /// It has tools, and does not list them. Its other lists are missing then, which is told of in the log.
    pub(super) async fn offer(&self) -> Result<Offer, Unready> {
        let (tools, prompts, resources, templates) = tokio::join!(
            self.list(Kind::Tool),
            self.list(Kind::Prompt),
            self.list(Kind::Resource),
            self.list(Kind::Template)
        );
        let or_none = |list: Result<Vec<_>, Unready>| {
            list.unwrap_or_else(|why| {
                event!("server {:?}: {why}", self.name);
                Vec::new()
            })
        };
        Ok(Offer {
            tools: tools?,
            prompts: or_none(prompts),
            resources: or_none(resources),
            templates: or_none(templates),
        })
    }

    /// One list, all pages of it; empty where the server has said that it has no such thing.
    pub(super) async fn list(&self, kind: Kind) -> Result<Vec<Map<String, Value>>, Unready> {
        if !self.can(kind.capability()) {
            return Ok(Vec::new());
        }
        let method = kind.list_method();
        let (mut items, mut cursor) = (Vec::new(), None::<Value>);
        for _ in 0..MOST_PAGES {
            let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
            let page = match self.peer.call(method, params, None, false).answer().await {
                Some(Ok(page)) => page,
                // Resources without templates are common, and some of their servers say so in this way.
                Some(Err(error)) if kind == Kind::Template && error.code == RpcError::METHOD_NOT_FOUND => {
                    return Ok(Vec::new());
                }
                Some(Err(error)) => return Err(Unready::Refused(format!("{method} failed: {error}"))),
                None => return Err(Unready::Closed(format!("{method} failed: the connection was closed"))),
            };
            let page = kind.page(page).map_err(|why| Unready::Refused(format!("{method} failed: {why}")));
            let (page, next) = page?;
            items.extend(page);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
        Err(Unready::Refused(format!("{method} failed: it has more than {MOST_PAGES} pages")))
    }

    /// What callers get.
    pub(super) fn link(&self, entry: &ServerEntry) -> Link {
        let call_limit = Duration::from_millis(entry.call_timeout_ms.unwrap_or(60_000));
        let (peer, capabilities) = (self.peer.clone(), self.capabilities.clone());
        Link { peer, limit: call_limit, capabilities, pulse: Arc::default() }
    }

    /// Waits until the server says that one of its lists has changed.
    pub(super) async fn list_changed(&self) -> Kind {
        tokio::select! {
            () = self.changes.tools.notified() => Kind::Tool,
            () = self.changes.prompts.notified() => Kind::Prompt,
            () = self.changes.resources.notified() => Kind::Resource,
        }
    }

    /// Waits until the session is over, whoever ended it.
    pub(super) async fn closed(&self) {
        self.gone.cancelled().await;
    }

    /// Why it is over, as far as more is known than that a pipe was closed.
    pub(super) fn why_closed(&self) -> Option<String> {
        self.peer.why_over()
    }

    /// Waits until the server no longer answers, or the session is over; says how it was noticed.
    pub(super) async fn silent(&self) -> String {
        loop {
            tokio::select! {
                () = self.closed() => return "the session was closed".to_owned(),
                () = self.suspect.notified() => {}
                () = sleep(PING_EVERY) => {}
            }
            if let Err(why) = self.peer.ping(PING_LIMIT).await {
                return why;
            }
        }
    }

    /// Fails the calls in flight at once and closes the transport: a process sees end of file, an endpoint gets its session
    /// back.
    pub(super) async fn close(mut self) {
        self.end();
        timeout(CLOSE_LIMIT, &mut self.pump).await.ok();
    }

    fn end(&self) {
        self.peer.close();
        self.gone.cancel();
    }
}

/// Why a server is not ready.
#[derive(Debug)]
pub(super) enum Unready {
    /// The connection was closed; how its process has ended says more.
    Closed(String),
    /// It has answered, and that was not what it should have said. That its process ends now is our doing.
    Refused(String),
}

impl Unready {
    fn closed() -> Self {
        Self::Closed("closed the connection before it was ready".to_owned())
    }

    fn at(self, place: &str) -> Self {
        match self {
            Self::Closed(why) => Self::Closed(format!("{place}: {why}")),
            Self::Refused(why) => Self::Refused(format!("{place}: {why}")),
        }
    }
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Closed(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

/// A start that is given up in the middle drops its connection; the session must not live on without an owner.
impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}

/// How we present ourselves.
fn us() -> Value {
    json!({"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")})
}

impl Ear {
    fn new(name: &str, hub: &Arc<Hub>) -> (Arc<Self>, Arc<Changes>) {
        let changes = Arc::<Changes>::default();
        let ear = Self { name: name.to_owned(), hub: Arc::clone(hub), changes: Arc::clone(&changes) };
        (Arc::new(ear), changes)
    }
}
