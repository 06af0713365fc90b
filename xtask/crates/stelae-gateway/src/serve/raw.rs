//! Keeps requests that are relayed out of rmcp's hands.
//!
//! rmcp has the sessions, their streams and their resumption. It also has a type for every method of MCP, and drops what
//! that type does not know, both of what clients ask and of what servers answer. A method that it does not know it hands
//! over as it came. So those that are relayed get a name that it does not know, on their way in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::budget::{Budget, FREE, NoRoom, Taken};
use super::shape::{self, Asked, Fault};
use super::weight::{self, VALUE_BYTES};
use crate::connections::{self, Refusals};

/// What is put before the name of a method.
const PREFIX: &str = "relayed:";
/// The methods that are relayed, or answered with what servers have said.
const RELAYED: [&str; 11] = [
    "completion/complete",
    "logging/setLevel",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "tools/call",
    "tools/list",
];
/// The one media type of requests.
const JSON: &str = "application/json";
/// A longer request is refused. rmcp's own limit is smaller, and for a whole image in an argument too small.
pub(super) const MOST_BYTES: usize = 16 * 1024 * 1024;
/// A request with more values than this is refused: what it takes in memory is many times what it takes as text.
const MOST_VALUES: usize = 200_000;
/// A client that sends its request more slowly is given up: it has a connection of ours.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// Nor does a request come in pieces that are further apart than this.
const PIECE_LIMIT: Duration = Duration::from_secs(20);

/// What requests are read with.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    pub(super) budget: Budget,
    pub(super) refusals: Arc<Refusals>,
}

/// The memory that a request takes, as one of its extensions: it is given back with the last of them.
#[derive(Clone, Debug)]
pub(super) struct Held {
    _taken: Arc<Taken>,
}

