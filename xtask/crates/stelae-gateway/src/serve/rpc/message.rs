//! One JSON-RPC message, as far as a relay has to understand it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A message in either direction.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::serve) enum Message {
    /// Wants an answer.
    Request { id: Value, method: String, params: Option<Value> },
    /// Wants none.
    Notification { method: String, params: Option<Value> },
    /// Is one.
    Answer { id: Value, outcome: Result<Value, RpcError> },
}

/// An error as it stands in an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::serve) struct RpcError {
    /// What kind.
    pub(in crate::serve) code: i64,
    /// For a person.
    pub(in crate::serve) message: String,
    /// For a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::serve) data: Option<Value>,
}

impl RpcError {
    /// There is no such method, or whoever is asked does not support it.
    pub(in crate::serve) const METHOD_NOT_FOUND: i64 = -32601;
    /// The request cannot be carried out.
    pub(in crate::serve) const INTERNAL: i64 = -32603;
    /// The server is away, or cannot be reached: the first free code of the range that JSON-RPC leaves to servers.
    pub(in crate::serve) const UNREACHABLE: i64 = -32010;
    /// The server was there, and the connection to it broke off before it had answered.
    pub(in crate::serve) const BROKEN_OFF: i64 = -32011;

    /// An error without data.
    pub(in crate::serve) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Message {
    /// Reads what arrived in one piece: a message, or several of them (a batch, which 2025-03-26 allowed).
    ///
    /// # Errors
    /// What is wrong with it, without quoting it: it may hold a secret.
    pub(super) fn parse(text: &[u8]) -> Result<Vec<Self>, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
        match value {
            Value::Array(batch) => batch.into_iter().map(Self::from_value).collect(),
            one => Ok(vec![Self::from_value(one)?]),
        }
    }

    fn from_value(value: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = value else { return Err("a message is an object".to_owned()) };
        let mut take = |name: &str| fields.remove(name);
        let (id, method, params) = (take("id"), take("method"), take("params"));
        match (id, method) {
            (Some(id), Some(Value::String(method))) => Ok(Self::Request { id, method, params }),
            (None, Some(Value::String(method))) => Ok(Self::Notification { method, params }),
            (Some(id), None) => Ok(Self::Answer { id, outcome: outcome(fields) }),
            _ => Err("a message has a method, or the id of what it answers".to_owned()),
        }
    }

    /// Whether it is the answer to our request with this number.
    pub(super) fn answers(&self, request: u64) -> bool {
        matches!(self, Self::Answer { id, .. } if id.as_u64() == Some(request))
    }

    /// As one line of JSON, with its end.
    pub(super) fn to_line(&self) -> Vec<u8> {
        let mut line = self.to_value().to_string().into_bytes();
        line.push(b'\n');
        line
    }

    /// As JSON.
    pub(super) fn to_value(&self) -> Value {
        let mut fields = Map::from_iter([("jsonrpc".to_owned(), json!("2.0"))]);
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        match self {
            Self::Request { id, method, params } => {
                put("id", id.clone());
                put("method", method.as_str().into());
                if let Some(params) = params {
                    put("params", params.clone());
                }
            }
            Self::Notification { method, params } => {
                put("method", method.as_str().into());
                if let Some(params) = params {
                    put("params", params.clone());
                }
            }
            Self::Answer { id, outcome } => {
                put("id", id.clone());
                match outcome {
                    Ok(result) => put("result", result.clone()),
                    Err(error) => put("error", json!(error)),
                }
            }
        }
        Value::Object(fields)
    }
}

/// Whoever waits for the answer is told of whatever is wrong with it: it is all that will come. An error that is null is none,
/// which is how JSON-RPC 1 said that all is well.
fn outcome(mut fields: Map<String, Value>) -> Result<Value, RpcError> {
    match (fields.remove("result"), fields.remove("error").filter(|error| !error.is_null())) {
        (Some(result), None) => Ok(result),
        (None | Some(Value::Null), Some(error)) => Err(rpc_error(&error)),
        (Some(_), Some(_)) => {
            Err(RpcError::new(RpcError::INTERNAL, "the server answered with a result and an error"))
        }
        (None, None) => {
            Err(RpcError::new(RpcError::INTERNAL, "the server answered with neither a result nor an error"))
        }
    }
}

/// As much of an error as can be understood.
fn rpc_error(error: &Value) -> RpcError {
    let code = error.get("code").and_then(Value::as_i64).unwrap_or(RpcError::INTERNAL);
    let message = error.get("message").and_then(Value::as_str).or(error.as_str());
    let message = message.unwrap_or("the server answered with an error that has no message").to_owned();
    RpcError { code, message, data: error.get("data").cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_written_with_everything_in_them() {
        for text in [
            r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"unknown":[1,null]}}"#,
            r#"{"jsonrpc":"2.0","id":"seven","method":"m"}"#,
            r#"{"jsonrpc":"2.0","method":"n","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"t","execution":{}}]}}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"no","data":{"a":1}}}"#,
        ] {
            let read = Message::parse(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(read[0].to_line()).unwrap().trim_end(), text);
        }
        assert_eq!(Message::parse(br#"[{"method":"a"},{"method":"b"}]"#).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_message_is_refused_without_quoting_it() {
        for text in ["hunter2", "7", "{}", r#"{"method":7}"#, r#"{"id":1,"method":7}"#] {
            let why = Message::parse(text.as_bytes()).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn whoever_waits_is_answered_also_when_the_answer_is_malformed() {
        let outcome = |fields: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,{fields}}}"#);
            match Message::parse(text.as_bytes()).unwrap().remove(0) {
                Message::Answer { id, outcome } if id == 1 => outcome,
                other => panic!("no answer: {other:?}"),
            }
        };
        assert_eq!(outcome(r#""result":7,"error":null"#), Ok(json!(7)));
        assert_eq!(outcome(r#""result":null,"error":null"#), Ok(Value::Null));
        let error = |code: i64, message: &str| Err(RpcError::new(code, message));
        let unsaid = "the server answered with an error that has no message";
        for (fields, expected) in [
            (r#""result":null,"error":{"code":1,"message":"no"}"#, error(1, "no")),
            (r#""error":{"message":"no"}"#, error(RpcError::INTERNAL, "no")),
            (r#""error":{"code":1.5,"message":"no"}"#, error(RpcError::INTERNAL, "no")),
            (r#""error":{"code":1}"#, error(1, unsaid)),
            (r#""error":"no""#, error(RpcError::INTERNAL, "no")),
            (r#""error":false"#, error(RpcError::INTERNAL, unsaid)),
            (
                r#""result":1,"error":{}"#,
                error(RpcError::INTERNAL, "the server answered with a result and an error"),
            ),
            (r#""x":1"#, error(RpcError::INTERNAL, "the server answered with neither a result nor an error")),
        ] {
            assert_eq!(outcome(fields), expected, "{fields}");
        }
    }
}
