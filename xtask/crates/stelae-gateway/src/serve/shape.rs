//! What a client's message has to look like, and the answer to one that does not.
//!
//! rmcp has one status for all that it cannot read (415), and does not say what is wrong with it.

use std::fmt::Display;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rmcp::model::RequestId;
use serde_json::{Map, Value, json};

/// What is no JSON.
const PARSE_ERROR: i32 = -32700;
/// What is JSON, but no message.
const INVALID_REQUEST: i32 = -32600;

/// A message as far as its answer depends on it; an extension of the request that brought it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Nothing for what is not answered.
    pub(super) id: Option<RequestId>,
    /// Whether it begins a session.
    pub(super) initialize: bool,
}

/// What could be done at another time.
const BUSY: i32 = -32000;

/// A JSON-RPC error for a message that goes no further.
#[derive(Debug)]
pub(super) struct Fault {
    code: i32,
    id: Option<RequestId>,
    why: String,
}

impl Fault {
    /// The body is no JSON.
    pub(super) fn unreadable(why: impl Display) -> Self {
        Self { code: PARSE_ERROR, id: None, why: format!("the body is no JSON: {why}") }
    }

    /// It is JSON, but not what may be asked.
    pub(super) fn invalid(id: Option<RequestId>, why: impl Into<String>) -> Self {
        Self { code: INVALID_REQUEST, id, why: why.into() }
    }

    /// It is what may be asked, and too much of it: 503, to be tried again.
    pub(super) fn busy(id: Option<RequestId>, why: impl Into<String>) -> Self {
        Self { code: BUSY, id, why: why.into() }
    }

    /// What is wrong.
    pub(super) fn why(&self) -> &str {
        &self.why
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let error = json!({"code": self.code, "message": self.why});
        let body = json!({"jsonrpc": "2.0", "id": self.id, "error": error}).to_string();
        let json = [(header::CONTENT_TYPE, "application/json")];
        if self.code == BUSY {
            return (StatusCode::SERVICE_UNAVAILABLE, json, [(header::RETRY_AFTER, "1")], body)
                .into_response();
        }
        (StatusCode::BAD_REQUEST, json, body).into_response()
    }
}

/// Looks at a message as JSON-RPC 2.0, as MCP narrows it: ids are strings or integers, and `params` has names.
///
/// # Errors
/// What is wrong first.
pub(super) fn check(message: &Value) -> Result<Asked, Fault> {
    let message = match message {
        Value::Object(message) => message,
        Value::Array(_) => return Err(Fault::invalid(None, "batches are no part of MCP: send one message")),
        _ => return Err(Fault::invalid(None, "a message is an object")),
    };
    let id = id(message)?;
    let invalid = |why: &str| Err(Fault::invalid(id.clone(), why));
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return invalid(r#""jsonrpc" has to be "2.0""#);
    }
    // Some clients say null where they have none.
    if !matches!(message.get("params"), None | Some(Value::Null | Value::Object(_))) {
        return invalid("params is not an object");
    }
    match (message.get("method"), message.get("result"), message.get("error")) {
        (Some(Value::String(method)), ..) => Ok(Asked { initialize: method == "initialize", id }),
        (Some(_), ..) => invalid("method is not a string"),
        (None, None, None) => invalid("neither a request nor an answer: there is no method, result or error"),
        // Whoever could not read a question does not know its id, and says so with an error.
        (None, Some(_), _) if id.is_none() => invalid("a result has the id of its request"),
        (None, Some(_), _) | (None, None, Some(Value::Object(_))) => {
            Ok(Asked { id: None, initialize: false })
        }
        // The id of an answer is one of ours: with it, the fault would look like an answer to us.
        (None, None, Some(_)) => Err(Fault::invalid(None, "error is not an object")),
    }
}

/// Those that rmcp takes, as it takes them: `1` and `1.0` are one.
fn id(message: &Map<String, Value>) -> Result<Option<RequestId>, Fault> {
    let Some(id) = message.get("id") else { return Ok(None) };
    if id.is_null() && message.contains_key("error") && !message.contains_key("method") {
        return Ok(None);
    }
    let read = serde_json::from_value(id.clone());
    read.map(Some).map_err(|_| Fault::invalid(None, "an id is a string, or an integer of 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<RequestId> {
        check(&serde_json::from_str(text).unwrap()).unwrap().id
    }

    #[test]
    fn what_is_asked_has_an_id_and_what_is_told_has_none() {
        let number = Some(RequestId::Number(7));
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#), number);
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":7.0,"method":"ping","params":null}"#), number);
        let text = Some(RequestId::String("7".into()));
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":"7","method":"ping","params":{}}"#), text);
        for told in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"no"}}"#,
        ] {
            assert_eq!(id(told), None, "{told}");
        }
    }
}
