//! A small MCP client over streamable HTTP: as much as readiness, the builtin agent and `verify` need.
//!
//! Blocking, and every exchange ends at the deadline that it is given. Answers come as JSON or as an event stream;
//! what a server sends besides the answer (notifications, its own requests) is read past.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::deadline::Deadline;
use crate::http::{self, Http, NoAnswer};

/// The newest protocol version that we ask for; any that the server answers with is used.
pub const PROTOCOL_VERSION: &str = "2025-11-25";

/// More pages than this are a server that goes round in circles.
const MOST_PAGES: usize = 1000;
/// So many bytes of JSON may a list have, over all of its pages: as many as one answer.
const LONGEST_LIST: u64 = http::MOST_BYTES;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq)]
pub enum McpError {
    /// Nothing came, or nothing in time.
    NoAnswer(NoAnswer),
    /// The server answered with a status that is not 2xx.
    Status {
        /// The status.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// The server answered with a JSON-RPC error.
    Rpc {
        /// The code.
        code: i64,
        /// The message.
        message: String,
    },
    /// What came is not MCP.
    Malformed(String),
}

impl std::fmt::Display for McpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoAnswer(reason) => reason.fmt(f),
            Self::Status { status, body } if body.is_empty() => write!(f, "answered {status}"),
            Self::Status { status, body } => write!(f, "answered {status}: {body}"),
            Self::Rpc { code, message } => write!(f, "answered with error {code}: {message}"),
            Self::Malformed(what) => write!(f, "answered something that is not mcp: {what}"),
        }
    }
}

impl std::error::Error for McpError {}

impl McpError {
    /// Whether the server knows the session no more: MCP says so with 404, and wants a new one then.
    pub fn is_lost_session(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }
}

impl From<NoAnswer> for McpError {
    fn from(reason: NoAnswer) -> Self {
        Self::NoAnswer(reason)
    }
}

/// One tool of a server's list.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Everything that the server says about it, the name included.
    pub definition: Value,
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq)]
pub struct CallResult {
    /// The tool says that it failed.
    pub is_error: bool,
    /// The text contents, joined by line breaks.
    pub text: String,
    /// The whole result.
    pub result: Value,
}

/// A session with a server.
#[derive(Debug)]
pub struct McpClient {
    http: Http,
    url: String,
    headers: Vec<(String, String)>,
    next_id: u64,
    /// What the server said about itself in answer to `initialize`.
    pub server: Value,
}

impl McpClient {
    /// Opens a session: `initialize`, then `notifications/initialized`. `headers` go with every request.
    ///
    /// # Errors
    /// [`McpError`]: the server does not answer, or not with what it should.
    pub fn connect(url: &str, headers: &[(String, String)], deadline: Deadline) -> Result<Self, McpError> {
        let mut client = Self {
            http: Http::new(),
            url: url.to_owned(),
            headers: headers.to_vec(),
            next_id: 0,
            server: Value::Null,
        };
        client.headers.push(("Accept".to_owned(), "application/json, text/event-stream".to_owned()));
        let params = json!({
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {},
            "clientInfo": { "name": "stelae", "version": env!("CARGO_PKG_VERSION") },
        });
        client.server = client.request("initialize", &params, deadline)?;
        let version = version_of(&client.server)?;
        client.headers.push(("MCP-Protocol-Version".to_owned(), version));
        client.notify("notifications/initialized", deadline)?;
        Ok(client)
    }

    /// Every tool, over all pages.
    ///
    /// # Errors
    /// [`McpError`]; also for a list that never ends, or is longer than 16 MiB.
    pub fn list_tools(&mut self, deadline: Deadline) -> Result<Vec<Tool>, McpError> {
        let mut listing = Listing::default();
        let mut params = json!({});
        for _page in 0..MOST_PAGES {
            match listing.add(&self.request("tools/list", &params, deadline)?)? {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return Ok(listing.tools),
            }
        }
        Err(malformed("tools/list does not end"))
    }

    /// Calls a tool. A tool that says that it failed is a result, with `is_error` set; an unknown tool may be either.
    ///
    /// # Errors
    /// [`McpError`].
    pub fn call_tool(
        &mut self,
        name: &str,
        arguments: &Value,
        deadline: Deadline,
    ) -> Result<CallResult, McpError> {
        let params = json!({ "name": name, "arguments": arguments });
        called(self.request("tools/call", &params, deadline)?)
    }

