//! `server`: the stack's own MCP server. It reads and searches the workspace, and installs and removes servers.

mod arguments;
mod bundles;
mod fs_read;
mod grep;
mod manage;
mod reload;
mod workspace;

use std::env;
use std::sync::Arc;

use clap::Args;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;
use stelae_model::env::nearest;
use stelae_model::{ExitCode, Failure};

use crate::stdio;
use workspace::Workspace;

/// Serve the stack's own tools on stdin and stdout
///
/// Reads STELAE_WORKSPACE_ROOT (the folder that its tools may see), and for `manage_stelae` PUBLIC_BASE_URL and
/// STELAE_CONTROL_TOKEN, as the gateway hands them over.
#[derive(Debug, Args)]
pub(crate) struct Server {}

impl Server {
    /// Serves until stdin ends.
    ///
    /// # Errors
    /// 20 when STELAE_WORKSPACE_ROOT is missing, 40 when it is no folder.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let root = env::var("STELAE_WORKSPACE_ROOT").map_err(|_| {
            Failure::new(ExitCode::Environment, "missing-variable", "STELAE_WORKSPACE_ROOT is not set")
                .hint("start this server through the gateway, which hands it over")
        })?;
        let workspace = Workspace::open(root.into())?;
        stdio::serve(StackServer { workspace: Arc::new(workspace) })
    }
}

/// What a tool says: a text for people and models, and perhaps the same as data.
#[derive(Debug)]
struct Answer {
    text: String,
    data: Option<Value>,
}

/// A tool's answer, or a sentence on why there is none.
type Told = Result<Answer, String>;

struct StackServer {
    workspace: Arc<Workspace>,
}

impl StackServer {
    /// Runs a tool that reads files, away from the thread that speaks MCP.
    async fn read(&self, tool: fn(&Workspace, JsonObject) -> Told, arguments: JsonObject) -> Told {
        let workspace = Arc::clone(&self.workspace);
        let told = tokio::task::spawn_blocking(move || tool(&workspace, arguments)).await;
        told.unwrap_or_else(|error| Err(format!("the tool broke off: {error}")))
    }
}

impl ServerHandler for StackServer {
    fn get_info(&self) -> ServerConfig {
        let us = Implementation::new("stelae", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build()).with_server_info(us)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(vec![fs_read::tool(), grep::tool(), manage::tool()]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let told = match request.name.as_ref() {
            fs_read::NAME => self.read(fs_read::call, arguments).await,
            grep::NAME => self.read(grep::call, arguments).await,
            manage::NAME => manage::call(arguments).await,
            other => {
                let near = nearest(other, [fs_read::NAME, grep::NAME, manage::NAME]);
                let near = near.map(|near| format!(": did you mean {near:?}?")).unwrap_or_default();
                return Err(ErrorData::invalid_params(format!("unknown tool {other:?}{near}"), None));
            }
        };
        Ok(result(told).into())
    }
}

fn result(told: Told) -> CallToolResult {
    match told {
        Ok(Answer { text, data }) => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
            result.structured_content = data;
            result
        }
        Err(why) => CallToolResult::error(vec![ContentBlock::text(why)]),
    }
}
