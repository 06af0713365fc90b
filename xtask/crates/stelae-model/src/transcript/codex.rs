//! The transcript of Codex, `exec --json` (`docs/AGENTS.md`): one JSON object a line. The builtin agent writes it, too.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgentEvent, Call, CallEnd, CallStarted, text_of};

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum TranscriptEvent {
    /// First line.
    #[serde(rename = "thread.started")]
    ThreadStarted {
        /// Id of the conversation.
        thread_id: String,
    },
    /// A turn begins.
    #[serde(rename = "turn.started")]
    TurnStarted,
    /// An item began; it has no outcome yet.
    #[serde(rename = "item.started")]
    ItemStarted {
        /// The item.
        item: Item,
    },
    /// An item ended, well or not.
    #[serde(rename = "item.completed")]
    ItemCompleted {
        /// The item.
        item: Item,
    },
    /// The turn ended.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        /// Token counts, in the agent's own shape.
        #[serde(default)]
        usage: Value,
    },
    /// The turn failed.
    #[serde(rename = "turn.failed")]
    TurnFailed {
        /// Why.
        error: ErrorMessage,
    },
    /// The agent itself failed.
    #[serde(rename = "error")]
    Error {
        /// Why.
        message: String,
    },
}

/// What happened inside a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly every item is a call; a box would buy nothing")]
pub enum Item {
    /// A call of an MCP tool.
    McpToolCall(McpToolCall),
    /// Text that the agent says.
    AgentMessage {
        /// Id of the item.
        id: String,
        /// The text.
        text: String,
    },
    /// A warning of the agent about itself.
    Error {
        /// Id of the item.
        id: String,
        /// The text.
        message: String,
    },
}

/// One call of an MCP tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct McpToolCall {
    /// Id of the item, the same when it starts and when it completes.
    pub id: String,
    /// Name under which the agent knows the MCP server.
    pub server: String,
    /// Name of the tool, as the server gives it.
    pub tool: String,
    /// Arguments.
    #[serde(default)]
    pub arguments: Value,
    /// The tool's answer, also when it says `isError`.
    #[serde(default)]
    pub result: Option<ToolResult>,
    /// A failure of the protocol or the transport.
    #[serde(default)]
    pub error: Option<ErrorMessage>,
    /// How it ended.
    pub status: CallStatus,
}

/// A tool's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    /// MCP content blocks.
    #[serde(default)]
    pub content: Vec<Value>,
    /// Structured content, when the tool gives one.
    #[serde(default)]
    pub structured_content: Option<Value>,
}

impl ToolResult {
    /// All text blocks, joined by newlines.
    pub fn text(&self) -> String {
        text_of(&self.content)
    }
}

/// An error with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// The message.
    pub message: String,
}

/// How a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// Begun.
    InProgress,
    /// Ended, and the tool did not say `isError`.
    Completed,
    /// `isError`, a JSON-RPC error, a dead server, or a refused approval.
    Failed,
}

/// The types of events that [`TranscriptEvent`] has.
const EVENTS: [&str; 7] = [
    "thread.started",
    "turn.started",
    "item.started",
    "item.completed",
    "turn.completed",
    "turn.failed",
    "error",
];

/// Items that say what the agent thinks or plans.
const ASIDES: [&str; 2] = ["reasoning", "todo_list"];
/// Items of what the agent does besides calling tools of MCP servers.
const ACTIONS: [&str; 3] = ["command_execution", "file_change", "web_search"];

/// What Codex says of a tool that needs an approval which nobody is there to give.
const APPROVAL: &str = "requires approval";

/// The event of one line.
pub(super) fn read(line: Value) -> Result<AgentEvent, String> {
    let kind = line["type"].as_str().ok_or("it has no `type`")?.to_owned();
    if matches!(kind.as_str(), "item.started" | "item.updated" | "item.completed") {
        let item = line["item"]["type"].as_str().ok_or("its item has no `type`")?.to_owned();
        match item.as_str() {
            "mcp_tool_call" | "agent_message" | "error" => {}
            action if ACTIONS.contains(&action) => return Ok(AgentEvent::Acted(item)),
            aside if ASIDES.contains(&aside) => return Ok(AgentEvent::Aside),
            _ => return Ok(AgentEvent::Unknown { kind: format!("{kind}/{item}"), line }),
        }
    }
    if kind == "item.updated" {
        return Ok(AgentEvent::Aside);
    }
    if !EVENTS.contains(&kind.as_str()) {
        return Ok(AgentEvent::Unknown { kind, line });
    }
    serde_json::from_value(line).map(event).map_err(|error| error.to_string())
}

fn event(event: TranscriptEvent) -> AgentEvent {
    match event {
        TranscriptEvent::ThreadStarted { .. } => AgentEvent::Started { servers: Default::default() },
        TranscriptEvent::TurnStarted => AgentEvent::Aside,
        TranscriptEvent::TurnCompleted { .. } => AgentEvent::Completed,
        TranscriptEvent::TurnFailed { error } => AgentEvent::Failed(error.message),
        TranscriptEvent::Error { message } => AgentEvent::Stumbled(message),
        TranscriptEvent::ItemStarted { item: Item::McpToolCall(call) } => {
            AgentEvent::CallStarted(CallStarted { id: call.id, tool: call.tool })
        }
        TranscriptEvent::ItemCompleted { item: Item::McpToolCall(call) } => {
            AgentEvent::CallEnded(ended(call))
        }
        TranscriptEvent::ItemStarted { item: _ } => AgentEvent::Aside,
        TranscriptEvent::ItemCompleted { item: Item::AgentMessage { text, .. } } => AgentEvent::Said(text),
        TranscriptEvent::ItemCompleted { item: Item::Error { message, .. } } => AgentEvent::Warned(message),
    }
}

fn ended(call: McpToolCall) -> Call {
    let text = call.result.as_ref().map(ToolResult::text);
    let end = match (call.status, call.error, text) {
        (CallStatus::Completed, None, Some(text)) => CallEnd::Answered(text),
        (_, Some(error), _) if error.message.contains(APPROVAL) => CallEnd::Refused(error.message),
        (_, Some(error), _) => CallEnd::Failed(error.message),
        (CallStatus::Failed, None, Some(text)) => CallEnd::ToolError(text),
        (status, None, _) => CallEnd::Failed(format!("it ended as {status:?}, without an answer")),
    };
    let structured = call.result.and_then(|result| result.structured_content);
    Call { id: call.id, server: call.server, tool: call.tool, arguments: call.arguments, end, structured }
}
