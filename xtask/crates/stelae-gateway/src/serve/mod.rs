//! `serve`: the gateway. Many MCP servers behind one streamable-HTTP endpoint.
//!
//! ```text
//! config ─ Fleet ─ Life (one per server) ─ Process, Connection ── rpc::Peer
//!                     │ writes                │ says          │
//!                   Board ── Catalog         Hub              │ answers, progress, questions
//!                     │ reads                 │ tells         │
//! client ─ guard ─ drain ─ Front (one per session) ── Relay ──┘    /readyz, /-/reload
//! ```
//! Servers never wait for clients nor for each other; clients only read the [`board`].
//!
//! What is started is two processes: one that serves, and one that does nothing but see to its end ([`watched`]).

mod account;
mod answers;
mod backoff;
mod board;
pub(crate) mod body;
mod budget;
mod calls;
mod catalog;
mod config;
mod connect;
mod drain;
mod environment;
mod fleet;
mod front;
mod guard;
mod http;
mod hub;
mod life;
mod limits;
mod link;
pub(crate) mod log;
mod offer;
mod process;
mod pulse;
mod raw;
mod relay;
mod rpc;
mod servers;
mod sessions;
mod shape;
mod stderr;
mod uri_template;
mod watched;
mod weight;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use stelae_model::hidden::Hidden;
use stelae_model::lifecycle::StopLimits;
use stelae_model::value::{BearerToken, EnvValue as _, Secret};
use stelae_model::{ExitCode, Failure, server_account};
use stelae_run::process::{Family, beside_calls, record_starts};
use stelae_run::signals::Interrupt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::connections::{self, Others, Refusals, Rules};
use crate::peer_user::{self, PeerUsers};
use crate::{listener, token};
use board::Board;
use calls::Calls;
use config::{Config, Files};
use drain::InFlight;
use fleet::Fleet;
pub(crate) use fleet::SETTLED_WITHIN;
use http::Shared;
use life::Audience;
use log::event;
use servers::ServerAccount;

/// Calls in flight get this long to finish once we are told to stop.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// Connections get this long to close after the last answer.
const CLOSE_GRACE: Duration = Duration::from_millis(500);
/// Long before this it has ended, once it was told to: whatever takes longer hangs.
const ENDS_WITHIN: Duration = DRAIN_GRACE
    .saturating_add(CLOSE_GRACE)
    .saturating_add(process::END_LIMIT)
    .saturating_add(Duration::from_secs(10));

/// Serve the servers of a proxy.json on one endpoint
///
/// Routes: `/mcp` (streamable HTTP), `/healthz`, `/readyz`, and `POST /-/reload` for whoever has STELAE_CONTROL_TOKEN.
/// Only processes of the same user, and root, may connect; others need the clients' token, if there is one (docs/GATEWAY.md).
/// SIGHUP reloads as well; SIGTERM and SIGINT finish the calls in flight, stop the servers and exit with 0.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The rendered configuration
    #[arg(long, value_name = "PATH")]
    config: Utf8PathBuf,
    /// Which tools clients see, under which names: a file that may be absent
    #[arg(long, value_name = "PATH")]
    overrides: Option<Utf8PathBuf>,
    /// A token that clients of `/mcp` have to show, and other users on every route: a file that only its owner can read; or STELAE_MCP_TOKEN
    #[arg(long, value_name = "PATH")]
    token_file: Option<Utf8PathBuf>,
    /// Every call of a tool, a JSON object a line, appended before the client gets its answer; or STELAE_CALLS
    ///
    /// The file is made for its owner only. It holds arguments as clients send them, secrets among them; of arguments above
    /// 64 KiB only the length. Cancelled calls, calls that were given up and calls of unknown tools have a line, too; what is no
    /// request of MCP, or has an id that is under way, is refused before it is a call.
    ///
    /// Beside it, in PATH with the ending `.servers.jsonl`, is what happened to the servers: each start, readiness and death, with
    /// how it ended and its last lines on stderr.
    #[arg(long, value_name = "PATH")]
    calls: Option<Utf8PathBuf>,
    /// The process that watches this one: it is what says this
    #[arg(long, value_name = "PID", hide = true)]
    watched: Option<i32>,
}

impl Serve {
    /// Serves until a signal comes, in a process that this one watches. Gives its exit code.
    ///
    /// # Errors
    /// 33 for a taken port, 21 or 40 for a configuration that is invalid or absent, 40 for a file for the calls that cannot be
    /// written, 20 for an unusable passed socket, or where the kernel does not tell the users of connections and there is no
    /// token: told by the process that serves. By this one: 10 when that was killed, 34 when something is left.
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.watched {
            None => watched::watch(ENDS_WITHIN),
            Some(watcher) => {
                watched::follow(watcher)?;
                self.serve().map(|()| 0)
            }
        }
    }

    fn serve(self) -> Result<(), Failure> {
        let client_token =
            token::of_clients(self.token_file.as_deref(), std::env::var_os(token::CLIENT_TOKEN))?;
        let files = Files { proxy: self.config, overrides: self.overrides };
        let config = files.read()?;
        let address = config.proxy.mcp_proxy.address().map_err(Failure::unexpected)?;
        // Before the runtime starts its threads: see `listener::open`.
        let listener = listener::open(address)?;
        let rules = rules(&listener, client_token.is_some())?;
        let calls = self.calls.or_else(calls::of_the_environment);
        let opened = calls.as_deref().map(Calls::open).transpose()?;
        let account = calls.as_deref().map(|calls| ServerAccount::open(&server_account::beside(calls)));
        let account = account.transpose()?.unwrap_or_else(ServerAccount::counted);
        if let Some(calls) = &calls {
            // A run that reads the account of calls reads that of servers, too.
            record_starts(&beside_calls(calls)).map_err(|error| unrecordable(calls, &error))?;
        }
        let calls = opened;
        // The orphans of servers fall to us: whoever watches us may be the one that is killed.
        let family = Family::enter()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unexpected(&error))?;
        let served = runtime.block_on(serve(files, config, (listener, rules), client_token, calls, account));
        // Whatever still sits on a blocking thread is nobody's any more.
        runtime.shutdown_background();
        log::flush();
        // Servers have had their grace. What is left is what one of them has left behind.
        let proof = family.stop(StopLimits::at_once(), &Interrupt::never(), &mut |_| ());
        served.map_err(|error| unexpected(&error))?;
        proof.check()
    }
}

