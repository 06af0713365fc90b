//! The rungs that speak MCP, over one endpoint or one for each server: everybody who is required must answer, and
//! whoever else does not is left out, and named.

use std::time::Duration;

use stelae_model::catalog::NotFound;
use stelae_model::expect::Answer;
use stelae_model::lifecycle::{Lacking, Standing};

use super::wanted::{Canary, McpEndpoint, McpWanted};
use crate::deadline::Deadline;
use crate::mcp::{CallResult, McpError};
use crate::sessions::{CallError, EndpointError, Sessions};

/// How long an endpoint of which nobody needs anything may keep the others waiting.
const OPTIONAL_ANSWER: Duration = Duration::from_secs(1);

/// What the MCP side of a stack has, when it is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// The names of the tools.
    pub(super) tools: Vec<String>,
    /// The servers whose endpoints answer; empty where one endpoint has them all.
    pub(super) servers: Vec<String>,
    /// Who does not answer and need not; a sentence each.
    pub(super) left_out: Vec<String>,
}

/// What is being asked, and what is known by now.
pub(super) struct Asking<'a> {
    wanted: &'a McpWanted,
    /// What the URLs begin with: `http://127.0.0.1:9090`.
    base: String,
    sessions: Sessions,
    left_out: Vec<EndpointError>,
}

/// What the tool lists lack.
pub(super) struct Missing {
    pub(super) names: Vec<String>,
    /// Names that more than one server has; more time will not help them.
    pub(super) ambiguous: Vec<String>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(wanted: &'a McpWanted, base: String) -> Self {
        Self { wanted, base, sessions: Sessions::default(), left_out: Vec::new() }
    }

    /// A session with everybody who is required, then with whoever else answers.
    pub(super) fn initialize(&mut self, by: Deadline) -> Standing {
        match self.open_all(by) {
            Ok(()) => Standing::Ready,
            Err(error) => Standing::not_yet(error.to_string()),
        }
    }

    /// Opens the sessions that there are none of, but not those that were in vain and are not needed.
    fn open_all(&mut self, by: Deadline) -> Result<(), EndpointError> {
        let (required, optional): (Vec<_>, Vec<_>) =
            self.wanted.endpoints.iter().partition(|endpoint| endpoint.required);
        for endpoint in required {
            self.open(endpoint, by)?;
        }
        for endpoint in optional {
            let is_out = |out: &EndpointError| out.method == "initialize" && out.server == endpoint.server;
            if !self.left_out.iter().any(is_out) {
                let opened = self.open(endpoint, by.within(OPTIONAL_ANSWER));
                self.left_out.extend(opened.err());
            }
        }
        Ok(())
    }

    fn open(&mut self, endpoint: &McpEndpoint, by: Deadline) -> Result<(), EndpointError> {
        let server = endpoint.server.as_deref();
        if self.sessions.has(server) {
            return Ok(());
        }
        self.sessions.open(server, &format!("{}{}", self.base, endpoint.path), &self.wanted.headers, by)
    }

    /// What the lists lack; a status, when somebody who is required does not list anything.
    pub(super) fn list(&mut self, by: Deadline) -> Result<Missing, String> {
        self.open_all(by).map_err(|error| error.to_string())?;
        let wanted = self.wanted;
        let required = |server: Option<&str>| wanted.is_required(server);
        let failed =
            self.sessions.list(&|server| if required(server) { by } else { by.within(OPTIONAL_ANSWER) });
        if let Some(failed) = failed.iter().find(|failed| required(failed.server.as_deref())) {
            return Err(failed.to_string());
        }
        self.left_out.retain(|out| out.method == "initialize");
        self.left_out.extend(failed);
        let mut missing = Missing { names: Vec::new(), ambiguous: Vec::new() };
        for name in &wanted.required_tools {
            match self.sessions.catalog().find(name) {
                Ok(_) => {}
                Err(NotFound::Unknown { .. }) => missing.names.push(name.clone()),
                Err(ambiguous @ NotFound::Ambiguous { .. }) => {
                    missing.names.push(name.clone());
                    missing.ambiguous.push(ambiguous.to_string());
                }
            }
        }
        Ok(missing)
    }

    /// The names that were listed last.
    pub(super) fn names(&self) -> Vec<String> {
        self.sessions.catalog().names()
    }

