//! The builtin agent's transcript.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};
use stelae_model::transcript::codex::{CallStatus, Item, McpToolCall, TranscriptEvent};
use tokio::process::Command;

use crate::support::{GATEWAY, Gateway, fixture, held_port, output, with};

struct Played {
    code: Option<i32>,
    lines: String,
    events: Vec<TranscriptEvent>,
    stderr: String,
}

async fn play(url: &str, script: &Value, more: &[&str]) -> Played {
    play_over(&["--url", url], script, more).await
}

async fn play_over(urls: &[&str], script: &Value, more: &[&str]) -> Played {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.json");
    fs::write(&file, script.to_string()).unwrap();
    let mut command = Command::new(GATEWAY);
    command.arg("agent").args(urls).arg("--script").arg(&file).args(more);
    // Where nobody listens: an agent that took it would reach nothing.
    command
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("http_proxy", "http://127.0.0.1:1")
        .env_remove("NO_PROXY");
    let (code, lines, stderr) = output(&mut command).await;
    let events = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Played { code, lines, events, stderr }
}

impl Played {
    fn calls(&self) -> Vec<&McpToolCall> {
        let completed = self.events.iter().filter_map(|event| match event {
            TranscriptEvent::ItemCompleted { item: Item::McpToolCall(call) } => Some(call),
            _ => None,
        });
        completed.collect()
    }
}

#[tokio::test]
async fn a_transcript_tells_each_outcome_and_is_the_same_each_time() {
    let servers = json!({"a": fixture("a", &["one", "fail", "refuse"])});
    let gateway = Gateway::start(servers).await.ready().await;
    let script = json!({
        "calls": [{"tool": "one", "arguments": {"x": 1}}, {"tool": "fail"}, {"tool": "refuse"}, {"tool": "onee"}],
        "message": "all done",
    });
    let played = play(&gateway.url("/mcp"), &script, &["--server", "s"]).await;
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    assert!(matches!(
        &played.events[..2],
        [TranscriptEvent::ThreadStarted { .. }, TranscriptEvent::TurnStarted]
    ));
    let calls = played.calls();
    let statuses: Vec<_> = calls.iter().map(|call| call.status).collect();
    assert_eq!(statuses, [CallStatus::Completed, CallStatus::Failed, CallStatus::Failed, CallStatus::Failed]);
    let [one, fail, refuse, unknown] = calls[..] else { panic!("four calls") };
    assert_eq!((one.id.as_str(), one.server.as_str(), &one.arguments), ("item_0", "s", &json!({"x": 1})));
    assert_eq!(one.result.as_ref().unwrap().text(), "a:one");
    assert_eq!((fail.result.as_ref().unwrap().text().as_str(), &fail.error), ("told to fail", &None));
    assert_eq!((refuse.error.as_ref().unwrap().message.as_str(), &refuse.result), ("told to refuse", &None));
    assert_eq!(unknown.error.as_ref().unwrap().message, "unknown tool \"onee\": did you mean \"one\"?");
    let last = &played.events[played.events.len() - 2..];
    let said = Item::AgentMessage { id: "item_4".into(), text: "all done".into() };
    assert_eq!(last[0], TranscriptEvent::ItemCompleted { item: said });
    assert!(matches!(last[1], TranscriptEvent::TurnCompleted { .. }));

    let again = play(&gateway.url("/mcp"), &script, &["--server", "s"]).await;
    assert_eq!(again.lines, played.lines, "no clock and no dice");
}

#[tokio::test]
async fn a_tool_that_an_earlier_call_brought_is_found() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["grow"])})).await.ready().await;
    let control = with(fixture("control", &["reload"]), json!({"control": true}));
    gateway.configure(&json!({"control": control}));
    assert_eq!(gateway.reload().await.0, 200);
    gateway.configure(&json!({"control": control, "new": fixture("new", &["fresh"])}));
    let script = json!({"calls": [
        {"tool": "reload", "arguments": {"url": gateway.url("/-/reload")}},
        {"tool": "fresh"},
    ]});
    let played = play(&gateway.url("/mcp"), &script, &[]).await;
    assert_eq!(played.calls()[1].result.as_ref().expect(&played.lines).text(), "new:fresh");
}

