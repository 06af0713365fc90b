//! What an agent did, in the schema of Codex's `exec --json` (shared facts, agent-clis): one JSON object a line.
//! The builtin agent writes this schema; readers of other agents' transcripts are translated into it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
        let texts = self.content.iter().filter_map(|block| block.get("text")?.as_str());
        texts.collect::<Vec<_>>().join("\n")
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
