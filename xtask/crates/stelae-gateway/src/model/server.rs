//! The routes.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use stelae_model::Failure;
use stelae_model::misbehaviour::Wrong;
use stelae_model::model_record::ModelRequest;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::messages::Messages;
use super::play::{Dialect, Move};
use super::record::Record;
use super::responses::Responses;
use super::script::Script;
use crate::connections::{self, Others, Refusals, Rules};
use crate::peer_user::{self, PeerUsers};

/// A longer request is no agent's.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// An agent that takes longer to send its request has died in the middle.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Before a connection is cut: what was sent first is not to be lost with it.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// What the routes share.
#[derive(Clone, Debug)]
struct Stub {
    script: Arc<Script>,
    record: Arc<Record>,
}

/// The agent and its helpers have a few.
const MOST_CONNECTIONS: usize = 128;

/// Whom a model that listens on `listener` serves: the same user and root. It has no token, as agents send one of their own.
///
/// # Errors
/// 20, `peer-unknown`: the kernel does not tell whose connections come in.
pub(crate) fn rules(listener: &TcpListener) -> Result<Rules, Failure> {
    let users = PeerUsers::of(listener).map_err(|why| peer_user::unknowable(listener, why))?;
    let why = "this model serves the user that started it and root only".to_owned();
    Ok(Rules { users: Some(users), others: Others::Refused(why), most_connections: MOST_CONNECTIONS })
}

/// Serves until `over` is.
pub(crate) async fn serve(
    (listener, rules): (TcpListener, Rules),
    script: Script,
    record: Arc<Record>,
    over: impl Future<Output = ()>,
) -> io::Result<()> {
    let stub = Stub { script: Arc::new(script), record };
    let router = Router::new()
        .route("/v1/responses", post(openai))
        .route("/v1/messages", post(anthropic))
        .route("/__stub/state", get(state))
        .fallback(elsewhere)
        .method_not_allowed_fallback(elsewhere)
        .with_state(stub);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let stop = CancellationToken::new();
    let served = connections::serve(listener, router, rules, Refusals::new("model"), stop);
    tokio::select! {
        () = served => Ok(()),
        () = over => Ok(()),
    }
}

async fn state(State(stub): State<Stub>) -> Response {
    Json(stub.record.so_far()).into_response()
}

/// Whatever was not foreseen. A request with a whole URL, or CONNECT, is what a proxy variable made of one to somebody else.
async fn elsewhere(State(stub): State<Stub>, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let outside = place(&uri);
    let (status, fault) = match &outside {
        Some(place) => (StatusCode::FORBIDDEN, format!("the agent wanted to reach {place}")),
        None => (StatusCode::NOT_FOUND, format!("nothing answers {method} {}", uri.path())),
    };
    stub.record.keep(ModelRequest {
        route: format!("{method} {}", uri.path()),
        status: status.as_u16(),
        outside,
        fault: Some(fault.clone()),
        ..ModelRequest::default()
    });
    (status, fault + "\n").into_response()
}

/// Who is meant, if that is somebody else: `HOST:PORT`, and nothing that may stand before it, as names and passwords do.
fn place(uri: &Uri) -> Option<String> {
    let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    Some(format!("{}:{}", uri.host()?, uri.port_u16().unwrap_or(usual)))
}

async fn openai(State(stub): State<Stub>, request: Request) -> Response {
    stub.answer(request, &Responses).await
}

async fn anthropic(State(stub): State<Stub>, request: Request) -> Response {
    stub.answer(request, &Messages).await
}

impl Stub {
    /// Answers a request for a turn, in its dialect.
    async fn answer(&self, request: Request, dialect: &dyn Dialect) -> Response {
        let mut entry =
            ModelRequest { route: format!("POST {}", request.uri().path()), ..ModelRequest::default() };
        let body = timeout(READ_LIMIT, to_bytes(request.into_body(), MOST_BYTES)).await;
        let body = match body.map(|body| body.map(|body| serde_json::from_slice::<Value>(&body))) {
            Ok(Ok(Ok(body))) => body,
            Ok(Ok(Err(error))) => return self.refuse(entry, &format!("its body is no JSON: {error}")),
            Ok(Err(error)) => return self.refuse(entry, &format!("its body broke off: {error}")),
            Err(_) => return self.refuse(entry, "its body did not come"),
        };
        entry.body = body;
        let asked = match dialect.read(&entry.body, &self.script.servers()) {
            Ok(asked) => asked,
            Err(why) => return self.refuse(entry, &why),
        };
        let turn = asked.turn;
        let wrong = self.script.misbehave.and_then(|misbehaviour| misbehaviour.at(turn));
        let what = Move::at(&self.script, turn, wrong);
        entry.turn = Some(turn);
        if wrong != Some(Wrong::UnknownTool) {
            entry.fault = what.fault(&asked, dialect);
        }
        (entry.offered, entry.answered, entry.wrong) = (asked.offered, asked.answered, wrong);
        if let Some(Wrong::Status(status)) = wrong {
            entry.status = status;
            self.record.keep(entry);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let why =
                json!({"type": "error", "error": {"type": "api_error", "message": "the script says so"}});
            return (status, Json(why)).into_response();
        }
        if let Move::Call { tool, arguments, .. } = &what {
            entry.called = Some(tool.clone());
            entry.arguments = Some(Value::Object(arguments.clone()));
        }
        entry.status = StatusCode::OK.as_u16();
        let mut events = dialect.events(turn, &entry.body, &what);
        self.record.keep(entry);
        sleep(wrong.map(Wrong::delay).unwrap_or_default()).await;
        match wrong {
            Some(Wrong::NotCompleted) => drop(events.pop()),
            Some(Wrong::CutStream) => return cut_after(events.swap_remove(0)),
            _ => {}
        }
        streamed(Body::from(events.concat()))
    }

    fn refuse(&self, mut entry: ModelRequest, fault: &str) -> Response {
        entry.status = StatusCode::BAD_REQUEST.as_u16();
        entry.fault = Some(fault.to_owned());
        self.record.keep(entry);
        let why = json!({"type": "error", "error": {"type": "invalid_request_error", "message": fault}});
        (StatusCode::BAD_REQUEST, Json(why)).into_response()
    }
}

/// The first event, and then the end of the connection where the others should be.
fn cut_after(first: String) -> Response {
    let first = stream::once(async { Ok(Bytes::from(first)) });
    let cut = stream::once(async {
        sleep(ON_ITS_WAY).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    streamed(Body::from_stream(first.chain(cut)))
}

fn streamed(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}
