//! A client of `mcp-everything` on stdio that knows no types: what it sees is what was sent.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::{EVERYTHING, PATIENCE};

/// A client that is nothing but its lines: it sees the order of messages, and every field of theirs.
pub(crate) struct Raw {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) stderr: Lines<BufReader<ChildStderr>>,
    asked: u64,
}

impl Raw {
    /// One that says that it can do everything.
    pub(crate) async fn start() -> Self {
        Self::start_with(json!({"sampling": {}, "elicitation": {}, "roots": {}})).await
    }

    /// One with these capabilities, whose handshake is done.
    pub(crate) async fn start_with(capabilities: Value) -> Self {
        let mut child = server(&[]).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut raw = Self { child, stdin, stdout, stderr, asked: 0 };
        let info = json!({"name": "raw", "version": "0"});
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": info});
        raw.result("initialize", params).await;
        raw.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        raw
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> Value {
        serde_json::from_str(&line(&mut self.stdout).await).unwrap()
    }

    /// Sends a request, and says its id.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> u64 {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        id
    }

    /// Sends a request, and reads up to its answer. What came before it is returned, too.
    pub(crate) async fn exchange(&mut self, method: &str, params: Value) -> (Vec<Value>, Value) {
        let id = self.request(method, params).await;
        let mut before = Vec::new();
        loop {
            let message = self.receive().await;
            if message["id"] == id && message.get("method").is_none() {
                return (before, message);
            }
            before.push(message);
        }
    }

    /// The result of a request before which nothing else comes.
    pub(crate) async fn result(&mut self, method: &str, params: Value) -> Value {
        let (before, mut answer) = self.exchange(method, params).await;
        assert_eq!((before, answer.get("error")), (vec![], None));
        answer["result"].take()
    }

    /// Calls a tool, and reads up to its result. What came before it is returned, too.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> (Vec<Value>, Value) {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "p-1"}});
        let (before, mut answer) = self.exchange("tools/call", params).await;
        (before, answer["result"].take())
    }

    /// Calls a tool that asks the client something; says what it asked, and the tool's text once it got `answer`.
    pub(crate) async fn call_and_answer(
        &mut self,
        tool: &str,
        arguments: Value,
        answer: &Value,
    ) -> (Value, Value) {
        let id = self.request("tools/call", json!({"name": tool, "arguments": arguments})).await;
        let question = self.receive().await;
        let mut message = json!({"jsonrpc": "2.0", "id": question["id"]});
        message.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        self.send(&message).await;
        let answer = self.receive().await;
        assert_eq!(answer["id"], id, "{answer}");
        (question, answer["result"].clone())
    }

    /// The code of the error that a request ends with.
    pub(crate) async fn code_of(&mut self, method: &str, params: Value) -> Value {
        self.exchange(method, params).await.1["error"]["code"].take()
    }
}

/// The next line; there has to be one.
pub(crate) async fn line(lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>) -> String {
    timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap().expect("a line")
}

/// `mcp-everything` as a command, with pipes.
pub(crate) fn server(args: &[&str]) -> Command {
    let mut command = Command::new(EVERYTHING);
    command.args(args).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}
