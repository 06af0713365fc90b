//! Sessions with every MCP endpoint of a stack: one asks for a tool, and not for the server that has it.

use std::fmt;

use serde_json::Value;
use stelae_model::catalog::{Catalog, NotFound};
use stelae_model::endpoints::Endpoints;

use crate::deadline::Deadline;
use crate::mcp::{CallResult, McpClient, McpError};

/// Sessions with some or all endpoints of a stack, and what they list.
#[derive(Debug, Default)]
pub struct Sessions {
    all: Vec<Session>,
    catalog: Catalog,
}

#[derive(Debug)]
struct Session {
    /// Whose endpoint it is; `None` where one endpoint has all servers.
    server: Option<String>,
    client: McpClient,
}

/// Why an endpoint gave no answer to go by.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointError {
    /// What was asked for: `initialize`, `tools/list`.
    pub method: &'static str,
    /// Whose endpoint it is; `None` where one endpoint has all servers.
    pub server: Option<String>,
    /// The answer.
    pub error: McpError,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Some(server) => write!(f, "{} of server {server} {}", self.method, self.error),
            None => write!(f, "{} {}", self.method, self.error),
        }
    }
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    /// Nobody has the tool, or more than one server has.
    NotFound(NotFound),
    /// Who has it was asked, in vain.
    Mcp(McpError),
}

impl Sessions {
    /// Sessions with all of these endpoints, which have listed their tools. `headers` go with every request.
    ///
    /// # Errors
    /// [`EndpointError`] of the first that does not answer.
    pub fn connect(
        endpoints: &Endpoints,
        headers: &[(String, String)],
        deadline: Deadline,
    ) -> Result<Self, EndpointError> {
        let mut sessions = Self::default();
        for (server, url) in endpoints.each() {
            sessions.open(server, url, headers, deadline)?;
        }
        match sessions.list(&|_| deadline).into_iter().next() {
            Some(failed) => Err(failed),
            None => Ok(sessions),
        }
    }

    /// Opens one more.
    ///
    /// # Errors
    /// [`EndpointError`]; then the others are as they were.
    pub fn open(
        &mut self,
        server: Option<&str>,
        url: &str,
        headers: &[(String, String)],
        deadline: Deadline,
    ) -> Result<(), EndpointError> {
        let server = server.map(str::to_owned);
        match McpClient::connect(url, headers, deadline) {
            Ok(client) => {
                self.all.push(Session { server, client });
                Ok(())
            }
            Err(error) => Err(EndpointError { method: "initialize", server, error }),
        }
    }

    /// Whether there is a session with this endpoint.
    pub fn has(&self, server: Option<&str>) -> bool {
        self.all.iter().any(|session| session.server.as_deref() == server)
    }

    /// Has all of them list their tools, each until `by`. Gives who did not; the catalog is that of the others. A session
    /// that the server knows no more is not there any more, either.
    pub fn list(&mut self, by: &dyn Fn(Option<&str>) -> Deadline) -> Vec<EndpointError> {
        let mut failed: Vec<EndpointError> = Vec::new();
        self.catalog = Catalog::default();
        for Session { server, client } in &mut self.all {
            match client.list_tools(by(server.as_deref())) {
                Ok(tools) => self.catalog.add(server.as_deref(), tools.into_iter().map(|tool| tool.name)),
                Err(error) => {
                    failed.push(EndpointError { method: "tools/list", server: server.clone(), error });
                }
            }
        }
        let lost = |server: &Option<String>| {
            failed.iter().any(|failed| failed.server == *server && failed.error.is_lost_session())
        };
        self.all.retain(|session| !lost(&session.server));
        failed
    }

    /// What was listed last.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Calls the tool that is listed under `name`; who has it is found. A session that the server knows no more is not there
    /// any more, either.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call_tool(
        &mut self,
        name: &str,
        arguments: &Value,
        deadline: Deadline,
    ) -> Result<CallResult, CallError> {
        let found = self.catalog.find(name).map_err(CallError::NotFound)?;
        let at = self.all.iter().position(|session| session.server.as_deref() == found.server);
        let unknown = || CallError::NotFound(NotFound::Unknown { name: name.to_owned(), near: None });
        let at = at.ok_or_else(unknown)?;
        let called = self.all[at].client.call_tool(found.tool, arguments, deadline);
        if called.as_ref().is_err_and(McpError::is_lost_session) {
            self.all.remove(at);
        }
        called.map_err(CallError::Mcp)
    }

    /// Ends all of them.
    ///
    /// # Errors
    /// [`McpError::NoAnswer`]: somebody could not be told.
    pub fn close(self, deadline: Deadline) -> Result<(), McpError> {
        self.all.into_iter().try_for_each(|session| session.client.close(deadline))
    }
}
