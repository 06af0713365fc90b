//! The transcript of Claude Code, `--output-format stream-json --verbose`, as versions 2.1.197 to 2.1.328 write it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::{AgentEvent, Call, CallEnd, CallStarted, text_of};

/// Reads line by line: how a call ended stands in a later line than what was called.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What was called and did not end, by its id.
    called: BTreeMap<String, Called>,
    /// The calls that were not approved of.
    denied: BTreeSet<String>,
}

/// The parts of a tool's name.
#[derive(Debug)]
struct Called {
    server: String,
    tool: String,
    arguments: Value,
}

#[derive(Deserialize)]
struct Init {
    #[serde(default)]
    mcp_servers: Vec<ServerStatus>,
}

#[derive(Deserialize)]
struct ServerStatus {
    name: String,
    status: String,
}

#[derive(Deserialize)]
struct Denied {
    tool_use_id: String,
}

#[derive(Deserialize)]
struct Spoken {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Value,
}

#[derive(Deserialize)]
struct ToolUse {
    id: String,
    name: String,
    input: Value,
}

#[derive(Deserialize)]
struct ToolResult {
    tool_use_id: String,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    is_error: bool,
}

#[derive(Deserialize)]
struct Ended {
    subtype: String,
    is_error: bool,
    #[serde(default)]
    result: Option<String>,
}

/// The tool that the agent did not find.
const NO_SUCH_TOOL: &str = "No such tool available";

impl Reader {
    /// The events of one line.
    pub(super) fn read(&mut self, line: Value) -> Result<Vec<AgentEvent>, String> {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        match (text("type").as_str(), text("subtype").as_str()) {
            ("", _) => Err("it has no `type`".to_owned()),
            ("system", "init") => {
                let init: Init = typed(line)?;
                let servers = init.mcp_servers.into_iter().map(|server| (server.name, server.status));
                Ok(vec![AgentEvent::Started { servers: servers.collect() }])
            }
            ("system", "permission_denied") => {
                self.denied.insert(typed::<Denied>(line)?.tool_use_id);
                Ok(vec![AgentEvent::Aside])
            }
            ("system", "api_retry") => Ok(vec![AgentEvent::Retried(line.to_string())]),
            ("assistant", _) => self.blocks(typed(line)?, Self::said),
            ("user", _) => self.blocks(typed(line)?, Self::answered),
            ("result", _) => {
                let ended: Ended = typed(line)?;
                // A request to the model that failed is called a success, too: see `docs/AGENTS.md`.
                let well = ended.subtype == "success" && !ended.is_error;
                let why = || {
                    format!("{}: {}", ended.subtype, ended.result.as_deref().unwrap_or("it does not say why"))
                };
                Ok(vec![if well { AgentEvent::Completed } else { AgentEvent::Failed(why()) }])
            }
            (kind, subtype) => {
                let kind = [kind, subtype].into_iter().filter(|part| !part.is_empty());
                let kind = kind.collect::<Vec<_>>().join("/");
                Ok(vec![AgentEvent::Unknown { kind, line }])
            }
        }
    }

    fn blocks(
        &mut self,
        spoken: Spoken,
        of: fn(&mut Self, Value) -> Result<AgentEvent, String>,
    ) -> Result<Vec<AgentEvent>, String> {
        match spoken.message.content {
            Value::Array(blocks) => blocks.into_iter().map(|block| of(self, block)).collect(),
            // The prompt, or what stands for it.
            _ => Ok(vec![AgentEvent::Aside]),
        }
    }

    /// A block of what the model said.
    fn said(&mut self, block: Value) -> Result<AgentEvent, String> {
        match block["type"].as_str() {
            Some("text") => Ok(AgentEvent::Said(block["text"].as_str().unwrap_or_default().to_owned())),
            Some("thinking" | "redacted_thinking") => Ok(AgentEvent::Aside),
            Some("tool_use") => {
                let used: ToolUse = typed(block)?;
                let Some((server, tool)) =
                    used.name.strip_prefix("mcp__").and_then(|name| name.split_once("__"))
                else {
                    return Ok(AgentEvent::Acted(used.name));
                };
                let (server, tool) = (server.to_owned(), tool.to_owned());
                let begun = CallStarted { id: used.id.clone(), tool: tool.clone() };
                self.called.insert(used.id, Called { server, tool, arguments: used.input });
                Ok(AgentEvent::CallStarted(begun))
            }
            kind => Ok(unknown("assistant", kind, block.clone())),
        }
    }

    /// A block of what the model was told.
    fn answered(&mut self, block: Value) -> Result<AgentEvent, String> {
        if block["type"] != "tool_result" {
            return match block["type"].as_str() {
                Some("text") => Ok(AgentEvent::Aside),
                kind => Ok(unknown("user", kind, block.clone())),
            };
        }
        let result: ToolResult = typed(block)?;
        let Some(called) = self.called.remove(&result.tool_use_id) else {
            // The answer to something that was no call of an MCP tool.
            return Ok(AgentEvent::Aside);
        };
        let text = match result.content {
            Value::String(text) => text,
            Value::Array(blocks) => text_of(&blocks),
            _ => String::new(),
        };
        let end = match result.is_error {
            false => CallEnd::Answered(text),
            true if self.denied.contains(&result.tool_use_id) => CallEnd::Refused(text),
            true if text.contains(NO_SUCH_TOOL) => CallEnd::NoSuchTool(text),
            true => CallEnd::ToolError(text),
        };
        let Called { server, tool, arguments } = called;
        Ok(AgentEvent::CallEnded(Call {
            id: result.tool_use_id,
            server,
            tool,
            arguments,
            end,
            structured: None,
        }))
    }
}

fn unknown(of: &str, kind: Option<&str>, line: Value) -> AgentEvent {
    AgentEvent::Unknown { kind: format!("{of}/{}", kind.unwrap_or("?")), line }
}

fn typed<T: serde::de::DeserializeOwned>(line: Value) -> Result<T, String> {
    serde_json::from_value(line).map_err(|error| error.to_string())
}
