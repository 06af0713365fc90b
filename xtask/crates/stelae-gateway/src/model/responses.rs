//! OpenAI's Responses, as Codex speaks it: `POST /v1/responses`, answered with server-sent events.

use serde_json::{Value, json};
use stelae_model::model_record::Answered;

use super::play::{Asked, Move, text_of};

/// What the id of a call starts with; its turn follows.
const CALL: &str = "c";

/// What Codex makes of a name: letters, digits and underscores stay.
pub(super) fn reduced(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The namespace in which Codex offers the tools of a server.
fn namespace(server: &str) -> String {
    format!("mcp__{}", reduced(server))
}

/// Reads a request.
///
/// # Errors
/// What is not as it should be.
pub(super) fn read(body: &Value, server: &str) -> Result<Asked, String> {
    if body["stream"] != true {
        return Err("it asks for an answer that is no stream".to_owned());
    }
    let input = body["input"].as_array().ok_or("it has no list of `input`")?;
    let outputs = || input.iter().filter(|item| item["type"] == "function_call_output");
    let turn = outputs().count();
    let answered = outputs().next_back().and_then(answered);
    let tools = body["tools"].as_array().ok_or("it has no list of `tools`")?;
    let ours = namespace(server);
    let ours = tools.iter().filter(|tool| tool["type"] == "namespace" && tool["name"] == ours.as_str());
    let names = ours.flat_map(|tool| tool["tools"].as_array().into_iter().flatten());
    let offered = names.filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect();
    Ok(Asked { turn, offered, answered })
}

/// What became of a call of ours. Whether it is an error stands nowhere but in the text.
fn answered(item: &Value) -> Option<Answered> {
    let call = item["call_id"].as_str()?.strip_prefix(CALL)?.parse().ok()?;
    Some(Answered::new(call, &text_of(&item["output"]), None))
}

/// The events of an answer; the last one says that it is complete.
pub(super) fn events(server: &str, turn: usize, what: &Move) -> Vec<String> {
    let item = match what {
        // Namespace and name apart: every name in one piece is an "unsupported call".
        Move::Call { tool, arguments } => json!({
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
            let asked = read(&body(turn), "our-stack").unwrap();
            let answered = turn.checked_sub(1).map(|call| Answered::new(call, &format!("sum {call}"), None));
            assert_eq!(asked, Asked { turn, offered: vec!["get_sum".to_owned()], answered });
        }
        assert!(read(&json!({"stream": false}), "s").is_err());
        assert!(read(&json!({"stream": true, "input": []}), "s").unwrap_err().contains("tools"));
    }

    #[test]
    fn a_call_has_namespace_and_name_apart_and_an_end() {
        let what = Move::Call { tool: "get-sum".to_owned(), arguments: serde_json::Map::new() };
        let events = events("our-stack", 1, &what);
        let event =
            |text: &str| serde_json::from_str::<Value>(text.trim().strip_prefix("data: ").unwrap()).unwrap();
        let item = &event(&events[0])["item"];
        assert_eq!((&item["namespace"], &item["name"]), (&json!("mcp__our_stack"), &json!("get_sum")));
        assert_eq!(item["arguments"], "{}");
        assert_eq!(event(&events[1]), json!({"type": "response.completed", "response": {"id": "r1"}}));
    }
}
