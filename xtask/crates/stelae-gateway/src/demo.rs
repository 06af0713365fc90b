//! `demo-server`: a small MCP server that needs neither network nor files.

use clap::Args;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorData, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations, object,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};
use stelae_model::Failure;

use crate::stdio;

/// Serve one harmless tool, `count_words`, on stdin and stdout
#[derive(Debug, Args)]
pub(crate) struct DemoServer {}

impl DemoServer {
    /// Serves until stdin ends.
    ///
    /// # Errors
    /// When the handshake goes wrong.
    pub(crate) fn run(self) -> Result<(), Failure> {
        stdio::serve(self)
    }
}

impl ServerHandler for DemoServer {
    fn get_info(&self) -> ServerConfig {
        let us = Implementation::new("stelae-demo", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_server_info(us)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(vec![tool()]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name != "count_words" {
            return Err(ErrorData::invalid_params(format!("unknown tool {:?}", request.name), None));
        }
        let arguments = request.arguments.unwrap_or_default();
        let result = match arguments.get("text").and_then(Value::as_str) {
            Some(text) => CallToolResult::structured(count(text)),
            None => CallToolResult::error(vec![rmcp::model::ContentBlock::text("count_words needs a text")]),
        };
        Ok(result.into())
    }
}

fn tool() -> Tool {
    let number = json!({"type": "integer", "minimum": 0});
    let input = json!({
        "type": "object",
        "properties": {"text": {"type": "string", "description": "The text to count in"}},
        "required": ["text"],
        "additionalProperties": false,
    });
    let output = json!({
        "type": "object",
        "properties": {"words": number, "lines": number, "characters": number, "longest": {"type": "string"}},
        "required": ["words", "lines", "characters", "longest"],
    });
    let annotations = ToolAnnotations::with_title("Count words")
        .read_only(true)
        .destructive(false)
        .idempotent(true)
        .open_world(false);
    Tool::new(
        "count_words",
        "Counts the words, lines and characters of a text, and gives its longest word",
        object(input),
    )
    .with_raw_output_schema(std::sync::Arc::new(object(output)))
    .with_annotations(annotations)
}

/// The first of the longest words: an answer that depends on the words, and not only on how many they are.
fn longest(text: &str) -> &str {
    text.split_whitespace().rev().max_by_key(|word| word.chars().count()).unwrap_or_default()
}

fn count(text: &str) -> Value {
    json!({
        "words": text.split_whitespace().count(),
        "lines": text.lines().count(),
        "characters": text.chars().count(),
        "longest": longest(text),
    })
}
