//! What is true while a reload is under way, and what its answer says.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use stelae_model::proxy::{Readiness, ServerState};
use tokio::task::JoinHandle;

use crate::support::{FIXTURE, Gateway, TOKEN, fixture, http, with};

/// A reload that nobody waits for yet.
fn reload(gateway: &Gateway) -> JoinHandle<Readiness> {
    let request = http().post(gateway.url("/-/reload")).bearer_auth(TOKEN).send();
    tokio::spawn(async move {
        let answer = request.await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    })
}

/// `entry`, told apart from itself.
fn changed(entry: Value) -> Value {
    with(entry, json!({"env": {"CHANGED": "1"}}))
}

#[tokio::test]
async fn a_server_that_is_replaced_is_missed_and_keeps_its_names() {
    // Stopping it takes its time, in which others look.
    let (a, b) = (fixture("a", &["read", "--deaf"]), fixture("b", &["read"]));
    let gateway = Gateway::start(json!({"a": a, "b": b})).await.ready().await;
    let client = gateway.client().await;
    let added = fixture("c", &["three"]);
    gateway.configure(&json!({"a": changed(a), "b": b, "c": added}));
    let reloading = reload(&gateway);
    let (mut not_ready, mut refused) = (0, Vec::new());
    while !reloading.is_finished() {
        let (status, readiness) = gateway.readiness().await;
        let of = |name: &str| readiness.servers.get(name).map(|health| health.state);
        assert_eq!(status == 200, readiness.ready);
        let all_ready = [of("a"), of("b")] == [Some(ServerState::Ready); 2]
            && of("c").is_none_or(|c| c == ServerState::Ready);
        assert_eq!(readiness.ready, all_ready, "{readiness:?}");
        not_ready += usize::from(!readiness.ready);
        assert_eq!(client.call("b__read", json!({})).await, "b:read");
        if of("a") == Some(ServerState::Starting) && refused.is_empty() {
            refused = vec![client.refused("a__read").await, client.refused("read").await];
        }
    }
    assert!(reloading.await.unwrap().ready);
    assert!(not_ready > 0, "it was seen while it was away");
    assert_eq!(refused[0], "server \"a\" of tool \"a__read\" is away: it is being started");
    assert_eq!(refused[1], "several servers have a tool \"read\": use a__read or b__read");
    assert_eq!(client.tools().await, ["a__read", "b__read", "three"]);
}

#[tokio::test]
async fn a_server_that_hangs_at_its_start_has_failed_when_the_reload_answers() {
    let gateway = Gateway::start(json!({})).await;
    // It takes longer to end than its limit is.
    let silent = with(fixture("s", &["--silent", "--deaf"]), json!({"startTimeoutMs": 200}));
    gateway.configure(&json!({"s": silent}));
    let health = reload(&gateway).await.unwrap().servers.remove("s").unwrap();
    assert_eq!(health.state, ServerState::Failed);
    assert_eq!(health.reason.unwrap(), "no answer to initialize and tools/list within 200 ms");
}

#[tokio::test]
async fn a_server_that_crashes_at_its_start_is_explained_when_the_reload_answers() {
    let gateway = Gateway::start(json!({})).await;
    let script = "echo cannot read my settings >&2; exit 3";
    gateway.configure(&json!({"c": {"command": "sh", "args": ["-c", script]}}));
    let health = reload(&gateway).await.unwrap().servers.remove("c").unwrap();
    assert_eq!(health.state, ServerState::Backoff, "it is started again");
    let reason = health.reason.unwrap();
    assert!(reason.contains("exit status: 3") && reason.contains("cannot read my settings"), "{reason}");
}

#[tokio::test]
async fn a_server_whose_end_takes_longer_than_its_limit_is_explained_when_the_reload_answers() {
    let gateway = Gateway::start(json!({})).await;
    let script = "trap '' TERM; exec <&- >&-; sleep 1000";
    let leaving = json!({"command": "sh", "args": ["-c", script], "startTimeoutMs": 5000});
    gateway.configure(&json!({"l": leaving}));
    let health = reload(&gateway).await.unwrap().servers.remove("l").unwrap();
    assert_eq!(health.state, ServerState::Backoff);
    assert_eq!(health.reason.unwrap(), "closed the connection before it was ready");
}

#[tokio::test]
async fn a_reload_tries_again_what_is_not_up() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let servers = json!({"a": {"command": program, "args": ["a", "one"]}, "b": fixture("b", &["pid"])});
    let gateway = Gateway::start(servers).await;
    gateway.until("a has failed", |all| all.servers["a"].state == ServerState::Failed).await;
    let all = gateway.until("b is ready", |all| all.servers["b"].state == ServerState::Ready).await;
    assert_eq!(all.servers["a"].restarts, 0);
    let client = gateway.client().await;
    let pid = client.pid("pid").await;
    symlink(FIXTURE, &program).unwrap();
    let all = reload(&gateway).await.unwrap();
    assert!(all.ready, "{all:?}");
    assert_eq!(all.servers["a"].restarts, 1, "that it was not up once is not forgotten");
    assert_eq!(client.tools().await, ["one", "pid"]);
    assert_eq!(client.pid("pid").await, pid, "what is up is left alone");
}

#[tokio::test]
async fn a_reload_does_not_break_off_a_start_that_is_under_way() {
    // It is `starting` for as long as its file is not there.
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!("echo begun >&2; until [ -e {go:?} ]; do sleep 0.01; done; exec {FIXTURE} a one");
    let slow = json!({"command": "sh", "args": ["-c", script], "startTimeoutMs": 60_000});
    let gateway = Gateway::start(json!({"a": slow})).await;
    gateway.said("[a] begun").await;
    assert_eq!(reload(&gateway).await.unwrap().servers["a"].state, ServerState::Starting);
    std::fs::write(go, "").unwrap();
    let gateway = gateway.ready().await;
    assert_eq!(gateway.log().matches("[a] begun").count(), 1, "{}", gateway.log());
}

#[tokio::test]
async fn a_reload_that_had_to_wait_reads_what_is_written_then() {
    // Whether it had to wait for so long is up to the machine: a starved one gets more than one try.
    for _try in 0..5 {
        if read_by_the_second().await == ["new"] {
            return;
        }
    }
    panic!("what was read is what was written before it had its turn");
}

async fn read_by_the_second() -> Vec<String> {
    let gateway = Gateway::start(json!({"a": fixture("a", &["one", "--deaf"])})).await.ready().await;
    gateway.configure(&json!({}));
    let first = reload(&gateway);
    gateway.until("the first reload has begun", |all| !all.servers.contains_key("a")).await;
    gateway.configure(&json!({"old": fixture("old", &["one"])}));
    let second = reload(&gateway);
    // The second one gets to where the first one is waited for.
    for _ in 0..20 {
        gateway.readiness().await;
    }
    gateway.configure(&json!({"new": fixture("new", &["one"])}));
    assert_eq!(first.await.unwrap().servers.len(), 0);
    second.await.unwrap().servers.into_keys().collect()
}
