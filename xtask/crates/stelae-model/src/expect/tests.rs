use serde_json::json;

use super::*;

fn stage() -> Stage {
    let call = |tool: &str, outcome| ExpectedCall {
        tool: tool.into(),
        arguments: json!({"path": "README.md"}),
        outcome,
        result_contains: (outcome == Outcome::Ok).then(|| "stelae".to_owned()),
    };
    Stage {
        name: "s".into(),
        prompt: String::new(),
        calls: vec![call("read", Outcome::Ok), call("grep", Outcome::ToolError)],
        tools_gained: ["count".to_owned()].into(),
        tools_lost: BTreeSet::new(),
    }
}

fn transcript(lines: &[Value]) -> Vec<TranscriptEvent> {
    let text: Vec<_> = lines.iter().map(Value::to_string).collect();
    read_transcript("t.jsonl", &text.join("\n")).unwrap()
}

fn call(tool: &str, status: &str, text: &str, error: &Value) -> Value {
    let result =
        if error.is_null() { json!({"content": [{"type": "text", "text": text}]}) } else { Value::Null };
    json!({"type": "item.completed", "item": {"type": "mcp_tool_call", "id": "i", "server": "stelae", "tool": tool,
        "arguments": {"path": "README.md"}, "result": result, "error": error, "status": status}})
}

fn good() -> Vec<Value> {
    vec![
        json!({"type": "thread.started", "thread_id": "t"}),
        json!({"type": "turn.started"}),
        call("read", "completed", "# stelae", &Value::Null),
        call("grep", "failed", "no such path", &Value::Null),
        json!({"type": "turn.completed", "usage": {}}),
    ]
}

fn kind_of(lines: &[Value]) -> String {
    judge(&stage(), &transcript(lines)).unwrap_err().kind
}

#[test]
fn what_was_expected_passes() {
    assert_eq!(judge(&stage(), &transcript(&good())), Ok(()));
}

#[test]
fn each_way_to_differ_is_named() {
    let with = |index: usize, line: Value| {
        let mut lines = good();
        lines[index] = line;
        kind_of(&lines)
    };
    assert_eq!(with(2, call("read", "failed", "boom", &Value::Null)), "call-failed");
    assert_eq!(with(2, call("read", "failed", "", &json!({"message": "dead"}))), "call-failed");
    assert_eq!(with(2, call("read", "in_progress", "", &Value::Null)), "call-failed");
    assert_eq!(with(2, call("read", "completed", "other", &Value::Null)), "result-differs");
    assert_eq!(with(2, call("write", "completed", "# stelae", &Value::Null)), "call-missing");
    assert_eq!(with(3, call("grep", "completed", "x", &Value::Null)), "call-succeeded");
    assert_eq!(with(3, call("grep", "failed", "", &json!({"message": "dead"}))), "call-failed");
    assert_eq!(with(4, call("more", "completed", "x", &Value::Null)), "call-unexpected");
    assert_eq!(with(4, json!({"type": "turn.failed", "error": {"message": "cut"}})), "turn-not-completed");
    let mut other = good();
    other[2]["item"]["arguments"] = json!({"path": "LICENSE"});
    assert_eq!(kind_of(&other), "arguments-differ");
}

#[test]
fn an_empty_transcript_is_no_pass() {
    let failure = judge(&stage(), &[]).unwrap_err();
    assert_eq!(failure.kind, "call-missing");
    assert!(failure.to_string().contains("calls that did happen: none"), "{failure}");
}

#[test]
fn a_cut_line_is_an_error_with_its_place() {
    let failure = read_transcript("t.jsonl", "{\"type\":\"turn.started\"}\n{\"type\":\"turn.st").unwrap_err();
    assert_eq!(failure.on, ["t.jsonl:2"]);
}

#[test]
fn tool_lists_must_change_as_told() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(judge_tools(&stage(), &set(&["a"]), &set(&["a", "count"])), Ok(()));
    let failure = judge_tools(&stage(), &set(&["a"]), &set(&["a"])).unwrap_err();
    assert_eq!(
        (failure.exit_code, failure.why[0].as_str()),
        (ExitCode::ReadyButIncomplete, "missing: count")
    );
    let failure = judge_tools(&stage(), &set(&["a"]), &set(&["a", "b", "count"])).unwrap_err();
    assert_eq!(
        (failure.exit_code, failure.why[0].as_str()),
        (ExitCode::ExpectationNotMet, "not expected: b")
    );
}

#[test]
fn a_tool_is_gained_or_lost_only_if_the_stage_did_it() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let told = |gained: &[&str], lost: &[&str], before: &[&str], after: &[&str]| {
        let stage = Stage { tools_gained: set(gained), tools_lost: set(lost), ..stage() };
        let failure = judge_tools(&stage, &set(before), &set(after)).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::ExpectationNotMet, "tools-differ"));
        failure.why
    };
    assert_eq!(
        told(&["count"], &[], &["a", "count"], &["a", "count"]),
        ["listed before the stage already: count"]
    );
    assert_eq!(told(&[], &["gone"], &["a"], &["a"]), ["not even listed before the stage: gone"]);
    assert_eq!(told(&[], &["a"], &["a", "b"], &["a", "b"]), ["not expected: a"]);
}
