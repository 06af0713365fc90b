//! The life of one server: started, ready, lost, waited for, started again, until it is told to stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stelae_model::overrides::ServerOverrides;
use stelae_model::proxy::{ServerEntry, ServerState};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::{self, Backoff};
use super::board::{Board, RowId, Shelf};
use super::connect::Connection;
use super::environment::server_environment;
use super::hub::Hub;
use super::link::Link;
use super::log::event;
use super::offer::{self, Kind, Offer};
use super::process::Process;

/// A server that is being kept alive.
#[derive(Debug)]
pub(super) struct Life {
    /// What it was started from.
    pub(super) entry: ServerEntry,
    /// What the overrides say of it.
    pub(super) told: Option<ServerOverrides>,
    /// Its place on the board.
    pub(super) row: RowId,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Life {
    /// Begins to keep a server alive.
    pub(super) fn begin(
        name: &str,
        entry: &ServerEntry,
        told: Option<&ServerOverrides>,
        to: &Audience,
    ) -> Self {
        let board = &to.board;
        let row = board.put(name, entry.required);
        let stop = CancellationToken::new();
        let server = Server {
            name: name.to_owned(),
            entry: entry.clone(),
            told: told.cloned(),
            to: to.clone(),
            row: row.clone(),
            stop: stop.clone(),
        };
        let task = tokio::spawn(server.live());
        Self { entry: entry.clone(), told: told.cloned(), row, stop, task }
    }

    /// Stops the server and waits until nothing of it is left, which is bounded by the grace before KILL.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.ok();
    }

    /// Limit for `initialize` plus `tools/list`.
    pub(super) fn start_limit(&self) -> Duration {
        start_limit(&self.entry)
    }
}

fn start_limit(entry: &ServerEntry) -> Duration {
    Duration::from_millis(entry.start_timeout_ms.unwrap_or(10_000))
}

/// Who hears of servers.
#[derive(Clone, Debug)]
pub(super) struct Audience {
    /// What is known about them.
    pub(super) board: Arc<Board>,
    /// The clients' sessions.
    pub(super) hub: Arc<Hub>,
}

struct Server {
    name: String,
    entry: ServerEntry,
    told: Option<ServerOverrides>,
    to: Audience,
    row: RowId,
    stop: CancellationToken,
}

/// How one life ended.
enum End {
    /// It was told to stop.
    Stopped,
    /// It never was ready: its program cannot be executed.
    NoSuchProgram(String),
    /// It never was ready: it exited, or what it said was no answer.
    NeverReady(String),
    /// It never was ready: it said nothing in time.
    TooLate(String),
    /// It was ready for so long, and then was lost.
    Lost { ready: Duration, why: String },
}

