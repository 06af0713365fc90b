//! Servers over HTTP that do what no server should do, or what only some do.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::endpoint::{Counter, Endpoint, Said, broken, events, events_and_silence, reply, result_event};
use crate::support::{Gateway, eventually, with};
use crate::wire::Wire;

async fn in_front_of(endpoint: &Endpoint, more: Value) -> Gateway {
    Gateway::start(json!({"e": with(json!({"url": endpoint.url}), more)})).await.ready().await
}

fn now(response: axum::response::Response) -> Said {
    Some(std::future::ready(response).boxed())
}

#[tokio::test]
async fn whatever_status_a_ping_is_answered_with_the_server_lives() {
    // A call that breaks off is why it is pinged at once.
    let endpoint = Endpoint::start(|what, _| match what {
        "tools/call" => now(broken()),
        "ping" => now(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        _ => None,
    })
    .await;
    let gateway = in_front_of(&endpoint, json!({})).await;
    let client = gateway.client().await;
    for pings in 1..=3 {
        client.refused("one").await;
        endpoint.until_seen("ping", pings).await;
    }
    assert_eq!((endpoint.seen("initialize"), gateway.readiness().await.1.servers["e"].restarts), (1, 0));
}

#[tokio::test]
async fn every_request_carries_the_headers_of_the_entry_and_no_log_line_does() {
    let endpoint = Endpoint::start(|_, _| None).await;
    let gateway = in_front_of(&endpoint, json!({"headers": {"X-Key": "hunter2"}})).await;
    assert_eq!(gateway.client().await.call("one", json!({})).await, "answered");
    assert_eq!((endpoint.seen("tools/call"), endpoint.seen("with key none")), (1, 0));
    assert!(endpoint.seen("with key hunter2") >= 4);
    assert!(!gateway.log().contains("hunter2"), "{}", gateway.log());
}

#[tokio::test]
async fn a_call_that_was_given_up_keeps_no_connection() {
    let open = Counter::default();
    let (counter, here) = (open.clone(), open.clone());
    let endpoint = Endpoint::start(move |what, _| {
        (what == "tools/call").then(|| {
            let one = counter.one();
            async move {
                std::future::pending::<()>().await;
                drop(one);
                StatusCode::OK.into_response()
            }
            .boxed()
        })
    })
    .await;
    let gateway = in_front_of(&endpoint, json!({"callTimeoutMs": 3000})).await;
    let why = gateway.client().await.refused("one").await;
    assert!(why.contains("gave no answer within 3000 ms"), "{why}");
    assert_eq!(endpoint.seen("tools/call"), 1);
    eventually("the connection is closed", async || (here.count() == 0).then_some(())).await;
    endpoint.until_seen("notifications/cancelled", 1).await;
}

#[tokio::test]
async fn an_answer_that_a_server_does_not_take_is_told_of() {
    let endpoint = Endpoint::start(|what, _| match what {
        "tools/call" => {
            let question = json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"});
            now(events_and_silence([format!("data: {question}\n\n")]))
        }
        "answer" => now(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        _ => None,
    })
    .await;
    let gateway = in_front_of(&endpoint, json!({})).await;
    let wire = Wire::open(&gateway).await;
    let mut call = wire.call(1, "one", json!({}), "t").await;
    let question = call.next().await;
    wire.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})).await;
    let line = "[gateway] server \"e\": did not take our answer to its question: it answered 500 Internal Server Error";
    gateway.said(line).await;
}

#[tokio::test]
async fn an_answer_of_something_else_ends_the_call_at_once() {
    let endpoint = Endpoint::start(|what, _| {
        let error = json!({"code": -32600, "message": "no"});
        (what == "tools/call")
            .then(|| now(reply(&json!({"jsonrpc": "2.0", "id": null, "error": error}))))
            .flatten()
    })
    .await;
    let gateway = in_front_of(&endpoint, json!({})).await;
    let why = gateway.client().await.refused("one").await;
    assert!(why.contains("it answered 200 OK without the answer"), "{why}");
}

#[tokio::test]
async fn an_event_without_an_end_is_given_up() {
    let endpoint = Endpoint::start(|what, _| {
        let piece = "a".repeat(1024 * 1024);
        let pieces = std::iter::once("data: ".to_owned()).chain(std::iter::repeat_n(piece, 66));
        (what == "tools/call").then(|| now(events_and_silence(pieces))).flatten()
    })
    .await;
    let gateway = in_front_of(&endpoint, json!({"callTimeoutMs": 25_000})).await;
    let why = gateway.client().await.refused("one").await;
    assert!(why.contains("an event is longer than 67108864 bytes"), "{why}");
}

#[tokio::test]
async fn a_line_that_is_not_known_is_no_end_of_an_event_stream() {
    let endpoint = Endpoint::start(|what, call| {
        let strange = "x-unknown: 1\nno colon\nretry: soon\n: a comment\nx-unknown: 2\n";
        (what == "tools/call").then(|| now(events([format!("{strange}{}", result_event(call))]))).flatten()
    })
    .await;
    let gateway = in_front_of(&endpoint, json!({})).await;
    assert_eq!(gateway.client().await.call("one", json!({})).await, "answered");
}

#[tokio::test]
async fn a_server_that_does_not_let_us_listen_now_is_asked_again() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let endpoint = Endpoint::start(move |what, _| {
        let status = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
        let of = |asked: usize| status.get(asked).map(|status| status.into_response());
        (what == "GET").then(|| of(asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst)))?.and_then(now)
    })
    .await;
    let gateway = in_front_of(&endpoint, json!({})).await;
    endpoint.until_seen("GET", 3).await;
    let told = |log: &str| log.matches("does not let us listen").count();
    assert_eq!(told(&gateway.log()), 1, "{}", gateway.log());
    assert!(
        gateway.log().contains("does not let us listen: it answered 401 Unauthorized"),
        "{}",
        gateway.log()
    );
}
