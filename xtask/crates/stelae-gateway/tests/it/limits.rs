//! Clients that have too much of something, and what that is to others.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;

use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{GATEWAY, Gateway, PATIENCE, eventually, fixture, http};

/// Open files of the gateway, and the connections for which there is room then (`serve::limits`).
const FILES: u32 = 256;
const CONNECTIONS: usize = 64;
const CALLS: usize = 48;
/// The longest request.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// A gateway with few files.
async fn narrow(servers: Value) -> Gateway {
    let script = format!(r#"exec prlimit --nofile={FILES}:{FILES} "$0" "$@" 3<&0 </dev/null"#);
    let adopt = |listener: TcpListener| {
        let mut command = Command::new("sh");
        command.args(["-c", &script, GATEWAY]).stdin(OwnedFd::from(listener)).env_clear();
        command
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Gateway::adopt_with(adopt, listener, servers).await.ready().await
}

/// So many connections on which this was sent.
async fn connections(gateway: &Gateway, count: usize, sent: &str) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        // It may have been closed for another one by now.
        stream.write_all(sent.as_bytes()).await.ok();
        all.push(stream);
    }
    all
}

/// How many of them are closed.
async fn closed(all: &mut [TcpStream]) -> usize {
    let mut closed = 0;
    for stream in all {
        let read = timeout(std::time::Duration::from_millis(1), stream.read(&mut [0; 512])).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    closed
}

async fn status_of(gateway: &Gateway, path: &str) -> u16 {
    http().get(gateway.url(path)).send().await.unwrap().status().as_u16()
}

async fn post(gateway: &Gateway, session: Option<&str>, body: String) -> Response {
    let request = http().post(gateway.url("/mcp")).header("accept", "application/json, text/event-stream");
    let request = request.header("content-type", "application/json").body(body);
    let request = session.map_or(request.try_clone().unwrap(), |id| request.header("mcp-session-id", id));
    request.send().await.unwrap()
}

/// A new session.
async fn session(gateway: &Gateway) -> String {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "l", "version": "0"}});
    let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    let response = post(gateway, None, message.to_string()).await;
    let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(post(gateway, Some(&id), ready.to_string()).await.status().as_u16(), 202);
    id
}

fn call(id: usize, tool: &str) -> String {
    let params = json!({"name": tool, "arguments": {}});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
}

#[tokio::test]
async fn connections_without_a_request_give_way_to_clients_that_have_one() {
    let gateway = narrow(json!({"a": fixture("a", &["one"])})).await;
    let post =
        format!("POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", gateway.address);
    for sent in [
        "",
        "GET /healthz HTT",
        &format!("{post}Content-Length: 100\r\n\r\n{{"),
        &format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n"),
    ] {
        let mut held = connections(&gateway, 3 * CONNECTIONS, sent).await;
        assert_eq!(status_of(&gateway, "/readyz").await, 200, "{sent:?}");
        let least = 2 * CONNECTIONS;
        eventually("the first ones are closed", async || (closed(&mut held).await >= least).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn event_streams_stay_until_there_is_no_room_and_the_oldest_goes_first() {
    let gateway = narrow(json!({"a": fixture("a", &["one"])})).await;
    let listen = async || {
        let id = session(&gateway).await;
        let get = http().get(gateway.url("/mcp")).header("accept", "text/event-stream");
        let stream = get.header("mcp-session-id", &id).send().await.unwrap();
        assert_eq!(stream.status().as_u16(), 200);
        (id, stream)
    };
    let (first, mut oldest) = listen().await;
    let mut streams = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        streams.push(listen().await.1);
    }
    assert_eq!(status_of(&gateway, "/readyz").await, 200);
    let ended = async { while let Ok(Some(_)) = oldest.chunk().await {} };
    timeout(PATIENCE, ended).await.expect("the oldest stream is closed");
    // Its session is not: the client can open another stream.
    assert_eq!(post(&gateway, Some(&first), call(1, "one")).await.status().as_u16(), 200);
    let again = http().get(gateway.url("/mcp")).header("accept", "text/event-stream");
    assert_eq!(again.header("mcp-session-id", &first).send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn calls_under_way_stay_and_those_that_are_too_many_are_told_so() {
    let gateway = narrow(json!({"a": fixture("a", &["one", "hang"])})).await;
    let (mut hanging, client) = (Vec::new(), session(&gateway).await);
    for id in 0..CALLS {
        let response = post(&gateway, Some(&client), call(id, "hang")).await;
        assert_eq!(response.status().as_u16(), 200);
        hanging.push(response);
    }
    let refused = post(&gateway, Some(&client), call(CALLS, "one")).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    let error: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(CALLS), &json!(-32000)), "{error}");
    // Others get in meanwhile, and no call has given way to them.
    let _idle = connections(&gateway, 2 * CONNECTIONS, "").await;
    assert_eq!(status_of(&gateway, "/readyz").await, 200);
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 0}});
    assert_eq!(post(&gateway, Some(&client), cancel.to_string()).await.status().as_u16(), 202);
    eventually("there is room again", async || {
        let answer = post(&gateway, Some(&client), call(CALLS + 1, "one")).await;
        (answer.status().as_u16() == 200 && answer.text().await.unwrap().contains("a:one")).then_some(())
    })
    .await;
    assert_eq!(gateway.log().matches("[a] hanging").count(), CALLS);
    assert!(!gateway.log().contains("went away"), "and all others still hang");
    drop(hanging);
}

