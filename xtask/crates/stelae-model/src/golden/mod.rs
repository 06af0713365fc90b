//! A run, as every run of the same agent gives it: kept, and compared with a later one, when an agent CLI is upgraded.
//!
//! What is another in each run (addresses, folders, ids, times) is masked ([`mask`]); what is left is the same to the byte,
//! or something has changed ([`compare`]).

mod compare;
mod mask;

pub use compare::compare;
pub use mask::Masks;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::{Agent, Model};
use crate::transcript::{AgentEvent, CallEnd, Transcript};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Version of this schema: 1.
    pub schema: u32,
    /// Who played.
    pub agent: Agent,
    /// Whose model told it what to do.
    pub model: Model,
    /// Its version, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The stages, in order.
    pub stages: Vec<GoldenStage>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenStage {
    /// Its name.
    pub name: String,
    /// The tools that the agent offered its model, as it names them; empty where the model is not ours.
    pub offered: BTreeSet<String>,
    /// The tools that the gateway listed afterwards.
    pub tools: BTreeSet<String>,
    /// The calls, in order.
    pub calls: Vec<GoldenCall>,
    /// What the agent said, in order.
    pub said: Vec<String>,
    /// What it warned of.
    pub warned: Vec<String>,
    /// Everything else that happened, each with how often.
    pub others: BTreeMap<String, usize>,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCall {
    /// The server, as the agent knows it.
    pub server: String,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// How it ended.
    pub end: CallEnd,
}

impl GoldenStage {
    /// What a transcript comes to.
    pub fn new(
        name: &str,
        transcript: &Transcript,
        offered: BTreeSet<String>,
        tools: BTreeSet<String>,
        masks: &Masks,
    ) -> Self {
        let mut stage = Self {
            name: name.to_owned(),
            offered,
            tools,
            calls: Vec::new(),
            said: Vec::new(),
            warned: Vec::new(),
            others: BTreeMap::new(),
        };
        for event in &transcript.events {
            match event {
                AgentEvent::CallEnded(call) => stage.calls.push(GoldenCall {
                    server: call.server.clone(),
                    tool: call.tool.clone(),
                    arguments: masks.value(&call.arguments),
                    end: masks.end(&call.end),
                }),
                AgentEvent::Said(text) => stage.said.push(masks.text(text)),
                AgentEvent::Warned(text) => stage.warned.push(masks.text(text)),
                other => {
                    if let Some(name) = name_of(other) {
                        *stage.others.entry(masks.text(&name)).or_default() += 1;
                    }
                }
            }
        }
        stage
    }
}

/// Its name, for an event that is only counted.
fn name_of(event: &AgentEvent) -> Option<String> {
    Some(match event {
        AgentEvent::Started { servers } => {
            let servers: Vec<_> = servers.iter().map(|(name, state)| format!("{name} is {state}")).collect();
            format!("started: {}", servers.join(", "))
        }
        AgentEvent::CallStarted(begun) => format!("call begun: {}", begun.tool),
        AgentEvent::Acted(what) => format!("acted: {what}"),
        AgentEvent::Retried(_) => "asked its model again".to_owned(),
        AgentEvent::Completed => "completed".to_owned(),
        AgentEvent::Stumbled(why) => format!("stumbled: {why}"),
        AgentEvent::Failed(why) => format!("failed: {why}"),
        AgentEvent::Unknown { kind, .. } => format!("unknown: {kind}"),
        AgentEvent::Aside | AgentEvent::CallEnded(_) | AgentEvent::Said(_) | AgentEvent::Warned(_) => {
            return None;
        }
    })
}

#[cfg(test)]
mod tests;
