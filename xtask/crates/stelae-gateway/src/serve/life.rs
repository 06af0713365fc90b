//! The life of one server: started, ready, lost, waited for, started again, until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use stelae_model::hidden::Hidden;
use stelae_model::overrides::ServerOverrides;
use stelae_model::proxy::{ServerEntry, ServerState};
use stelae_model::server_account::{Death, Happened};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::{self, Backoff};
use super::board::{Board, RowId, Shelf};
use super::connect::{Connection, Unready};
use super::drain::Guard;
use super::environment::{confided, server_environment};
use super::hub::Hub;
use super::link::Link;
use super::log::{self, event};
use super::offer::{self, Kind, Offer, Presented};
use super::process::{self, Process};
use super::pulse;
use super::servers::ServerAccount;

/// So often a list that has changed is asked for.
const LISTINGS: u32 = 5;

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
    /// Begins to keep a server alive, which has been put on the board.
    pub(super) fn begin(
        name: &str,
        entry: &ServerEntry,
        told: Option<&ServerOverrides>,
        row: RowId,
        to: &Audience,
    ) -> Self {
        let stop = CancellationToken::new();
        let environment = server_environment(|name| std::env::var(name).ok(), name, entry);
        log::hide(&confided(&environment, entry));
        let server = Server {
            name: name.to_owned(),
            // Also what others were given: a server can read more of the gateway's than it was told.
            confided: log::hidden(),
            environment,
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
}

/// Within this time a server that is begun is ready, or it is known why it is not, which can take its end.
pub(super) fn settle_limit(entry: &ServerEntry) -> Duration {
    start_limit(entry) + process::END_LIMIT
}

/// Limit for `initialize` plus `tools/list`.
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
    /// What happened to them.
    pub(super) account: ServerAccount,
}

struct Server {
    name: String,
    /// What it finds in its environment.
    environment: BTreeMap<String, String>,
    /// What nobody else is to read.
    confided: Hidden,
    entry: ServerEntry,
    told: Option<ServerOverrides>,
    to: Audience,
    row: RowId,
    stop: CancellationToken,
}

/// One life, when it is over.
struct Over {
    end: End,
    /// The last lines of its process's stderr; `None` where it had no process.
    log: Option<Vec<String>>,
    /// While it is held, the account waits for what became of this life.
    ending: Option<Guard>,
}

/// How one life ended.
enum End {
    /// It was told to stop.
    Stopped,
    /// It never was ready: its program cannot be executed.
    NoSuchProgram(String),
    /// It never was ready: it exited, or what it said was no answer.
    NeverReady(Unready),
    /// It never was ready: it said nothing in time.
    TooLate(String),
    /// It was ready for so long, and then was lost.
    Lost { ready: Duration, why: String },
    /// It was ready for so long, and is still there, but does not do what it is there for.
    GivenUp { ready: Duration, why: String },
}

