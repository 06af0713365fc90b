//! What is known about every server right now: the one piece of state that servers write, and that clients, `/readyz`,
//! reloads and notifications read. A watch channel, so that a reader can wait for a level instead of polling for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use stelae_model::env::nearest;
use stelae_model::proxy::{Readiness, ServerHealth, ServerState};
use tokio::sync::watch;

use super::catalog::{Catalog, Names, NoRoute, Share};
use super::link::Link;
use super::offer::{Kind, Named};

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
    versions: Versions,
}

/// Each grows whenever clients would see another list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) tools: u64,
    pub(super) prompts: u64,
    pub(super) resources: u64,
}

#[derive(Debug)]
struct Row {
    number: u64,
    health: ServerHealth,
    shelf: Shelf,
    /// Whether it had resources when it was last ready, or was the one before it.
    has_resources: bool,
    link: Option<Link>,
}

/// What a server contributes, as clients are to see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    pub(super) tools: Vec<Named>,
    pub(super) prompts: Vec<Named>,
    pub(super) resources: Vec<Map<String, Value>>,
    pub(super) templates: Vec<Map<String, Value>>,
}

/// Something that a server can be asked for.
#[derive(Debug)]
pub(super) struct Target {
    /// Name of the server.
    pub(super) server: String,
    /// What that server calls it.
    pub(super) own: String,
    /// The way to it.
    pub(super) link: Link,
}

/// Why it cannot be asked for.
#[derive(Debug)]
pub(super) enum NoTarget {
    /// The client asks for what is not there.
    NoSuch(String),
    /// The same, by a URI.
    NoSuchResource(String),
    /// It exists, and its server is away.
    ServerAway(String),
}

impl Board {
    /// An empty board.
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::new(State::default()), next_row: AtomicU64::new(0) }
    }

    /// Puts a server up as `starting`, in place of an older one of that name. What the older one had counts for names
    /// until the new one is ready: a replacement must not rename what others have.
    pub(super) fn put(&self, name: &str, required: bool, restarts: u32) -> RowId {
        let id = RowId { name: name.to_owned(), number: self.next_row.fetch_add(1, Ordering::Relaxed) };
        let health =
            ServerHealth { state: ServerState::Starting, required, tools: 0, restarts, reason: None };
        let number = id.number;
        self.change(|rows| {
            let before = rows.remove(name);
            let (shelf, has_resources) = before.map(|row| (row.shelf, row.has_resources)).unwrap_or_default();
            rows.insert(name.to_owned(), Row { number, health, shelf, has_resources, link: None });
        });
        id
    }

    /// Takes a server down for good.
    pub(super) fn remove(&self, name: &str) {
        self.change(|rows| {
            rows.remove(name);
        });
    }

    /// The server is ready, or one of its lists changed.
    pub(super) fn ready(&self, id: &RowId, link: Link, shelf: Shelf) {
        self.update(id, |row| {
            row.health.state = ServerState::Ready;
            row.health.reason = None;
            row.health.tools = shelf.tools.len();
            row.shelf = shelf;
            row.has_resources = link.capabilities.get("resources").is_some();
            row.link = Some(link);
        });
    }

    /// The server is away; what it has leaves the lists before this returns.
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

    /// How the server stands; `None` if it was replaced.
    pub(super) fn health(&self, id: &RowId) -> Option<ServerHealth> {
        let state = self.state.borrow();
        let row = state.rows.get(&id.name).filter(|row| row.number == id.number);
        row.map(|row| row.health.clone())
    }

    /// What clients see.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.state.borrow().catalog.clone()
    }

    /// The body of `/readyz`.
    pub(super) fn readiness(&self) -> Readiness {
        self.state.borrow().readiness()
    }

    /// The ways to all servers that are ready, by name.
    pub(super) fn links(&self) -> Vec<(String, Link)> {
        let state = self.state.borrow();
        let link = |(name, row): (&String, &Row)| Some((name.clone(), row.link.clone()?));
        state.rows.iter().filter_map(link).collect()
    }

    /// The server behind the public name of a tool.
    pub(super) fn tool(&self, name: &str) -> Result<Target, NoTarget> {
        self.named("tool", name, |catalog| &catalog.tools)
    }

    /// The server behind the public name of a prompt.
    pub(super) fn prompt(&self, name: &str) -> Result<Target, NoTarget> {
        self.named("prompt", name, |catalog| &catalog.prompts)
    }

    /// The server that has a resource. A URI that nobody lists is for the one server that has resources, if there is one;
    /// those that are away count, as it may be theirs.
    pub(super) fn resource(&self, uri: &str) -> Result<Target, NoTarget> {
        let state = self.state.borrow();
        let only = || {
            let having = state.rows.iter().filter(|(_, row)| row.has_resources);
            let mut having = having.map(|(name, _)| name.as_str());
            having.next().filter(|_| having.next().is_none())
        };
        let Some(server) = state.catalog.owner_of(uri).or_else(only) else {
            return Err(NoTarget::NoSuchResource(format!("no server has a resource {uri:?}")));
        };
        state.target(server, uri, || format!("resource {uri:?}"))
    }

    fn named(&self, what: &str, name: &str, names: impl Fn(&Catalog) -> &Names) -> Result<Target, NoTarget> {
        let state = self.state.borrow();
        let names = names(&state.catalog);
        let route = names.route(name).map_err(|why| {
            NoTarget::NoSuch(match why {
                NoRoute::Ambiguous(names) => {
                    format!("several servers have a {what} {name:?}: use {}", names.join(" or "))
                }
                NoRoute::Unknown => match nearest(name, names.names()) {
                    Some(near) => format!("unknown {what} {name:?}: did you mean {near:?}?"),
                    None => format!("unknown {what} {name:?}"),
                },
            })
        })?;
        state.target(&route.server, &route.own, || format!("{what} {name:?}"))
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

    /// Waits until none of these servers is `ready` any more, or it is another start of it; at most for `limit`.
    pub(super) async fn away_from_ready(&self, servers: impl Iterator<Item = &String>, limit: Duration) {
        let mut watcher = self.state.subscribe();
        let names: Vec<&String> = servers.collect();
        let gone = watcher.wait_for(|state| {
            let is_ready = |name: &&String| state.rows.get(*name).is_some_and(|row| row.link.is_some());
            !names.iter().any(is_ready)
        });
        // Running out of time is an answer: they are still listed, and silent.
        tokio::time::timeout(limit, gone).await.ok();
    }

    /// A view that tells when clients should list again.
    pub(super) fn list_changes(&self) -> ListChanges {
        let mut watcher = self.state.subscribe();
        let seen = watcher.borrow_and_update().versions;
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
            let shares: Vec<_> = state.rows.iter().map(|(name, row)| row.share(name)).collect();
            let (catalog, before) = (Catalog::merge(&shares), &state.catalog);
            let versions = &mut state.versions;
            versions.tools += u64::from(catalog.tools.items != before.tools.items);
            versions.prompts += u64::from(catalog.prompts.items != before.prompts.items);
            versions.resources += u64::from(
                catalog.resources.items != before.resources.items
                    || catalog.templates.items != before.templates.items,
            );
            state.catalog = Arc::new(catalog);
        });
    }
}

