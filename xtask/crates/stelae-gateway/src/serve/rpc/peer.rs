//! The server at the other end of a connection: requests to it by number, and whatever it says on its own account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::{Call, Heard, Teller};
use super::forgotten::Forgotten;
use super::message::{Message, RpcError};
use super::question::Question;

/// The client session on whose behalf a request is sent.
pub(in crate::serve) type Asker = u64;

/// Hears what belongs to no call.
pub(in crate::serve) trait Listener: Send + Sync + std::fmt::Debug {
    /// A notification of the server. Log messages that could be of several clients come with whom they may be meant for;
    /// of what belongs to nobody, that is empty.
    fn notified(&self, method: &str, params: &Value, askers: &BTreeSet<Asker>);
}

/// The server. Cheap to clone; outlives the connection, and then nothing is answered any more.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Peer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Unbounded, because an answer or a cancellation must not wait for a server that reads nothing. Whoever takes it out
    /// does so at once: over pipes there is a bound on what waits then, over HTTP each message has a limit in time.
    out: UnboundedSender<Message>,
    state: Mutex<State>,
    next: AtomicU64,
    /// How many messages came.
    heard: AtomicU64,
    listener: Arc<dyn Listener>,
}

#[derive(Debug, Default)]
struct State {
    calls: BTreeMap<u64, Pending>,
    forgotten: Forgotten,
    /// By the text of its id: what the server has asked, and may withdraw.
    questions: BTreeMap<String, Open>,
    /// What every request has in its `_meta`.
    with_each: Map<String, Value>,
    over: bool,
    /// What is known of why, beyond that the connection was closed.
    why_over: Option<String>,
}

/// A question that is not answered yet.
#[derive(Debug)]
struct Open {
    withdrawn: CancellationToken,
    asker: Option<Asker>,
}

#[derive(Debug)]
struct Pending {
    teller: Teller,
    asker: Option<Asker>,
    /// It gives the server something to do, as a ping does not.
    is_work: bool,
    /// Tells whoever delivers it, when it is answered or given up.
    over: DropGuard,
}

impl Peer {
    /// A peer, and what has to be sent to it. `listener` hears what belongs to no call.
    pub(super) fn new(listener: Arc<dyn Listener>) -> (Self, UnboundedReceiver<Message>) {
        let (out, outgoing) = unbounded_channel();
        let (state, next, heard) = (Mutex::default(), AtomicU64::new(1), AtomicU64::new(0));
        let shared = Shared { out, state, next, heard, listener };
        (Self { shared: Arc::new(shared) }, outgoing)
    }

    /// Sends a request. `params` of a request whose progress is wanted get our own token.
    pub(in crate::serve) fn call(
        &self,
        method: &str,
        mut params: Value,
        asker: Option<Asker>,
        wants_progress: bool,
    ) -> Call {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (call, teller) = Call::new(self.clone(), id, method);
        let mut state = self.state();
        let token = wants_progress.then(|| ("progressToken".to_owned(), Value::from(id)));
        let mut said = state.with_each.clone().into_iter().chain(token).peekable();
        if said.peek().is_some()
            && let Value::Object(fields) = &mut params
        {
            let meta = fields.entry("_meta").or_insert_with(|| json!({}));
            if let Value::Object(meta) = meta {
                meta.extend(said);
            }
        }
        // Nobody would ever take it out again. Without it, its teller is gone, and the caller hears so.
        if !state.over {
            let (is_work, over) = (method != "ping", CancellationToken::new().drop_guard());
            state.calls.insert(id, Pending { teller, asker, is_work, over });
            self.send(Message::Request { id: id.into(), method: method.to_owned(), params: Some(params) });
        }
        call
    }

