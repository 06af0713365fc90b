use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::calls::CallOutcome;
use crate::expect::{ExpectedCall, ForbiddenCall, Outcome};
use crate::misbehaviour::Wrong;
use crate::model_record::Answered;

mod tools;

fn stage() -> Stage {
    let call = |tool: &str, outcome| ExpectedCall {
        tool: tool.into(),
        arguments: json!({"path": "README.md"}),
        outcome,
        result_contains: (outcome == Outcome::Ok).then(|| "stelae".to_owned()),
        result: None,
    };
    Stage {
        name: "s".into(),
        prompt: String::new(),
        tools: None,
        calls: vec![call("read", Outcome::Ok), call("grep", Outcome::ToolError)],
        never: Vec::new(),
        tools_gained: ["count".to_owned()].into(),
        tools_lost: BTreeSet::new(),
        may_change: Vec::new(),
        may_leave: Vec::new(),
        misbehave: None,
    }
}

fn transcript(lines: &[Value]) -> Transcript {
    let text: Vec<_> = lines.iter().map(Value::to_string).collect();
    Transcript::read(Agent::Codex, "t.jsonl", &text.join("\n")).unwrap()
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

/// What the model was asked in a run that went well.
fn asked() -> Vec<ModelRequest> {
    let request = |turn: usize, called: Option<&str>| ModelRequest {
        number: turn,
        route: "POST /v1/responses".to_owned(),
        turn: Some(turn),
        offered: vec!["read".to_owned(), "grep".to_owned()],
        answered: turn.checked_sub(1).map(|call| Answered::new(call, "so it was", None)),
        called: called.map(str::to_owned),
        arguments: called.map(|_| json!({"path": "README.md"})),
        status: 200,
        ..ModelRequest::default()
    };
    vec![request(0, Some("read")), request(1, Some("grep")), request(2, None)]
}

/// What the gateway was given in it.
fn given() -> Vec<GatewayCall> {
    let call = |number, tool: &str, outcome| GatewayCall {
        number,
        client: None,
        server: Some("files".to_owned()),
        tool: tool.to_owned(),
        arguments: json!({"path": "README.md"}),
        outcome,
        why: None,
        elapsed_ms: 1,
    };
    vec![call(0, "read", CallOutcome::Answered), call(1, "grep", CallOutcome::ToolError)]
}

/// The judgement of what these say.
struct Seen {
    stage: Stage,
    lines: Vec<Value>,
    asked: Vec<ModelRequest>,
    given: Vec<GatewayCall>,
    complaints: &'static str,
    model: Model,
}

fn seen() -> Seen {
    Seen {
        stage: stage(),
        lines: good(),
        asked: asked(),
        given: given(),
        complaints: "",
        model: Model::Scripted,
    }
}

impl Seen {
    fn judge(&self) -> Result<(), Failure> {
        judge(&Played {
            stage: &self.stage,
            prompt: "do it",
            agent: Agent::Codex,
            model: self.model,
            transcript: &transcript(&self.lines),
            complaints: self.complaints,
            // A model of its own has no record.
            asked: (self.model == Model::Scripted).then_some(&self.asked[..]),
            given: Some(&self.given),
        })
    }

    fn failure(&self) -> Failure {
        let failure = self.judge().unwrap_err();
        assert_eq!(failure.exit_code, ExitCode::ExpectationNotMet);
        failure
    }

    fn kind(&self) -> String {
        self.failure().kind
    }
}

fn kind_of(lines: &[Value]) -> String {
    Seen { lines: lines.to_vec(), ..seen() }.kind()
}

#[test]
fn what_was_expected_passes() {
    assert_eq!(seen().judge(), Ok(()));
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
    let acted = json!({"type": "item.completed", "item": {"type": "command_execution", "id": "i"}});
    assert_eq!(with(1, acted), "action-unexpected");
    let mut other = good();
    other[2]["item"]["arguments"] = json!({"path": "LICENSE"});
    assert_eq!(kind_of(&other), "arguments-differ");
}

#[test]
fn an_empty_transcript_is_no_pass() {
    let failure = Seen { lines: Vec::new(), ..seen() }.failure();
    assert_eq!(failure.kind, "call-missing");
    assert!(failure.to_string().contains("calls that did happen: none"), "{failure}");
}

#[test]
fn a_call_that_never_came_back_is_named() {
    let begun = json!({"type": "item.started", "item": {"type": "mcp_tool_call", "id": "j", "server": "stelae",
        "tool": "grep", "status": "in_progress"}});
    let mut lines = good();
    lines.truncate(3);
    lines.push(begun);
    let failure = Seen { lines, ..seen() }.failure();
    assert!(failure.to_string().contains("the call of grep never came back"), "{failure}");
}

#[test]
fn a_forbidden_call_is_named_before_anything_else() {
    let never = |arguments: Value| {
        let mut seen = seen();
        let arguments = arguments.as_object().cloned();
        seen.stage.never.push(ForbiddenCall { tool: "grep".to_owned(), arguments });
        seen.judge().map_err(|failure| failure.kind)
    };
    assert_eq!(never(Value::Null), Err("call-forbidden".to_owned()));
    assert_eq!(never(json!({"path": "README.md"})), Err("call-forbidden".to_owned()));
    assert_eq!(never(json!({"path": "LICENSE"})), Ok(()));
}

#[test]
fn a_model_of_its_own_may_look_around() {
    let mut live = Seen { model: Model::Live, ..seen() };
    live.lines.insert(2, call("list", "completed", "", &Value::Null));
    live.given.push(GatewayCall { tool: "list".to_owned(), ..given().remove(0) });
    assert_eq!(live.judge(), Ok(()));
    live.lines.swap(3, 4);
    assert_eq!(live.kind(), "call-missing", "in another order");
}

#[test]
fn what_is_behind_a_mismatch_is_what_is_said() {
    let nothing = || Seen { lines: vec![json!({"type": "turn.completed"})], given: Vec::new(), ..seen() };
    let mut missing = nothing();
    missing.asked[0].offered.clear();
    assert_eq!(missing.kind(), "server-missing");

    let required = "2026 ERROR x\nError: required MCP servers failed to initialize: stelae: refused";
    let required = Seen { complaints: required, asked: Vec::new(), lines: Vec::new(), ..seen() };
    assert_eq!(required.kind(), "server-missing");

    let unsupported =
        Seen { complaints: "ERROR router: error=unsupported call: mcp__stelaeread", ..nothing() };
    let failure = unsupported.failure();
    assert_eq!(failure.kind, "unsupported-call");
    assert!(failure.what.contains("mcp__stelaeread"), "{failure}");

    let mut refused = seen();
    let why = json!({"message": "MCP tool call requires approval, but approval policy is never"});
    refused.lines[2] = call("read", "failed", "", &why);
    assert_eq!(refused.kind(), "approval-refused");

    let gave_up = json!({"type": "turn.failed", "error": {"message": "unexpected status 401"}});
    let mut failed = nothing();
    failed.lines = vec![gave_up.clone()];
    failed.asked[0].status = 401;
    let failure = failed.failure();
    assert_eq!(
        (failure.kind.as_str(), failure.what.as_str()),
        ("model-failed", "the model answered with status 401 at turn 1")
    );

    assert_eq!(failure.why.iter().filter(|why| why.contains("unexpected status")).count(), 1, "{failure}");

    let unreached = Seen { lines: vec![gave_up], asked: Vec::new(), ..seen() };
    assert_eq!(unreached.kind(), "model-unreached");
}

#[test]
fn a_failure_that_nobody_noticed_is_one() {
    let mut seen = seen();
    seen.asked[2].wrong = Some(Wrong::NotCompleted);
    assert_eq!(seen.kind(), "failure-unnoticed");
}

#[test]
fn witnesses_that_disagree_are_heard() {
    let with = |change: &dyn Fn(&mut Seen)| {
        let mut seen = seen();
        change(&mut seen);
        seen.kind()
    };
    assert_eq!(with(&|seen| drop(seen.given.pop())), "witnesses-differ");
    assert_eq!(with(&|seen| seen.given.push(given().remove(0))), "witnesses-differ");
    let hint = |given: Vec<GatewayCall>| Seen { given, ..seen() }.judge().unwrap_err().hint;
    assert!(hint(Vec::new()).is_some_and(|hint| hint.contains("the gateway's log")));
    assert_eq!(hint([given(), given()].concat()), None);
    assert_eq!(with(&|seen| seen.given.swap(0, 1)), "witnesses-differ");
    assert_eq!(with(&|seen| seen.given[0].arguments = json!({})), "witnesses-differ");
    assert_eq!(with(&|seen| seen.given[1].outcome = CallOutcome::Failed), "witnesses-differ");
    assert_eq!(with(&|seen| seen.asked[0].called = None), "witnesses-differ");
    assert_eq!(with(&|seen| seen.asked[1].arguments = Some(json!({}))), "witnesses-differ");
    assert_eq!(with(&|seen| seen.asked[0].fault = Some("what?".to_owned())), "model-fault");
    assert_eq!(with(&|seen| seen.asked.insert(1, asked().remove(0))), "model-asked-again");
}

#[test]
fn arguments_that_are_cut_are_compared_by_their_length() {
    let cut = |bytes: usize| {
        let mut seen = seen();
        seen.given[0].arguments = json!({"stelae:cut": bytes});
        seen.judge().map_err(|failure| failure.kind)
    };
    assert_eq!(cut(json!({"path": "README.md"}).to_string().len()), Ok(()));
    assert_eq!(cut(7), Err("witnesses-differ".to_owned()));
}

#[test]
fn a_call_that_nobody_answered_is_no_tools_error_whatever_the_agent_calls_it() {
    // Claude Code says the same of both.
    let mut seen = seen();
    seen.given[1].outcome = CallOutcome::Failed;
    assert_eq!(seen.kind(), "witnesses-differ");
}

#[test]
fn what_the_model_is_told_of_a_call_is_what_we_are_told() {
    let told = |answered: Option<Answered>| {
        let mut seen = seen();
        seen.asked[1].answered = answered;
        seen.judge().map_err(|failure| failure.kind)
    };
    let differs = Err("witnesses-differ".to_owned());
    assert_eq!(told(None), differs);
    assert_eq!(told(Some(Answered::new(1, "", None))), differs, "of another call");
    assert_eq!(told(Some(Answered::new(0, "", Some(true)))), differs, "that it failed");
    assert_eq!(told(Some(Answered::new(0, "", Some(false)))), Ok(()));
    let mut silent = seen();
    silent.asked.pop();
    assert_eq!(silent.kind(), "witnesses-differ", "of the last call nothing");
}

#[test]
fn where_an_agent_wanted_to_go_is_not_its_models_failure() {
    let elsewhere = ModelRequest {
        route: "CONNECT".to_owned(),
        status: 403,
        outside: Some("telemetry.invalid:443".to_owned()),
        fault: Some("the agent wanted to reach telemetry.invalid:443".to_owned()),
        ..ModelRequest::default()
    };
    let mut green = seen();
    green.asked.insert(0, elsewhere.clone());
    assert_eq!(green.judge(), Ok(()));
    let mut red = seen();
    red.asked.insert(0, elsewhere);
    red.lines.truncate(3);
    assert_eq!(red.kind(), "call-missing");
}

#[test]
fn a_request_that_the_model_does_not_understand_is_told_as_that() {
    let mut seen = seen();
    seen.lines.truncate(2);
    let fault = Some("it has no list of `input`".to_owned());
    seen.asked = vec![ModelRequest { status: 400, fault, ..ModelRequest::default() }];
    let failure = seen.failure();
    assert_eq!(failure.kind, "model-fault");
    assert!(failure.why[0].contains("`input`"), "{failure}");
}

#[test]
fn what_should_not_have_been_called_needs_no_cause() {
    let mut seen = seen();
    seen.stage.never.push(ForbiddenCall { tool: "read".to_owned(), arguments: None });
    seen.asked[2].status = 500;
    assert_eq!(seen.kind(), "call-forbidden");
}

#[test]
fn one_that_stumbles_and_goes_on_has_come_to_its_end() {
    let mut stumbled = seen();
    stumbled.lines.insert(2, json!({"type": "error", "message": "Reconnecting… 1/5"}));
    assert_eq!(stumbled.judge(), Ok(()));
    stumbled.lines[2] = json!({"type": "turn.failed", "error": {"message": "gone"}});
    assert_eq!(stumbled.kind(), "turn-not-completed", "whatever it says afterwards");
    stumbled.lines.truncate(2);
    stumbled.lines.push(json!({"type": "error", "message": "gone"}));
    assert!(stumbled.failure().to_string().contains("the agent gave up: gone"));
}

#[test]
fn a_model_of_its_own_may_leave_out_what_is_empty_and_do_two_things_at_once() {
    let mut live = Seen { model: Model::Live, ..seen() };
    live.stage.calls[0].arguments = json!({"path": "README.md", "params": {}});
    live.given.swap(0, 1);
    assert_eq!(live.judge(), Ok(()));
}

#[test]
fn a_prompt_that_never_came_to_the_model_is_no_pass() {
    let told = |text: &str| {
        let mut seen = seen();
        seen.asked[0].body = json!({"input": [{"content": [{"text": text}]}]});
        seen.judge().map_err(|failure| failure.kind)
    };
    assert_eq!(told("please do it now"), Ok(()));
    assert_eq!(told("hello there"), Err("prompt-lost".to_owned()));
}

#[test]
fn a_forbidden_call_that_is_not_told_of_is_one() {
    let mut seen = seen();
    seen.stage.never.push(ForbiddenCall { tool: "wipe".to_owned(), arguments: None });
    seen.given.push(GatewayCall { tool: "wipe".to_owned(), ..given().remove(0) });
    assert_eq!(seen.kind(), "call-forbidden");
}
