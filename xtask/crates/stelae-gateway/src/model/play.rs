//! What the model does at a turn. The dialects say how it is put.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use stelae_model::misbehaviour::Wrong;
use stelae_model::model_record::Answered;

use super::script::Script;

/// The tool that nobody has.
const NOBODYS: &str = "no_such_tool";

/// A request, whatever its dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The turn, counted from 0: how many of its calls have been answered.
    pub(super) turn: usize,
    /// The tools of the script's servers that the agent offers, as it names them.
    pub(super) offered: Vec<String>,
    /// What the last call came to, as the agent tells it.
    pub(super) answered: Option<Answered>,
}

/// How an agent CLI and its model speak with each other.
pub(super) trait Dialect: Sync {
    /// Reads a request. What is offered counts as far as it is of one of these servers.
    ///
    /// # Errors
    /// What is not as it should be.
    fn read(&self, body: &Value, servers: &BTreeSet<&str>) -> Result<Asked, String>;

    /// How the agent names a tool to its model.
    fn named(&self, server: &str, tool: &str) -> String;

    /// The events of the answer to `body`; the last one says that it is complete.
    fn events(&self, turn: usize, body: &Value, what: &Move) -> Vec<String>;
}

/// What the model does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Move {
    /// It calls a tool.
    Call {
        /// The name under which the agent knows the server.
        server: String,
        /// The name of the tool, as its server gives it.
        tool: String,
        arguments: Map<String, Value>,
    },
    /// It has done everything, and says so.
    Say(String),
}

impl Move {
    /// The move at a turn.
    pub(super) fn at(script: &Script, turn: usize, wrong: Option<Wrong>) -> Self {
        let call = script.calls.get(turn).filter(|_| wrong != Some(Wrong::EndsEarly));
        match call {
            Some(call) => {
                let server = script.server_of(call).to_owned();
                let (tool, arguments) = match wrong {
                    Some(Wrong::UnknownTool) => (NOBODYS.to_owned(), Map::new()),
                    _ => (call.tool.clone(), call.arguments.clone()),
                };
                Self::Call { server, tool, arguments }
            }
            None => Self::Say(script.message.clone()),
        }
    }

    /// Why the agent cannot do that: it does not offer the tool.
    pub(super) fn fault(&self, asked: &Asked, dialect: &dyn Dialect) -> Option<String> {
        let Self::Call { server, tool, .. } = self else { return None };
        let named = dialect.named(server, tool);
        let offers = match &asked.offered[..] {
            [] => "none of its server".to_owned(),
            offered => offered.join(", "),
        };
        (!asked.offered.contains(&named))
            .then(|| format!("the agent does not offer the tool {tool} (as {named}); it offers {offers}"))
    }
}

/// The text of an answer: a string, or blocks of which some have one. Whatever else it is stays as it is written.
pub(super) fn text_of(answer: &Value) -> String {
    match answer {
        Value::String(text) => text.clone(),
        Value::Array(blocks) if blocks.iter().any(|block| block["text"].is_string()) => {
            let texts = blocks.iter().filter_map(|block| block["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_text_whatever_it_comes_in() {
        let blocks = json!([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]);
        assert_eq!((text_of(&json!("a")), text_of(&blocks)), ("a".to_owned(), "a\nb".to_owned()));
        assert_eq!(
            (text_of(&Value::Null), text_of(&json!({"x": 1}))),
            (String::new(), r#"{"x":1}"#.to_owned())
        );
    }
}