impl Server {
    /// Life after life. A state changes only when something was learned: a server that failed stays `failed` while it is
    /// tried again, so that whoever reads `/readyz` never catches a moment of false hope.
    async fn live(self) {
        let mut backoff = Backoff::default();
        loop {
            let (state, wait, why) = match self.one_life().await {
                End::Stopped => break,
                End::NoSuchProgram(why) => (ServerState::Failed, backoff::LONGEST, why),
                End::NeverReady(why) | End::TooLate(why) => {
                    (ServerState::Failed, backoff.after(Duration::ZERO), why)
                }
                End::Lost { ready, why } => (ServerState::Backoff, backoff.after(ready), why),
            };
            let label = if state == ServerState::Backoff { "died" } else { "failed" };
            event!("server {:?}: {label}: {why}; again in {} ms", self.name, wait.as_millis());
            self.to.board.away(&self.row, state, why);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => break,
            }
            self.to.board.restarted(&self.row);
        }
        event!("server {:?}: stopped", self.name);
    }

    async fn one_life(&self) -> End {
        match (&self.entry.command, &self.entry.url) {
            (Some(program), _) => self.life_on_stdio(program).await,
            (None, Some(url)) => self.life_on_http(url).await,
            // `ProxyConfig::check` refuses it; there is no program, so there is none to execute.
            (None, None) => End::NoSuchProgram("neither `command` nor `url` is given".to_owned()),
        }
    }

    async fn life_on_stdio(&self, program: &str) -> End {
        let environment = server_environment(|name| std::env::var(name).ok(), &self.name, &self.entry);
        let (process, stdin, stdout) = match Process::spawn(&self.name, program, &self.entry, environment) {
            Ok(started) => started,
            Err(error) => {
                let place = self.entry.cwd.as_ref().map(|cwd| format!(" in {cwd:?}")).unwrap_or_default();
                return End::NoSuchProgram(format!("cannot execute {program:?}{place}: {error}"));
            }
        };
        let greeting = async {
            tokio::select! {
                connection = Connection::over_stdio(&self.name, &self.entry, &self.to.hub, stdin, stdout) => connection,
                _ = process.exited() => Err("exited before it was ready".to_owned()),
            }
        };
        let end = self.attend(greeting, Some(&process)).await;
        let remains = process.end(matches!(end, End::NeverReady(_) | End::Lost { .. })).await;
        // Its pipes close a moment before it can be seen to have exited: the same end is told the same way each time.
        let told = |why: &str, exited: &str| remains.explain(if remains.exited() { exited } else { why });
        match end {
            End::NeverReady(why) => End::NeverReady(told(&why, "exited before it was ready")),
            End::TooLate(why) => End::TooLate(remains.explain(&why)),
            End::Lost { ready, why } => End::Lost { ready, why: told(&why, "exited") },
            other => other,
        }
    }

    async fn life_on_http(&self, url: &str) -> End {
        let greeting = Connection::over_http(&self.name, &self.entry, &self.to.hub, url);
        self.attend(greeting, None).await
    }

    /// The part of a life that is the same on every transport: greet, list, serve until lost or told to stop.
    async fn attend(
        &self,
        greeting: impl Future<Output = Result<Connection, String>>,
        process: Option<&Process>,
    ) -> End {
        let began = Instant::now();
        let limit = start_limit(&self.entry);
        let start = timeout(limit, async {
            let connection = greeting.await?;
            let offer = connection.offer().await;
            Ok((connection, offer?))
        });
        let (connection, mut offer) = tokio::select! {
            () = self.stop.cancelled() => return End::Stopped,
            started = start => match started {
                Ok(Ok(started)) => started,
                Ok(Err(why)) => return End::NeverReady(why),
                Err(_) => {
                    let limit = limit.as_millis();
                    return End::TooLate(format!("no answer to initialize and tools/list within {limit} ms"));
                }
            },
        };
        event!(
            "server {:?}: ready, {} tools, {} ms",
            self.name,
            offer.tools.len(),
            began.elapsed().as_millis()
        );
        let ready = Instant::now();
        self.put_up(&connection, &offer);
        self.catch_up(&connection.link(&self.entry));
        let end = tokio::select! {
            () = self.stop.cancelled() => End::Stopped,
            why = lost(&connection, process) => End::Lost { ready: ready.elapsed(), why },
            never = self.keep_listing(&connection, &mut offer) => match never {},
        };
        if let End::Lost { why, .. } = &end {
            // Before anything is waited for: the tools of a dead server leave the list at once.
            self.to.board.away(&self.row, ServerState::Backoff, why.clone());
        }
        connection.close().await;
        end
    }

    /// Puts what the server offers on the board, as clients are to see it.
    fn put_up(&self, connection: &Connection, offer: &Offer) {
        let shelf = Shelf {
            tools: offer::presented(&offer.tools, &self.entry, self.told.as_ref()),
            prompts: offer::named(&offer.prompts),
            resources: offer.resources.clone(),
            templates: offer.templates.clone(),
        };
        self.to.board.ready(&self.row, connection.link(&self.entry), shelf);
    }

    /// Tells a server that has just come up what clients have asked of the one before it.
    fn catch_up(&self, link: &Link) {
        // Nobody waits for these: a server that does not answer them has its calls to show what it is worth.
        let say = |method: &str, params: Value| {
            let call = link.peer.call(method, params, None, false);
            tokio::spawn(timeout(link.limit, call.answer()));
        };
        if let Some(level) = self.to.hub.level().filter(|_| link.capabilities.get("logging").is_some()) {
            say("logging/setLevel", json!({"level": level}));
        }
        let ours = |uri: &String| self.to.board.resource(uri).is_ok_and(|target| target.server == self.name);
        for uri in self.to.hub.subscriptions().into_iter().filter(ours) {
            say("resources/subscribe", json!({"uri": uri}));
        }
    }

    async fn keep_listing(&self, connection: &Connection, offer: &mut Offer) -> Infallible {
        loop {
            let changed = connection.list_changed().await;
            // Resources and their templates have one notification.
            let kinds: &[Kind] =
                if changed == Kind::Resource { &[Kind::Resource, Kind::Template] } else { &[changed] };
            for &kind in kinds {
                let method = kind.list_method();
                match timeout(start_limit(&self.entry), connection.list(kind)).await {
                    Ok(Ok(items)) => {
                        event!("server {:?}: {method} has changed, {} now", self.name, items.len());
                        *offer.of(kind) = items;
                    }
                    Ok(Err(why)) => event!("server {:?}: {method} has changed, but {why}", self.name),
                    Err(_) => event!("server {:?}: {method} has changed, and is not answered", self.name),
                }
            }
            self.put_up(connection, offer);
        }
    }
}

/// Waits until the server is gone; says how it was noticed.
async fn lost(connection: &Connection, process: Option<&Process>) -> String {
    let Some(process) = process else {
        return connection.silent().await;
    };
    tokio::select! {
        _ = process.exited() => "exited".to_owned(),
        () = connection.closed() => connection.why_closed().unwrap_or_else(|| "closed its stdout".to_owned()),
    }
}
