//! What becomes of messages on their way through the gateway, with servers on stdio and over HTTP.

use std::fs;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::raw::{line, server};
use crate::support::{EVERYTHING, Gateway, eventually, with};
use crate::wire::{Wire, answering};

fn everything() -> Value {
    json!({"command": EVERYTHING})
}

/// A gateway in front of one of them.
struct Bench {
    gateway: Gateway,
    /// The one over HTTP, which ends with its stdin, and what it says on stderr.
    server: Option<(Child, NamedTempFile)>,
}

impl Bench {
    /// Waits until the server has said this line.
    async fn said(&self, line: &str) {
        match &self.server {
            None => self.gateway.said(&format!("[e] {line}")).await,
            Some((_, log)) => {
                let said =
                    async || fs::read_to_string(log).unwrap().lines().any(|one| one == line).then_some(());
                eventually(&format!("the server says {line:?}"), said).await;
            }
        }
    }
}

/// One on stdio, and one over HTTP.
async fn both() -> [Bench; 2] {
    let stdio = Gateway::start(json!({"e": everything()})).await.ready().await;
    let log = NamedTempFile::new().unwrap();
    let mut child = server(&["--http", "127.0.0.1:0"]).stderr(log.reopen().unwrap()).spawn().unwrap();
    let address = line(&mut BufReader::new(child.stdout.take().unwrap()).lines()).await;
    let http = Gateway::start(json!({"e": {"url": format!("http://{address}/mcp")}})).await.ready().await;
    [Bench { gateway: stdio, server: None }, Bench { gateway: http, server: Some((child, log)) }]
}

fn numbers(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["params"]["progress"].as_f64().unwrap() as i64).collect()
}

#[tokio::test]
async fn progress_comes_in_order_under_the_clients_own_token_and_before_the_answer() {
    for bench in both().await {
        let gateway = &bench.gateway;
        let (a, b) = (Wire::open(gateway).await, Wire::open(gateway).await);
        // Both have chosen the same token, and the same id.
        let calls = (
            a.call(1, "relay_progress", json!({"steps": 100}), "t"),
            b.call(1, "relay_progress", json!({"steps": 50}), "t"),
        );
        let (of_a, of_b) = tokio::join!(calls.0, calls.1);
        let ((of_a, a_answer), (of_b, b_answer)) = tokio::join!(of_a.until_the_end(), of_b.until_the_end());
        assert_eq!(numbers(&of_a), (1..=100).collect::<Vec<_>>());
        assert_eq!(numbers(&of_b), (1..=50).collect::<Vec<_>>());
        let all = of_a.iter().chain(&of_b);
        assert!(all.clone().all(|message| message["params"]["progressToken"] == "t"));
        assert!(of_a[0]["params"]["message"] == "step 1 of 100");
        assert_eq!(a_answer["result"]["content"][0]["text"], "100 steps");
        assert_eq!(b_answer["result"]["content"][0]["text"], "50 steps");
        let unasked =
            a.request(2, "tools/call", json!({"name": "relay_progress", "arguments": {"steps": 3}})).await;
        assert_eq!(unasked.until_the_end().await.0, Vec::<Value>::new(), "nobody has asked for progress");
    }
}

#[tokio::test]
async fn what_a_server_asks_goes_to_the_client_that_is_calling_it() {
    for bench in both().await {
        let gateway = &bench.gateway;
        let (a, b) = (Wire::open(gateway).await, Wire::open(gateway).await);
        let content = json!({"role": "assistant", "content": {"type": "text", "text": "said"}, "model": "m", "x-unknown": 1});
        let call = a.call(1, "relay_sample", json!({"text": "hello"}), "t").await;
        let (question, answer) = answering(&a, call, &json!({"result": content})).await;
        assert_eq!(question["method"], "sampling/createMessage");
        assert_eq!(question["params"]["messages"][0]["content"]["text"], "hello");
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("\"said\""), "{text}");

        let call = b.call(1, "relay_elicit", json!({"message": "who?"}), "t").await;
        let filled = json!({"result": {"action": "accept", "content": {"username": "u", "email": "e"}}});
        let (question, answer) = answering(&b, call, &filled).await;
        assert_eq!(question["params"]["message"], "who?");
        assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("accept"), "{answer}");

        let call = b.call(2, "relay_elicit", json!({"message": "who?"}), "t").await;
        let (_, answer) =
            answering(&b, call, &json!({"error": {"code": -1, "message": "I do not say"}})).await;
        assert_eq!(answer["result"]["isError"], true);
        assert!(
            answer["result"]["content"][0]["text"].as_str().unwrap().contains("I do not say"),
            "{answer}"
        );

        let poor = Wire::open_with(gateway, json!({})).await;
        let text = poor.text("relay_sample", json!({"text": "hello"})).await;
        assert!(text.contains("the client does not support sampling/createMessage"), "{text}");
    }
}

