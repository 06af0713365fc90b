//! Sessions of clients: what they may have under way, how many there may be, and how they end.

use std::fs;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::{Gateway, eventually, fixture, http};

/// As many sessions as there may be (`serve::sessions`).
const MOST: usize = 1_000;

fn to_session(request: RequestBuilder, session: &str) -> RequestBuilder {
    let request = request.header("accept", "application/json, text/event-stream");
    request.header("content-type", "application/json").header("mcp-session-id", session)
}

async fn post(gateway: &Gateway, session: &str, message: &Value) -> Response {
    let request = to_session(http().post(gateway.url("/mcp")), session);
    request.body(message.to_string()).send().await.unwrap()
}

async fn delete(gateway: &Gateway, session: &str) -> u16 {
    let request = to_session(http().delete(gateway.url("/mcp")), session);
    request.send().await.unwrap().status().as_u16()
}

async fn initialize(gateway: &Gateway, client: &reqwest::Client) -> Response {
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "sessions", "version": "0"},
    });
    let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    let request = client.post(gateway.url("/mcp")).header("content-type", "application/json");
    let request = request.header("accept", "application/json, text/event-stream");
    request.body(message.to_string()).send().await.unwrap()
}

fn id_of(response: &Response) -> String {
    response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

/// A session that is ready for calls.
async fn open(gateway: &Gateway) -> String {
    let session = id_of(&initialize(gateway, &http()).await);
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(post(gateway, &session, &ready).await.status().as_u16(), 202);
    session
}

fn call(id: &Value, tool: &str, arguments: &Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

/// The text of the one result on this stream.
async fn text(response: Response) -> Value {
    assert_eq!(response.status().as_u16(), 200);
    let events = response.text().await.unwrap();
    let data = events.lines().filter_map(|line| line.strip_prefix("data:"));
    let messages: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
    assert_eq!(messages.len(), 1, "{events}");
    messages[0]["result"]["content"][0]["text"].clone()
}

#[tokio::test]
async fn an_id_that_is_under_way_is_refused_and_the_first_call_is_answered() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one", "await"])})).await.ready().await;
    let (session, other) = (open(&gateway).await, open(&gateway).await);
    for id in [json!(777), json!("777")] {
        let file = gateway.folder.path().join(format!("file-{}", id.is_string()));
        let first = post(&gateway, &session, &call(&id, "await", &json!({"file": file}))).await;
        for _ in 0..3 {
            let second = post(&gateway, &session, &call(&id, "one", &json!({}))).await;
            assert_eq!(second.status().as_u16(), 400);
            let error: Value = serde_json::from_str(&second.text().await.unwrap()).unwrap();
            assert_eq!((&error["id"], &error["error"]["code"]), (&id, &json!(-32600)));
            assert!(error["error"]["message"].as_str().unwrap().contains("under way"), "{error}");
        }
        // It is the session's own id: another one may use it, and this one may call under another.
        assert_eq!(text(post(&gateway, &other, &call(&id, "one", &json!({}))).await).await, "a:one");
        assert_eq!(text(post(&gateway, &session, &call(&json!(1), "one", &json!({}))).await).await, "a:one");
        fs::write(file, "").unwrap();
        assert_eq!(text(first).await, "it is there");
        // Once it is answered, it is free.
        for _ in 0..20 {
            assert_eq!(text(post(&gateway, &session, &call(&id, "one", &json!({}))).await).await, "a:one");
        }
    }
}

#[tokio::test]
async fn an_id_is_free_once_its_answer_was_read_or_its_client_is_gone() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one", "hang"])})).await.ready().await;
    let session = open(&gateway).await;
    // Whoever has read the answer need not wait for the end of the stream.
    for _ in 0..50 {
        let mut response = post(&gateway, &session, &call(&json!(7), "one", &json!({}))).await;
        assert_eq!(response.status().as_u16(), 200);
        let mut read = String::new();
        while !read.contains("a:one") {
            read.push_str(&String::from_utf8_lossy(&response.chunk().await.unwrap().expect("an answer")));
        }
    }
    drop(post(&gateway, &session, &call(&json!(8), "hang", &json!({}))).await);
    eventually("the id of a client that is gone is free", async || {
        let response = post(&gateway, &session, &call(&json!(8), "one", &json!({}))).await;
        (response.status().as_u16() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_unknown_session_is_404_whatever_is_asked() {
    let gateway = Gateway::start(json!({})).await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let session = open(&gateway).await;
    assert_eq!(post(&gateway, &session, &ping).await.status().as_u16(), 200);
    assert_eq!(delete(&gateway, &session).await, 202);
    for session in [session.as_str(), "nobody-has-this"] {
        assert_eq!(delete(&gateway, session).await, 404);
        assert_eq!(post(&gateway, session, &ping).await.status().as_u16(), 404);
        let get = to_session(http().get(gateway.url("/mcp")), session);
        assert_eq!(get.send().await.unwrap().status().as_u16(), 404);
    }
}

#[tokio::test]
async fn sessions_that_are_not_in_use_give_way_to_new_ones() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one", "hang"])})).await.ready().await;
    let (used, calling) = (open(&gateway).await, open(&gateway).await);
    assert_eq!(text(post(&gateway, &used, &call(&json!(1), "one", &json!({}))).await).await, "a:one");
    let hanging = post(&gateway, &calling, &call(&json!(1), "hang", &json!({}))).await;
    // One client, so that this is a test of sessions, not of connections.
    let client = http();
    let begin = async || {
        let response = initialize(&gateway, &client).await;
        assert_eq!(response.status().as_u16(), 200);
        let id = id_of(&response);
        response.bytes().await.unwrap();
        id
    };
    let mut unused = Vec::new();
    for _ in 0..MOST + 20 {
        unused.push(begin().await);
    }
    gateway.said("[gateway] there are 1000 sessions: one that is not in use gives way to a new one").await;
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    let status = async |session: &str| post(&gateway, session, &ping).await.status().as_u16();
    // Two are in use, and were there first.
    let gone = unused.len() + 2 - MOST;
    assert_eq!((status(&unused[0]).await, status(&unused[gone - 1]).await), (404, 404));
    assert_eq!((status(&unused[gone]).await, status(&unused[unused.len() - 1]).await), (200, 200));
    assert_eq!((status(&used).await, status(&calling).await), (200, 200));
    assert_eq!(gateway.readiness().await.0, 200);
    drop(hanging);
}

#[tokio::test]
async fn the_calls_of_a_session_that_is_ended_are_cancelled() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one", "hang"])})).await.ready().await;
    let (session, other) = (open(&gateway).await, open(&gateway).await);
    let calls = [
        post(&gateway, &session, &call(&json!(1), "hang", &json!({}))).await,
        post(&gateway, &session, &call(&json!("x"), "hang", &json!({}))).await,
    ];
    eventually("both calls hang", async || (gateway.log().matches("[a] hanging").count() == 2).then_some(()))
        .await;
    assert_eq!(delete(&gateway, &session).await, 202);
    gateway.said("[gateway] a session is ended by its client, calls that are cancelled: 2").await;
    eventually("the server hears of both", async || {
        (gateway.log().matches("[a] cancelled").count() == 2).then_some(())
    })
    .await;
    for call in calls {
        // There is no session that could have an answer: the streams end.
        assert!(!call.text().await.unwrap().contains("result"));
    }
    assert_eq!(text(post(&gateway, &other, &call(&json!(1), "one", &json!({}))).await).await, "a:one");
}
