//! Accepting connections, and serving HTTP/1.1 on them, within limits: what a client does not send in time, does not read in
//! time, or has too much of, is its own loss and not another client's.
//!
//! ```text
//! accept ─ PeerUsers ─┬─ Registry ── HTTP/1.1 ── router
//!                     └─ refusal     │ who gives way to a new client
//! ```
//! `axum::serve` has none of this: no time-out, no limit, and no place for one.

mod activity;
mod refusal;
mod refusals;
mod registry;
mod timed;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::peer_user::{PeerUser, PeerUsers};
use activity::Overdue;
use refusal::Refusal;
pub(crate) use refusals::Refusals;
use refusals::Told;
pub(crate) use registry::share_of_others;
use registry::{Connection, Registry};
use timed::Timed;

/// A request's line and headers together.
const HEAD_BYTES: usize = 32 * 1024;
/// What one connection has in hand of a request, or of an answer, beside the pieces that its handler has.
const BUFFER_BYTES: usize = 64 * 1024;
/// How often the time-outs of a connection are looked at, at least.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Until the next connection is accepted, after one could not be.
const PAUSE: Duration = Duration::from_millis(50);
/// So many refusals are written at once; of more, the connection is closed without one.
const MOST_REFUSALS: usize = 32;

/// What happens to a connection that is not the same user's.
#[derive(Clone, Debug)]
pub(crate) enum Others {
    /// It is refused, with this reason.
    Refused(String),
    /// It is served, and each request carries its [`PeerUser`]: the routes ask for a token.
    NeedAToken,
}

/// Who is served, and how many at once.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Nothing where the kernel cannot tell: then every peer is unknown.
    pub(crate) users: Option<PeerUsers>,
    pub(crate) others: Others,
    pub(crate) most_connections: usize,
}

/// Serves until `stop`; then finishes what is under way, without an end of its own.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    rules: Rules,
    refusals: Arc<Refusals>,
    stop: CancellationToken,
) {
    let mut server = Server {
        router,
        registry: Arc::new(Registry::new(rules.most_connections)),
        users: rules.users,
        others: rules.others,
        refusals,
        refusing: Arc::new(Semaphore::new(MOST_REFUSALS)),
        tasks: TaskTracker::new(),
        stop,
    };
    let stop = server.stop.clone();
    stop.run_until_cancelled(server.accept_all(&listener)).await;
    drop(listener);
    server.tasks.close();
    server.tasks.wait().await;
}

struct Server {
    router: Router,
    registry: Arc<Registry>,
    users: Option<PeerUsers>,
    others: Others,
    refusals: Arc<Refusals>,
    refusing: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    async fn accept_all(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.take(stream),
                // It was gone before it was taken.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.refusals.note("connections that could not be accepted", move || {
                        format!("a connection could not be accepted: {error}")
                    });
                    self.registry.make_room();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(&mut self, stream: TcpStream) {
        // Answers are small and wait for no second packet: without this each call costs 44 ms of Nagle and delayed ACK.
        stream.set_nodelay(true).ok();
        let user = match &mut self.users {
            Some(users) => users.ask(&stream),
            None => PeerUser::Unknown("the kernel does not tell"),
        };
        if user == PeerUser::Gone {
            self.refusals.note("connections that were closed again at once", || {
                "a connection was closed before it could be seen whose it was".to_owned()
            });
            return;
        }
        if let (Others::Refused(why), false) = (&self.others, user == PeerUser::Same) {
            let told = self.refusals.note("refused connections of other users", move || {
                let holder = user.holder().map(|holder| format!(", {holder}")).unwrap_or_default();
                format!("refused a connection of {user}{holder}")
            });
            return self.refuse(stream, Refusal::forbidden(why, user), told);
        }
        match self.registry.enter(user) {
            Some(connection) => self.serve(stream, connection),
            None => {
                let told = self.refusals.note("refused connections, as there are too many", || {
                    "refused a connection: there are as many as there may be, and each has a call under way".to_owned()
                });
                self.refuse(stream, Refusal::too_many(), told);
            }
        }
    }

    /// Says why, in a task of its own, once the log has been `told`: as long as the client waits, it can be seen who that is.
    fn refuse(&self, stream: TcpStream, refusal: Refusal, told: Told) {
        if let Ok(permit) = Arc::clone(&self.refusing).try_acquire_owned() {
            self.tasks.spawn(async move {
                told.wait().await;
                refusal.write_to(stream).await;
                drop(permit);
            });
        }
    }

    fn serve(&self, stream: TcpStream, connection: Connection) {
        let connection = Arc::new(connection);
        let io = TokioIo::new(Timed::new(stream, Arc::clone(&connection)));
        let inner = TowerToHyperService::new(self.router.clone());
        let asked = Arc::clone(&connection);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (request, answering) = asked.asks(request.map(Body::new));
            let answer = inner.call(request);
            async move { answer.await.map(|answer| answering.watch(answer)) }
        });
        let mut http = http1::Builder::new();
        // Of heads that do not come, `activity` takes care: hyper's own time-out would close connections that are idle, too.
        http.timer(TokioTimer::new()).header_read_timeout(None);
        http.max_buf_size(BUFFER_BYTES).max_header_size(HEAD_BYTES);
        let serving = http.serve_connection(io, service);
        let (stop, refusals) = (self.stop.clone(), Arc::clone(&self.refusals));
        self.tasks.spawn(async move {
            let mut serving = std::pin::pin!(serving);
            let (mut stopping, mut look) = (false, Instant::now() + LOOK_EVERY);
            loop {
                tokio::select! {
                    // How it ends is between its two ends; what was refused was said.
                    _ = serving.as_mut() => break,
                    () = connection.gives_way() => break,
                    () = stop.cancelled(), if !stopping => {
                        stopping = true;
                        serving.as_mut().graceful_shutdown();
                    }
                    () = sleep_until(look) => {
                        let now = Instant::now();
                        match connection.overdue(now) {
                            None => look = connection.look_at(now, LOOK_EVERY),
                            Some(Overdue::Idle) => break,
                            Some(Overdue::Request) => {
                                refusals.note("closed connections whose request did not come in time", || {
                                    "closed a connection: its request did not come in time".to_owned()
                                });
                                break;
                            }
                        }
                    }
                }
            }
            if connection.was_unread() {
                refusals.note("closed connections whose clients did not read", || {
                    "closed a connection: its client did not read in time what it was sent".to_owned()
                });
            }
        });
    }
}

/// Errors that are of the connection that would have been accepted, and not of the process or the machine.
fn is_of_one_connection(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(kind, io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// The user that sent a request, as the connection was found to be.
pub(crate) fn user_of(request: &Request) -> PeerUser {
    request.extensions().get().copied().unwrap_or(PeerUser::Unknown("the request has no connection"))
}