    /// Any request; says its `result`.
    ///
    /// # Errors
    /// [`McpError`].
    pub fn request(&mut self, method: &str, params: &Value, deadline: Deadline) -> Result<Value, McpError> {
        self.next_id += 1;
        let id = self.next_id;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let mut response = self.post(&message, deadline)?;
        if let Some(session) = http::header(response.headers(), "mcp-session-id") {
            self.headers.retain(|(name, _)| name != "Mcp-Session-Id");
            self.headers.push(("Mcp-Session-Id".to_owned(), session));
        }
        let kind = http::header(response.headers(), "content-type").unwrap_or_default();
        let answer = if kind.starts_with("text/event-stream") {
            from_events(BufReader::new(response.body_mut().as_reader()), id)?
        } else {
            let body = http::read_all(response.body_mut())?;
            serde_json::from_str(&body).map_err(|_| malformed(&beginning(&body)))?
        };
        result_of(answer, id)
    }

    /// Ends the session. A server that keeps none says so with 405, which is fine.
    ///
    /// # Errors
    /// [`McpError::NoAnswer`]: it could not be told.
    pub fn close(self, deadline: Deadline) -> Result<(), McpError> {
        if self.headers.iter().any(|(name, _)| name == "Mcp-Session-Id") {
            self.http.delete(&self.url, &self.headers, deadline)?;
        }
        Ok(())
    }

    fn notify(&self, method: &str, deadline: Deadline) -> Result<(), McpError> {
        self.post(&json!({ "jsonrpc": "2.0", "method": method }), deadline).map(drop)
    }

    fn post(
        &self,
        message: &Value,
        deadline: Deadline,
    ) -> Result<ureq::http::Response<ureq::Body>, McpError> {
        let mut response = self.http.post(&self.url, &self.headers, &message.to_string(), deadline)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        Err(McpError::Status { status, body: beginning(&http::read_all(response.body_mut())?) })
    }
}

/// Reads an event stream up to the answer to `id`.
fn from_events(stream: impl BufRead, id: u64) -> Result<Value, McpError> {
    let mut data = String::new();
    // Bounded before it is split: one line may already be more than the memory holds.
    let mut stream = stream.take(http::MOST_BYTES);
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).map_err(|error| NoAnswer(stream_ended(&error)))?;
        if stream.limit() == 0 {
            return Err(malformed("an answer of more than 16 MiB"));
        }
        if line.is_empty() {
            return Err(NoAnswer("the event stream ended without the answer".to_owned()).into());
        }
        let line = String::from_utf8(line).map_err(|_| malformed("an event that is not UTF-8"))?;
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(more) = line.strip_prefix("data:") {
            data.push_str(more.strip_prefix(' ').unwrap_or(more));
        } else if line.is_empty() && !data.is_empty() {
            let message: Value = serde_json::from_str(&data).map_err(|_| malformed(&beginning(&data)))?;
            if message["id"] == id && message.get("method").is_none() {
                return Ok(message);
            }
            data.clear();
        }
    }
}

fn stream_ended(error: &std::io::Error) -> String {
    // ureq wraps its own timeout into an I/O error.
    if error.to_string().contains("timeout") { "no answer in time".to_owned() } else { error.to_string() }
}

fn result_of(mut answer: Value, id: u64) -> Result<Value, McpError> {
    // An error that is null is none: some say so beside their result.
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        let message = error["message"].as_str().unwrap_or_default().to_owned();
        return Err(McpError::Rpc { code: error["code"].as_i64().unwrap_or_default(), message });
    }
    if answer["id"] != id {
        return Err(malformed("an answer to something else"));
    }
    answer.get_mut("result").map(Value::take).ok_or_else(|| malformed("neither a result nor an error"))
}

/// The version that a server has chosen: one that names none has not understood what it was asked.
fn version_of(server: &Value) -> Result<String, McpError> {
    let version = server["protocolVersion"].as_str();
    version.map(str::to_owned).ok_or_else(|| malformed("initialize without `protocolVersion`"))
}

/// A list of tools, page by page.
#[derive(Default)]
struct Listing {
    tools: Vec<Tool>,
    bytes: u64,
}

impl Listing {
    /// Adds a page; gives where the next one begins.
    fn add(&mut self, page: &Value) -> Result<Option<String>, McpError> {
        let tools = page["tools"].as_array().ok_or_else(|| malformed("tools/list without `tools`"))?;
        for definition in tools {
            let name = definition["name"].as_str().ok_or_else(|| malformed("a tool without a name"))?;
            self.bytes += definition.to_string().len() as u64;
            if self.bytes > LONGEST_LIST {
                return Err(malformed("a list of tools of more than 16 MiB"));
            }
            self.tools.push(Tool { name: name.to_owned(), definition: definition.clone() });
        }
        Ok(page["nextCursor"].as_str().map(str::to_owned))
    }
}

