//! A streamable-HTTP endpoint: each message is a POST, an answer comes as JSON or at the end of an event stream, and what
//! the server says on its own account comes on a GET that stays open.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::events::{self, Broken, LONGEST_RETRY};
use super::message::{Message, RpcError};
use super::peer::{Listener, Peer};
use crate::client;
use crate::serve::log::event;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// A longer answer, or event, is given up: whoever writes one without an end must not fill our memory.
pub(super) const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long a stream that ended is waited with before it is asked for again, unless the server says.
const RETRY: Duration = Duration::from_secs(1);
/// So often the rest of an answer is asked for, when its stream ended in the middle.
const RESUMPTIONS: usize = 5;
/// How long the server gets to forget a session.
const COURTESY: Duration = Duration::from_millis(500);
/// How long what has no answer may take to be accepted: a server that is at work takes in nothing meanwhile.
const ACCEPTED: Duration = Duration::from_secs(60);
/// A notification that later messages build upon has this long.
const ORDERED: Duration = Duration::from_secs(5);

/// A peer behind an endpoint. The connection is over when `gone` is cancelled: by us, or because the server has forgotten
/// the session. `suspect` is told of every request that did not get through. The session is given back when the task has ended.
///
/// # Errors
/// A header that cannot be one, or no client, as a sentence that does not quote a header's value.
pub(in crate::serve) fn over_http(
    name: &str,
    url: &str,
    headers: &BTreeMap<String, String>,
    listener: Arc<dyn Listener>,
    suspect: Arc<Notify>,
    gone: CancellationToken,
) -> Result<(Peer, JoinHandle<()>), String> {
    let (peer, outgoing) = Peer::new(listener);
    let endpoint = Endpoint {
        name: name.to_owned(),
        url: url.to_owned(),
        client: client::http().map_err(|error| error.to_string())?,
        headers: own_headers(headers)?,
        session: OnceLock::new(),
        version: OnceLock::new(),
        peer: peer.clone(),
        suspect,
        gone,
    };
    Ok((peer, tokio::spawn(Arc::new(endpoint).deliver(outgoing))))
}

