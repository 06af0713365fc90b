//! What "ready" means for one service.

use std::net::SocketAddr;

use serde_json::Value;
use stelae_model::expect::Expected;
use stelae_model::lifecycle::{Patience, Rung};

/// What "ready" means for one service. What is `None` or empty is not asked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// A line of its log that contains this text.
    pub ready_line: Option<String>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Path that answers 2xx: `/healthz`.
    pub health_path: Option<String>,
    /// Path that says which server behind it is not ready, and why (`stelae_model::proxy::Readiness`): `/readyz`. It is
    /// asked for reasons; and where it answers, every required server has to be ready besides the tools.
    pub readiness_path: Option<String>,
    /// Its MCP side.
    pub mcp: Option<McpWanted>,
    /// How long it may take.
    pub patience: Patience,
    /// What one sets to choose another port, for the hint.
    pub port_variable: String,
}

/// What the MCP side has to offer.
#[derive(Clone, Debug)]
pub struct McpWanted {
    /// Its endpoints: one that has all servers, or one for each.
    pub endpoints: Vec<McpEndpoint>,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Names that the tool lists must have; `server__tool` where more than one server has the tool. May be empty: then any
    /// list will do.
    pub required_tools: Vec<String>,
    /// One real call.
    pub canary: Option<Canary>,
}

/// Where MCP is spoken.
#[derive(Clone, Debug)]
pub struct McpEndpoint {
    /// The server whose endpoint it is; `None`: it has all of them.
    pub server: Option<String>,
    /// Its path: `/mcp`.
    pub path: String,
    /// Whether readiness waits for it.
    pub required: bool,
}

impl McpEndpoint {
    /// The one endpoint that has all servers.
    pub fn of_all(path: impl Into<String>) -> Self {
        Self { server: None, path: path.into(), required: true }
    }
}

impl McpWanted {
    /// Whether readiness waits for this server's endpoint.
    pub(super) fn is_required(&self, server: Option<&str>) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.required && endpoint.server.as_deref() == server)
    }
}

/// A call that must come back without an error, and with the answer that is expected.
#[derive(Clone, Debug)]
pub struct Canary {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// What its answer must be.
    pub result: Vec<Expected>,
}

impl Wanted {
    /// The rungs that this asks for.
    pub(super) fn rungs(&self) -> Vec<Rung> {
        let mcp = self.mcp.as_ref();
        let asked = [
            (Rung::Spawned, true),
            (Rung::Announced, self.ready_line.is_some()),
            (Rung::Listening, self.address.is_some()),
            (Rung::Http, self.address.is_some() && self.health_path.is_some()),
            (Rung::Initialize, self.address.is_some() && mcp.is_some()),
            (Rung::Tools, self.address.is_some() && mcp.is_some()),
            (Rung::Canary, self.address.is_some() && mcp.is_some_and(|mcp| mcp.canary.is_some())),
        ];
        asked.into_iter().filter_map(|(rung, asked)| asked.then_some(rung)).collect()
    }
}
