//! The agent's sessions: one with the endpoint that has all servers, or one with each server's own.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, JsonObject, ProtocolVersion,
};
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt};
use serde_json::Value;
use stelae_model::catalog::Catalog;
use stelae_model::endpoints::Endpoints;
use stelae_model::transcript::codex::ToolResult;
use stelae_model::value::{BearerToken, Secret};

use tokio::time::Instant;

use super::transcript::Outcome;
use crate::client;

/// Ending a session is a courtesy to the server, and must not cost the caller time.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// Sessions with every endpoint, and what they listed when they were last asked.
pub(super) struct Sessions {
    all: Vec<Session>,
    catalog: Catalog,
}

struct Session {
    /// Whose endpoint it is; `None` where one endpoint has all servers.
    server: Option<String>,
    service: RunningService<RoleClient, ClientConfig>,
}

impl Sessions {
    /// Opens all of them.
    ///
    /// # Errors
    /// The URL that cannot be reached, and why.
    pub(super) async fn open(
        endpoints: &Endpoints,
        token: Option<&Secret<BearerToken>>,
    ) -> Result<Self, String> {
        let mut all = Vec::new();
        for (server, url) in endpoints.each() {
            let opened = connect(url, token).await;
            let service = opened.map_err(|why| format!("the MCP endpoint {url} cannot be reached: {why}"))?;
            all.push(Session { server: server.map(str::to_owned), service });
        }
        Ok(Self { all, catalog: Catalog::default() })
    }

    /// One call. Tools are listed again before a name that was not seen yet: an earlier call may have installed it.
    pub(super) async fn call(&mut self, tool: &str, arguments: &JsonObject) -> Outcome {
        if self.catalog.find(tool).is_err()
            && let Err(why) = self.list().await
        {
            return Outcome::Unanswered(why);
        }
        let found = match self.catalog.find(tool) {
            Ok(found) => found,
            Err(why) => return Outcome::Unanswered(why.to_string()),
        };
        let Some(session) = self.all.iter().find(|session| session.server.as_deref() == found.server) else {
            return Outcome::Unanswered(format!("there is no session with the server of {tool:?}"));
        };
        let params = CallToolRequestParams::new(found.tool.to_owned()).with_arguments(arguments.clone());
        match session.service.call_tool(params).await {
            Ok(result) => {
                let failed = result.is_error.unwrap_or(false);
                let content = match serde_json::to_value(&result.content).ok() {
                    Some(Value::Array(blocks)) => blocks,
                    _ => Vec::new(),
                };
                let result = ToolResult { content, structured_content: result.structured_content };
                Outcome::Answered { result, failed }
            }
            Err(error) => Outcome::Unanswered(client::explain_request(&error)),
        }
    }

    async fn list(&mut self) -> Result<(), String> {
        let mut catalog = Catalog::default();
        for Session { server, service } in &self.all {
            let listed = service.list_all_tools().await;
            let tools = listed.map_err(|error| {
                let of = server.as_ref().map(|server| format!(" of server {server}")).unwrap_or_default();
                format!("tools/list{of} failed: {}", client::explain_request(&error))
            })?;
            catalog.add(server.as_deref(), tools.into_iter().map(|tool| tool.name.into_owned()));
        }
        self.catalog = catalog;
        Ok(())
    }

    /// Ends all of them, as long as there is time.
    pub(super) async fn close(self, deadline: Instant) {
        let by = deadline.min(Instant::now() + GOODBYE_LIMIT);
        for mut session in self.all {
            let limit = by.saturating_duration_since(Instant::now());
            session.service.close_with_timeout(limit).await.ok();
        }
    }
}

async fn connect(
    url: &str,
    token: Option<&Secret<BearerToken>>,
) -> Result<RunningService<RoleClient, ClientConfig>, String> {
    let us = Implementation::new("stelae-agent", env!("CARGO_PKG_VERSION"));
    let client = ClientConfig::new(ClientCapabilities::default(), us)
        .with_protocol_version(ProtocolVersion::V_2025_11_25);
    let transport = client::transport(url, token).map_err(|error| error.to_string())?;
    client.serve(transport).await.map_err(|error| client::explain_start(&error))
}
