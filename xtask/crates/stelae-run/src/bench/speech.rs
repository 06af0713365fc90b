//! The ways in which a client and a server speak: on pipes, over streamable HTTP, over the older HTTP with events.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::net::SocketAddr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::wire::Wire;
use crate::deadline::Deadline;

/// A way to speak. One request at a time.
pub(super) trait Speech: Send {
    /// Sends a message. With an `id`, waits for the answer to it; what comes besides is read past.
    fn say(&mut self, message: &Value, id: Option<u64>, deadline: Deadline) -> Result<Value, String>;
}

/// Lines on two pipes.
pub(super) struct Pipes {
    to: PipeWriter,
    from: PipeReader,
    /// What was read and not yet taken.
    buffer: Vec<u8>,
}

impl Pipes {
    /// Our ends.
    pub(super) fn new(to: PipeWriter, from: PipeReader) -> Self {
        Self { to, from, buffer: Vec::new() }
    }
}

impl Speech for Pipes {
    fn say(&mut self, message: &Value, id: Option<u64>, deadline: Deadline) -> Result<Value, String> {
        // One line at a time, and shorter than a pipe holds: this cannot wait for a reader.
        self.to.write_all(format!("{message}\n").as_bytes()).map_err(|error| error.to_string())?;
        let Some(id) = id else { return Ok(Value::Null) };
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let message = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
                if answers(&message, id) {
                    return Ok(message);
                }
                continue;
            }
            let mut ready = [PollFd::new(&self.from, PollFlags::IN)];
            let limit = Timespec::try_from(deadline.remaining()).map_err(|error| error.to_string())?;
            if poll(&mut ready, Some(&limit)).map_err(|error| error.to_string())? == 0 {
                return Err("no answer in time".to_owned());
            }
            let mut bytes = [0; 16 * 1024];
            match self.from.read(&mut bytes).map_err(|error| error.to_string())? {
                0 => return Err("the server has closed its output".to_owned()),
                count => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }
}

/// Streamable HTTP on one connection.
pub(super) struct Streamable {
    wire: Wire,
    path: String,
    headers: Vec<(String, String)>,
}

impl Streamable {
    /// Connects.
    pub(super) fn open(address: SocketAddr, path: String, deadline: Deadline) -> Result<Self, String> {
        let accept = ("Accept".to_owned(), "application/json, text/event-stream".to_owned());
        Ok(Self { wire: Wire::open(address, deadline)?, path, headers: vec![accept] })
    }
}

impl Speech for Streamable {
    fn say(&mut self, message: &Value, id: Option<u64>, deadline: Deadline) -> Result<Value, String> {
        let head = self.wire.exchange("POST", &self.path, &self.headers, &message.to_string(), deadline)?;
        if let Some(session) = head.header("mcp-session-id")
            && message["method"] == "initialize"
        {
            self.headers.push(("Mcp-Session-Id".to_owned(), session.to_owned()));
        }
        let mut answer = None;
        if head.is_events() {
            // To the end, also after the answer: only then is the connection free for the next request.
            while let Some(line) = self.wire.line(deadline)? {
                answer = answer
                    .or_else(|| event(&line).filter(|message| id.is_some_and(|id| answers(message, id))));
            }
        } else {
            let body = self.wire.rest(deadline)?;
            if !(200..300).contains(&head.status) {
                return Err(format!(
                    "answered {}: {}",
                    head.status,
                    body.chars().take(200).collect::<String>()
                ));
            }
            answer = serde_json::from_str(&body).ok();
        }
        match (answer, id) {
            (Some(answer), Some(id)) if answers(&answer, id) => Ok(answer),
            (_, Some(_)) => Err("answered without the answer".to_owned()),
            (_, None) => Ok(Value::Null),
        }
    }
}

/// The older HTTP: one stream of events that has all answers, and a path that takes the messages.
pub(super) struct Events {
    events: Wire,
    wire: Wire,
    path: String,
}

impl Events {
    /// Connects, and waits for the path.
    pub(super) fn open(address: SocketAddr, path: &str, deadline: Deadline) -> Result<Self, String> {
        let mut events = Wire::open(address, deadline)?;
        let accept = [("Accept".to_owned(), "text/event-stream".to_owned())];
        let head = events.exchange("GET", path, &accept, "", deadline)?;
        if head.status != 200 || !head.is_events() {
            return Err(format!("answered {}, and no events", head.status));
        }
        let mut named = false;
        while let Some(line) = events.line(deadline)? {
            match line.strip_prefix("data:") {
                Some(path) if named => {
                    let wire = Wire::open(address, deadline)?;
                    return Ok(Self { events, wire, path: path.trim().to_owned() });
                }
                _ => named = line.trim_end() == "event: endpoint",
            }
        }
        Err("the events ended before they named a path".to_owned())
    }
}

impl Speech for Events {
    fn say(&mut self, message: &Value, id: Option<u64>, deadline: Deadline) -> Result<Value, String> {
        let head = self.wire.exchange("POST", &self.path, &[], &message.to_string(), deadline)?;
        let body = self.wire.rest(deadline)?;
        if !(200..300).contains(&head.status) {
            return Err(format!("answered {}: {}", head.status, body.chars().take(200).collect::<String>()));
        }
        let Some(id) = id else { return Ok(Value::Null) };
        while let Some(line) = self.events.line(deadline)? {
            if let Some(message) = event(&line).filter(|message| answers(message, id)) {
                return Ok(message);
            }
        }
        Err("the events ended before the answer".to_owned())
    }
}

/// The message of a line of events. None of those that are measured goes over several lines.
fn event(line: &str) -> Option<Value> {
    serde_json::from_str(line.strip_prefix("data:")?).ok()
}

fn answers(message: &Value, id: u64) -> bool {
    message["id"] == id && message.get("method").is_none()
}
