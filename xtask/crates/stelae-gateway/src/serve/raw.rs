//! Keeps requests that are relayed out of rmcp's hands.
//!
//! rmcp has the sessions, their streams and their resumption. It also has a type for every method of MCP, and drops what
//! that type does not know, both of what clients ask and of what servers answer. A method that it does not know it hands
//! over as it came. So those that are relayed get a name that it does not know, on their way in.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::log::event;

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
/// A longer request is refused. rmcp's own limit is smaller, and for a whole image in an argument too small.
pub(super) const MOST_BYTES: usize = 16 * 1024 * 1024;

/// A client that sends its request more slowly is given up: it has a connection of ours.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The method that a client asked for.
pub(super) fn method(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Renames the methods in a request's body; refuses one that is too long with 413.
pub(super) async fn keep(request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (mut head, body) = request.into_parts();
    let too_long = || {
        event!("refused {}: its body is longer than {MOST_BYTES} bytes, or broke off", head.uri.path());
        (StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {MOST_BYTES} bytes\n")).into_response()
    };
    let said =
        head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|said| said > MOST_BYTES) {
        return too_long();
    }
    let Ok(read) = timeout(READ_LIMIT, to_bytes(body, MOST_BYTES)).await else {
        event!("refused {}: its body took too long", head.uri.path());
        return (StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response();
    };
    // What fails here is too long, or the client is gone and reads no answer.
    let Ok(body) = read else { return too_long() };

    let body = renamed(body);
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    next.run(Request::from_parts(head, Body::from(body))).await
}

/// What is no JSON stays as it is: rmcp says so.
fn renamed(body: Bytes) -> Bytes {
    let Ok(mut message) = serde_json::from_slice::<Value>(&body) else { return body };
    let mut renamed = 0;
    let mut rename = |message: &mut Value| {
        if let Some(Value::String(method)) = message.get_mut("method")
            && RELAYED.contains(&method.as_str())
        {
            method.insert_str(0, PREFIX);
            renamed += 1;
        }
    };
    match &mut message {
        Value::Array(batch) => batch.iter_mut().for_each(rename),
        one => rename(one),
    }
    if renamed > 0 { Bytes::from(message.to_string()) } else { body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(text: &str) -> String {
        String::from_utf8(super::renamed(Bytes::copy_from_slice(text.as_bytes())).to_vec()).unwrap()
    }

    #[test]
    fn only_what_is_relayed_is_renamed() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"unknown":1}}"#;
        assert_eq!(renamed(call), call.replace("tools/call", "relayed:tools/call"));
        assert_eq!(method("relayed:tools/call"), "tools/call");
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#,
            r#"{ "jsonrpc" : "2.0", "method" : "notifications/initialized" }"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call"}}"#,
            "no json",
        ] {
            assert_eq!(renamed(text), text);
        }
        assert_eq!(renamed(r#"[{"method":"ping"},{"method":"tools/list"}]"#).matches("relayed:").count(), 1);
    }
}
