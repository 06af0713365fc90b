//! OpenAI's Responses, as Codex speaks it: `POST /v1/responses`, answered with server-sent events.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stelae_model::model_record::Answered;

use super::play::{Asked, Dialect, Move, text_of};

/// What the id of a call starts with; its turn follows.
const CALL: &str = "c";

/// What Codex makes of a name: letters, digits and underscores stay.
fn reduced(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The namespace in which Codex offers the tools of a server.
fn namespace(server: &str) -> String {
    format!("mcp__{}", reduced(server))
}

/// The dialect.
#[derive(Debug)]
pub(super) struct Responses;

impl Dialect for Responses {
    fn read(&self, body: &Value, servers: &BTreeSet<&str>) -> Result<Asked, String> {
        if body["stream"] != true {
            return Err("it asks for an answer that is no stream".to_owned());
        }
        let input = body["input"].as_array().ok_or("it has no list of `input`")?;
        let outputs = || input.iter().filter(|item| item["type"] == "function_call_output");
        let turn = outputs().count();
        let answered = outputs().next_back().and_then(answered);
        let tools = body["tools"].as_array().ok_or("it has no list of `tools`")?;
        let ours: Vec<_> = servers.iter().map(|server| namespace(server)).collect();
        let mut offered = Vec::new();
        for space in tools.iter().filter(|tool| tool["type"] == "namespace") {
            let Some(name) = space["name"].as_str().filter(|name| ours.iter().any(|ours| ours == name))
            else {
                continue;
            };
            let tools = space["tools"].as_array().into_iter().flatten();
            offered.extend(tools.filter_map(|tool| Some(joined(name, tool["name"].as_str()?))));
        }
        Ok(Asked { turn, offered, answered })
    }

    fn named(&self, server: &str, tool: &str) -> String {
        joined(&namespace(server), &reduced(tool))
    }

    fn events(&self, turn: usize, _body: &Value, what: &Move) -> Vec<String> {
        events(turn, what)
    }
}

/// A tool with its namespace, for people: Codex itself takes no name in one piece.
fn joined(namespace: &str, tool: &str) -> String {
    format!("{namespace}__{tool}")
}

/// What became of a call of ours. Whether it is an error stands nowhere but in the text.
fn answered(item: &Value) -> Option<Answered> {
    let call = item["call_id"].as_str()?.strip_prefix(CALL)?.parse().ok()?;
    Some(Answered::new(call, &text_of(&item["output"]), None))
}

fn events(turn: usize, what: &Move) -> Vec<String> {
    let item = match what {
        // Namespace and name apart: every name in one piece is an "unsupported call".
        Move::Call { server, tool, arguments } => json!({
            "type": "function_call",
            "namespace": namespace(server),
            "name": reduced(tool),
            "call_id": format!("{CALL}{turn}"),
            "arguments": Value::Object(arguments.clone()).to_string(),
        }),
        Move::Say(text) => json!({
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text}],
        }),
    };
    let done = json!({"type": "response.output_item.done", "item": item});
    let completed = json!({"type": "response.completed", "response": {"id": format!("r{turn}")}});
    [done, completed].iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(outputs: usize) -> Value {
        let mut input = vec![json!({"type": "message", "role": "user", "content": []})];
        for number in 0..outputs {
            input.push(json!({"type": "function_call", "call_id": format!("c{number}")}));
            let output = json!([{"type": "input_text", "text": format!("sum {number}")}]);
            input.push(
                json!({"type": "function_call_output", "call_id": format!("c{number}"), "output": output}),
            );
        }
        json!({"stream": true, "input": input, "tools": [
            {"type": "function", "name": "shell"},
            {"type": "namespace", "name": "mcp__our_stack", "tools": [{"type": "function", "name": "get_sum"}]},
            {"type": "namespace", "name": "mcp__other", "tools": [{"type": "function", "name": "x"}]},
        ]})
    }

    #[test]
    fn the_turn_is_read_off_the_history() {
        for turn in 0..3 {
            let asked = Responses.read(&body(turn), &["our-stack"].into()).unwrap();
            let answered = turn.checked_sub(1).map(|call| Answered::new(call, &format!("sum {call}"), None));
            assert_eq!(asked, Asked { turn, offered: vec!["mcp__our_stack__get_sum".to_owned()], answered });
        }
        assert!(Responses.read(&json!({"stream": false}), &["s"].into()).is_err());
        assert!(
            Responses
                .read(&json!({"stream": true, "input": []}), &["s"].into())
                .unwrap_err()
                .contains("tools")
        );
    }

    #[test]
    fn a_call_has_namespace_and_name_apart_and_an_end() {
        let (server, tool) = ("our-stack".to_owned(), "get-sum".to_owned());
        let what = Move::Call { server, tool, arguments: serde_json::Map::new() };
        let events = events(1, &what);
        let event =
            |text: &str| serde_json::from_str::<Value>(text.trim().strip_prefix("data: ").unwrap()).unwrap();
        let item = &event(&events[0])["item"];
        assert_eq!((&item["namespace"], &item["name"]), (&json!("mcp__our_stack"), &json!("get_sum")));
        assert_eq!(item["arguments"], "{}");
        assert_eq!(event(&events[1]), json!({"type": "response.completed", "response": {"id": "r1"}}));
    }
}
