//! Aggregation: one list, names, environments, errors, health.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest};
use rmcp::service::PeerRequestOptions;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stelae_model::proxy::ServerState;

use crate::support::{
    GATEWAY, Gateway, PATIENCE, adopting, fixture, gone, http, output, variables, with, write_config,
};
use crate::watched::serving;

#[tokio::test]
async fn tools_of_all_servers_are_one_list_and_calls_reach_the_right_one() {
    let servers = json!({"a": fixture("a", &["one", "two"]), "b": fixture("b", &["three"])});
    let gateway = Gateway::start(servers).await.ready().await;
    let client = gateway.client().await;
    assert_eq!(client.tools().await, ["one", "two", "three"]);
    assert_eq!(client.call("two", json!({})).await, "a:two");
    assert_eq!(client.call("three", json!({})).await, "b:three");
    assert!(client.refused("fourth").await.starts_with("unknown tool \"fourth\""));
    assert_eq!(client.refused("thre").await, "unknown tool \"thre\": did you mean \"three\"?");
}

#[tokio::test]
async fn only_colliding_names_are_prefixed() {
    let servers = json!({"a": fixture("a", &["same", "own"]), "b": fixture("b", &["same"])});
    let gateway = Gateway::start(servers).await.ready().await;
    let client = gateway.client().await;
    assert_eq!(client.tools().await, ["a__same", "own", "b__same"]);
    assert_eq!(client.call("b__same", json!({})).await, "b:same");
    assert_eq!(client.refused("same").await, "several servers have a tool \"same\": use a__same or b__same");
}

#[tokio::test]
async fn an_answer_that_is_an_error_passes_as_it_is() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["fail", "refuse"])})).await.ready().await;
    let client = gateway.client().await;
    let result = client.try_call("fail", json!({})).await.unwrap();
    assert_eq!(result.is_error, Some(true));
    assert_eq!(client.refused("refuse").await, "told to refuse");
}

#[tokio::test]
async fn a_call_has_a_limit_and_the_server_stays() {
    let entry = with(fixture("a", &["hang", "one"]), json!({"callTimeoutMs": 3000}));
    let gateway = Gateway::start(json!({"a": entry})).await.ready().await;
    let client = gateway.client().await;
    assert_eq!(client.refused("hang").await, "server \"a\" of tool \"hang\" gave no answer within 3000 ms");
    gateway.said("[a] cancelled").await;
    assert_eq!(client.call("one", json!({})).await, "a:one");
    assert_eq!(gateway.readiness().await.1.servers["a"].restarts, 0);
}

#[tokio::test]
async fn a_call_that_its_client_cancels_is_cancelled_on_its_server() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["hang", "one"])})).await.ready().await;
    let client = gateway.client().await;
    let mut request = CallToolRequest::default();
    request.params = CallToolRequestParams::new("hang");
    let request = ClientRequest::CallToolRequest(request);
    let options = PeerRequestOptions::no_options();
    let handle = client.session.send_cancellable_request(request, options).await.unwrap();
    gateway.said("[a] hanging").await;
    handle.cancel(None).await.unwrap();
    gateway.said("[a] cancelled").await;
    assert_eq!(client.call("one", json!({})).await, "a:one");
}