/// In MiB.
fn memory(gateway: &Gateway, what: &str) -> u64 {
    let children = format!("/proc/{0}/task/{0}/children", gateway.child.id());
    let serves = std::fs::read_to_string(children).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", serves.trim())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn sixty_long_requests_at_once_take_bounded_memory_and_are_all_answered() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let id = session(&gateway).await;
    let before = memory(&gateway, "VmRSS");
    let body = {
        let params = json!({"name": "one", "arguments": {"text": "x".repeat(MOST_BYTES - 1_000)}});
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}).to_string()
    };
    assert!(body.len() < MOST_BYTES && body.len() > MOST_BYTES - 2_000);
    let mut posting = tokio::task::JoinSet::new();
    for number in 0..60 {
        let (url, id) = (gateway.url("/mcp"), id.clone());
        let body = body.replacen(r#""id":1"#, &format!(r#""id":{number}"#), 1);
        posting.spawn(async move {
            let request = http().post(url).header("accept", "application/json, text/event-stream");
            let request = request.header("content-type", "application/json").header("mcp-session-id", id);
            request.body(body).send().await.unwrap().status().as_u16()
        });
    }
    let statuses = timeout(PATIENCE, posting.join_all()).await.expect("answers");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 408 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    assert_eq!(post(&gateway, Some(&id), call(100, "one")).await.status().as_u16(), 200);
    let (peak, after) = (memory(&gateway, "VmHWM"), memory(&gateway, "VmRSS"));
    println!("{before} MiB before, {peak} at the most, {after} after");
    assert!(peak < 600 && after < 300, "{before} MiB before, {peak} at the most, {after} after");
}

#[tokio::test]
async fn what_is_too_much_is_refused_while_its_client_still_sends() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let id = session(&gateway).await;
    let long = format!(r#"{{"jsonrpc":"2.0","method":"n","params":{{"a":"{}"}}}}"#, "x".repeat(MOST_BYTES));
    let many = format!(r#"{{"jsonrpc":"2.0","method":"n","params":{{"a":[{}0]}}}}"#, "0,".repeat(200_000));
    let batch = format!("[{}0]", "0,".repeat(1_000_000));
    for (body, says) in [
        (long, "bytes"),
        (many, "200000 values"),
        (batch, "200000 values"),
        ("[".repeat(1_000_000), "200000 values"),
        (r#"{"a":"#.repeat(300_000), "200000 values"),
    ] {
        let answer = post(&gateway, Some(&id), body).await;
        assert_eq!(answer.status().as_u16(), 413);
        let text = answer.text().await.unwrap();
        assert!(text.contains(says) && text.lines().count() == 1, "{text}");
    }
    // Deep, and few enough.
    assert_eq!(post(&gateway, Some(&id), "[".repeat(100_000)).await.status().as_u16(), 400);
    let a_lot = format!(r#"{{"jsonrpc":"2.0","method":"n","params":{{"a":[{}0]}}}}"#, "0,".repeat(199_000));
    assert_eq!(post(&gateway, Some(&id), a_lot).await.status().as_u16(), 202);
    eventually("they are counted", async || gateway.log().contains(" more: refused requests").then_some(()))
        .await;
    assert!(gateway.log().lines().filter(|line| line.contains("refused /mcp")).count() < 6);
}

#[tokio::test]
async fn heads_that_are_too_long_or_have_no_end_are_no_requests() {
    let gateway = Gateway::start(json!({})).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n", gateway.address);
    for more in ["x: 1\r\n".repeat(200), format!("x: {}\r\n", "y".repeat(64 * 1024)), "x".repeat(1024 * 1024)]
    {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        // It is answered, and closed, before all of it was sent.
        stream.write_all(format!("{head}{more}").as_bytes()).await.ok();
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(read.is_err() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    // A head that comes byte by byte is not waited for.
    let mut slow = connections(&gateway, 3, &format!("{head}x: ")).await;
    eventually("slow ones are closed", async || {
        for stream in &mut slow {
            stream.write_all(b"x").await.ok();
        }
        (closed(&mut slow).await == 3).then_some(())
    })
    .await;
    gateway.said("[gateway] closed a connection: its request did not come in time").await;
    assert_eq!(status_of(&gateway, "/healthz").await, 200);
}
