//! Answers on their way out: which event of a stream is the answer that the client waits for.

use axum::body::Body;
use rmcp::model::RequestId;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::body::looked_at;
use super::sessions::UnderWay;

/// A body that ends the request with it, and frees its id as soon as the answer was handed over.
pub(super) fn watched(body: Body, mut under_way: UnderWay) -> Body {
    looked_at(body, move |event| {
        if under_way.id().is_some_and(|id| is_answer(event, id)) {
            under_way.answered();
        }
    })
}

/// Whether an event is the answer to the request with this id. rmcp gives each event in one piece.
fn is_answer(event: &[u8], id: &RequestId) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        id: Option<RequestId>,
        result: Option<IgnoredAny>,
        error: Option<IgnoredAny>,
    }
    let data = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    data.filter_map(|data| serde_json::from_slice::<Answer>(data).ok())
        .any(|answer| answer.id.as_ref() == Some(id) && (answer.result.is_some() || answer.error.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_is_an_answer() {
        let event = |message: &str| format!("id: 1/0\nretry: 3\ndata: {message}\n\n");
        let is = |message: &str| is_answer(event(message).as_bytes(), &RequestId::Number(7));
        assert!(is(r#"{"jsonrpc":"2.0","id":7,"result":{"id":1}}"#));
        assert!(is(r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}"#));
        assert!(!is(r#"{"jsonrpc":"2.0","id":"7","result":{}}"#), "a string is no number");
        assert!(!is(r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#), "a question of the server's own");
        assert!(!is(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"id":7,"result":1}}"#));
        assert!(!is("") && !is_answer(b":\n\n", &RequestId::Number(7)));
    }
}
