//! A client of the gateway that knows no types: what it sees is what was sent, in the order in which it was sent.

use futures_util::StreamExt as _;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use sse_stream::SseStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::{Gateway, PATIENCE, http};

/// One session.
#[derive(Clone)]
pub(crate) struct Wire {
    url: String,
    session: String,
    /// Everything that came on the stream of the session itself.
    told: watch::Receiver<Vec<Value>>,
}

/// The stream of one request.
pub(crate) struct Exchange {
    id: u64,
    messages: std::pin::Pin<Box<dyn futures_util::Stream<Item = Value> + Send>>,
}

fn messages(response: Response) -> impl futures_util::Stream<Item = Value> + Send {
    let events = SseStream::new(reqwest::Body::from(response));
    events.filter_map(|event| async { serde_json::from_str(&event.ok()?.data?).ok() })
}

impl Wire {
    /// A session of a client that can do all that a server can ask for.
    pub(crate) async fn open(gateway: &Gateway) -> Self {
        Self::open_with(gateway, json!({"sampling": {}, "elicitation": {}, "roots": {}})).await
    }

    /// A session of a client with these capabilities, whose own stream is open.
    pub(crate) async fn open_with(gateway: &Gateway, capabilities: Value) -> Self {
        Self::greet(gateway, capabilities).await.listen().await
    }

    /// A session that is not complete: the gateway has answered, and waits for the client to say that it is ready.
    pub(crate) async fn greet(gateway: &Gateway, capabilities: Value) -> Self {
        let (_, told) = watch::channel(Vec::new());
        let mut wire = Self { url: gateway.url("/mcp"), session: String::new(), told };
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": {"name": "wire", "version": "0"},
        });
        let greeting = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let response = wire.post(&greeting).send().await.unwrap();
        wire.session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        wire
    }

    /// Completes the session, and opens its own stream.
    pub(crate) async fn listen(mut self) -> Self {
        let (tell, told) = watch::channel(Vec::new());
        self.told = told;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        let own = self.with_session(http().get(&self.url)).header("accept", "text/event-stream");
        let own = own.timeout(10 * PATIENCE).send().await.unwrap();
        assert_eq!(own.status().as_u16(), 200);
        tokio::spawn(async move {
            let mut messages = Box::pin(messages(own));
            while let Some(message) = messages.next().await {
                tell.send_modify(|told| told.push(message));
            }
        });
        self
    }

    fn post(&self, message: &Value) -> RequestBuilder {
        let post = http().post(&self.url).header("content-type", "application/json");
        self.with_session(post)
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string())
    }

    fn with_session(&self, request: RequestBuilder) -> RequestBuilder {
        match self.session.as_str() {
            "" => request,
            session => request.header("mcp-session-id", session).header("mcp-protocol-version", "2025-11-25"),
        }
    }

    /// Sends what has no answer.
    pub(crate) async fn send(&self, message: &Value) {
        assert_eq!(self.post(message).send().await.unwrap().status().as_u16(), 202, "{message}");
    }

    /// Sends a request; ids are the test's own, so that it can cancel.
    pub(crate) async fn request(&self, id: u64, method: &str, params: Value) -> Exchange {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let response = self.post(&request).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        Exchange { id, messages: Box::pin(messages(response)) }
    }

    /// Calls a tool, and wants to hear of its progress under `token`.
    pub(crate) async fn call(&self, id: u64, tool: &str, arguments: Value, token: &str) -> Exchange {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": token}});
        self.request(id, "tools/call", params).await
    }

    /// The result of a request.
    pub(crate) async fn result(&self, method: &str, params: Value) -> Value {
        let (_, mut answer) = self.request(7, method, params).await.until_the_end().await;
        assert_eq!(answer.get("error"), None, "{method}");
        answer["result"].take()
    }

    /// The text that a tool answers with.
    pub(crate) async fn text(&self, tool: &str, arguments: Value) -> String {
        let result = self.result("tools/call", json!({"name": tool, "arguments": arguments})).await;
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// The error that a request ends with.
    pub(crate) async fn error(&self, method: &str, params: Value) -> Value {
        let (_, mut answer) = self.request(7, method, params).await.until_the_end().await;
        assert!(answer.get("error").is_some(), "{answer}");
        answer["error"].take()
    }

    /// The names, or URIs, of a list.
    pub(crate) async fn list(&self, method: &str, key: &str, id: &str) -> Vec<String> {
        let list = self.result(method, json!({})).await;
        let items = list[key].as_array().unwrap();
        items.iter().map(|item| item[id].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until what came on the session's own stream, as far as it is of this method, is as wanted.
    pub(crate) async fn told(&self, method: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let of = |told: &Vec<Value>| -> Vec<Value> {
            told.iter().filter(|message| message["method"] == method).cloned().collect()
        };
        let mut told = self.told.clone();
        let reached = timeout(PATIENCE, told.wait_for(|told| wanted(&of(told)))).await;
        assert!(reached.is_ok(), "{method}: {:?}", of(&self.told.borrow()));
        drop(reached);
        of(&self.told.borrow())
    }

    /// What came on the session's own stream so far, as far as it is of this method.
    pub(crate) fn told_so_far(&self, method: &str) -> Vec<Value> {
        self.told.borrow().iter().filter(|message| message["method"] == method).cloned().collect()
    }
}

impl Exchange {
    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        timeout(PATIENCE, self.messages.next()).await.expect("a message in time").expect("a message")
    }

    /// The next message; nothing when the stream is at its end.
    pub(crate) async fn next_if_any(&mut self) -> Option<Value> {
        timeout(PATIENCE, self.messages.next()).await.expect("a message in time")
    }

    /// What came before the answer, and the answer.
    pub(crate) async fn until_the_end(mut self) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            if message["id"] == self.id && message.get("method").is_none() {
                return (before, message);
            }
            before.push(message);
        }
    }
}

/// A client that answers what it is asked with `answer`, until its call has its answer; says what it was asked, too.
pub(crate) async fn answering(wire: &Wire, mut exchange: Exchange, answer: &Value) -> (Value, Value) {
    let question = exchange.next().await;
    let mut reply = json!({"jsonrpc": "2.0", "id": question["id"]});
    reply.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
    wire.send(&reply).await;
    let (_, answer) = exchange.until_the_end().await;
    (question, answer)
}
