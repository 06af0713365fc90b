//! One client: its requests, each in a task of its own, and what it is asked in return.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::catalog::Grown;
use crate::methods;

/// A client that does not answer in this time will not.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Where messages to a client go, in order. One that has gone takes nothing, and that is no fault of the server's.
pub(crate) type Stream = mpsc::UnboundedSender<Value>;

/// What all clients share.
#[derive(Default)]
pub(crate) struct Server {
    /// What has been added while it runs.
    pub(crate) grown: Mutex<Grown>,
    sessions: Mutex<Vec<Weak<Session>>>,
}

impl Server {
    /// A session with a new client, whose messages that belong to no request go to `common`.
    pub(crate) fn session(self: &Arc<Self>, common: Stream) -> Arc<Session> {
        let session = Arc::new(Session {
            server: Arc::clone(self),
            common,
            about: Mutex::default(),
            calls: Mutex::default(),
            asked: Mutex::default(),
            last_asked: AtomicU64::new(0),
        });
        self.sessions.lock().expect("sessions").push(Arc::downgrade(&session));
        session
    }

    /// Tells every client for whom `concerns` is true.
    pub(crate) fn tell(&self, method: &str, params: &Value, concerns: impl Fn(&Session) -> bool) {
        let sessions = self.sessions.lock().expect("sessions");
        for session in sessions.iter().filter_map(Weak::upgrade).filter(|session| concerns(session)) {
            session.common.send(notification(method, params.clone())).ok();
        }
    }
}

/// One client.
pub(crate) struct Session {
    /// What it shares with others.
    pub(crate) server: Arc<Server>,
    /// What is known about the client.
    pub(crate) about: Mutex<About>,
    common: Stream,
    /// By the id, as text: 1 and "1" are two.
    calls: Mutex<HashMap<String, CancellationToken>>,
    asked: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    last_asked: AtomicU64,
}

/// What a client has said about itself.
#[derive(Default)]
pub(crate) struct About {
    /// What it can do.
    pub(crate) capabilities: Value,
    /// The least important level of messages that it wants, as an index of `tools::LEVELS`.
    pub(crate) level: usize,
    /// The resources that it watches.
    pub(crate) subscribed: BTreeSet<String>,
}

/// A JSON-RPC error.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Its code.
    pub(crate) code: i64,
    /// What it says.
    pub(crate) message: String,
}

impl Refusal {
    /// -32602
    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self { code: -32602, message: message.into() }
    }
}

impl Session {
    /// Takes one message from the client. What comes of a request goes to `stream`, its answer last.
    pub(crate) fn receive(self: &Arc<Self>, mut message: Value, stream: Stream) {
        let id = message.get("id").filter(|id| id.is_string() || id.is_number()).cloned();
        match (message["method"].as_str().map(str::to_owned), id) {
            (Some(method), Some(id)) => {
                let params = message.get_mut("params").map(Value::take).unwrap_or_default();
                self.begin(method, id, params, stream);
            }
            (Some(method), None) if method == "notifications/cancelled" => {
                let call = message["params"]["requestId"].to_string();
                if let Some(cancelled) = self.calls.lock().expect("calls").remove(&call) {
                    cancelled.cancel();
                }
            }
            (Some(_), None) => {}
            (None, Some(id)) => {
                if let Some(waiting) = self.asked.lock().expect("asked").remove(&id.to_string()) {
                    waiting.send(message).ok();
                }
            }
            (None, None) => {
                let refusal = Refusal { code: -32600, message: "not a message".to_owned() };
                stream.send(answer(&Value::Null, Err(refusal))).ok();
            }
        }
    }

    /// Ends whatever still runs for this client.
    pub(crate) fn end(&self) {
        for (_, cancelled) in self.calls.lock().expect("calls").drain() {
            cancelled.cancel();
        }
    }

    fn begin(self: &Arc<Self>, method: String, id: Value, params: Value, stream: Stream) {
        let cancelled = CancellationToken::new();
        // Here, and not in the task: a cancellation may be the very next message.
        self.calls.lock().expect("calls").insert(id.to_string(), cancelled.clone());
        let session = Arc::clone(self);
        tokio::spawn(async move {
            let call = Call { session, stream, cancelled, params };
            let result = methods::answer(&call, &method).await;
            call.session.calls.lock().expect("calls").remove(&id.to_string());
            // Nobody waits for the answer to a request that was cancelled.
            if !call.cancelled.is_cancelled() {
                call.stream.send(answer(&id, result)).ok();
            }
        });
    }
}

/// One request of a client.
pub(crate) struct Call {
    /// Whose it is.
    pub(crate) session: Arc<Session>,
    /// What it was asked with.
    pub(crate) params: Value,
    /// The client does not want it any more.
    pub(crate) cancelled: CancellationToken,
    stream: Stream,
}

impl Call {
    /// The server.
    pub(crate) fn server(&self) -> &Server {
        &self.session.server
    }

    /// An argument of a tool, of any type.
    pub(crate) fn argument(&self, name: &str) -> &Value {
        &self.params["arguments"][name]
    }

    /// An argument that has to be a string.
    pub(crate) fn text(&self, name: &str) -> Result<&str, Refusal> {
        let argument = self.argument(name).as_str();
        argument.ok_or_else(|| Refusal::invalid_params(format!("{name} has to be a string")))
    }

    /// An argument that has to be a number of things.
    pub(crate) fn count(&self, name: &str) -> Result<u64, Refusal> {
        let argument = self.argument(name).as_u64();
        argument.ok_or_else(|| Refusal::invalid_params(format!("{name} has to be a number")))
    }

    /// Tells the client something that belongs to this request.
    pub(crate) fn notify(&self, method: &str, params: Value) {
        self.stream.send(notification(method, params)).ok();
    }

    /// Tells how far it is, if the client wants to know.
    pub(crate) fn progress(&self, progress: u64, total: u64, message: &str) {
        if let Some(token) = self.params["_meta"].get("progressToken") {
            let params =
                json!({"progressToken": token, "progress": progress, "total": total, "message": message});
            self.notify("notifications/progress", params);
        }
    }

    /// Asks the client, and waits for its result; the error says what it refused with.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Result<Value, String> {
        let id = format!("asked-{}", self.session.last_asked.fetch_add(1, Ordering::Relaxed) + 1);
        let (waiting, answered) = oneshot::channel();
        let key = Value::from(id.clone()).to_string();
        self.session.asked.lock().expect("asked").insert(key.clone(), waiting);
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.stream.send(request).ok();
        let answer = tokio::select! {
            answer = answered => answer.map_err(|_| "the client has gone".to_owned()),
            () = self.cancelled.cancelled() => Err("cancelled".to_owned()),
            () = tokio::time::sleep(ANSWER_LIMIT) => Err(format!("no answer in {ANSWER_LIMIT:?}")),
        };
        let mut answer = answer.inspect_err(|why| {
            self.session.asked.lock().expect("asked").remove(&key);
            self.notify("notifications/cancelled", json!({"requestId": id, "reason": why}));
        })?;
        match answer.get("error") {
            Some(error) => {
                Err(format!("error {}: {}", error["code"], error["message"].as_str().unwrap_or("")))
            }
            None => Ok(answer["result"].take()),
        }
    }
}

fn notification(method: &str, params: Value) -> Value {
    let mut message = json!({"jsonrpc": "2.0", "method": method});
    if !params.is_null() {
        message["params"] = params;
    }
    message
}

/// The message that ends a request.
pub(crate) fn answer(id: &Value, result: Result<Value, Refusal>) -> Value {
    match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(Refusal { code, message }) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
}
