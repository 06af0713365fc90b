//! The routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any_service, get, post};
use axum::{Json, Router, middleware};
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, SessionConfig};
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use stelae_model::proxy::ProxySection;
use stelae_model::value::{BearerToken, Secret};
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::calls::Calls;
use super::drain::{self, InFlight};
use super::fleet::Fleet;
use super::front::Front;
use super::guard::{self, Guard};
use super::life::Audience;
use super::log::event;
use super::raw::Intake;
use super::sessions::{self, Sessions};
use super::{raw, watched};
use crate::connections::Refusals;

/// A session that nothing was heard of for this long is forgotten. rmcp's five minutes are less than a long call, and it does
/// not count a call that is under way as a sign of life. How many there may be meanwhile is `sessions`' business.
const SESSION_KEEP_ALIVE: Duration = Duration::from_secs(60 * 60);

/// What the routes share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// What is known about the servers, and the clients' sessions.
    pub(super) to: Audience,
    /// The servers.
    pub(super) fleet: Arc<Fleet>,
    /// How we present ourselves.
    pub(super) proxy: Arc<ProxySection>,
    /// What `/-/reload` asks for; without it there is no such route.
    pub(super) token: Option<Secret<String>>,
    /// What `/mcp` asks for, and what other users need on every route.
    pub(super) client_token: Option<Secret<BearerToken>>,
    /// Where calls of tools are noted.
    pub(super) calls: Option<Calls>,
    /// Answers on their way out.
    pub(super) in_flight: InFlight,
    /// How many calls there may be at once.
    pub(super) most_calls: usize,
    /// What is refused.
    pub(super) refusals: Arc<Refusals>,
}

/// The router of a gateway that listens on `address`. `streams` ends the event streams of all sessions.
pub(super) fn router(shared: Shared, address: SocketAddr, streams: CancellationToken) -> Router {
    let (client_token, refusals) = (shared.client_token.clone(), &shared.refusals);
    let guard = Arc::new(Guard::new(address, &shared.proxy.base_url, client_token, Arc::clone(refusals)));
    let in_flight = shared.in_flight.clone();
    let intake = Intake { budget: Budget::new(), refusals: Arc::clone(refusals) };
    let mut manager = LocalSessionManager::default();
    manager.session_config = SessionConfig::default();
    manager.session_config.keep_alive = Some(SESSION_KEEP_ALIVE);
    let manager = Arc::new(manager);
    let sessions = Sessions::new(Arc::clone(&manager), shared.most_calls, Arc::clone(refusals));
    let sessions = Arc::new(sessions);
    // The last one that is put on is the first one that is asked.
    let mcp_route = any_service(mcp(&shared, manager, streams))
        .layer(middleware::from_fn_with_state(sessions, sessions::watch))
        .layer(middleware::from_fn_with_state(intake, raw::keep))
        .layer(middleware::from_fn_with_state(Arc::clone(&guard), guard::let_in));
    Router::new()
        .route("/mcp", mcp_route)
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/-/servers", get(servers))
        .route("/-/reload", post(reload))
        .with_state(shared)
        .layer(middleware::from_fn_with_state(in_flight, drain::count))
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

fn mcp(
    shared: &Shared,
    manager: Arc<LocalSessionManager>,
    streams: CancellationToken,
) -> StreamableHttpService<Front, LocalSessionManager> {
    // Host and Origin are checked for all routes by `guard`; a second list here could only disagree with it.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_cancellation_token(streams)
        .with_max_request_body_bytes(2 * raw::MOST_BYTES);
    let (to, name, calls) = (shared.to.clone(), shared.proxy.name.clone(), shared.calls.clone());
    let session =
        move || Ok(Front::new(Arc::clone(&to.board), Arc::clone(&to.hub), name.clone(), calls.clone()));
    StreamableHttpService::new(session, manager, config)
}

/// Whether the process is alive, which it is if it answers.
async fn healthz(State(shared): State<Shared>) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let body = json!({"status": "ok", "name": shared.proxy.name, "version": version, "pid": watched::pid()});
    Json(body).into_response()
}

/// Whether every required server is ready.
async fn readyz(State(shared): State<Shared>) -> Response {
    let readiness = shared.fleet.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// Whether each server that is ready answers right now, and how often any has died.
async fn servers(State(shared): State<Shared>) -> Response {
    Json(shared.fleet.look().await).into_response()
}

/// Makes the configuration on disk true.
async fn reload(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let Some(token) = &shared.token else {
        return (StatusCode::NOT_FOUND, "no control token is configured\n").into_response();
    };
    if !guard::has_token(&headers, token) {
        shared.refusals.note("refused reloads", || "refused a reload: wrong or missing token".to_owned());
        return (StatusCode::UNAUTHORIZED, "a reload needs the control token\n").into_response();
    }
    match Arc::clone(&shared.fleet).reload().await {
        Ok(readiness) => Json(readiness).into_response(),
        Err(why) => {
            event!("reload refused: {why}");
            (StatusCode::UNPROCESSABLE_ENTITY, format!("{why}\n")).into_response()
        }
    }
}
