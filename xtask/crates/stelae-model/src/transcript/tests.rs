use super::*;

fn codex(lines: &[&str]) -> Vec<AgentEvent> {
    Transcript::read(Agent::Codex, "t.jsonl", &lines.join("\n")).unwrap().events
}

fn claude(lines: &[&str]) -> Vec<AgentEvent> {
    Transcript::read(Agent::Claude, "t.jsonl", &lines.join("\n")).unwrap().events
}

fn end_of(events: &[AgentEvent]) -> Vec<&CallEnd> {
    let ended = events.iter().filter_map(|event| match event {
        AgentEvent::CallEnded(call) => Some(&call.end),
        _ => None,
    });
    ended.collect()
}

/// Lines as Codex 0.169.0 has written them.
const CODEX: [&str; 4] = [
    r#"{"type":"item.completed","item":{"id":"item_1","type":"mcp_tool_call","server":"stelae","tool":"count_words","arguments":{"text":"a b"},"result":{"content":[{"type":"text","text":"{\"words\":2}"}],"structured_content":{"words":2}},"error":null,"status":"completed"}}"#,
    r#"{"type":"item.completed","item":{"id":"item_2","type":"mcp_tool_call","server":"stelae","tool":"count_words","arguments":{"nope":1},"result":{"content":[{"type":"text","text":"count_words needs a text"}],"structured_content":null},"error":null,"status":"failed"}}"#,
    r#"{"type":"item.completed","item":{"id":"item_1","type":"mcp_tool_call","server":"stelae","tool":"err","arguments":{},"result":null,"error":{"message":"tool call error: tool call failed for `stelae/err`"},"status":"failed"}}"#,
    r#"{"type":"item.completed","item":{"id":"item_1","type":"mcp_tool_call","server":"stelae","tool":"plain","arguments":{},"result":null,"error":{"message":"MCP tool call requires approval, but approval policy is never"},"status":"failed"}}"#,
];

#[test]
fn each_way_in_which_a_call_of_codex_ends_is_told_apart() {
    let events = codex(&CODEX);
    let ends = end_of(&events);
    assert_eq!(ends[0], &CallEnd::Answered(r#"{"words":2}"#.to_owned()));
    assert_eq!(ends[1], &CallEnd::ToolError("count_words needs a text".to_owned()));
    assert!(matches!(ends[2], CallEnd::Failed(_)), "{ends:?}");
    assert!(matches!(ends[3], CallEnd::Refused(_)), "{ends:?}");
}

#[test]
fn a_completed_call_without_an_answer_is_none() {
    let line = r#"{"type":"item.completed","item":{"id":"i","type":"mcp_tool_call","server":"s","tool":"t","status":"completed"}}"#;
    assert!(matches!(end_of(&codex(&[line]))[..], [CallEnd::Failed(_)]));
}

#[test]
fn what_else_codex_does_is_told_apart() {
    let events = codex(&[
        r#"{"type":"thread.started","thread_id":"t"}"#,
        r#"{"type":"item.completed","item":{"id":"item_0","type":"error","message":"no metadata"}}"#,
        r#"{"type":"item.started","item":{"id":"item_1","type":"command_execution","command":"ls"}}"#,
        r#"{"type":"item.completed","item":{"id":"item_2","type":"reasoning","text":"well"}}"#,
        r#"{"type":"turn.failed","error":{"message":"unexpected status 401"}}"#,
        r#"{"type":"item.completed","item":{"id":"item_3","type":"hologram"}}"#,
        r#"{"type":"turn.paused"}"#,
        r#"{"type":"turn.paused"}"#,
    ]);
    assert_eq!(events[1], AgentEvent::Warned("no metadata".to_owned()));
    assert_eq!(events[2], AgentEvent::Acted("command_execution".to_owned()));
    assert_eq!(events[3], AgentEvent::Aside);
    assert_eq!(events[4], AgentEvent::Failed("unexpected status 401".to_owned()));
    let transcript = Transcript { events };
    assert_eq!(transcript.unknown(), [("item.completed/hologram", 1), ("turn.paused", 2)].into());
    assert!(!transcript.is_completed());
}

/// Lines as Claude Code 2.1.328 has written them, without what nobody reads.
const CLAUDE: [&str; 8] = [
    r#"{"type":"system","subtype":"init","tools":["Bash"],"mcp_servers":[{"name":"stelae","status":"failed","source":"dynamic"}]}"#,
    r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"toolu_0","name":"mcp__stelae__count_words","input":{"text":"a b"}}]}}"#,
    r#"{"type":"user","message":{"role":"user","content":[{"tool_use_id":"toolu_0","type":"tool_result","content":"{\"words\":2}"}]}}"#,
    r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"toolu_1","name":"mcp__stelae__plain","input":{}}]}}"#,
    r#"{"type":"system","subtype":"permission_denied","tool_name":"mcp__stelae__plain","tool_use_id":"toolu_1","message":"you haven't granted it yet."}"#,
    r#"{"type":"user","message":{"role":"user","content":[{"type":"tool_result","content":"you haven't granted it yet.","is_error":true,"tool_use_id":"toolu_1"}]}}"#,
    r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"toolu_2","name":"mcp__stelae__no_such_tool","input":{}}]}}"#,
    r#"{"type":"user","message":{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"<tool_use_error>Error: No such tool available: mcp__stelae__no_such_tool</tool_use_error>"}],"is_error":true,"tool_use_id":"toolu_2"}]}}"#,
];

