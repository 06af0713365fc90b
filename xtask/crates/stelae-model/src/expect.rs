//! What a stage expects of an agent. Whether it is met, [`crate::judge`] says.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::misbehaviour::Misbehaviour;

/// One scripted task given to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name; `stage:<name>` is its step.
    pub name: String,
    /// What a person, or an agent with a model of its own, is told. `{{ … }}` has the values of the environment.
    pub prompt: String,
    /// The tools that the gateway lists when the stage begins; without it, whichever it lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeSet<String>>,
    /// The calls that must happen, in this order. A scripted model makes no others.
    #[serde(rename = "call")]
    pub calls: Vec<ExpectedCall>,
    /// Calls that must not happen, whatever else does.
    #[serde(default, rename = "never", skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<ForbiddenCall>,
    /// Tools that the gateway lists after the stage and not before it.
    #[serde(default)]
    pub tools_gained: BTreeSet<String>,
    /// Tools that the gateway lists before the stage and not after it.
    #[serde(default)]
    pub tools_lost: BTreeSet<String>,
    /// What the scripted model does wrong: to see that it is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misbehave: Option<Misbehaviour>,
}

/// A call that must happen: name, arguments, outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedCall {
    /// Name of the tool, as the gateway lists it.
    pub tool: String,
    /// Its arguments, exactly.
    pub arguments: Value,
    /// How it must end.
    #[serde(default)]
    pub outcome: Outcome,
    /// A text that must stand in the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_contains: Option<String>,
}

/// A call that must not happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForbiddenCall {
    /// Name of the tool.
    pub tool: String,
    /// With these arguments, whatever others there are; without it, with any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<serde_json::Map<String, Value>>,
}

impl ForbiddenCall {
    /// Whether a call is it.
    pub fn is(&self, tool: &str, arguments: &Value) -> bool {
        let has = |(name, value): (&String, &Value)| arguments.get(name) == Some(value);
        self.tool == tool && self.arguments.iter().flatten().all(has)
    }
}

/// How a call must end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Completed, without `isError`.
    #[default]
    Ok,
    /// The tool answers with `isError`.
    ToolError,
}