#[tokio::test]
async fn the_deadline_ends_a_call_and_what_comes_after_it() {
    let gateway = Gateway::start(json!({"a": fixture("a", &["hang", "one"])})).await.ready().await;
    let script = json!({"calls": [{"tool": "hang"}, {"tool": "one"}]});
    let played = play(&gateway.url("/mcp"), &script, &["--deadline-ms", "5000"]).await;
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    let errors: Vec<_> = played.calls().iter().map(|call| call.error.clone().unwrap().message).collect();
    assert_eq!(errors, ["the agent's deadline of 5000 ms passed"; 2]);
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_an_error_and_exit_1() {
    let nobody = held_port();
    let url = format!("http://{}/mcp", nobody.address());
    let played = play(&url, &json!({"calls": [{"tool": "one"}]}), &[]).await;
    assert_eq!(played.code, Some(1));
    let [TranscriptEvent::ThreadStarted { .. }, TranscriptEvent::Error { message }] = &played.events[..]
    else {
        panic!("{}", played.lines)
    };
    assert!(message.contains(&url), "{message}");
}

#[tokio::test]
async fn an_endpoint_that_is_mute_is_an_error_at_the_deadline() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", mute.local_addr().unwrap());
    let played = play(&url, &json!({"calls": []}), &["--deadline-ms", "300"]).await;
    assert_eq!(played.code, Some(1));
    assert!(played.lines.contains("the agent's deadline of 300 ms passed"), "{}", played.lines);
}

#[tokio::test]
async fn a_bad_script_is_bad_usage() {
    for script in [json!({"cals": []}), json!({"calls": [{"tool": "x", "args": {}}]}), json!([])] {
        let played = play("http://127.0.0.1:1/mcp", &script, &[]).await;
        assert_eq!((played.code, played.lines.as_str()), (Some(2), ""), "{}", played.stderr);
    }
    let (code, ..) =
        output(Command::new(GATEWAY).args(["agent", "--url", "x", "--script", "/nonexistent"])).await;
    assert_eq!(code, Some(2));
}

#[tokio::test]
async fn over_an_endpoint_for_each_server_the_one_that_has_a_tool_is_found() {
    let one = Gateway::start(json!({"a": fixture("a", &["one", "both"])})).await.ready().await;
    let two = Gateway::start(json!({"b": fixture("b", &["two", "both"])})).await.ready().await;
    let script = json!({"calls": [
        {"tool": "one"}, {"tool": "two"}, {"tool": "two__both"}, {"tool": "both"}, {"tool": "three"},
    ]});
    let (one, two) = (format!("one={}", one.url("/mcp")), format!("two={}", two.url("/mcp")));
    let played = play_over(&["--server-url", &one, "--server-url", &two], &script, &[]).await;
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    let calls = played.calls();
    let texts: Vec<_> =
        calls[..3].iter().map(|call| call.result.as_ref().expect(&played.lines).text()).collect();
    assert_eq!(texts, ["a:one", "b:two", "b:both"]);
    // As it was asked for: whoever judges the transcript knows the name that stands in the script.
    assert_eq!(calls[2].tool, "two__both");
    let errors: Vec<_> = calls[3..].iter().map(|call| call.error.clone().unwrap().message).collect();
    assert_eq!(
        errors,
        ["tool \"both\" is ambiguous: write one__both or two__both", "unknown tool \"three\""]
    );
}

#[tokio::test]
async fn of_many_endpoints_the_one_that_is_down_is_named() {
    let up = Gateway::start(json!({"a": fixture("a", &["one"])})).await.ready().await;
    let nobody = held_port();
    let (up, down) = (format!("up={}", up.url("/mcp")), format!("http://{}/mcp", nobody.address()));
    let down_url = format!("down={down}");
    let script = json!({"calls": [{"tool": "one"}]});
    let played = play_over(&["--server-url", &up, "--server-url", &down_url], &script, &[]).await;
    assert_eq!(played.code, Some(1));
    assert!(played.lines.contains(&down), "{}", played.lines);
    // One kind of endpoint or the other.
    for urls in [&["--url", &down, "--server-url", &up][..], &["--server-url", &down], &[]] {
        assert_eq!(play_over(urls, &script, &[]).await.code, Some(2), "{urls:?}");
    }
}
