//! `mcp-everything` by itself: what the tests of the relay and the conformance suite take for granted.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::raw::{Raw, line, server};
use crate::support::PATIENCE;

/// The tools of the conformance suite, in the order of our list.
pub(crate) const SUITE_TOOLS: [&str; 12] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_tool_with_logging",
    "test_tool_with_progress",
    "test_error_handling",
    "test_sampling",
    "test_elicitation",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
];

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn failed(why: &str) -> Value {
    json!({"content": [{"type": "text", "text": why}], "isError": true})
}

fn methods(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["method"].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn lists_have_every_name_and_fields_that_nobody_knows() {
    let mut raw = Raw::start().await;
    let tools = raw.result("tools/list", json!({})).await;
    let names: Vec<_> = tools["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names[..12], SUITE_TOOLS);
    assert_eq!(tools["tools"][0]["execution"], json!({"taskSupport": "forbidden"}));
    let lists = [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ];
    for (method, key) in lists {
        let list = raw.result(method, json!({})).await;
        assert_eq!(list[key][0]["x-unknown"], json!({"kept": true}), "{method}");
    }
}

#[tokio::test]
async fn tools_answer_in_the_words_of_the_suite() {
    let mut raw = Raw::start().await;
    let expected = [
        ("test_simple_text", text("This is a simple text response for testing.")),
        ("test_error_handling", failed("This tool intentionally returns an error for testing")),
    ];
    for (tool, result) in expected {
        assert_eq!(raw.call(tool, json!({})).await, (vec![], result), "{tool}");
    }
    let mut kinds = Vec::new();
    for tool in &SUITE_TOOLS[1..5] {
        let (_, result) = raw.call(tool, json!({})).await;
        for block in result["content"].as_array().unwrap() {
            kinds.push(format!("{} {}", block["type"], block["mimeType"]));
        }
    }
    let image = r#""image" "image/png""#;
    let resource = r#""resource" null"#;
    assert_eq!(kinds, [image, r#""audio" "audio/wav""#, resource, r#""text" null"#, image, resource]);
}

#[tokio::test]
async fn what_a_tool_says_meanwhile_comes_in_order_and_before_its_answer() {
    let mut raw = Raw::start().await;
    let (logs, _) = raw.call("test_tool_with_logging", json!({})).await;
    let said: Vec<_> = logs.iter().map(|log| &log["params"]["data"]).collect();
    assert_eq!(said, ["Tool execution started", "Tool processing data", "Tool execution completed"]);
    let (progress, _) = raw.call("test_tool_with_progress", json!({})).await;
    let values: Vec<_> = progress.iter().map(|progress| &progress["params"]["progress"]).collect();
    assert_eq!(values, [0, 50, 100]);
    let (steps, result) = raw.call("relay_progress", json!({"steps": 300})).await;
    assert_eq!(result, text("300 steps"));
    let step = |n| json!({"progressToken": "p-1", "progress": n, "total": 300, "message": format!("step {n} of 300")});
    let params: Vec<_> = steps.iter().map(|message| message["params"].clone()).collect();
    assert_eq!(params, (1..=300).map(step).collect::<Vec<_>>());
    let (lines, result) = raw.call("relay_log", json!({"lines": 300, "level": "warning"})).await;
    assert_eq!(result, text("300 lines"));
    let line = |n| json!({"level": "warning", "logger": "relay", "data": format!("line {n} of 300")});
    let params: Vec<_> = lines.iter().map(|message| message["params"].clone()).collect();
    assert_eq!(params, (1..=300).map(line).collect::<Vec<_>>());
}

#[tokio::test]
async fn nobody_is_told_what_he_did_not_ask_for() {
    let mut raw = Raw::start().await;
    let params = json!({"name": "relay_progress", "arguments": {"steps": 3}});
    let (before, _) = raw.exchange("tools/call", params).await;
    assert_eq!(before, [] as [Value; 0], "no token, no progress");
    assert_eq!(raw.result("logging/setLevel", json!({"level": "warning"})).await, json!({}));
    assert_eq!(raw.call("relay_log", json!({"lines": 3, "level": "notice"})).await.0.len(), 0);
    assert_eq!(raw.call("relay_log", json!({"lines": 3, "level": "warning"})).await.0.len(), 3);
    assert_eq!(raw.code_of("logging/setLevel", json!({"level": "loud"})).await, -32602);
}

#[tokio::test]
async fn the_client_is_asked_and_its_answer_comes_back() {
    let mut raw = Raw::start().await;
    let said = json!({"role": "assistant", "content": {"type": "text", "text": "yes"}, "model": "m", "x": 1});
    let answer = json!({"result": said});
    let (question, result) = raw.call_and_answer("test_sampling", json!({"prompt": "well?"}), &answer).await;
    assert_eq!(question["method"], "sampling/createMessage");
    let message = json!({"role": "user", "content": {"type": "text", "text": "well?"}});
    assert_eq!(question["params"], json!({"messages": [message], "maxTokens": 100}));
    assert_eq!(result, text("LLM response: yes"));
    // Ours hands out all of it, and all of a refusal.
    let (_, result) = raw.call_and_answer("relay_sample", json!({"text": "well?"}), &answer).await;
    assert_eq!(result, text(&said.to_string()));
    let refusal = json!({"error": {"code": -1, "message": "not now"}});
    for (tool, argument, method) in [
        ("relay_sample", "text", "sampling/createMessage"),
        ("relay_elicit", "message", "elicitation/create"),
        ("relay_roots", "none", "roots/list"),
    ] {
        let (question, result) = raw.call_and_answer(tool, json!({argument: "?"}), &refusal).await;
        assert_eq!((&question["method"], result), (&json!(method), failed("error -1: not now")));
    }
    let roots = json!({"result": {"roots": [{"uri": "file:///a"}]}});
    let (_, result) = raw.call_and_answer("relay_roots", json!({}), &roots).await;
    assert_eq!(result, text(r#"{"roots":[{"uri":"file:///a"}]}"#));
}

#[tokio::test]
async fn the_user_is_asked_with_the_schemas_of_the_suite() {
    let mut raw = Raw::start().await;
    let accept = json!({"result": {"action": "accept", "content": {"a": 1}}});
    let (question, result) =
        raw.call_and_answer("test_elicitation", json!({"message": "who?"}), &accept).await;
    assert_eq!(question["params"]["message"], "who?");
    assert_eq!(question["params"]["requestedSchema"]["required"], json!(["username", "email"]));
    assert_eq!(result, text(r#"User response: <action: accept, content: {"a":1}>"#));
    let (question, result) =
        raw.call_and_answer("test_elicitation_sep1034_defaults", json!({}), &accept).await;
    let properties = question["params"]["requestedSchema"]["properties"].as_object().unwrap();
    let defaults: Vec<_> = properties.values().map(|property| &property["default"]).collect();
    assert_eq!(json!(defaults), json!(["John Doe", 30, 95.5, "active", true]));
    assert_eq!(result, text(r#"Elicitation completed: action=accept, content={"a":1}"#));
    let (question, _) = raw.call_and_answer("test_elicitation_sep1330_enums", json!({}), &accept).await;
    let properties = question["params"]["requestedSchema"]["properties"].as_object().unwrap();
    let names: Vec<_> = properties.keys().collect();
    assert_eq!(names, ["untitledSingle", "titledSingle", "legacyEnum", "untitledMulti", "titledMulti"]);
}

#[tokio::test]
async fn a_client_that_cannot_is_not_asked_by_the_suites_tools() {
    let mut raw = Raw::start_with(json!({})).await;
    for (tool, what) in [("test_sampling", "sampling"), ("test_elicitation", "elicitation")] {
        let (before, result) = raw.call(tool, json!({})).await;
        assert_eq!((before, result), (vec![], failed(&format!("the client does not support {what}"))));
    }
}

#[tokio::test]
async fn a_cancelled_call_says_so_and_has_no_answer() {
    let mut raw = Raw::start().await;
    let id = raw.request("tools/call", json!({"name": "relay_wait", "arguments": {"name": "it"}})).await;
    assert_eq!(line(&mut raw.stderr).await, "waiting it");
    let cancel =
        |id| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    raw.send(&cancel(json!(id))).await;
    assert_eq!(line(&mut raw.stderr).await, "cancelled it");
    assert_eq!(raw.result("ping", json!({})).await, json!({}));
    // What the call itself has asked for is cancelled with it.
    let id = raw.request("tools/call", json!({"name": "relay_roots", "arguments": {}})).await;
    let question = raw.receive().await;
    raw.send(&cancel(json!(id))).await;
    let cancelled = raw.receive().await;
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], question["id"]);
    assert_eq!(raw.result("ping", json!({})).await, json!({}));
}

#[tokio::test]
async fn what_is_added_is_listed_told_and_usable() {
    let mut raw = Raw::start().await;
    for (kind, method, name) in [
        ("tools", "tools/list", "relay_grown_1"),
        ("prompts", "prompts/list", "relay_grown_1"),
        ("resources", "resources/list", "test://grown/1"),
    ] {
        let (told, result) = raw.call("relay_grow", json!({"kind": kind})).await;
        assert_eq!(methods(&told), [format!("notifications/{kind}/list_changed")]);
        assert_eq!(result, text(name));
        let list = raw.result(method, json!({})).await;
        let last = list[kind].as_array().unwrap().last().unwrap();
        assert_eq!(last[if kind == "resources" { "uri" } else { "name" }], name);
    }
    assert_eq!(raw.call("relay_grown_1", json!({})).await.1, text("relay_grown_1"));
    let prompt = raw.result("prompts/get", json!({"name": "relay_grown_1"})).await;
    assert_eq!(prompt["messages"][0]["content"]["text"], "relay_grown_1");
    let resource = raw.result("resources/read", json!({"uri": "test://grown/1"})).await;
    assert_eq!(resource["contents"][0]["text"], "test://grown/1");
}

#[tokio::test]
async fn only_who_watches_is_told_of_a_change() {
    let mut raw = Raw::start().await;
    let uri = json!({"uri": "test://watched-resource"});
    assert_eq!(raw.call("relay_touch", uri.clone()).await.0.len(), 0);
    assert_eq!(raw.result("resources/subscribe", uri.clone()).await, json!({}));
    let (told, _) = raw.call("relay_touch", uri.clone()).await;
    assert_eq!((methods(&told), &told[0]["params"]), (vec!["notifications/resources/updated"], &uri));
    assert_eq!(raw.call("relay_touch", json!({"uri": "test://static-text"})).await.0.len(), 0);
    assert_eq!(raw.result("resources/unsubscribe", uri.clone()).await, json!({}));
    assert_eq!(raw.call("relay_touch", uri).await.0.len(), 0);
}

#[tokio::test]
async fn what_is_wrong_has_the_protocols_code() {
    let mut raw = Raw::start().await;
    assert_eq!(raw.code_of("no/such", json!({})).await, -32601);
    assert_eq!(raw.code_of("tools/call", json!({"name": "no_such"})).await, -32602);
    assert_eq!(raw.code_of("tools/call", json!({"name": "relay_progress"})).await, -32602);
    assert_eq!(raw.code_of("prompts/get", json!({"name": "no_such"})).await, -32602);
    assert_eq!(raw.code_of("prompts/get", json!({"name": "test_prompt_with_arguments"})).await, -32602);
    assert_eq!(raw.code_of("resources/read", json!({"uri": "test://no-such"})).await, -32002);
    raw.stdin.write_all(b"{not json\n[]\n").await.unwrap();
    assert_eq!(raw.receive().await["error"]["code"], -32700);
    assert_eq!(raw.receive().await["error"]["code"], -32600);
}

#[tokio::test]
async fn it_dies_when_told_and_ends_with_its_stdin() {
    let mut raw = Raw::start().await;
    raw.request("tools/call", json!({"name": "relay_die", "arguments": {}})).await;
    assert_eq!(timeout(PATIENCE, raw.child.wait()).await.unwrap().unwrap().code(), Some(3));
    let mut raw = Raw::start().await;
    // Also when a call still waits.
    raw.request("tools/call", json!({"name": "relay_wait", "arguments": {"name": "it"}})).await;
    assert_eq!(line(&mut raw.stderr).await, "waiting it");
    drop(raw.stdin);
    assert_eq!(timeout(PATIENCE, raw.child.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    for args in [&["--http", "0.0.0.0:0"][..], &["--http", "example.com:80"], &["--loud"]] {
        let mut child = server(args).stderr(Stdio::null()).spawn().unwrap();
        assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(2), "{args:?}");
    }
}
