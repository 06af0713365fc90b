//! Messages over streamable HTTP: each request is answered by an event stream of its own, which ends with the answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::ListenerExt as _;
use axum::{Router, serve as serve_axum};
use http_body::Frame;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, stdin};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::session::{Server, Session};

/// The header that says which client it is.
const SESSION: &str = "mcp-session-id";

/// What the routes share.
struct Sessions {
    server: Arc<Server>,
    open: Mutex<HashMap<String, Open>>,
    opened: Mutex<u64>,
}

/// A client, and its messages that belong to no request, while nobody reads them.
struct Open {
    session: Arc<Session>,
    common: Arc<Mutex<Option<UnboundedReceiver<Value>>>>,
}

/// Serves until stdin ends.
pub(crate) async fn serve(address: SocketAddr, server: Arc<Server>) {
    let listener = TcpListener::bind(address).await.expect("the address is free");
    let address = listener.local_addr().expect("an address");
    let sessions = Sessions { server, open: Mutex::default(), opened: Mutex::default() };
    let router = Router::new()
        .route("/mcp", any(exchange))
        .with_state(Arc::new(sessions))
        .layer(middleware::from_fn(only_local));
    // Without it, each small answer waits for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a socket"));
    #[expect(clippy::disallowed_methods, reason = "the address is for the test that started this server")]
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{address}").and_then(|()| stdout.flush()).expect("somebody reads the address");
    let (mut stdin, mut bytes) = (stdin(), Vec::new());
    tokio::select! {
        ended = serve_axum(listener, router) => ended.expect("a server that serves"),
        _ = stdin.read_to_end(&mut bytes) => {}
    }
}

/// Against DNS rebinding: whoever names another host, or comes from a page of one, is refused.
async fn only_local(request: Request, next: Next) -> Response {
    if is_local(request.headers()) { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

fn is_local(headers: &HeaderMap) -> bool {
    let local = |authority: &str| {
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        matches!(port.map_or(authority, |(host, _)| host), "localhost" | "127.0.0.1" | "[::1]")
    };
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let host = text(header::HOST).is_some_and(local);
    host && text(header::ORIGIN).is_none_or(|origin| origin.strip_prefix("http://").is_some_and(local))
}

async fn exchange(
    State(sessions): State<Arc<Sessions>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = headers.get(SESSION).map(|id| id.to_str().unwrap_or_default().to_owned());
    match (method, id) {
        (Method::POST, id) => match serde_json::from_slice(&body) {
            Ok(message) => sessions.post(message, id),
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        },
        (Method::GET, Some(id)) => sessions.listen(&id),
        (Method::DELETE, Some(id)) => sessions.close(&id),
        (Method::GET | Method::DELETE, None) => StatusCode::BAD_REQUEST.into_response(),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

impl Sessions {
    fn post(&self, message: Value, id: Option<String>) -> Response {
        let begins = message["method"] == "initialize";
        let id = match id {
            None if begins => self.open(),
            None => return StatusCode::BAD_REQUEST.into_response(),
            Some(id) => id,
        };
        let session = self.open.lock().expect("sessions").get(&id).map(|open| Arc::clone(&open.session));
        let Some(session) = session else { return StatusCode::NOT_FOUND.into_response() };
        let is_request = message.get("method").is_some() && message.get("id").is_some();
        let (stream, messages) = mpsc::unbounded_channel();
        session.receive(message, stream);
        if !is_request {
            return StatusCode::ACCEPTED.into_response();
        }
        let mut response = events(Events { messages: Some(messages), home: Weak::new() });
        if begins {
            let id = HeaderValue::from_str(&id).expect("an id that we made");
            response.headers_mut().insert(SESSION, id);
        }
        response
    }

    fn open(&self) -> String {
        let id = {
            let mut opened = self.opened.lock().expect("opened");
            *opened += 1;
            format!("{}-{opened}", std::process::id())
        };
        let (stream, messages) = mpsc::unbounded_channel();
        let session = self.server.session(stream);
        let open = Open { session, common: Arc::new(Mutex::new(Some(messages))) };
        self.open.lock().expect("sessions").insert(id.clone(), open);
        id
    }

    /// The messages that belong to no request; also those that were sent while nobody listened.
    fn listen(&self, id: &str) -> Response {
        let sessions = self.open.lock().expect("sessions");
        let Some(open) = sessions.get(id) else { return StatusCode::NOT_FOUND.into_response() };
        match open.common.lock().expect("common").take() {
            Some(messages) => events(Events { messages: Some(messages), home: Arc::downgrade(&open.common) }),
            None => StatusCode::CONFLICT.into_response(),
        }
    }

    fn close(&self, id: &str) -> Response {
        match self.open.lock().expect("sessions").remove(id) {
            Some(open) => {
                open.session.end();
                StatusCode::NO_CONTENT.into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

fn events(events: Events) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(events)).into_response()
}

/// A body of events, which ends when whoever sends them is done.
struct Events {
    messages: Option<UnboundedReceiver<Value>>,
    /// Where the rest belongs when the client hangs up.
    home: Weak<Mutex<Option<UnboundedReceiver<Value>>>>,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(messages) = &mut self.messages else { return Poll::Ready(None) };
        messages.poll_recv(cx).map(|message| {
            message.map(|message| Ok(Frame::data(Bytes::from(format!("data: {message}\n\n")))))
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            *home.lock().expect("common") = self.messages.take();
        }
    }
}