/// The method that a client asked for.
pub(super) fn method(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Renames the methods in a request's body. Refuses one that is too long, or has too many values, with 413, one that is too slow
/// with 408, one for which there is no memory with 503, one that is not said to be JSON with 415, and one that is no message
/// with 400.
pub(super) async fn keep(State(intake): State<Intake>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let mut taken = intake.budget.begin(connections::user_of(&request));
    let (mut head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let note = |why: String| {
        let path = path.clone();
        intake.refusals.note("refused requests", move || format!("refused {path}: {why}"));
    };
    if !is_json(&head.headers) {
        note("its body is not said to be JSON".to_owned());
        return not_json();
    }
    let body = match read(&head.headers, body, &mut taken).await {
        Ok(body) => body,
        Err(why) => {
            note(why.explain());
            return why.into_response();
        }
    };
    let refuse = |fault: Fault| {
        note(fault.why().to_owned());
        fault.into_response()
    };
    let (body, asked) = match renamed(body) {
        Ok(renamed) => renamed,
        Err(fault) => return refuse(fault),
    };
    let id = asked.id.clone();
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    // As rmcp writes it: it knows no other case.
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    head.extensions.insert(asked);
    head.extensions.insert(Held { _taken: Arc::new(taken) });
    let answer = next.run(Request::from_parts(head, Body::from(body))).await;
    if answer.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        // It is JSON: this is how rmcp says that it can make nothing of it.
        return refuse(Fault::invalid(id, "not a message of MCP"));
    }
    answer
}

/// Whether the body is said to be JSON. Media types have no case.
fn is_json(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = said.and_then(|said| said.split(';').next()).map(str::trim);
    media.is_some_and(|media| media.eq_ignore_ascii_case(JSON))
}

fn not_json() -> Response {
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the content type has to be {JSON}\n")).into_response()
}

/// Why a body was not read to its end.
enum Unread {
    TooLong,
    TooManyValues,
    TooSlow,
    NoRoom,
    BrokenOff(axum::Error),
}

impl Unread {
    fn explain(&self) -> String {
        match self {
            Self::TooLong => format!("its body is longer than {MOST_BYTES} bytes"),
            Self::TooManyValues => format!("its body has more than {MOST_VALUES} values"),
            Self::NoRoom => "there is no memory left for its body".to_owned(),
            Self::TooSlow => "its body took too long".to_owned(),
            Self::BrokenOff(why) => format!("its body broke off: {why}"),
        }
    }
}

impl From<NoRoom> for Unread {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        match self {
            Self::TooLong => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {MOST_BYTES} bytes\n"))
                    .into_response()
            }
            Self::TooManyValues => {
                let text = format!("a request may have {MOST_VALUES} values\n");
                (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
            }
            Self::NoRoom => {
                let text = "there are as many requests as there is memory for: try again\n";
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response()
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response(),
            Self::BrokenOff(why) => Fault::unreadable(format!("it broke off ({why})")).into_response(),
        }
    }
}

/// The whole body. Of one that is refused the rest is read, too, within limits, and thrown away: closing before would take the
/// answer from a client that is still sending.
async fn read(headers: &HeaderMap, body: Body, taken: &mut Taken) -> Result<Bytes, Unread> {
    let said =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut pieces = body.into_data_stream();
    let read = if said.is_some_and(|said| said > MOST_BYTES) {
        Err(Unread::TooLong)
    } else {
        let reading = read_all(&mut pieces, said, taken);
        timeout(READ_LIMIT, reading).await.unwrap_or(Err(Unread::TooSlow))
    };
    if matches!(read, Err(Unread::TooLong | Unread::NoRoom)) {
        let throwing_away = async {
            let mut left = MOST_BYTES;
            while let Some(Ok(piece)) = pieces.next().await
                && piece.len() <= left
            {
                left -= piece.len();
            }
        };
        timeout(PIECE_LIMIT, throwing_away).await.ok();
    }
    read
}

async fn read_all(
    pieces: &mut BodyDataStream,
    said: Option<usize>,
    taken: &mut Taken,
) -> Result<Bytes, Unread> {
    let mut read = Vec::new();
    while let Some(piece) = timeout(PIECE_LIMIT, pieces.next()).await.map_err(|_| Unread::TooSlow)? {
        let piece = piece.map_err(Unread::BrokenOff)?;
        if piece.len() > MOST_BYTES - read.len() {
            return Err(Unread::TooLong);
        }
        let length = read.len() + piece.len();
        // Before most of it has come: of those that wait for room, none has more than this.
        if read.len() <= FREE && length > FREE {
            let most = said.unwrap_or(MOST_BYTES).max(length);
            taken.text(most).await?;
            // In one block, of which the system gives a page when it is written to, and gets all back when it is dropped: one
            // that grows leaves its smaller selves in the allocator's hands.
            if said.is_some() {
                read.try_reserve_exact(most - read.len()).map_err(|_| Unread::NoRoom)?;
            }
        }
        read.extend_from_slice(&piece);
    }
    let values = weight::values(&read);
    if values > MOST_VALUES {
        return Err(Unread::TooManyValues);
    }
    taken.values(read.len(), values * VALUE_BYTES).await?;
    Ok(Bytes::from(read))
}

/// The body with the method renamed, and what it asks for. Nothing else of it is left in memory.
fn renamed(body: Bytes) -> Result<(Bytes, Asked), Fault> {
    let mut message = serde_json::from_slice::<Value>(&body).map_err(Fault::unreadable)?;
    let asked = shape::check(&message)?;
    Ok((if rename(&mut message) { Bytes::from(message.to_string()) } else { body }, asked))
}

/// Whether the message is one of those that are relayed, and has another name now.
fn rename(message: &mut Value) -> bool {
    match message.get_mut("method") {
        Some(Value::String(method)) if RELAYED.contains(&method.as_str()) => {
            method.insert_str(0, PREFIX);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_relayed_is_renamed() {
        let renamed = |text: &str| {
            let mut message = serde_json::from_str(text).unwrap();
            rename(&mut message).then(|| message.to_string())
        };
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"unknown":1}}"#;
        assert_eq!(renamed(call), Some(call.replace("tools/call", "relayed:tools/call")));
        assert_eq!(method("relayed:tools/call"), "tools/call");
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#,
            r#"{ "jsonrpc" : "2.0", "method" : "notifications/initialized" }"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call"}}"#,
        ] {
            assert_eq!(renamed(text), None);
        }
    }
}