fn own_headers(headers: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let pair = |(name, value): (&String, &String)| {
        let wrong =
            |what: &str| format!("header {name:?} is not one: its {what} has a character that none may have");
        let name = HeaderName::try_from(name).map_err(|_| wrong("name"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong("value"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    headers.iter().map(pair).collect()
}

#[derive(Debug)]
struct Endpoint {
    name: String,
    url: String,
    client: Client,
    headers: HeaderMap,
    session: OnceLock<HeaderValue>,
    version: OnceLock<HeaderValue>,
    peer: Peer,
    suspect: Arc<Notify>,
    gone: CancellationToken,
}

impl Endpoint {
    /// Delivers until the connection is over; then says goodbye.
    async fn deliver(self: Arc<Self>, mut outgoing: UnboundedReceiver<Message>) {
        let delivering = async {
            while let Some(message) = outgoing.recv().await {
                let posting = Arc::clone(&self).post(message.clone());
                match &message {
                    // What comes after it may not overtake it.
                    Message::Notification { method, .. } if method == "notifications/initialized" => {
                        timeout(ORDERED, posting).await.ok();
                        let ear = Arc::clone(&self);
                        tokio::spawn(async move { ear.gone.clone().run_until_cancelled(ear.listen()).await });
                    }
                    _ => drop(tokio::spawn(posting)),
                }
            }
        };
        self.gone.run_until_cancelled(delivering).await;
        self.gone.cancel();
        self.peer.close();
        if self.session.get().is_some() {
            let goodbye = self.request(self.client.delete(&self.url)).send();
            timeout(COURTESY, goodbye).await.ok();
        }
    }

    fn request(&self, request: RequestBuilder) -> RequestBuilder {
        let mut request = request.headers(self.headers.clone());
        for (name, value) in [(SESSION, &self.session), (VERSION, &self.version)] {
            if let Some(value) = value.get() {
                request = request.header(name, value);
            }
        }
        request
    }

    async fn post(self: Arc<Self>, message: Message) {
        let what = match &message {
            Message::Request { id, method, .. } => {
                // One that was given up has nobody who waits, and keeps no connection.
                let Some(over) = self.peer.over(id) else { return };
                let posted = self.gone.run_until_cancelled(over.run_until_cancelled(self.exchange(&message)));
                let Some(Some(Err(why))) = posted.await else { return };
                // Whoever pings draws the conclusions; and a status is an answer.
                if why.code != RpcError::INTERNAL && method != "ping" {
                    self.suspect.notify_one();
                }
                return self.peer.fail(id, why);
            }
            Message::Notification { method, .. } => method,
            Message::Answer { .. } => "our answer to its question",
        };
        let posted = timeout(ACCEPTED, self.exchange(&message));
        let why = match self.gone.run_until_cancelled(posted).await {
            Some(Ok(Err(error))) => error.message,
            Some(Err(_)) => format!("nothing was heard of it within {} ms", ACCEPTED.as_millis()),
            Some(Ok(Ok(()))) | None => return,
        };
        event!("server {:?}: did not take {what}: {why}", self.name);
    }

    /// The code of an error says how far it came: [`RpcError::INTERNAL`] is of a server that answered.
    async fn exchange(&self, message: &Message) -> Result<(), RpcError> {
        let (id, first) = match message {
            Message::Request { id, method, .. } => (id.as_u64(), method == "initialize"),
            _ => (None, false),
        };
        let post = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        let post =
            post.header(ACCEPT, "application/json, text/event-stream").body(message.to_value().to_string());
        let response = self.request(post).send().await.map_err(|error| undelivered(&error))?;
        let response = self.accepted(response)?;
        if first && let Some(session) = response.headers().get(SESSION) {
            self.session.set(session.clone()).ok();
        }
        let Some(id) = id else { return Ok(()) };
        let is = |kind: &str| {
            let given = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            given.is_some_and(|given| given.trim_start().to_ascii_lowercase().starts_with(kind))
        };
        if is("text/event-stream") {
            return self.read_answer(response, id, first).await;
        }
        let status = response.status();
        if !is("application/json") {
            return Err(unusable(format!("it answered {status} with neither JSON nor an event stream")));
        }
        let body = bounded(response).await?;
        let messages = Message::parse(&body).map_err(unusable)?;
        let answered = messages.iter().any(|message| message.answers(id));
        messages.into_iter().for_each(|message| self.hear(message, Some(id), first));
        if answered { Ok(()) } else { Err(unusable(format!("it answered {status} without the answer"))) }
    }

    /// A body may hold anything, a secret, too: what is told of a refusal is its status.
    fn accepted(&self, response: Response) -> Result<Response, RpcError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::NOT_FOUND && self.session.get().is_some() {
            self.gone.cancel();
            return Err(RpcError::new(RpcError::UNREACHABLE, "it has forgotten the session"));
        }
        Err(unusable(format!("it answered {status}")))
    }

    fn hear(&self, message: Message, of: Option<u64>, first: bool) {
        if first && let Message::Answer { outcome: Ok(result), .. } = &message {
            let version = result.get("protocolVersion").and_then(Value::as_str);
            let version = version.and_then(|version| HeaderValue::try_from(version).ok());
            version.map(|version| self.version.set(version));
        }
        self.peer.hear(message, of);
    }

    /// Reads the stream of one request to its answer, and asks for the rest of it if it ends before.
    async fn read_answer(&self, response: Response, id: u64, first: bool) -> Result<(), RpcError> {
        let mut response = response;
        for _ in 0..=RESUMPTIONS {
            let end = self.read_stream(response, Some(id), first).await?;
            if end.answered {
                return Ok(());
            }
            let Some(last) = end.last_event else { break };
            sleep(end.retry).await;
            let again =
                self.client.get(&self.url).header(ACCEPT, "text/event-stream").header(LAST_EVENT, last);
            let again = self.request(again).send().await.map_err(|error| undelivered(&error))?;
            response = self.accepted(again)?;
        }
        Err(RpcError::new(RpcError::BROKEN_OFF, "the event stream ended before the answer"))
    }

    /// Listens to what the server says on its own account, for as long as it lets us.
    async fn listen(&self) {
        let (mut last, mut wait, mut refused) = (None, RETRY, false);
        loop {
            let mut get = self.client.get(&self.url).header(ACCEPT, "text/event-stream");
            if let Some(last) = &last {
                get = get.header(LAST_EVENT, last);
            }
            match self.request(get).send().await {
                Ok(response) if response.status().is_success() => {
                    match self.read_stream(response, None, false).await {
                        Ok(end) => {
                            (wait, refused) = (end.retry, false);
                            last = end.last_event.or(last);
                        }
                        Err(why) => event!("server {:?}: its event stream broke off: {why}", self.name),
                    }
                }
                // A server that has nothing to say on its own account says so with a 405. A session that is lost is
                // a connection that is over.
                Ok(response) if matches!(response.status().as_u16(), 404 | 405) => {
                    return drop(self.accepted(response));
                }
                // Another day it may.
                Ok(response) => {
                    let status = response.status();
                    if !std::mem::replace(&mut refused, true) {
                        event!("server {:?}: does not let us listen: it answered {status}", self.name);
                    }
                }
                Err(_) => self.suspect.notify_one(),
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }

    async fn read_stream(&self, response: Response, of: Option<u64>, first: bool) -> Result<End, RpcError> {
        let mut events = pin!(events::events(response));
        let mut end = End { answered: false, last_event: None, retry: RETRY };
        while let Some(event) = events.next().await {
            // A connection that breaks is a stream that ends: the rest of it may be had.
            let event = match event {
                Ok(event) => event,
                Err(Broken::Off(_)) => break,
                Err(too_long) => return Err(unusable(too_long.to_string())),
            };
            end.last_event = event.id.and_then(|id| HeaderValue::try_from(id).ok()).or(end.last_event);
            end.retry = event.retry.map_or(end.retry, events::retry);
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            for message in Message::parse(data.as_bytes()).map_err(unusable)? {
                end.answered |= of.is_some_and(|id| message.answers(id));
                self.hear(message, of, first);
            }
            if end.answered {
                break;
            }
        }
        Ok(end)
    }
}

/// How a stream ended.
struct End {
    answered: bool,
    last_event: Option<HeaderValue>,
    retry: Duration,
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, RpcError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| undelivered(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(unusable(format!("its answer is longer than {ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Nobody is there; or somebody is, or was, or may only be too busy to let us in.
fn undelivered(error: &reqwest::Error) -> RpcError {
    let nobody = error.is_connect() && !error.is_timeout();
    let code = if nobody { RpcError::UNREACHABLE } else { RpcError::BROKEN_OFF };
    RpcError::new(code, client::root_cause(error))
}

/// Somebody answered, and not with what was asked for.
fn unusable(why: String) -> RpcError {
    RpcError::new(RpcError::INTERNAL, why)
}
