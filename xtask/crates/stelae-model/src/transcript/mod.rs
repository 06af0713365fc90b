//! What an agent did: one type for the transcripts of all agents, and one reader.
//!
//! | agent | writes | read by |
//! | --- | --- | --- |
//! | builtin, Codex CLI | `exec --json` | [`codex`] |
//! | Claude Code | `--output-format stream-json` | [`claude`] |
//!
//! What an agent writes changes with its version. An event of a type that is not known is kept and counted; a line that
//! is no event at all, or one of a known type that lacks what it must have, is an error with its place.

pub mod claude;
pub mod codex;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::{ExitCode, Failure};

/// A transcript that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// What happened, in order.
    pub events: Vec<AgentEvent>,
}

/// One thing that an agent did, or that happened to it.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentEvent {
    /// The agent is up.
    Started {
        /// The MCP servers that it knows, each with how it is; empty where an agent does not say.
        servers: BTreeMap<String, String>,
    },
    /// A call began.
    CallStarted(CallStarted),
    /// A call ended, well or not.
    CallEnded(Call),
    /// The agent did something that is no call of an MCP tool: `Bash`, `command_execution`.
    Acted(String),
    /// The agent says something.
    Said(String),
    /// The agent warns of something about itself.
    Warned(String),
    /// The agent asks its model once more.
    Retried(String),
    /// The agent has done what it was told to.
    Completed,
    /// The agent says that something failed, and may go on all the same.
    Stumbled(String),
    /// The agent gave up.
    Failed(String),
    /// Something that this reader knows, and that nobody has to judge: thoughts, plans.
    Aside,
    /// Something that this reader does not know.
    Unknown {
        /// Its type, as it calls itself.
        kind: String,
        /// The line.
        line: Value,
    },
}

/// A call that began.
#[derive(Clone, Debug, PartialEq)]
pub struct CallStarted {
    /// Its id in the transcript.
    pub id: String,
    /// Name of the tool, as its server gives it.
    pub tool: String,
}

/// A call that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Its id in the transcript.
    pub id: String,
    /// Name under which the agent knows the MCP server.
    pub server: String,
    /// Name of the tool, as its server gives it.
    pub tool: String,
    /// Arguments.
    pub arguments: Value,
    /// How it ended.
    pub end: CallEnd,
    /// The structured content of its answer, where the agent tells of it apart from the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
}

/// How a call ended, as far as the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how", content = "text")]
pub enum CallEnd {
    /// The tool answered with this text.
    Answered(String),
    /// The tool answered with `isError` and this text. Claude Code says the same of a call that failed.
    ToolError(String),
    /// There is no answer of the tool: a JSON-RPC error, a time limit, a dead server.
    Failed(String),
    /// The agent did not ask for it: nobody had approved of the tool.
    Refused(String),
    /// The agent knows no such tool.
    NoSuchTool(String),
}

impl CallEnd {
    /// What was answered, or why nothing was.
    pub fn text(&self) -> &str {
        match self {
            Self::Answered(text)
            | Self::ToolError(text)
            | Self::Failed(text)
            | Self::Refused(text)
            | Self::NoSuchTool(text) => text,
        }
    }

    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Answered(_) => "completed",
            Self::ToolError(_) | Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::NoSuchTool(_) => "unsupported",
        }
    }
}

impl Transcript {
    /// Reads what an agent wrote, one JSON object a line.
    ///
    /// # Errors
    /// Exit 11, `transcript-unreadable`, with the line.
    pub fn read(agent: Agent, path: &str, text: &str) -> Result<Self, Failure> {
        let mut claude = claude::Reader::default();
        let mut events = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let read = serde_json::from_str(line).map_err(|error| error.to_string());
            let read = read.and_then(|line: Value| match agent {
                Agent::Builtin | Agent::Codex => codex::read(line).map(|event| vec![event]),
                Agent::Claude => claude.read(line),
            });
            events.extend(read.map_err(|why| unreadable(&format!("{path}:{}", index + 1), why))?);
        }
        Ok(Self { events })
    }

    /// The calls that ended, in order.
    pub fn calls(&self) -> Vec<&Call> {
        let ended = self.events.iter().filter_map(|event| match event {
            AgentEvent::CallEnded(call) => Some(call),
            _ => None,
        });
        ended.collect()
    }

    /// The tools of the calls that began and did not end.
    pub fn unended(&self) -> Vec<&str> {
        let ended: Vec<_> = self.calls().into_iter().map(|call| call.id.as_str()).collect();
        let begun = self.events.iter().filter_map(|event| match event {
            AgentEvent::CallStarted(begun) => Some(begun),
            _ => None,
        });
        begun.filter(|begun| !ended.contains(&begun.id.as_str())).map(|begun| begun.tool.as_str()).collect()
    }

    /// Whether the agent did what it was told to, and says so. One that stumbled and went on has; one that gave up has not, whatever
    /// it says then.
    pub fn is_completed(&self) -> bool {
        let gave_up = self.events.iter().any(|event| matches!(event, AgentEvent::Failed(_)));
        !gave_up && self.events.contains(&AgentEvent::Completed)
    }

    /// Why the agent gave up, in its own words.
    pub fn failure(&self) -> Option<&str> {
        if self.is_completed() {
            return None;
        }
        let last = |of: fn(&AgentEvent) -> Option<&String>| self.events.iter().rev().find_map(of);
        let failed = last(|event| if let AgentEvent::Failed(why) = event { Some(why) } else { None });
        let stumbled = last(|event| if let AgentEvent::Stumbled(why) = event { Some(why) } else { None });
        failed.or(stumbled).map(String::as_str)
    }

    /// What failed on the way, in the agent's own words.
    pub fn stumbles(&self) -> impl Iterator<Item = &str> {
        self.events.iter().filter_map(|event| match event {
            AgentEvent::Stumbled(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// The first MCP server that the agent says is not connected, and how it is.
    pub fn unconnected(&self) -> Option<(&str, &str)> {
        self.events.iter().find_map(|event| match event {
            AgentEvent::Started { servers } => {
                let mut servers = servers.iter().filter(|(_, state)| *state != "connected");
                servers.next().map(|(name, state)| (name.as_str(), state.as_str()))
            }
            _ => None,
        })
    }

    /// The types of events that this reader does not know, each with how often it stands there.
    pub fn unknown(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for event in &self.events {
            if let AgentEvent::Unknown { kind, .. } = event {
                *count.entry(kind.as_str()).or_default() += 1;
            }
        }
        count
    }
}

fn unreadable(place: &str, why: String) -> Failure {
    let what = "the transcript has a line that is not an event";
    Failure::new(ExitCode::ExpectationNotMet, "transcript-unreadable", what)
        .on(place)
        .because(why)
        .hint("the agent was cut short, or its version writes another schema")
}

/// The texts of MCP content blocks, joined by newlines.
fn text_of(blocks: &[Value]) -> String {
    let texts = blocks.iter().filter_map(|block| block.get("text")?.as_str());
    texts.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
