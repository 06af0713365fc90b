//! Writing the transcript: one JSON object a line, flushed, so that a reader sees a call while it runs.

use std::io::{self, Write};

use serde_json::{Value, json};
use stelae_model::Failure;
use stelae_model::terminal::shown_json;
use stelae_model::transcript::codex::{
    CallStatus, ErrorMessage, Item, McpToolCall, ToolResult, TranscriptEvent,
};

use super::script::Call;

/// How a call ended.
pub(super) enum Outcome {
    /// The tool answered; `failed` is its `isError`.
    Answered {
        /// What it answered.
        result: ToolResult,
        /// Whether it calls that a failure.
        failed: bool,
    },
    /// There is no answer of the tool.
    Unanswered(String),
}

/// The transcript of one run. Ids are counted, not drawn, so that the same run gives the same bytes.
pub(super) struct Transcript {
    server: String,
    thread_id: String,
    items: usize,
}

impl Transcript {
    /// A transcript on stdout, of a conversation named after `digest`.
    pub(super) fn to_stdout(server: &str, digest: &str) -> Self {
        Self { server: server.to_owned(), thread_id: format!("builtin-{digest}"), items: 0 }
    }

    /// The conversation begins.
    pub(super) fn started(&self) -> Result<(), Failure> {
        write(&TranscriptEvent::ThreadStarted { thread_id: self.thread_id.clone() })
    }

    /// The turn begins.
    pub(super) fn turn(&self) -> Result<(), Failure> {
        write(&TranscriptEvent::TurnStarted)
    }

    /// A call begins; gives the item that [`Transcript::ended`] completes.
    pub(super) fn calling(&mut self, call: &Call) -> Result<McpToolCall, Failure> {
        let item = McpToolCall {
            id: self.next_id(),
            server: self.server.clone(),
            tool: call.tool.clone(),
            arguments: Value::Object(call.arguments.clone()),
            result: None,
            error: None,
            status: CallStatus::InProgress,
        };
        write(&TranscriptEvent::ItemStarted { item: Item::McpToolCall(item.clone()) })?;
        Ok(item)
    }

    /// A call ended.
    pub(super) fn ended(&self, mut item: McpToolCall, outcome: Outcome) -> Result<(), Failure> {
        match outcome {
            Outcome::Answered { result, failed } => {
                item.result = Some(result);
                item.status = if failed { CallStatus::Failed } else { CallStatus::Completed };
            }
            Outcome::Unanswered(message) => {
                item.error = Some(ErrorMessage { message });
                item.status = CallStatus::Failed;
            }
        }
        write(&TranscriptEvent::ItemCompleted { item: Item::McpToolCall(item) })
    }

    /// The agent has said its last word.
    pub(super) fn done(&mut self, message: &str) -> Result<(), Failure> {
        let item = Item::AgentMessage { id: self.next_id(), text: message.to_owned() };
        write(&TranscriptEvent::ItemCompleted { item })?;
        let usage = json!({"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0});
        write(&TranscriptEvent::TurnCompleted { usage })
    }

    /// The agent itself failed.
    pub(super) fn failed(&self, message: String) -> Result<(), Failure> {
        write(&TranscriptEvent::Error { message })
    }

    fn next_id(&mut self) -> String {
        let id = format!("item_{}", self.items);
        self.items += 1;
        id
    }
}

fn write(event: &TranscriptEvent) -> Result<(), Failure> {
    let print = || -> io::Result<()> {
        let line = shown_json(&serde_json::to_string(event)?) + "\n";
        #[expect(clippy::disallowed_methods, reason = "one of the places that print: JSON, escaped")]
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes())?;
        stdout.flush()
    };
    print().map_err(|error| Failure::unexpected(format!("the transcript cannot be written: {error}")))
}