#[tokio::test]
async fn a_question_that_could_be_for_two_clients_is_put_to_none() {
    let gateway = Gateway::start(json!({"e": everything()})).await.ready().await;
    let (a, b) = (Wire::open(&gateway).await, Wire::open(&gateway).await);
    let waiting = a.call(1, "relay_wait", json!({"name": "a"}), "t").await;
    gateway.said("[e] waiting a").await;
    let text = b.text("relay_sample", json!({"text": "hello"})).await;
    assert!(text.contains("several clients are calling this server"), "{text}");
    drop(waiting);
}

#[tokio::test]
async fn two_questions_of_one_call_are_open_at_once() {
    let gateway = Gateway::start(json!({"e": everything()})).await.ready().await;
    let a = Wire::open(&gateway).await;
    let (mut first, mut second) = (
        a.call(1, "relay_sample", json!({"text": "first"}), "t").await,
        a.call(2, "relay_sample", json!({"text": "second"}), "u").await,
    );
    // On pipes both questions may be taken for the newer call's; each is answered all the same.
    let open = [first_of(&mut first, &mut second).await, first_of(&mut first, &mut second).await];
    for question in open.iter().rev() {
        let text = &question["params"]["messages"][0]["content"]["text"];
        let answer = json!({"role": "assistant", "content": {"type": "text", "text": text}, "model": "m"});
        a.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer})).await;
    }
    for (exchange, text) in [(first, "first"), (second, "second")] {
        let (_, answer) = exchange.until_the_end().await;
        assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains(text), "{answer}");
    }
}

async fn first_of(a: &mut crate::wire::Exchange, b: &mut crate::wire::Exchange) -> Value {
    tokio::select! { message = a.next() => message, message = b.next() => message }
}

#[tokio::test]
async fn log_messages_come_in_order_to_whom_they_are_meant_for_at_the_level_that_is_wanted() {
    for bench in both().await {
        let gateway = &bench.gateway;
        let (a, b) = (Wire::open(gateway).await, Wire::open(gateway).await);
        assert_eq!(a.result("logging/setLevel", json!({"level": "debug"})).await, json!({}));
        assert_eq!(a.error("logging/setLevel", json!({"level": "loud"})).await["code"], -32602);
        // The server is told, and nobody waits for it: so it is asked until it is so.
        eventually("the server logs at debug", async || {
            let text = a.text("relay_log", json!({"lines": 1, "level": "debug"})).await;
            assert_eq!(text, "1 lines");
            (!a.told_so_far("notifications/message").is_empty()).then_some(())
        })
        .await;
        let before = a.told_so_far("notifications/message").len();
        a.text("relay_log", json!({"lines": 100, "level": "info"})).await;
        let last =
            |told: &[Value]| told.last().is_some_and(|last| last["params"]["data"] == "line 100 of 100");
        let told = a.told("notifications/message", last).await;
        let lines: Vec<_> =
            told.iter().rev().take(100).rev().map(|one| one["params"]["data"].clone()).collect();
        let expected: Vec<_> = (1..=100).map(|line| json!(format!("line {line} of 100"))).collect();
        assert_eq!(lines, expected, "after {before}");
        assert_eq!(b.told_so_far("notifications/message"), Vec::<Value>::new(), "b has called nothing");
        // The server logs what the more curious one wants; the other one gets what it wants itself.
        assert_eq!(b.result("logging/setLevel", json!({"level": "error"})).await, json!({}));
        b.text("relay_log", json!({"lines": 3, "level": "info"})).await;
        b.text("relay_log", json!({"lines": 1, "level": "error"})).await;
        let told = b.told("notifications/message", |told| !told.is_empty()).await;
        let levels: Vec<_> = told.iter().map(|one| &one["params"]["level"]).collect();
        assert_eq!(levels, ["error"]);
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_is_cancelled_on_its_server_and_only_that_one() {
    for bench in both().await {
        let gateway = &bench.gateway;
        let (a, b) = (Wire::open(gateway).await, Wire::open(gateway).await);
        let of_a = a.call(1, "relay_wait", json!({"name": "a"}), "t").await;
        let of_b = b.call(1, "relay_wait", json!({"name": "b"}), "t").await;
        bench.said("waiting a").await;
        bench.said("waiting b").await;
        let cancel = json!({"requestId": 1, "reason": "enough"});
        a.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})).await;
        bench.said("cancelled a").await;
        let cancel = json!({"requestId": 1});
        b.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})).await;
        bench.said("cancelled b").await;

        assert_eq!(
            b.text("test_simple_text", json!({})).await,
            "This is a simple text response for testing."
        );
        drop((of_a, of_b));
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up_and_holds_nobody_up() {
    let everything = with(everything(), json!({"callTimeoutMs": 5000}));
    let gateway = Gateway::start(json!({"e": everything})).await.ready().await;
    let (a, b) = (Wire::open(&gateway).await, Wire::open(&gateway).await);
    let unread = a.call(1, "relay_flood", json!({"size": 100_000}), "t").await;
    gateway.said("[e] flooded").await;
    let why = "server \"e\" of tool \"relay_flood\" said more than its client read within 5000 ms";
    eventually("the reason is told", async || gateway.log().contains(why).then_some(())).await;
    assert_eq!(b.text("test_simple_text", json!({})).await, "This is a simple text response for testing.");
    drop(unread);
}