impl Row {
    fn share<'a>(&'a self, server: &'a str) -> Share<'a> {
        let Shelf { tools, prompts, resources, templates } = &self.shelf;
        Share { server, ready: self.link.is_some(), tools, prompts, resources, templates }
    }
}

impl State {
    fn readiness(&self) -> Readiness {
        let servers: BTreeMap<_, _> =
            self.rows.iter().map(|(name, row)| (name.clone(), row.health.clone())).collect();
        let ready = servers.values().all(|health| !health.required || health.state == ServerState::Ready);
        Readiness { ready, servers, deaths: BTreeMap::new() }
    }

    fn target(&self, server: &str, own: &str, what: impl Fn() -> String) -> Result<Target, NoTarget> {
        let row = self.rows.get(server);
        match row.and_then(|row| row.link.clone()) {
            Some(link) => Ok(Target { server: server.to_owned(), own: own.to_owned(), link }),
            None => {
                let reason =
                    row.and_then(|row| row.health.reason.as_deref()).unwrap_or("it is being started");
                Err(NoTarget::ServerAway(format!("server {server:?} of {} is away: {reason}", what())))
            }
        }
    }
}

/// See [`Board::list_changes`].
#[derive(Debug)]
pub(super) struct ListChanges {
    watcher: watch::Receiver<State>,
    seen: Versions,
}

impl ListChanges {
    /// Waits for the next change, and tells which lists it is about; several at once are one. `None` when the board is gone.
    pub(super) async fn next(&mut self) -> Option<Vec<Kind>> {
        let before = self.seen;
        self.seen = self.watcher.wait_for(|state| state.versions != before).await.ok()?.versions;
        let changed = [
            (Kind::Tool, self.seen.tools != before.tools),
            (Kind::Prompt, self.seen.prompts != before.prompts),
            (Kind::Resource, self.seen.resources != before.resources),
        ];
        Some(changed.into_iter().filter(|(_, changed)| *changed).map(|(kind, _)| kind).collect())
    }
}
