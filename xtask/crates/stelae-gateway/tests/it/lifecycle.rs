//! Servers die and come back.

use serde_json::json;
use stelae_model::proxy::ServerState;

use crate::support::{Gateway, eventually, fixture, gone, kill};

#[tokio::test]
async fn a_killed_server_leaves_the_list_comes_back_and_others_notice_nothing() {
    let servers = json!({"a": fixture("a", &["pid", "hang"]), "b": fixture("b", &["one"])});
    let gateway = Gateway::start(servers).await.ready().await;
    let mut client = gateway.client().await;
    let first = client.pid("pid").await;
    let seen = client.changes();

    let caller = gateway.client().await;
    let hanging = tokio::spawn(async move { caller.refused("hang").await });
    gateway.said("[a] hanging").await;
    kill(first);
    assert_eq!(hanging.await.unwrap(), "server \"a\" of tool \"hang\" went away before it answered");

    client.changed_since(seen).await;
    client.until_tools(&["pid", "hang", "one"]).await;
    let second = client.pid("pid").await;
    assert_ne!(first, second);
    let readiness = gateway.readiness().await.1;
    assert_eq!((readiness.servers["a"].restarts, readiness.servers["b"].restarts), (1, 0));
    assert!(gateway.log().contains("server \"a\": died: exited (signal: 9 (SIGKILL)"), "{}", gateway.log());
}

#[tokio::test]
async fn a_call_to_a_server_that_is_away_is_refused_with_the_reason() {
    // Each life ends with the first call, so the waits double, and soon one is long enough to look at.
    let gateway = Gateway::start(json!({"a": fixture("a", &["exit"])})).await.ready().await;
    let client = gateway.client().await;
    // That it is away is known a moment before its end is, which has the status.
    let looks = eventually("a call falls into a wait, and says why", async || {
        let message = client.refused("exit").await;
        let looks = (client.tools().await, gateway.readiness().await.1);
        let was_away = message.contains("server \"a\" of tool \"exit\" is away: ");
        let still = was_away && looks.1.servers["a"].state == ServerState::Backoff;
        (still && message.contains("exit status: 3")).then_some(looks)
    });
    let (tools, readiness) = looks.await;
    assert_eq!((tools, readiness.servers["a"].tools), (Vec::<String>::new(), 0));
    assert!(!readiness.ready);
}

#[tokio::test]
async fn a_descendant_in_the_group_dies_with_its_server() {
    let script = format!("sleep 1000 & echo $! >&2; exec {} a pid", crate::support::FIXTURE);
    let gateway = Gateway::start(json!({"a": {"command": "sh", "args": ["-c", script]}})).await.ready().await;
    let sleeper: i32 = eventually("the pid of the descendant", async || {
        gateway.log().lines().find_map(|line| line.strip_prefix("[a] ")?.parse().ok())
    })
    .await;
    let server = gateway.client().await.pid("pid").await;
    kill(server);
    gone(sleeper).await;
}

#[tokio::test]
async fn a_server_that_changes_its_list_changes_ours() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["grow"])})).await.ready().await;
    let mut client = gateway.client().await;
    let seen = client.changes();
    client.call("grow", json!({})).await;
    client.changed_since(seen).await;
    client.until_tools(&["grow", "grown"]).await;
    assert_eq!(client.call("grown", json!({})).await, "a:grown");
}