#[tokio::test]
async fn a_server_that_never_stops_talking_is_cancelled_all_the_same() {
    for bench in both().await {
        let wire = Wire::open(&bench.gateway).await;
        let mut flooded = wire.call(1, "relay_flood", json!({"size": 1}), "t").await;
        let reading = tokio::spawn(async move { while flooded.next_if_any().await.is_some() {} });
        bench.said("flooding").await;
        let cancel = json!({"requestId": 1});
        wire.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})).await;
        bench.said("flooded").await;
        reading.await.unwrap();
    }
}

#[tokio::test]
async fn lists_that_change_are_told_of_and_are_changed() {
    for bench in both().await {
        let gateway = &bench.gateway;
        let wire = Wire::open(gateway).await;
        for (kind, method, key, id) in [
            ("tools", "tools/list", "tools", "name"),
            ("prompts", "prompts/list", "prompts", "name"),
            ("resources", "resources/list", "resources", "uri"),
        ] {
            let grown = wire.text("relay_grow", json!({"kind": kind})).await;
            let changed = format!("notifications/{kind}/list_changed");
            wire.told(&changed, |told| !told.is_empty()).await;
            assert!(wire.list(method, key, id).await.contains(&grown), "{grown}");
        }
    }
}

#[tokio::test]
async fn updates_of_a_resource_go_to_whoever_has_subscribed_also_after_a_restart() {
    let gateway = Gateway::start(json!({"e": everything()})).await.ready().await;
    let (a, b) = (Wire::open(&gateway).await, Wire::open(&gateway).await);
    let uri = json!({"uri": "test://watched-resource"});
    let updated = "notifications/resources/updated";
    a.result("resources/subscribe", uri.clone()).await;
    b.text("relay_touch", uri.clone()).await;
    a.told(updated, |told| told.len() == 1 && told[0]["params"]["uri"] == uri["uri"]).await;

    a.error("tools/call", json!({"name": "relay_die", "arguments": {}})).await;
    gateway.until("it is back", |all| all.ready && all.servers["e"].restarts == 1).await;
    // The new server is told of the subscription, and nobody waits for it: so it is touched until it knows.
    eventually("it tells again", async || {
        b.text("relay_touch", uri.clone()).await;
        (a.told_so_far(updated).len() > 1).then_some(())
    })
    .await;
    a.result("resources/unsubscribe", uri.clone()).await;
    assert_eq!(b.told_so_far(updated), Vec::<Value>::new(), "b has not subscribed");
}

