//! Keeps requests that are relayed out of rmcp's hands.
//!
//! rmcp has the sessions, their streams and their resumption. It also has a type for every method of MCP, and drops what
//! that type does not know, both of what clients ask and of what servers answer. A method that it does not know it hands
//! over as it came. So those that are relayed get a name that it does not know, on their way in.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::log::event;
use super::shape::{self, Fault};

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
/// A client that sends its request more slowly is given up: it has a connection of ours.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The method that a client asked for.
pub(super) fn method(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Renames the methods in a request's body. Refuses one that is too long with 413, one that is not said to be JSON with 415,
/// and one that is no message with 400.
pub(super) async fn keep(request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (mut head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if !is_json(&head.headers) {
        event!("refused {path}: its body is not said to be JSON");
        return not_json();
    }
    let body = match read(&head.headers, body).await {
        Ok(body) => body,
        Err(why) => {
            event!("refused {path}: {}", why.explain());
            return why.into_response();
        }
    };
    let refuse = |fault: Fault| {
        event!("refused {path}: {}", fault.why());
        fault.into_response()
    };
    let mut message = match serde_json::from_slice::<Value>(&body) {
        Ok(message) => message,
        Err(why) => return refuse(Fault::unreadable(why)),
    };
    let asked = match shape::check(&message) {
        Ok(asked) => asked,
        Err(fault) => return refuse(fault),
    };
    let body = if rename(&mut message) { Bytes::from(message.to_string()) } else { body };
    let id = asked.id.clone();
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    // As rmcp writes it: it knows no other case.
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    head.extensions.insert(asked);
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
    TooSlow,
    BrokenOff(axum::Error),
}

impl Unread {
    fn explain(&self) -> String {
        match self {
            Self::TooLong => format!("its body is longer than {MOST_BYTES} bytes"),
            Self::TooSlow => "its body took too long".to_owned(),
            Self::BrokenOff(why) => format!("its body broke off: {why}"),
        }
    }
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        match self {
            Self::TooLong => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {MOST_BYTES} bytes\n"))
                    .into_response()
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response(),
            Self::BrokenOff(why) => Fault::unreadable(format!("it broke off ({why})")).into_response(),
        }
    }
}

/// The whole body. One that says that it is too long is not even begun.
async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Unread> {
    let said =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|said| said > MOST_BYTES) {
        return Err(Unread::TooLong);
    }
    let reading = async {
        let (mut pieces, mut read) = (body.into_data_stream(), Vec::new());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(Unread::BrokenOff)?;
            if piece.len() > MOST_BYTES - read.len() {
                return Err(Unread::TooLong);
            }
            read.extend_from_slice(&piece);
        }
        Ok(Bytes::from(read))
    };
    timeout(READ_LIMIT, reading).await.unwrap_or(Err(Unread::TooSlow))
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