    /// From now on every request says this in its `_meta`, too.
    pub(in crate::serve) fn say_with_each<'a>(&self, said: impl IntoIterator<Item = (&'a str, Value)>) {
        self.state().with_each = said.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    }

    /// Sends a notification.
    pub(in crate::serve) fn notify(&self, method: &str, params: Option<Value>) {
        self.send(Message::Notification { method: method.to_owned(), params });
    }

    /// Whether a session has been asked something by this server, and has not answered yet.
    pub(in crate::serve) fn waits_for(&self, asker: Asker) -> bool {
        self.state().questions.values().any(|open| open.asker == Some(asker))
    }

    /// Ends everything, for a reason that [`Peer::why_over`] gives from now on.
    pub(super) fn end(&self, why: String) {
        self.state().why_over.get_or_insert(why);
        self.close();
    }

    /// Whether the connection is over.
    pub(in crate::serve) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Why the connection is over, where more is known than that it was closed.
    pub(in crate::serve) fn why_over(&self) -> Option<String> {
        self.state().why_over.clone()
    }

    /// Ends everything: whoever waits, hears that the connection is over.
    pub(in crate::serve) fn close(&self) {
        let mut state = self.state();
        state.over = true;
        state.calls.clear();
        state.forgotten.clear();
        state.questions.values().for_each(|open| open.withdrawn.cancel());
        state.questions.clear();
    }

    /// Ends one request without an answer of the server.
    pub(super) fn fail(&self, id: &Value, why: RpcError) {
        self.answered(id, Err(why));
    }

    /// Cancelled when the request is answered or given up; nothing when it is already.
    pub(super) fn over(&self, id: &Value) -> Option<CancellationToken> {
        let state = self.state();
        let pending = id.as_u64().and_then(|id| state.calls.get(&id));
        pending.map(|pending| pending.over.token().clone())
    }

    /// How far the conversation has come.
    pub(super) fn progress(&self) -> Progress {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Progress { next: number(&self.shared.next), heard: number(&self.shared.heard) }
    }

    /// Whether the server has something to work on that it got before the request with this number.
    pub(super) fn has_work_from_before(&self, next: u64) -> bool {
        self.state().calls.range(..next).any(|(_, pending)| pending.is_work)
    }

    /// Nobody waits for this answer any more. With a reason, the server is told so.
    pub(super) fn forget(&self, id: u64, reason: Option<&str>) {
        let mut state = self.state();
        let Some(pending) = state.calls.remove(&id) else { return };
        if let Some(asker) = pending.asker {
            state.forgotten.put(id, asker, Instant::now());
        }
        drop(state);
        if let Some(reason) = reason {
            self.notify("notifications/cancelled", Some(json!({"requestId": id, "reason": reason})));
        }
    }

    /// Answers a question.
    pub(super) fn answer(&self, id: Value, outcome: Result<Value, RpcError>) {
        self.state().questions.remove(&id.to_string());
        self.send(Message::Answer { id, outcome });
    }

    /// Takes in what the server said. `of` is the request on whose own stream it came, where streams are told apart.
    pub(super) fn hear(&self, message: Message, of: Option<u64>) {
        self.shared.heard.fetch_add(1, Ordering::Relaxed);
        match message {
            Message::Answer { id, outcome } => self.answered(&id, outcome),
            Message::Request { id, method, params } => self.asked(id, method, params, of),
            Message::Notification { method, params } => {
                self.notified(&method, params.unwrap_or_default(), of);
            }
        }
    }

    fn answered(&self, id: &Value, outcome: Result<Value, RpcError>) {
        let Some(id) = id.as_u64() else { return };
        let mut state = self.state();
        match state.calls.remove(&id) {
            Some(pending) => drop(pending.teller.tell(Heard::Answer(outcome))),
            // An answer to what was given up meanwhile is nobody's.
            None => state.forgotten.answered(id),
        }
    }

    fn notified(&self, method: &str, params: Value, of: Option<u64>) {
        match method {
            "notifications/progress" => {
                let token = params.get("progressToken").and_then(Value::as_u64);
                let state = self.state();
                let pending = token.and_then(|token| state.calls.get(&token));
                // One that is not listened to, or one too many, is dropped: progress is a courtesy.
                pending.map(|pending| pending.teller.tell(Heard::Progress(params)));
            }
            "notifications/message" => {
                let whose = self.state().whose(of);
                match whose {
                    Whose::Call(teller, _) => drop(teller.tell(Heard::Log(params))),
                    Whose::OneOf(askers) => self.shared.listener.notified(method, &params, &askers),
                    Whose::Nobodys => {}
                }
            }
            "notifications/cancelled" => {
                let id = params.get("requestId").map(Value::to_string);
                let question = id.and_then(|id| self.state().questions.remove(&id));
                question.iter().for_each(|open| open.withdrawn.cancel());
            }
            _ => self.shared.listener.notified(method, &params, &BTreeSet::new()),
        }
    }

    fn asked(&self, id: Value, method: String, params: Option<Value>, of: Option<u64>) {
        if method == "ping" {
            return self.send(Message::Answer { id, outcome: Ok(json!({})) });
        }
        let mut state = self.state();
        let why = match state.whose(of) {
            Whose::Call(teller, asker) => {
                let withdrawn = CancellationToken::new();
                state.questions.insert(id.to_string(), Open { withdrawn: withdrawn.clone(), asker });
                drop(state);
                let question = Question::new(self.clone(), id, method, params, withdrawn);
                // One that nobody takes is dropped, and thereby refused.
                return drop(teller.tell(Heard::Asked(question)));
            }
            // Asking the wrong one would be worse than asking none.
            Whose::OneOf(askers) if askers.len() > 1 => {
                format!(
                    "{method}: several clients are calling this server, or have given up a call lately, and it does not say which of them it asks"
                )
            }
            Whose::Nobodys => format!("{method}: the call it belongs to was given up"),
            Whose::OneOf(_) => {
                format!("{method}: no client is calling this server now, so there is nobody to ask")
            }
        };
        drop(state);
        self.send(Message::Answer { id, outcome: Err(RpcError::new(RpcError::INTERNAL, why)) });
    }

    /// A closed channel means that the connection is over, which whoever waits hears by itself.
    fn send(&self, message: Message) {
        self.shared.out.send(message).ok();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the conversation with a server has come.
pub(super) struct Progress {
    /// The number of the next request.
    pub(super) next: u64,
    /// How many messages came.
    pub(super) heard: u64,
}

/// Whom something that the server said may be meant for.
enum Whose {
    /// Whoever waits for this call, in this session.
    Call(Teller, Option<Asker>),
    /// One of these sessions, or nobody.
    OneOf(BTreeSet<Asker>),
    /// A call that nobody waits for any more.
    Nobodys,
}

impl State {
    /// On a stream of its own, that is certain. Elsewhere it is, too, as long as all that is under way is of one session:
    /// then it is taken for the newest of its calls. What a session gave up may be under way on the server.
    fn whose(&self, of: Option<u64>) -> Whose {
        if let Some(id) = of {
            return self
                .calls
                .get(&id)
                .map_or(Whose::Nobodys, |pending| Whose::Call(pending.teller.clone(), pending.asker));
        }
        let waiting = self.calls.values().filter_map(|pending| pending.asker);
        let askers: BTreeSet<Asker> = waiting.chain(self.forgotten.askers(Instant::now())).collect();
        let newest = self.calls.values().rev().find(|pending| pending.asker.is_some());
        match (newest, askers.len()) {
            (Some(pending), 1) => Whose::Call(pending.teller.clone(), pending.asker),
            _ => Whose::OneOf(askers),
        }
    }
}

/// Listens to nothing.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Silence;

#[cfg(test)]
impl Listener for Silence {
    fn notified(&self, _method: &str, _params: &Value, _askers: &BTreeSet<Asker>) {}
}

#[cfg(test)]
mod tests;