impl Server {
    /// Life after life. A state changes only when something was learned: a server that failed, or died, stays so while it is
    /// tried again, so that whoever reads `/readyz` never catches a moment of false hope.
    async fn live(self) {
        let mut backoff = Backoff::default();
        loop {
            let over = self.one_life().await;
            if let Some(happened) = self.happened(&over) {
                self.to.account.note(&self.name, &self.entry, happened);
            }
            let (label, state, wait, why) = match over.end {
                End::Stopped => break,
                End::NoSuchProgram(why) => ("failed", ServerState::Failed, backoff::LONGEST, why),
                End::TooLate(why) => ("failed", ServerState::Failed, backoff.after(Duration::ZERO), why),
                // The next one may be ready in a moment, so this is no verdict.
                End::NeverReady(why) => {
                    ("failed", ServerState::Backoff, backoff.after(Duration::ZERO), why.to_string())
                }
                End::Lost { ready, why } => ("died", ServerState::Backoff, backoff.after(ready), why),
                End::GivenUp { ready, why } => ("given up", ServerState::Backoff, backoff.after(ready), why),
            };
            let why = self.shown(&why);
            event!("server {:?}: {label}: {why}; again in {} ms", self.name, wait.as_millis());
            self.to.board.away(&self.row, state, why);
            drop(over.ending);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => break,
            }
            self.to.board.restarted(&self.row);
        }
        event!("server {:?}: stopped", self.name);
    }

    /// A reason, as everybody may read it: a server may quote on its way out what it was given in confidence.
    fn shown(&self, why: &str) -> String {
        self.confided.masked(why)
    }

    /// What the end of a life is in the account; nothing when it was told to stop.
    fn happened(&self, over: &Over) -> Option<Happened> {
        let (why, ready) = match &over.end {
            End::Stopped => return None,
            End::NoSuchProgram(why) => return Some(Happened::Unavailable(self.shown(why))),
            End::NeverReady(why) => (why.to_string(), None),
            End::TooLate(why) => (why.clone(), None),
            End::Lost { ready, why } | End::GivenUp { ready, why } => (why.clone(), Some(*ready)),
        };
        let why = self.shown(&why);
        // An endpoint that was never reached has lost nothing of ours.
        if ready.is_none() && over.log.is_none() {
            return Some(Happened::Unavailable(why));
        }
        let ready_ms = ready.map(|ready| u64::try_from(ready.as_millis()).unwrap_or(u64::MAX));
        Some(Happened::Died(Death::new(&why, ready_ms, over.log.as_deref().unwrap_or_default())))
    }

    async fn one_life(&self) -> Over {
        match (&self.entry.command, &self.entry.url) {
            (Some(program), _) => self.life_on_stdio(program).await,
            (None, Some(url)) => self.life_on_http(url).await,
            // `ProxyConfig::check` refuses it; there is no program, so there is none to execute.
            (None, None) => {
                Over::without_process(End::NoSuchProgram("neither `command` nor `url` is given".to_owned()))
            }
        }
    }

    async fn life_on_stdio(&self, program: &str) -> Over {
        let Self { name, entry, environment, confided, .. } = self;
        let (process, stdin, stdout) = match Process::spawn(name, program, entry, environment, confided) {
            Ok(started) => started,
            Err(error) => {
                let place = self.entry.cwd.as_ref().map(|cwd| format!(" in {cwd:?}")).unwrap_or_default();
                let why = format!("cannot execute {program:?}{place}: {error}");
                return Over::without_process(End::NoSuchProgram(why));
            }
        };
        let greeting = async {
            tokio::select! {
                connection = Connection::over_stdio(&self.name, &self.entry, &self.to.hub, stdin, stdout) => connection,
                _ = process.exited() => Err(Unready::Closed("exited before it was ready".to_owned())),
            }
        };
        let (end, ending) = self.attend(greeting, Some(&process)).await;
        let remains = process.end(matches!(end, End::NeverReady(_) | End::Lost { .. })).await;
        // Its pipes close a moment before it can be seen to have exited: the same end is told the same way each time.
        let told = |why: &str, exited: &str| remains.explain(if remains.exited() { exited } else { why });
        let end = match end {
            End::NeverReady(Unready::Closed(why)) => {
                End::NeverReady(Unready::Closed(told(&why, "exited before it was ready")))
            }
            End::NeverReady(Unready::Refused(why)) => {
                End::NeverReady(Unready::Refused(remains.explain(&why)))
            }
            End::TooLate(why) => End::TooLate(remains.explain(&why)),
            End::GivenUp { ready, why } => End::GivenUp { ready, why: remains.explain(&why) },
            End::Lost { ready, why } => End::Lost { ready, why: told(&why, "exited") },
            other => other,
        };
        Over { end, log: Some(remains.into_log()), ending }
    }

    async fn life_on_http(&self, url: &str) -> Over {
        let greeting = Connection::over_http(&self.name, &self.entry, &self.to.hub, url);
        let (end, ending) = self.attend(greeting, None).await;
        Over { end, log: None, ending }
    }

    /// The part of a life that is the same on every transport: greet, list, serve until lost or told to stop. An end that is not
    /// asked for comes with a guard: the account is waited for until it has that end.
    async fn attend(
        &self,
        greeting: impl Future<Output = Result<Connection, Unready>>,
        process: Option<&Process>,
    ) -> (End, Option<Guard>) {
        let unasked = |end: End| (end, Some(self.to.account.ending()));
        let began = Instant::now();
        let limit = start_limit(&self.entry);
        let start = timeout(limit, async {
            let connection = greeting.await?;
            let offer = connection.offer().await;
            Ok((connection, offer?))
        });
        let (connection, mut offer) = tokio::select! {
            () = self.stop.cancelled() => return unasked(stopped(process, None)),
            started = start => match started {
                Ok(Ok(started)) => started,
                Ok(Err(why)) => return unasked(End::NeverReady(why)),
                Err(_) => {
                    let limit = limit.as_millis();
                    let why = format!("no answer to initialize and tools/list within {limit} ms");
                    // Before its end is waited for, which can take seconds and tells nothing new. One that exited is told
                    // of after its end: that is what explains it.
                    let told = process.map_or_else(|| why.clone(), |process| process.explain(&why));
                    self.to.board.away(&self.row, ServerState::Failed, self.shown(&told));
                    return unasked(End::TooLate(why));
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
        let link = connection.link(&self.entry);
        // In the account first: what is on the board can be asked for, and die of it.
        self.to.account.note(&self.name, &self.entry, Happened::Ready);
        self.put_up(&link, &offer);
        self.catch_up(&link);
        let end = tokio::select! {
            () = self.stop.cancelled() => stopped(process, Some(ready.elapsed())),
            why = lost(&connection, process) => End::Lost { ready: ready.elapsed(), why },
            why = pulse::lost(&link) => End::GivenUp { ready: ready.elapsed(), why },
            why = self.keep_listing(&connection, &link, &mut offer) => {
                End::GivenUp { ready: ready.elapsed(), why }
            }
        };
        let ended = unasked(end);
        if let End::Lost { why, .. } | End::GivenUp { why, .. } = &ended.0 {
            // Before anything is waited for: the tools of a dead server leave the list at once.
            self.to.board.away(&self.row, ServerState::Backoff, self.shown(why));
        }
        connection.close().await;
        ended
    }

    /// Puts what the server offers on the board, as clients are to see it.
    fn put_up(&self, link: &Link, offer: &Offer) {
        let Presented { tools, complaints } = offer::presented(&offer.tools, &self.entry, self.told.as_ref());
        for complaint in complaints {
            event!("server {:?}: {complaint}", self.name);
        }
        let shelf = Shelf {
            tools,
            prompts: offer::named(&offer.prompts),
            resources: offer.resources.clone(),
            templates: offer.templates.clone(),
        };
        self.to.board.ready(&self.row, link.clone(), shelf);
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

    /// Keeps what is on the board like what the server lists, until one of its lists cannot be had; says why. What is on the
    /// board is wrong then, and it would stay so: nobody would say again that it has changed.
    async fn keep_listing(&self, connection: &Connection, link: &Link, offer: &mut Offer) -> String {
        loop {
            let changed = connection.list_changed().await;
            // Resources and their templates have one notification.
            let kinds: &[Kind] =
                if changed == Kind::Resource { &[Kind::Resource, Kind::Template] } else { &[changed] };
            for &kind in kinds {
                let method = kind.list_method();
                match self.list_again(connection, link, kind).await {
                    Ok(items) => {
                        event!("server {:?}: {method} has changed, {} now", self.name, items.len());
                        *offer.of(kind) = items;
                        self.put_up(link, offer);
                    }
                    // As at its start: a list that it never had may be missing. A new life would not have it, either.
                    Err(why) if kind != Kind::Tool && offer.of(kind).is_empty() => {
                        event!("server {:?}: {method} has changed, but {why}", self.name);
                    }
                    Err(why) => return format!("{method} has changed, and cannot be had: {why}"),
                }
            }
        }
    }

    /// Asks for a list until it is had, or has been asked for often enough.
    async fn list_again(
        &self,
        connection: &Connection,
        link: &Link,
        kind: Kind,
    ) -> Result<Vec<Map<String, Value>>, String> {
        // A server that is busy with a call answers nothing else, and may be so for as long as a call may take.
        let limit = start_limit(&self.entry).max(link.limit);
        let mut backoff = Backoff::default();
        let mut asked = 0;
        loop {
            asked += 1;
            let begun = Instant::now();
            let (why, is_mute) = match timeout(limit, connection.list(kind)).await {
                Ok(Ok(items)) => return Ok(items),
                Ok(Err(why)) => (why.to_string(), false),
                Err(_) => {
                    let why = format!("no answer within {} ms", limit.as_millis());
                    (why, link.pulse.silence() >= begun.elapsed())
                }
            };
            if is_mute || asked == LISTINGS {
                return Err(why);
            }
            event!("server {:?}: a list has changed, and is asked for again: {why}", self.name);
            sleep(backoff.after(Duration::ZERO)).await;
        }
    }
}

impl Over {
    /// There was no process, and nothing to wait for.
    fn without_process(end: End) -> Self {
        Self { end, log: None, ending: None }
    }
}

/// A server is told to stop. One that had died before is no less dead for that.
fn stopped(process: Option<&Process>, ready: Option<Duration>) -> End {
    let died = process.is_some_and(|process| process.has_exited().unwrap_or_default());
    match ready {
        _ if !died => End::Stopped,
        Some(ready) => End::Lost { ready, why: "exited".to_owned() },
        None => End::NeverReady(Unready::Closed("exited before it was ready".to_owned())),
    }
}

/// What a server wrote before it exited is read to its end, for so long at the most: what it has started may hold the pipe.
const READ_REST: Duration = Duration::from_millis(200);

/// Waits until the server is gone; says how it was noticed.
async fn lost(connection: &Connection, process: Option<&Process>) -> String {
    let Some(process) = process else {
        return connection.silent().await;
    };
    tokio::select! {
        _ = process.exited() => {
            timeout(READ_REST, connection.closed()).await.ok();
            "exited".to_owned()
        }
        () = connection.closed() => connection.why_closed().unwrap_or_else(|| "closed its stdout".to_owned()),
    }
}
