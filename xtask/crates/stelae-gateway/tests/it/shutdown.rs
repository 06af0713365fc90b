//! The gateway goes, and takes its servers with it.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Gateway, PATIENCE, alive, eventually, fixture, gone};

#[tokio::test]
async fn sigterm_ends_everything_and_exits_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let servers = json!({"a": fixture("a", &["pid"]), "deaf": fixture("deaf", &["pid", "--deaf"])});
        let mut gateway = Gateway::start(servers).await.ready().await;
        let client = gateway.client().await;
        let pids = [client.pid("a__pid").await, client.pid("deaf__pid").await];
        gateway.signal(signal);
        assert_eq!(gateway.exit().await.code(), Some(0));
        assert_eq!(pids.map(alive), [false, false], "they are gone before the gateway is");
        assert!(tokio::net::TcpStream::connect(gateway.address).await.is_err());
    }
}

#[tokio::test]
async fn servers_are_asked_to_end_before_they_are_killed() {
    let mut gateway = Gateway::start(json!({"a": fixture("a", &["--polite"])})).await.ready().await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(gateway.log().contains("[a] goodbye\n"), "{}", gateway.log());
}

#[tokio::test]
async fn a_call_in_flight_is_answered_before_the_end() {
    let mut gateway = Gateway::start(json!({"a": fixture("a", &["await"])})).await.ready().await;
    let client = gateway.client().await;
    let file = gateway.folder.path().join("go");
    let arguments = json!({"file": file});
    let call = tokio::spawn(async move {
        let answer = client.call("await", arguments).await;
        (client, answer)
    });
    gateway.said("[a] awaiting").await;
    gateway.signal(Signal::TERM);
    eventually("it accepts no more", async || tokio::net::TcpStream::connect(gateway.address).await.err())
        .await;
    fs::write(file, "").unwrap();
    let (_client, answer) = tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
    assert_eq!(answer, "it is there");
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(gateway.log().contains("stopped, 0 calls unfinished"), "{}", gateway.log());
}

#[tokio::test]
async fn a_call_that_never_ends_does_not_keep_it() {
    let mut gateway = Gateway::start(json!({"a": fixture("a", &["hang", "pid"])})).await.ready().await;
    let client = gateway.client().await;
    let pid = client.pid("pid").await;
    let call = tokio::spawn(async move { client.try_call("hang", json!({})).await.map(|_| ()) });
    gateway.said("[a] hanging").await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(!alive(pid));
    assert!(gateway.log().contains("stopped, 1 calls unfinished"), "{}", gateway.log());
    call.abort();
}

#[tokio::test]
async fn servers_end_with_a_gateway_that_was_killed_also_in_the_middle_of_a_call() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["pid", "hang"])})).await.ready().await;
    let client = gateway.client().await;
    let pid = client.pid("pid").await;
    let call = tokio::spawn(async move { client.try_call("hang", json!({})).await.map(|_| ()) });
    gateway.said("[a] hanging").await;
    gateway.signal(Signal::KILL);
    gone(pid).await;
    call.abort();
}

#[tokio::test]
async fn servers_end_with_a_gateway_that_was_killed() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["pid"]), "b": fixture("b", &["pid"])})).await;
    let gateway = gateway.ready().await;
    let client = gateway.client().await;
    let pids = [client.pid("a__pid").await, client.pid("b__pid").await];
    assert_eq!(pids.map(alive), [true, true]);
    gateway.signal(Signal::KILL);
    for pid in pids {
        gone(pid).await;
    }
}