fn unrecordable(calls: &Utf8Path, error: &io::Error) -> Failure {
    let what = "the record of the servers that are started cannot be written";
    Failure::new(ExitCode::PrerequisiteMissing, "starts-unwritable", what)
        .on(beside_calls(calls).to_string())
        .because(error.to_string())
        .hint(format!("name another file: --calls PATH; this one lies beside {calls}"))
}

fn unexpected(error: &io::Error) -> Failure {
    Failure::unexpected(format!("the gateway cannot serve: {error}"))
}

/// Who is served. Other users' connections need a token; without one they are refused as they come.
///
/// # Errors
/// 20, `peer-unknown`: the kernel does not tell whose they are, and there is no token.
fn rules(listener: &TcpListener, has_token: bool) -> Result<Rules, Failure> {
    let users = match PeerUsers::of(listener) {
        Ok(users) => Some(users),
        Err(why) if has_token => {
            event!("the kernel does not tell whose connections come in ({why}): every route needs the token");
            None
        }
        Err(why) => {
            let export = format!("export {}=…", token::CLIENT_TOKEN);
            let hint = format!("have clients show a token: {export}; cargo xtask restart");
            return Err(peer_user::unknowable(listener, why).hint(hint));
        }
    };
    let others = if has_token {
        Others::NeedAToken
    } else {
        Others::Refused(format!(
            "this gateway serves uid {} and root only; to let others in, start it with {}, which they have to show then",
            rustix::process::geteuid().as_raw(),
            token::CLIENT_TOKEN,
        ))
    };
    Ok(Rules { users, others, most_connections: limits::connections() })
}

async fn serve(
    files: Files,
    config: Config,
    (listener, rules): (TcpListener, Rules),
    client_token: Option<Secret<BearerToken>>,
    calls: Option<Calls>,
    account: ServerAccount,
) -> io::Result<()> {
    // Before anything is started that a signal would have to stop.
    let signals = Signals::new()?;
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let refusals = Refusals::new("gateway");
    let token = std::env::var(environment::CONTROL_TOKEN).ok().filter(|token| !token.is_empty());
    let client = client_token.as_ref().and_then(Secret::to_env);
    let mut own = Hidden::default();
    token.iter().chain(&client).for_each(|secret| own.hide(secret));
    log::hide(&own);
    let to = Audience { board: Arc::new(Board::new()), hub: Arc::default(), account: account.clone() };
    let proxy = Arc::new(config.proxy.mcp_proxy.clone());
    let fleet = Arc::new(Fleet::start(files, config, to.clone()));
    if client_token.is_some() {
        event!("clients of /mcp have to show a token");
    }
    let in_flight = InFlight::new();
    let (accept, streams) = (CancellationToken::new(), CancellationToken::new());
    let shared = Shared {
        to,
        fleet: Arc::clone(&fleet),
        proxy,
        token: token.map(Secret::new),
        client_token,
        calls: calls.clone(),
        in_flight: in_flight.clone(),
        most_calls: limits::calls(rules.most_connections),
        refusals: Arc::clone(&refusals),
    };
    tokio::spawn(reap_orphans(signal(SignalKind::child())?));
    let router = http::router(shared, address, streams.clone());
    let serving = connections::serve(listener, router, rules, Arc::clone(&refusals), accept.clone());
    let server = tokio::spawn(serving);
    event!("listening on {address}");

    let name = signals.until_stop(&fleet).await;
    accept.cancel();
    event!("{name}: no more connections, calls in flight have {} ms", DRAIN_GRACE.as_millis());
    let left = in_flight.drained(DRAIN_GRACE).await;
    streams.cancel();
    tokio::time::timeout(CLOSE_GRACE, server).await.ok();
    fleet.stop().await;
    account.settled(Duration::ZERO).await;
    if let Some(calls) = calls {
        calls.finish().await;
    }
    refusals.tell_of_all();
    event!("stopped, {left} calls unfinished");
    Ok(())
}

/// Waits for what has fallen to us and ends, so that it does not stay a zombie for as long as we serve.
async fn reap_orphans(mut children: Signal) {
    while children.recv().await.is_some() {
        tokio::task::spawn_blocking(stelae_run::process::reap_orphans).await.ok();
    }
}

/// The signals we listen to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Reloads at each SIGHUP; returns at the first signal to stop.
    async fn until_stop(mut self, fleet: &Arc<Fleet>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    let fleet = Arc::clone(fleet);
                    tokio::spawn(async move {
                        if let Err(why) = fleet.reload().await {
                            event!("reload refused: {why}");
                        }
                    });
                }
            }
        }
    }
}
