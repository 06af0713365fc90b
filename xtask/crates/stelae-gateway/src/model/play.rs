//! What the model does at a turn. The dialects say how it is put.

use serde_json::{Map, Value};

use super::faults::Wrong;
use super::script::Script;

/// The tool that nobody has.
const NOBODYS: &str = "no_such_tool";

/// A request, whatever its dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The turn, counted from 0: how many of its calls have been answered.
    pub(super) turn: usize,
    /// The tools of the script's server that the agent offers, as it names them.
    pub(super) offered: Vec<String>,
}

/// What the model does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Move {
    /// It calls a tool.
    Call {
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
        match script.calls.get(turn) {
            Some(_) if wrong == Some(Wrong::UnknownTool) => {
                Self::Call { tool: NOBODYS.to_owned(), arguments: Map::new() }
            }
            Some(call) => Self::Call { tool: call.tool.clone(), arguments: call.arguments.clone() },
            None => Self::Say(script.message.clone()),
        }
    }

    /// Why the agent cannot do that: it does not offer the tool. `named` is how its dialect would name it.
    pub(super) fn fault(&self, asked: &Asked, named: impl Fn(&str) -> String) -> Option<String> {
        let Self::Call { tool, .. } = self else { return None };
        let named = named(tool);
        let offers = match &asked.offered[..] {
            [] => "none of its server".to_owned(),
            offered => offered.join(", "),
        };
        (!asked.offered.contains(&named))
            .then(|| format!("the agent does not offer the tool {tool} (as {named}); it offers {offers}"))
    }
}