#[tokio::test]
async fn fields_that_nobody_knows_survive_in_both_directions() {
    for bench in both().await {
        let gateway = &bench.gateway;
        let wire = Wire::open(gateway).await;
        let tools = wire.result("tools/list", json!({})).await;
        assert_eq!(tools["tools"][0]["execution"], json!({"taskSupport": "forbidden"}));
        for (method, key) in
            [("tools/list", "tools"), ("prompts/list", "prompts"), ("resources/list", "resources")]
        {
            let list = wire.result(method, json!({})).await;
            assert_eq!(list[key][0]["x-unknown"], json!({"kept": true}), "{method}");
        }
        let echoed = wire.text("json_schema_2020_12_tool", json!({"unknown": [1, null]})).await;
        assert_eq!(echoed, r#"{"unknown":[1,null]}"#);
    }
}

#[tokio::test]
async fn prompts_of_two_servers_are_told_apart_and_completed_by_the_right_one() {
    let servers = json!({"x": everything(), "y": everything()});
    let gateway = Gateway::start(servers).await.ready().await;
    let wire = Wire::open(&gateway).await;
    let prompts = wire.list("prompts/list", "prompts", "name").await;
    assert!(prompts.contains(&"x__test_simple_prompt".to_owned()), "{prompts:?}");
    assert!(prompts.contains(&"y__test_simple_prompt".to_owned()), "{prompts:?}");
    let resources = wire.list("resources/list", "resources", "uri").await;
    assert_eq!(resources.iter().filter(|uri| *uri == "test://static-text").count(), 1, "{resources:?}");
    let prompt = wire.result("prompts/get", json!({"name": "y__test_simple_prompt"})).await;
    assert!(prompt["messages"].is_array(), "{prompt}");
    let bare = wire.error("prompts/get", json!({"name": "test_simple_prompt"})).await;
    assert!(bare["message"].as_str().unwrap().contains("use x__test_simple_prompt or y__"), "{bare}");
    let argument = json!({"name": "arg1", "value": "a"});
    let reference = json!({"type": "ref/prompt", "name": "y__test_prompt_with_arguments"});
    let complete = wire.result("completion/complete", json!({"ref": reference, "argument": argument})).await;
    assert!(complete["completion"]["values"].is_array(), "{complete}");
    let reference = json!({"type": "ref/resource", "uri": "test://template/{id}/data"});
    let argument = json!({"name": "id", "value": "1"});
    let complete = wire.result("completion/complete", json!({"ref": reference, "argument": argument})).await;
    assert!(complete["completion"]["values"].is_array(), "{complete}");
    let read = wire.result("resources/read", json!({"uri": "test://template/7/data"})).await;
    assert_eq!(read["contents"][0]["uri"], "test://template/7/data");
    for method in ["resources/read", "resources/subscribe"] {
        let nowhere = wire.error(method, json!({"uri": "other://"})).await;
        let says = (nowhere["code"].as_i64(), nowhere["message"].as_str());
        assert_eq!(says, (Some(-32002), Some("no server has a resource \"other://\"")), "{method}");
    }
}

#[tokio::test]
async fn filters_and_overrides_decide_what_clients_see() {
    let filter = json!({"toolFilter": {"mode": "allow", "list": ["test_simple_text", "test_error_handling", "relay_die"]}});
    let folder = tempfile::tempdir().unwrap();
    let overrides = folder.path().join("overrides.json");
    let told = |tools: Value| json!({"version": 1, "servers": {"e": {"tools": tools}}}).to_string();
    let tools = json!({"relay_die": {"enabled": false}, "test_simple_text": {"name": "simple", "description": "better"}});
    fs::write(&overrides, told(tools)).unwrap();
    let servers = json!({"e": with(everything(), filter)});
    let gateway = Gateway::start_arguing(servers, &["--overrides", overrides.to_str().unwrap()]).await;
    let gateway = gateway.ready().await;
    let wire = Wire::open(&gateway).await;
    assert_eq!(wire.list("tools/list", "tools", "name").await, ["simple", "test_error_handling"]);
    assert_eq!(wire.result("tools/list", json!({})).await["tools"][0]["description"], "better");
    assert_eq!(wire.text("simple", json!({})).await, "This is a simple text response for testing.");
    for hidden in ["relay_die", "relay_log", "test_simple_text"] {
        let refused = wire.error("tools/call", json!({"name": hidden, "arguments": {}})).await;
        assert!(refused["message"].as_str().unwrap().starts_with("unknown tool"), "{refused}");
    }
    fs::write(&overrides, told(json!({}))).unwrap();
    assert_eq!(gateway.reload().await.0, 200);
    wire.told("notifications/tools/list_changed", |told| !told.is_empty()).await;
    let names = wire.list("tools/list", "tools", "name").await;
    assert_eq!(names, ["test_simple_text", "test_error_handling", "relay_die"]);
    fs::write(&overrides, "{").unwrap();
    let (status, why) = gateway.reload().await;
    assert!(status == 422 && why.contains("overrides"), "{status} {why}");
}