#[tokio::test]
async fn bad_servers_are_named_with_reasons_and_block_nobody() {
    let servers = json!({
        "good": fixture("good", &["one"]),
        "absent": {"command": "/nonexistent/program"},
        "crashing": {"command": "sh", "args": ["-c", "echo cannot read my settings >&2; exit 3"], "required": false},
        "silent": with(fixture("silent", &["--silent"]), json!({"startTimeoutMs": 200, "required": false})),
    });
    let gateway = Gateway::start(servers).await;
    let starting = |state: &ServerState| *state == ServerState::Starting;
    let all =
        gateway.until("nothing is starting", |all| !all.servers.values().any(|one| starting(&one.state)));
    let all = all.await;
    let reason = |name: &str| all.servers[name].reason.clone().unwrap_or_default();
    assert_eq!(all.servers["good"].state, ServerState::Ready);
    assert!(["absent", "silent"].iter().all(|name| all.servers[*name].state == ServerState::Failed));
    assert_eq!(all.servers["crashing"].state, ServerState::Backoff, "it is started again and again");
    assert!(reason("absent").starts_with("cannot execute \"/nonexistent/program\""), "{}", reason("absent"));
    assert!(reason("crashing").contains("exit status: 3"), "{}", reason("crashing"));
    assert!(reason("crashing").contains("cannot read my settings"), "{}", reason("crashing"));
    assert_eq!(reason("silent"), "no answer to initialize and tools/list within 200 ms");
    assert!(!all.ready);
    assert_eq!(gateway.readiness().await.0, 503, "`absent` is required");
    assert_eq!(gateway.client().await.call("one", json!({})).await, "good:one");
    assert!(gateway.log().contains("[crashing] cannot read my settings\n"));
}

#[tokio::test]
async fn health_names_the_process() {
    let gateway = Gateway::start(json!({})).await;
    let health = http().get(gateway.url("/healthz")).send().await.unwrap().text().await.unwrap();
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["name"], "tests");
    assert_eq!(health["pid"], gateway.child.id());
    assert_eq!(
        gateway.readiness().await,
        (200, serde_json::from_str(r#"{"ready":true,"servers":{}}"#).unwrap())
    );
}

#[tokio::test]
async fn a_server_gets_the_declared_environment_and_nothing_else() {
    let entry = with(fixture("a", &["env"]), json!({"env": {"OWN": "entry", "STELAE_RUN_ID": "overridden"}}));
    let control = with(fixture("b", &["env"]), json!({"control": true}));
    let extra = [("STELAE_RUN_ID", "run-1"), ("PROXY_PORT", "4711"), ("CARGO_MANIFEST_DIR", "/leak")];
    let gateway = Gateway::start_with(json!({"a": entry, "b": control}), &extra).await.ready().await;
    let client = gateway.client().await;
    let mut of_a = variables(&client.call("a__env", json!({})).await);
    let mut of_b = variables(&client.call("b__env", json!({})).await);
    assert!(of_a.remove("PATH").is_some() && of_b.remove("PATH").is_some());
    assert!(of_b.remove("STELAE_CONTROL_TOKEN").is_some(), "b may reload");
    let texts =
        |pairs: &[(&str, &str)]| pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    let a = [
        ("OWN", "entry"),
        ("PROXY_PORT", "4711"),
        ("STELAE_PROCESS", "server:a"),
        ("STELAE_RUN_ID", "overridden"),
    ];
    assert_eq!(of_a, texts(&a));
    assert_eq!(
        of_b,
        texts(&[("PROXY_PORT", "4711"), ("STELAE_PROCESS", "server:b"), ("STELAE_RUN_ID", "run-1")])
    );
}

#[tokio::test]
async fn a_server_over_http_is_a_server_like_any_other() {
    let inner = Gateway::start(json!({"a": fixture("a", &["one", "grow"])})).await.ready().await;
    let outer =
        Gateway::start(json!({"inner": {"url": inner.url("/mcp")}, "b": fixture("b", &["one"])})).await;
    let outer = outer.ready().await;
    let mut client = outer.client().await;
    assert_eq!(client.tools().await, ["b__one", "inner__one", "grow"]);
    assert_eq!(client.call("inner__one", json!({})).await, "a:one");
    let seen = client.changes();
    client.call("grow", json!({})).await;
    client.changed_since(seen).await;
    client.until_tools(&["b__one", "inner__one", "grow", "grown"]).await;
    // The one that serves gets to answer until it is gone, which it is a moment after the one that was killed.
    let serving = serving(&inner);
    drop(inner);
    gone(serving).await;
    // The call finds out; the list follows.
    client.refused("grow").await;
    client.until_tools(&["b__one"]).await;
}

#[tokio::test]
async fn a_passed_socket_is_adopted_with_the_connections_that_wait_on_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Connected before the gateway exists: nothing is lost between the lease of a port and the start on it.
    let early = std::net::TcpStream::connect(address).unwrap();
    let gateway = Gateway::adopt(listener, json!({"a": fixture("a", &["env"])})).await.ready().await;
    assert_eq!(gateway.address, address);
    assert_eq!(early.peer_addr().unwrap(), address);
    let env = variables(&gateway.client().await.call("env", json!({})).await);
    assert!(!env.contains_key("LISTEN_FDS"));
}

