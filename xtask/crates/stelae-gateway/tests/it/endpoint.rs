//! An MCP server over HTTP, inside of the test, which does as the test says where a good one would do otherwise.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What a test has to say to a request: nothing where the endpoint shall do what a good server does.
pub(crate) type Said = Option<BoxFuture<'static, Response>>;

type Script = dyn Fn(&str, &Value) -> Said + Send + Sync;

/// A running endpoint; it ends with the test's runtime.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    seen: watch::Receiver<Vec<String>>,
}

#[derive(Clone)]
struct Scripted {
    script: Arc<Script>,
    seen: Arc<watch::Sender<Vec<String>>>,
}

impl Endpoint {
    /// Starts one that has the tool `one`. `script` is asked about each request: its JSON-RPC method and the message, or
    /// `answer`, or `GET`.
    pub(crate) async fn start(script: impl Fn(&str, &Value) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (tell, seen) = watch::channel(Vec::new());
        let scripted = Scripted { script: Arc::new(script), seen: Arc::new(tell) };
        let router = Router::new().fallback(answer).with_state(scripted);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    /// How often it was asked this.
    pub(crate) fn seen(&self, what: &str) -> usize {
        self.seen.borrow().iter().filter(|seen| *seen == what).count()
    }

    /// Waits until it was asked this so often.
    pub(crate) async fn until_seen(&self, what: &str, times: usize) {
        let name = format!("{what} is seen {times} times");
        crate::support::eventually(&name, async || (self.seen(what) >= times).then_some(())).await;
    }
}

async fn answer(State(it): State<Scripted>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let what = match (message["method"].as_str(), &method) {
        (Some(rpc), _) => rpc,
        (None, &Method::POST) => "answer",
        (None, other) => other.as_str(),
    };
    it.seen.send_modify(|seen| {
        seen.push(what.to_owned());
        let key = headers.get("x-key").and_then(|key| key.to_str().ok());
        seen.push(format!("with key {}", key.unwrap_or("none")));
    });
    match (it.script)(what, &message) {
        Some(said) => said.await,
        None => good(what, &message),
    }
}

fn good(what: &str, message: &Value) -> Response {
    let result = match what {
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "endpoint", "version": "0"},
        }),
        "tools/list" => json!({"tools": [{"name": "one", "inputSchema": {"type": "object"}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": "answered"}]}),
        "ping" => json!({}),
        "GET" => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    reply(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
}

/// A message as JSON.
pub(crate) fn reply(message: &Value) -> Response {
    ([("content-type", "application/json")], message.to_string()).into_response()
}

/// The result of a call, as an event.
pub(crate) fn result_event(call: &Value) -> String {
    let result = json!({"content": [{"type": "text", "text": "answered"}]});
    format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": call["id"], "result": result}))
}

/// An event stream of these pieces, which then ends.
pub(crate) fn events(pieces: impl IntoIterator<Item = String, IntoIter: Send + 'static>) -> Response {
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
    ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
}

/// An event stream of these pieces, which then falls silent.
pub(crate) fn events_and_silence(
    pieces: impl IntoIterator<Item = String, IntoIter: Send + 'static>,
) -> Response {
    use futures_util::StreamExt as _;
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)).chain(stream::pending());
    ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
}

/// JSON that breaks off, and the connection with it.
pub(crate) fn broken() -> Response {
    let pieces = stream::iter([Ok("{"), Err(std::io::Error::other("told to break off"))]);
    ([("content-type", "application/json")], Body::from_stream(pieces)).into_response()
}

/// Says how many of what it counts are there, and is one less when it is dropped.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

/// One of them.
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counter {
    /// One more.
    pub(crate) fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(&self.0))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
