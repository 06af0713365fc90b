//! Anthropic's Messages, as Claude Code speaks it: `POST /v1/messages`, answered with named server-sent events.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stelae_model::model_record::Answered;

use super::play::{Asked, Dialect, Move, text_of};

/// What the id of a call starts with; its turn follows.
const CALL: &str = "toolu_";

/// How Claude Code names a tool of a server.
fn named(server: &str, tool: &str) -> String {
    format!("mcp__{server}__{tool}")
}

/// The dialect.
#[derive(Debug)]
pub(super) struct Messages;

impl Dialect for Messages {
    fn read(&self, body: &Value, servers: &BTreeSet<&str>) -> Result<Asked, String> {
        if body["stream"] != true {
            return Err("it asks for an answer that is no stream".to_owned());
        }
        let messages = body["messages"].as_array().ok_or("it has no list of `messages`")?;
        let blocks = messages.iter().flat_map(|message| message["content"].as_array().into_iter().flatten());
        let results: Vec<_> = blocks.filter(|block| block["type"] == "tool_result").collect();
        let (turn, answered) = (results.len(), results.last().copied().and_then(answered));
        let tools = body["tools"].as_array().ok_or("it has no list of `tools`")?;
        let names = tools.iter().filter_map(|tool| tool["name"].as_str());
        let ours: Vec<_> = servers.iter().map(|server| named(server, "")).collect();
        let is_ours = |name: &&str| ours.iter().any(|ours| name.starts_with(ours));
        let offered = names.filter(is_ours).map(str::to_owned).collect();
        Ok(Asked { turn, offered, answered })
    }

    fn named(&self, server: &str, tool: &str) -> String {
        named(server, tool)
    }

    fn events(&self, turn: usize, body: &Value, what: &Move) -> Vec<String> {
        events(turn, &body["model"], what)
    }
}

/// What became of a call of ours.
fn answered(block: &Value) -> Option<Answered> {
    let call = block["tool_use_id"].as_str()?.strip_prefix(CALL)?.parse().ok()?;
    Some(Answered::new(call, &text_of(&block["content"]), Some(block["is_error"] == true)))
}

fn events(turn: usize, model: &Value, what: &Move) -> Vec<String> {
    let (block, delta, stop) = match what {
        Move::Call { server, tool, arguments } => (
            json!({"type": "tool_use", "id": format!("{CALL}{turn}"), "name": named(server, tool), "input": {}}),
            json!({"type": "input_json_delta", "partial_json": Value::Object(arguments.clone()).to_string()}),
            "tool_use",
        ),
        Move::Say(text) => {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}), "end_turn")
        }
    };
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let message = json!({
        "id": format!("msg_{turn}"), "type": "message", "role": "assistant", "model": model,
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": usage}),
        json!({"type": "message_stop"}),
    ];
    events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_is_read_off_the_history() {
        let result = |call: usize, text: &str, is_error: bool| {
            let block = json!({"type": "tool_result", "tool_use_id": format!("toolu_{call}"), "content": text, "is_error": is_error});
            json!({"role": "user", "content": [block]})
        };
        let body = json!({"stream": true, "tools": [{"name": "mcp__our-stack__get-sum"}, {"name": "Bash"}],
            "messages": [{"role": "user", "content": "a plain text"}, result(0, "3", false), result(1, "no", true)]});
        let asked = Messages.read(&body, &["our-stack"].into()).unwrap();
        let offered = vec!["mcp__our-stack__get-sum".to_owned()];
        assert_eq!(asked, Asked { turn: 2, offered, answered: Some(Answered::new(1, "no", Some(true))) });
        assert!(Messages.read(&json!({"messages": [], "tools": []}), &["s"].into()).is_err());
    }

    #[test]
    fn every_event_is_named_and_the_last_one_is_the_end() {
        let events = events(0, &json!("m"), &Move::Say("done".to_owned()));
        assert!(events.iter().all(|event| event.starts_with("event: ")), "{events:?}");
        assert!(events.last().unwrap().starts_with("event: message_stop\n"));
        assert!(events[2].contains("\"text\":\"done\""), "{}", events[2]);
    }
}
