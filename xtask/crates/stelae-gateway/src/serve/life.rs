//! The life of one server: started, ready, lost, waited for, started again, until it is told to stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stelae_model::proxy::{ServerEntry, ServerState};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::{self, Backoff};
use super::board::{Board, RowId};
use super::connect::Connection;
use super::environment::server_environment;
use super::log::event;
use super::process::Process;

/// A server that is being kept alive.
#[derive(Debug)]
pub(super) struct Life {
    /// What it was started from.
    pub(super) entry: ServerEntry,
    /// Its place on the board.
    pub(super) row: RowId,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Life {
    /// Begins to keep a server alive.
    pub(super) fn begin(name: &str, entry: &ServerEntry, board: &Arc<Board>) -> Self {
        let row = board.put(name, entry.required);
        let stop = CancellationToken::new();
        let server = Server {
            name: name.to_owned(),
            entry: entry.clone(),
            board: Arc::clone(board),
            row: row.clone(),
            stop: stop.clone(),
        };
        let task = tokio::spawn(server.live());
        Self { entry: entry.clone(), row, stop, task }
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

struct Server {
    name: String,
    entry: ServerEntry,
    board: Arc<Board>,
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
            self.board.away(&self.row, state, why);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => break,
            }
            self.board.restarted(&self.row);
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
                connection = Connection::over_stdio(stdin, stdout) => connection,
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
        self.attend(Connection::over_http(url), None).await
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
            let tools = connection.tools().await;
            Ok((connection, tools?))
        });
        let (connection, tools) = tokio::select! {
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
        event!("server {:?}: ready, {} tools, {} ms", self.name, tools.len(), began.elapsed().as_millis());
        let ready = Instant::now();
        self.board.ready(&self.row, connection.link(&self.entry), tools);
        let end = tokio::select! {
            () = self.stop.cancelled() => End::Stopped,
            why = lost(&connection, process) => End::Lost { ready: ready.elapsed(), why },
            never = self.keep_listing(&connection) => match never {},
        };
        if let End::Lost { why, .. } = &end {
            // Before anything is waited for: the tools of a dead server leave the list at once.
            self.board.away(&self.row, ServerState::Backoff, why.clone());
        }
        connection.close().await;
        end
    }

    async fn keep_listing(&self, connection: &Connection) -> Infallible {
        loop {
            connection.list_changed().await;
            match timeout(start_limit(&self.entry), connection.tools()).await {
                Ok(Ok(tools)) => {
                    event!("server {:?}: its list changed, {} tools", self.name, tools.len());
                    self.board.ready(&self.row, connection.link(&self.entry), tools);
                }
                Ok(Err(why)) => event!("server {:?}: its list changed, but {why}", self.name),
                Err(_) => event!("server {:?}: its list changed, but tools/list does not answer", self.name),
            }
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
        () = connection.closed() => "closed its stdout".to_owned(),
    }
}
