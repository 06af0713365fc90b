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
    let hanging = with(fixture("a", &["pid", "one"]), json!({"callTimeoutMs": 200}));
    let gateway = Gateway::start(json!({"a": hanging, "b": fixture("b", &["two"])})).await.ready().await;
    let client = gateway.client().await;
    let pid = client.pid("pid").await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    assert_eq!(client.refused("one").await, "server \"a\" of tool \"one\" gave no answer within 200 ms");
    gateway.until("it is noticed", |all| all.servers["a"].state != ServerState::Ready).await;
    assert_eq!(client.call("two", json!({})).await, "b:two");
    let reason = gateway.readiness().await.1.servers["a"].reason.clone();
    assert!(
        reason.is_none_or(|why| why.contains("no answer to ping within 5000 ms")),
        "it is back, or this is why"
    );
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
