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
mod body;
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
mod link;

mod log;
mod offer;
mod process;
mod pulse;
mod raw;
mod relay;
mod rpc;
mod sessions;
mod shape;
mod uri_template;
mod watched;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use camino::Utf8PathBuf;
use clap::Args;
use stelae_model::Failure;
use stelae_model::lifecycle::StopLimits;
use stelae_model::value::{BearerToken, Secret};
use stelae_run::process::Family;
use stelae_run::signals::Interrupt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

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
/// SIGHUP reloads as well; SIGTERM and SIGINT finish the calls in flight, stop the servers and exit with 0.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The rendered configuration
    #[arg(long, value_name = "PATH")]
    config: Utf8PathBuf,
    /// Which tools clients see, under which names: a file that may be absent
    #[arg(long, value_name = "PATH")]
    overrides: Option<Utf8PathBuf>,
    /// A token that clients of `/mcp` have to show: a file that only its owner can read; or STELAE_MCP_TOKEN
    #[arg(long, value_name = "PATH")]
    token_file: Option<Utf8PathBuf>,
    /// Every call of a tool, a JSON object a line, appended before the client gets its answer; or STELAE_CALLS
    ///
    /// The file is made for its owner only. It holds arguments as clients send them, secrets among them; of arguments above
    /// 64 KiB only the length. Cancelled calls, calls that were given up and calls of unknown tools have a line, too; what is no
    /// request of MCP, or has an id that is under way, is refused before it is a call.
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
    /// written, 20 for an unusable passed socket: told by
    /// the process that serves. By this one: 10 when that was killed, 34 when something is left.
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
        let calls = self.calls.or_else(calls::of_the_environment);
        let calls = calls.as_deref().map(Calls::open).transpose()?;
        // The orphans of servers fall to us: whoever watches us may be the one that is killed.
        let family = Family::enter()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unexpected(&error))?;
        let served = runtime.block_on(serve(files, config, listener, client_token, calls));
        // Whatever still sits on a blocking thread is nobody's any more.
        runtime.shutdown_background();
        log::flush();
        // Servers have had their grace. What is left is what one of them has left behind.
        let proof = family.stop(StopLimits::at_once(), &Interrupt::never(), &mut |_| ());
        served.map_err(|error| unexpected(&error))?;
        proof.check()
    }
}

fn unexpected(error: &io::Error) -> Failure {
    Failure::unexpected(format!("the gateway cannot serve: {error}"))
}

async fn serve(
    files: Files,
    config: Config,
    listener: TcpListener,
    client_token: Option<Secret<BearerToken>>,
    calls: Option<Calls>,
) -> io::Result<()> {
    // Before anything is started that a signal would have to stop.
    let signals = Signals::new()?;
    let address = listener.local_addr()?;
    // Answers are small and wait for no second packet: without this each call costs 44 ms of Nagle and delayed ACK.
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    });
    let token = std::env::var(environment::CONTROL_TOKEN).ok().filter(|token| !token.is_empty());
    let to = Audience { board: Arc::new(Board::new()), hub: Arc::default() };
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
    };
    tokio::spawn(reap_orphans(signal(SignalKind::child())?));
    let router = http::router(shared, address, streams.clone());
    let server = axum::serve(listener, router).with_graceful_shutdown(accept.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());
    event!("listening on {address}");

    let name = signals.until_stop(&fleet).await;
    accept.cancel();
    event!("{name}: no more connections, calls in flight have {} ms", DRAIN_GRACE.as_millis());
    let left = in_flight.drained(DRAIN_GRACE).await;
    streams.cancel();
    tokio::time::timeout(CLOSE_GRACE, server).await.ok();
    fleet.stop().await;
    if let Some(calls) = calls {
        calls.finish().await;
    }
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