    /// What there is.
    pub(super) fn offer(&self) -> Offer {
        let is_out = |server: &String| self.left_out.iter().any(|out| out.server.as_ref() == Some(server));
        let servers = self.wanted.endpoints.iter().filter_map(|endpoint| endpoint.server.clone());
        Offer {
            tools: self.names(),
            servers: servers.filter(|server| !is_out(server)).collect(),
            left_out: self.left_out.iter().map(ToString::to_string).collect(),
        }
    }

    /// One real call.
    pub(super) fn call(&mut self, canary: &Canary, by: Deadline) -> Standing {
        if let Err(error) = self.open_all(by) {
            return Standing::not_yet(error.to_string());
        }
        let status = match self.sessions.call_tool(&canary.tool, &canary.arguments, by) {
            Ok(result) if !result.is_error => match unmet(canary, &result) {
                None => return Standing::Ready,
                Some(why) => {
                    format!("the canary call of {} was answered with something else: {why}", canary.tool)
                }
            },
            Ok(result) => format!("the canary call of {} failed: {}", canary.tool, result.text),
            Err(CallError::Mcp(error @ McpError::NoAnswer(_))) => {
                return Standing::not_yet(format!("the canary call of {}: {error}", canary.tool));
            }
            Err(CallError::Mcp(error)) => format!("the canary call of {} {error}", canary.tool),
            Err(CallError::NotFound(error)) => format!("the canary call of {}: {error}", canary.tool),
        };
        // It answers, so what is missing is a working tool, not time.
        let lacking = Lacking { missing: vec![canary.tool.clone()], ..Lacking::default() };
        Standing::NotYet { status, lacking: Some(lacking) }
    }

    pub(super) fn close(self, by: Deadline) -> Option<()> {
        self.sessions.close(by).ok()
    }
}

/// What of the answer is not as it was expected.
fn unmet(canary: &Canary, result: &CallResult) -> Option<String> {
    let structured = result.result.get("structuredContent").filter(|content| !content.is_null());
    let answer = Answer { text: &result.text, structured };
    canary.result.iter().find_map(|expected| expected.judge(answer).err()).map(|why| why.join(", "))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use serde_json::{Value, json};

    use super::*;

    /// Answers one request: with a result of its own, or with a status that is told.
    fn answer(stream: TcpStream, told: Option<&str>) {
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
            let line = line.to_ascii_lowercase();
            length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let request: Value = serde_json::from_slice(&body).unwrap();
        let result = match request["method"].as_str().unwrap() {
            "initialize" => json!({ "protocolVersion": "2025-11-25" }),
            "tools/list" => json!({ "tools": [{ "name": "a" }] }),
            _ => json!({ "content": [] }),
        };
        let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string();
        let status = told.unwrap_or("200 OK");
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}", answer.len());
        write!(reader.get_mut(), "{head}\r\nMcp-Session-Id: s\r\n\r\n{answer}").unwrap();
    }

    #[test]
    fn a_session_that_is_lost_is_opened_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        const LOST: Option<&str> = Some("404 Not Found");
        // initialize, initialized, list; twice; the call, and what it takes to call once more.
        let told = [None, None, LOST, None, None, None, LOST, None, None, None];
        let server = std::thread::spawn(move || {
            told.into_iter().for_each(|told| answer(listener.accept().unwrap().0, told));
        });
        let endpoint = McpEndpoint { server: None, path: "/mcp".to_owned(), required: true };
        let canary = Canary { tool: "a".to_owned(), arguments: json!({}), result: Vec::new() };
        let wanted = McpWanted {
            endpoints: vec![endpoint],
            headers: Vec::new(),
            required_tools: vec!["a".to_owned()],
            canary: None,
        };
        let (mut asking, by) = (Asking::new(&wanted, base), Deadline::after(Duration::from_secs(60)));
        assert_eq!(asking.initialize(by), Standing::Ready);
        assert!(asking.list(by).is_err_and(|status| status.contains("answered 404")));
        assert!(asking.list(by).is_ok_and(|missing| missing.names.is_empty()));
        assert_ne!(asking.call(&canary, by), Standing::Ready);
        assert_eq!(asking.call(&canary, by), Standing::Ready);
        server.join().unwrap();
    }
}