/// What a call came to: one without contents, or that does not say whether it failed, has shown nothing.
fn called(result: Value) -> Result<CallResult, McpError> {
    let contents = result["content"].as_array().ok_or_else(|| malformed("tools/call without `content`"))?;
    let is_error = match result.get("isError") {
        None => false,
        Some(Value::Bool(is_error)) => *is_error,
        Some(other) => return Err(malformed(&beginning(&format!("tools/call with isError {other}")))),
    };
    let texts: Vec<&str> = contents.iter().filter_map(|content| content["text"].as_str()).collect();
    Ok(CallResult { is_error, text: texts.join("\n"), result })
}

fn malformed(what: &str) -> McpError {
    McpError::Malformed(what.to_owned())
}

/// Enough of a body to recognise it by, on one line.
fn beginning(body: &str) -> String {
    body.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_answer_is_found_among_other_events() {
        let stream = ": hello\n\nevent: message\ndata: {\"method\":\"notifications/progress\"}\n\n\
                      data: {\"id\":7,\"method\":\"ping\"}\n\ndata: {\"id\":7,\ndata: \"result\":{\"a\":1}}\n\n";
        assert_eq!(result_of(from_events(stream.as_bytes(), 7).unwrap(), 7).unwrap(), json!({ "a": 1 }));
    }

    #[test]
    fn a_stream_that_ends_early_is_no_answer() {
        let error = from_events("data: {\"id\":1,\"result\":{}}\n".as_bytes(), 1).unwrap_err();
        assert!(matches!(error, McpError::NoAnswer(_)), "{error}");
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        // Four times as much as may be read, and then an error that nobody should come to see.
        struct Broken;
        impl std::io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("read too far"))
            }
        }
        let stream = std::io::repeat(b'a').take(4 * http::MOST_BYTES).chain(Broken);
        let error = from_events(BufReader::new(stream), 1).unwrap_err();
        assert_eq!(error, McpError::Malformed("an answer of more than 16 MiB".to_owned()));
    }

    #[test]
    fn a_stream_that_falls_silent_costs_the_deadline_only() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        // It lives as long as its client: until then, half an event.
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {";
            stream.write_all(head.as_bytes()).unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        });
        let error = McpClient::connect(&url, &[], Deadline::after(Duration::from_millis(100))).unwrap_err();
        assert_eq!(error.to_string(), "no answer in time");
    }

    #[test]
    fn errors_and_answers_to_others_are_no_results() {
        let error =
            result_of(json!({ "id": 1, "error": { "code": -32601, "message": "no" } }), 1).unwrap_err();
        assert_eq!(error.to_string(), "answered with error -32601: no");
        assert!(result_of(json!({ "id": 2, "result": {} }), 1).is_err());
        assert_eq!(result_of(json!({ "id": 1, "result": 7, "error": null }), 1), Ok(json!(7)));
    }

    #[test]
    fn an_answer_that_shows_nothing_is_no_success() {
        for greeting in [json!(null), json!({}), json!({ "protocolVersion": 1 })] {
            assert!(matches!(version_of(&greeting), Err(McpError::Malformed(_))), "{greeting}");
        }
        assert_eq!(version_of(&json!({ "protocolVersion": "2025-03-26" })).unwrap(), "2025-03-26");
        for result in [
            json!(null),
            json!({}),
            json!({ "content": "done" }),
            json!({ "content": [], "isError": null }),
            json!({ "content": [], "isError": "false" }),
        ] {
            assert!(matches!(called(result.clone()), Err(McpError::Malformed(_))), "{result}");
        }
        let text = |text: &str| json!({ "type": "text", "text": text });
        let result = called(json!({ "content": [text("a"), { "type": "image" }, text("b")] })).unwrap();
        assert_eq!((result.is_error, result.text.as_str()), (false, "a\nb"));
        assert!(called(json!({ "content": [], "isError": true })).unwrap().is_error);
    }

    #[test]
    fn a_list_has_a_bound_over_all_of_its_pages() {
        let tool = json!({ "name": "a", "description": "x".repeat(6 << 20) });
        let page = json!({ "tools": [tool], "nextCursor": "on" });
        let mut listing = Listing::default();
        assert_eq!(listing.add(&page), Ok(Some("on".to_owned())));
        assert_eq!(listing.add(&page), Ok(Some("on".to_owned())));
        assert!(matches!(listing.add(&page), Err(McpError::Malformed(_))));
    }
}
