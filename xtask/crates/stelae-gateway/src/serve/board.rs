//! What is known about every server right now: the one piece of state that servers write, and that clients, `/readyz`,
//! reloads and notifications read. A watch channel, so that a reader can wait for a level instead of polling for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::model::Tool;
use stelae_model::env::nearest;
use stelae_model::proxy::{Readiness, ServerHealth, ServerState};
use tokio::sync::watch;

use super::catalog::{Catalog, NoRoute, Offer};
use super::link::Link;

/// The board itself.
#[derive(Debug)]
pub(super) struct Board {
    state: watch::Sender<State>,
    next_row: AtomicU64,
}

/// A server's place on the board. A server that is replaced gets a new one; what its old life still writes is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowId {
    name: String,
    number: u64,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<String, Row>,
    catalog: Arc<Catalog>,
    /// Grows whenever clients would see another tool list.
    list_version: u64,
}

#[derive(Debug)]
struct Row {
    number: u64,
    health: ServerHealth,
    tools: Arc<[Tool]>,
    link: Option<Link>,
}

/// A tool that can be called.
#[derive(Debug)]
pub(super) struct Target {
    /// Name of the server.
    pub(super) server: String,
    /// The tool's name on that server.
    pub(super) tool: String,
    /// The way to it.
    pub(super) link: Link,
}

/// Why a tool cannot be called.
#[derive(Debug)]
pub(super) enum NoTarget {
    /// The client asks for a name that is not there.
    NoSuchTool(String),
    /// The tool exists, its server is away.
    ServerAway(String),
}

impl Board {
    /// An empty board.
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::new(State::default()), next_row: AtomicU64::new(0) }
    }

    /// Puts a server up as `starting`, in place of an older one of that name.
    pub(super) fn put(&self, name: &str, required: bool) -> RowId {
        let id = RowId { name: name.to_owned(), number: self.next_row.fetch_add(1, Ordering::Relaxed) };
        let health =
            ServerHealth { state: ServerState::Starting, required, tools: 0, restarts: 0, reason: None };
        let row = Row { number: id.number, health, tools: Arc::new([]), link: None };
        self.change(|rows| {
            rows.insert(name.to_owned(), row);
        });
        id
    }

    /// Takes a server down for good.
    pub(super) fn remove(&self, name: &str) {
        self.change(|rows| {
            rows.remove(name);
        });
    }

    /// The server is ready, or its list changed.
    pub(super) fn ready(&self, id: &RowId, link: Link, tools: Vec<Tool>) {
        self.update(id, |row| {
            row.health.state = ServerState::Ready;
            row.health.reason = None;
            row.health.tools = tools.len();
            row.tools = tools.into();
            row.link = Some(link);
        });
    }

    /// The server is away; its tools leave the list before this returns.
    pub(super) fn away(&self, id: &RowId, state: ServerState, reason: String) {
        self.update(id, |row| {
            row.health.state = state;
            row.health.reason = Some(reason);
            row.health.tools = 0;
            row.link = None;
        });
    }

    /// The server is started once more.
    pub(super) fn restarted(&self, id: &RowId) {
        self.update(id, |row| row.health.restarts += 1);
    }

    /// The tools that clients see.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.state.borrow().catalog.clone()
    }

    /// The body of `/readyz`.
    pub(super) fn readiness(&self) -> Readiness {
        self.state.borrow().readiness()
    }

    /// The server behind the public name of a tool.
    pub(super) fn target(&self, tool: &str) -> Result<Target, NoTarget> {
        let state = self.state.borrow();
        let route = state.catalog.route(tool).map_err(|why| {
            NoTarget::NoSuchTool(match why {
                NoRoute::Ambiguous(names) => {
                    format!("several servers have a tool {tool:?}: use {}", names.join(" or "))
                }
                NoRoute::Unknown => match nearest(tool, state.catalog.names()) {
                    Some(near) => format!("unknown tool {tool:?}: did you mean {near:?}?"),
                    None => format!("unknown tool {tool:?}"),
                },
            })
        })?;
        let row = state.rows.get(&route.server);
        match row.and_then(|row| row.link.clone()) {
            Some(link) => Ok(Target { server: route.server.clone(), tool: route.tool.clone(), link }),
            None => {
                let reason =
                    row.and_then(|row| row.health.reason.as_deref()).unwrap_or("it is being started");
                Err(NoTarget::ServerAway(format!(
                    "server {:?} of tool {tool:?} is away: {reason}",
                    route.server
                )))
            }
        }
    }

    /// Waits until none of `ids` is `starting` any more, at most for `limit`. A row that was replaced counts as settled:
    /// somebody else waits for its successor.
    pub(super) async fn settled(&self, ids: &[RowId], limit: Duration) {
        let mut watcher = self.state.subscribe();
        let settled = watcher.wait_for(|state| {
            ids.iter().all(|id| match state.rows.get(&id.name) {
                Some(row) => row.number != id.number || row.health.state != ServerState::Starting,
                None => true,
            })
        });
        // An error would mean that the board is gone, and we hold it. Running out of time is an answer: readiness says who.
        tokio::time::timeout(limit, settled).await.ok();
    }

    /// A view that tells when clients should list again.
    pub(super) fn list_changes(&self) -> ListChanges {
        let mut watcher = self.state.subscribe();
        let seen = watcher.borrow_and_update().list_version;
        ListChanges { watcher, seen }
    }

    fn update(&self, id: &RowId, change: impl FnOnce(&mut Row)) {
        self.change(|rows| {
            if let Some(row) = rows.get_mut(&id.name).filter(|row| row.number == id.number) {
                change(row);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Row>)) {
        self.state.send_modify(|state| {
            change(&mut state.rows);
            let offers: Vec<_> = state
                .rows
                .iter()
                .map(|(name, row)| Offer { server: name, tools: &row.tools, ready: row.link.is_some() })
                .collect();
            let catalog = Catalog::merge(&offers);
            state.list_version += u64::from(catalog.tools != state.catalog.tools);
            state.catalog = Arc::new(catalog);
        });
    }
}

impl State {
    fn readiness(&self) -> Readiness {
        let servers: BTreeMap<_, _> =
            self.rows.iter().map(|(name, row)| (name.clone(), row.health.clone())).collect();
        let ready = servers.values().all(|health| !health.required || health.state == ServerState::Ready);
        Readiness { ready, servers }
    }
}

/// See [`Board::list_changes`].
#[derive(Debug)]
pub(super) struct ListChanges {
    watcher: watch::Receiver<State>,
    seen: u64,
}

impl ListChanges {
    /// Waits for the next change; several at once are one. `None` when the board is gone.
    pub(super) async fn next(&mut self) -> Option<()> {
        let seen = self.seen;
        let version = self.watcher.wait_for(|state| state.list_version != seen).await.ok()?.list_version;
        self.seen = version;
        Some(())
    }
}