#[test]
fn a_call_of_claude_is_put_together_from_two_lines() {
    let transcript = Transcript { events: claude(&CLAUDE) };
    assert_eq!(transcript.unconnected(), Some(("stelae", "failed")));
    let calls = transcript.calls();
    assert_eq!((calls[0].server.as_str(), calls[0].tool.as_str()), ("stelae", "count_words"));
    assert_eq!(calls[0].arguments, serde_json::json!({"text": "a b"}));
    assert_eq!(calls[0].end, CallEnd::Answered(r#"{"words":2}"#.to_owned()));
    assert!(matches!(calls[1].end, CallEnd::Refused(_)), "{calls:?}");
    assert!(matches!(calls[2].end, CallEnd::NoSuchTool(_)), "{calls:?}");
    assert_eq!(transcript.unended(), [""; 0]);
}

#[test]
fn a_success_of_claude_that_is_an_error_is_none() {
    let read = |is_error: bool, subtype: &str| {
        claude(&[&format!(
            r#"{{"type":"result","subtype":"{subtype}","is_error":{is_error},"result":"API Error: 401"}}"#
        )])
    };
    assert_eq!(read(false, "success"), [AgentEvent::Completed]);
    assert_eq!(read(true, "success"), [AgentEvent::Failed("success: API Error: 401".to_owned())]);
    assert_eq!(
        read(false, "error_max_turns"),
        [AgentEvent::Failed("error_max_turns: API Error: 401".to_owned())]
    );
}

#[test]
fn what_else_claude_does_is_told_apart() {
    let events = claude(&[
        r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Bash","input":{}}]}}"#,
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"x"}]}}"#,
        r#"{"type":"system","subtype":"weather"}"#,
        r#"{"type":"assistant","message":{"content":[{"type":"hologram"}]}}"#,
    ]);
    assert_eq!(events[0], AgentEvent::Acted("Bash".to_owned()));
    assert_eq!(events[1], AgentEvent::Aside);
    let transcript = Transcript { events };
    assert_eq!(transcript.unknown(), [("assistant/hologram", 1), ("system/weather", 1)].into());
}

#[test]
fn a_line_that_is_no_event_is_an_error_with_its_place() {
    let place = |agent, line: &str| {
        let text = format!("{{\"type\":\"turn.started\"}}\n\n{line}");
        let failure = Transcript::read(agent, "t.jsonl", &text).unwrap_err();
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::ExpectationNotMet, "transcript-unreadable")
        );
        failure.on
    };
    for agent in [Agent::Builtin, Agent::Codex, Agent::Claude] {
        for line in ["{\"type\":\"turn.st", "Segmentation fault", "[]", "{}"] {
            assert_eq!(place(agent, line), ["t.jsonl:3"], "{line}");
        }
    }
    assert_eq!(
        place(Agent::Codex, r#"{"type":"item.completed","item":{"type":"mcp_tool_call"}}"#),
        ["t.jsonl:3"]
    );
    assert_eq!(place(Agent::Claude, r#"{"type":"result","subtype":"success"}"#), ["t.jsonl:3"]);
}
