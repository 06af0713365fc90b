//! What a stage expects of an agent. Whether it is met, [`crate::judge`] says.
//!
//! ```text
//! answer   what the answer of a call must be
//! json     values, compared as values
//! check    what is no expectation, as anything meets it
//! ```
//! Texts may have `{{ NONCE }}` in them: a word that is another in each run, and that stands in a file of the clone
//! (`nonce_file`). An answer that has it is neither a constant nor one of another run.

mod answer;
mod check;
mod json;

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::Failure;
use crate::manifest::Declared;
use crate::misbehaviour::Misbehaviour;
use crate::render::{Names, Source, Syntax, resolve_text_alone};

pub use answer::{Answer, Expected};
pub use check::StageFault;
pub(crate) use check::{declared_fault, list_fault};
pub(crate) use json::same;

/// The name by which texts of a stage have the run's nonce.
pub const NONCE: &str = "NONCE";
/// What stands in its place while nothing runs: it has the shape of one.
pub const EXAMPLE_NONCE: &str = "n0123456789abcdef";

/// One scripted task given to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name; `stage:<name>` is its step.
    pub name: String,
    /// What a person, or an agent with a model of its own, is told. `{{ … }}` has the values of the environment.
    pub prompt: String,
    /// The tools that the gateway lists when the stage begins; without it, whichever it lists.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_names")]
    pub tools: Option<BTreeSet<String>>,
    /// The calls that must happen, in this order. A scripted model makes no others.
    #[serde(rename = "call")]
    pub calls: Vec<ExpectedCall>,
    /// Calls that must not happen, whatever else does.
    #[serde(default, rename = "never", skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<ForbiddenCall>,
    /// Tools that the gateway lists after the stage and not before it.
    #[serde(default, deserialize_with = "names")]
    pub tools_gained: BTreeSet<String>,
    /// Tools that the gateway lists before the stage and not after it.
    #[serde(default, deserialize_with = "names")]
    pub tools_lost: BTreeSet<String>,
    /// What the stage may change in the clone (`repo:…`) or the config home (`config:…`). When all stages are over, it is as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_change: Vec<String>,
    /// What the stage may change for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_leave: Vec<String>,
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
    /// A part that the text of the answer must have: short for `result = [{ contains = "…" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_contains: Option<String>,
    /// What else the answer must be, all of it; without both, any answer will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Vec<Expected>>,
}

impl ExpectedCall {
    /// Everything that is expected of the answer.
    pub fn expected(&self) -> impl Iterator<Item = Expected> {
        let part = self.result_contains.as_deref().map(Expected::contains);
        part.into_iter().chain(self.result.iter().flatten().cloned())
    }
}

impl Stage {
    /// The same with the run's nonce in every text but the prompt, which has more names.
    ///
    /// # Errors
    /// Exit 21, with its place: another name, a token that is never closed.
    pub fn filled(&self, path: &str, nonce: &str) -> Result<Self, Failure> {
        let names = Names::new([(NONCE, Some(nonce))]);
        let name = &self.name;
        let fill = |text: &str| {
            if !text.contains(Syntax::Braces.open()) && !text.contains(Syntax::Braces.close()) {
                return Ok(text.to_owned());
            }
            let source = Source::new(format!("{path}: stage {name}: {text:?}"), text);
            resolve_text_alone(&source, &names, Syntax::Braces)
        };
        let calls = self.calls.iter().map(|call| call.filled(&fill)).collect::<Result<_, Failure>>()?;
        let never = self.never.iter().map(|never| never.filled(&fill)).collect::<Result<_, Failure>>()?;
        let all = |texts: &[String]| texts.iter().map(|text| fill(text)).collect::<Result<Vec<_>, Failure>>();
        let (may_change, may_leave) = (all(&self.may_change)?, all(&self.may_leave)?);
        Ok(Self { calls, never, may_change, may_leave, ..self.clone() })
    }

    /// The first thing in it that cannot be meant, once its texts are filled in.
    pub fn fault(&self) -> Option<StageFault> {
        check::stage_fault(self)
    }

    /// What it may change, and what of that for good; of good declarations only.
    pub fn declared(&self) -> [Declared; 2] {
        [&self.may_change, &self.may_leave].map(|patterns| Declared::read(patterns).unwrap_or_default())
    }
}

/// Fills in one text.
type Fill<'a> = &'a dyn Fn(&str) -> Result<String, Failure>;

impl ExpectedCall {
    fn filled(&self, fill: Fill<'_>) -> Result<Self, Failure> {
        let result = self.result.as_ref();
        let result = result
            .map(|all| all.iter().map(|one| one.filled(fill)).collect::<Result<_, Failure>>())
            .transpose()?;
        Ok(Self {
            arguments: fill_value(&self.arguments, fill)?,
            result_contains: self.result_contains.as_deref().map(fill).transpose()?,
            result,
            ..self.clone()
        })
    }
}

/// Fills in every text of a value.
fn fill_value<E>(value: &Value, fill: &dyn Fn(&str) -> Result<String, E>) -> Result<Value, E> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text)?),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| fill_value(item, fill)).collect::<Result<_, E>>()?)
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| Ok((name.clone(), fill_value(value, fill)?));
            Value::Object(members.iter().map(member).collect::<Result<_, E>>()?)
        }
        other => other.clone(),
    })
}

/// Names of tools, each of them once.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let listed = Vec::<String>::deserialize(deserializer)?;
    let mut names = BTreeSet::new();
    for name in listed {
        if name.trim().is_empty() {
            return Err(serde::de::Error::custom("a name of a tool is empty"));
        }
        if let Some(twice) = names.replace(name) {
            return Err(serde::de::Error::custom(format!("{twice} is listed twice")));
        }
    }
    Ok(names)
}

fn some_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeSet<String>>, D::Error> {
    names(deserializer).map(Some)
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
    /// Whether a call with these arguments is it, of the tool that it names. Written otherwise, a number is still the same.
    pub fn has(&self, arguments: &Value) -> bool {
        let has =
            |(name, value): (&String, &Value)| arguments.get(name).is_some_and(|given| same(given, value));
        self.arguments.iter().flatten().all(has)
    }

    fn filled(&self, fill: Fill<'_>) -> Result<Self, Failure> {
        let arguments = self.arguments.clone().map(|arguments| fill_value(&Value::Object(arguments), fill));
        let arguments = arguments.transpose()?.and_then(|filled| filled.as_object().cloned());
        Ok(Self { tool: self.tool.clone(), arguments })
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

#[cfg(test)]
mod tests;