#[tokio::test]
async fn a_passed_socket_for_another_address_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "127.0.0.1:1", &json!({}));
    let mut command = tokio::process::Command::from(adopting(listener));
    command.env("LISTEN_FDS", "1").arg("serve").arg("--config").arg(folder.path().join("proxy.json"));
    let ended = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await.unwrap().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(20), "{stderr}");
    assert!(stderr.contains("and 127.0.0.1:1 was configured"), "{stderr}");
}

#[tokio::test]
async fn faults_before_serving_have_codes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.json");
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = stranger.local_addr().unwrap().to_string();
    let run = async |addr: &str| {
        write_config(folder.path(), addr, &json!({}));
        output(tokio::process::Command::from(Command::new(GATEWAY)).args(["serve", "--config"]).arg(&path))
            .await
    };
    let (code, _, stderr) = run(&taken).await;
    assert_eq!(code, Some(33));
    assert!(stderr.contains(&format!("listen tcp {taken}: bind: address already in use")), "{stderr}");
    assert!(stderr.contains(&format!("it is held by pid {}", std::process::id())), "{stderr}");
    let (code, _, stderr) = run("0.0.0.0:1").await;
    assert_eq!(code, Some(21));
    assert!(stderr.contains("is not a loopback address"), "{stderr}");
    let (code, _, stderr) =
        output(tokio::process::Command::new(GATEWAY).args(["serve", "--config", "/nonexistent"])).await;
    assert_eq!(code, Some(40), "{stderr}");
    let (code, _, stderr) =
        output(tokio::process::Command::new(GATEWAY).args(["serve", "--config", "/"])).await;
    assert!(code == Some(21) && stderr.contains("it cannot be read: it is not a regular file"), "{stderr}");
}

/// A line for each refused request, into a pipe that is full long before the last one.
#[tokio::test]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &address.to_string(), &json!({}));
    let mut command = adopting(listener);
    command.args(["serve", "--config"]).arg(folder.path().join("proxy.json")).env("LISTEN_FDS", "1");
    // Killed with a test that fails.
    let mut command = tokio::process::Command::from(command);
    let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let url = format!("http://{address}/healthz");
    let client = http();
    for _ in 0..2_000 {
        let refused = client.get(&url).header("host", "nobody.invalid").send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 403);
    }
    assert_eq!(client.get(&url).send().await.unwrap().status().as_u16(), 200);
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("an end");
    assert!(ended.unwrap().success());
}

#[tokio::test]
async fn a_server_is_offered_the_protocol_that_its_entry_says() {
    let version = |version: &str| with(fixture("a", &["one", "hang"]), json!({"protocolVersion": version}));
    for newest in ["2024-11-05", "2025-06-18", "2026-07-28"] {
        let gateway = Gateway::start(json!({"a": version(newest)})).await.ready().await;
        let client = gateway.client().await;
        assert_eq!(client.tools().await, ["one", "hang"], "{newest}");
        assert_eq!(client.call("one", json!({})).await, "a:one", "{newest}");
    }
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "127.0.0.1:1", &json!({"a": version("2025-01-01")}));
    let mut command = tokio::process::Command::new(GATEWAY);
    let (code, _, stderr) =
        output(command.args(["serve", "--config"]).arg(folder.path().join("proxy.json"))).await;
    assert!(code == Some(21) && stderr.contains("protocolVersion \"2025-01-01\" is none of"), "{stderr}");
}
