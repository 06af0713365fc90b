//! Servers that are there, and do not do what they are there for.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use stelae_model::proxy::ServerState;

use crate::support::{Gateway, fixture, gone, with};
use crate::wire::Wire;

#[tokio::test]
async fn a_list_that_has_changed_is_asked_for_again_until_it_is_had() {
    // The first list is the one of its start.
    let servers = json!({"a": fixture("a", &["grow", "--refuses=2-3"])});
    let gateway = Gateway::start(servers).await.ready().await;
    let client = gateway.client().await;
    client.call("grow", json!({})).await;
    client.until_tools(&["grow", "grown"]).await;
    assert_eq!(gateway.log().matches("[a] refusing to list").count(), 2);
    assert_eq!(gateway.readiness().await.1.servers["a"].restarts, 0);
}

#[tokio::test]
async fn a_server_whose_changed_list_cannot_be_had_is_lost() {
    let servers =
        json!({"a": fixture("a", &["grow", "pid", "--refuses=2-1000"]), "b": fixture("b", &["one"])});
    let gateway = Gateway::start(servers).await.ready().await;
    let client = gateway.client().await;
    let pid = client.pid("pid").await;
    client.call("grow", json!({})).await;
    gateway.until("it was started again", |all| all.ready && all.servers["a"].restarts == 1).await;
    gone(pid).await;
    let why = "server \"a\": given up: tools/list has changed, and cannot be had: tools/list failed: ";
    assert!(gateway.log().contains(why), "{}", gateway.log());
    assert_eq!(client.tools().await, ["grow", "pid", "one"]);
}

#[tokio::test]
async fn a_server_that_hangs_after_its_start_is_lost_and_comes_back() {
    let hanging = with(fixture("a", &["pid", "one"]), json!({"callTimeoutMs": 3000}));
    let gateway = Gateway::start(json!({"a": hanging, "b": fixture("b", &["two"])})).await.ready().await;
    let client = gateway.client().await;
    let pid = client.pid("pid").await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    assert_eq!(client.refused("one").await, "server \"a\" of tool \"one\" gave no answer within 3000 ms");
    gateway.until("it is noticed", |all| all.servers["a"].state != ServerState::Ready).await;
    assert_eq!(client.call("two", json!({})).await, "b:two");
    let reason = gateway.readiness().await.1.servers["a"].reason.clone();
    assert!(reason.is_none_or(|why| why.contains("no answer to ping within")), "it is back, or this is why");
    gateway.until("it was started again", |all| all.ready && all.servers["a"].restarts == 1).await;
    gone(pid).await;
    assert_eq!(client.call("one", json!({})).await, "a:one");
}

#[tokio::test]
async fn what_changes_before_a_session_is_complete_is_told() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["grow"])})).await.ready().await;
    let other = gateway.client().await;
    let early = Wire::greet(&gateway, json!({})).await;
    other.call("grow", json!({})).await;
    other.until_tools(&["grow", "grown"]).await;
    let late = early.listen().await;
    late.told("notifications/tools/list_changed", |told| !told.is_empty()).await;
}

#[tokio::test]
async fn a_server_that_hangs_while_nobody_calls_it_is_lost_and_comes_back() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["pid", "one"])})).await.ready().await;
    let client = gateway.client().await;
    let pid = client.pid("pid").await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    gateway.until("it was started again", |all| all.ready && all.servers["a"].restarts == 1).await;
    gone(pid).await;
    let why = "server \"a\": given up: no answer to ping within";
    assert!(gateway.log().contains(why), "{}", gateway.log());
    assert_eq!(client.call("one", json!({})).await, "a:one");
}

/// That it ends then is our doing, and no reason.
#[tokio::test]
async fn a_server_that_refuses_is_told_of_by_what_it_said() {
    let refuses = "read line; id=$(echo \"$line\" | sed 's/.*\"id\":\\([0-9]*\\).*/\\1/'); \
                   echo '{\"jsonrpc\":\"2.0\",\"id\":'$id',\"error\":{\"code\":-1,\"message\":\"no licence\"}}'; cat";
    let server = json!({"command": "/bin/sh", "args": ["-c", refuses], "required": false});
    let gateway = Gateway::start(json!({"a": server})).await;
    gateway.until("a reason", |all| all.servers["a"].reason.is_some()).await;
    let why = gateway.readiness().await.1.servers["a"].reason.clone().unwrap();
    assert!(why.starts_with("initialize was refused: ") && why.contains("no licence"), "{why}");
}

#[tokio::test]
async fn a_reason_quotes_no_secret() {
    let says = "echo \"cannot log in with $API_KEY\" >&2; exit 1";
    let gateway = Gateway::start(json!({
        "a": {"command": "/bin/sh", "args": ["-c", says], "env": {"API_KEY": "hunter2-of-a"}, "required": false},
        "b": {"url": "http://me:hunter2@127.0.0.1:1/mcp?key=hunter2", "required": false},
    }))
    .await;
    let told = |all: &stelae_model::proxy::Readiness| all.servers.values().all(|one| one.reason.is_some());
    gateway.until("both reasons", told).await;
    let all = gateway.readiness().await.1;
    let reasons: Vec<_> = all.servers.values().map(|one| one.reason.clone().unwrap()).collect();
    assert!(reasons[0].contains("cannot log in with (secret)"), "{reasons:?}");
    assert!(reasons[1].contains("http://127.0.0.1:1/mcp") && !reasons[1].contains("hunter2"), "{reasons:?}");
}
