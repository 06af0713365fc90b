//! The sessions of all clients, as far as servers have something to say to them on their own account: at which level they
//! want log messages, and to which resources they have subscribed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::limits::{SUBSCRIPTION_BYTES, SUBSCRIPTIONS_OF_A_SESSION};
use super::rpc::Asker;
use super::weight;

/// So many notices wait for a client that reads slowly; more are dropped.
const MOST_WAITING: usize = 1_000;
/// Nor do more bytes of them, unless it is one alone.
const MOST_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// How bad something is that is logged, from the least to the worst.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
/// What a client gets that never said.
const DEFAULT_LEVEL: usize = 1;

/// Something that a server says on its own account.
#[derive(Debug)]
pub(super) enum Notice {
    /// The params of `notifications/message`.
    Log(Params),
    /// The params of `notifications/resources/updated`.
    Updated(Params),
}

/// The params of a notice, of which all sessions share one copy until they are told.
#[derive(Debug)]
pub(super) struct Params {
    value: Arc<Value>,
    bytes: usize,
    waiting: Arc<AtomicUsize>,
}

impl Params {
    /// To be sent.
    pub(super) fn to_value(&self) -> Value {
        Value::clone(&self.value)
    }
}

impl Drop for Params {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The sessions.
#[derive(Debug, Default)]
pub(super) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: Asker,
    sessions: BTreeMap<Asker, Session>,
}

#[derive(Debug)]
struct Session {
    level: Option<usize>,
    subscriptions: BTreeSet<String>,
    mailbox: Sender<Notice>,
    /// Bytes of what waits in it.
    waiting: Arc<AtomicUsize>,
}

impl Session {
    fn wants(&self, log: &Value) -> bool {
        let level = log.get("level").and_then(Value::as_str).and_then(level);
        // A level that nobody knows is shown rather than lost.
        level.is_none_or(|level| level >= self.level.unwrap_or(DEFAULT_LEVEL))
    }

    /// A mailbox that is full, or closed, loses it: no server waits for a client.
    fn put(&self, kind: fn(Params) -> Notice, value: &Arc<Value>, bytes: usize) {
        let waiting = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let notice = kind(Params { value: Arc::clone(value), bytes, waiting: Arc::clone(&self.waiting) });
        if waiting == 0 || waiting + bytes <= MOST_WAITING_BYTES {
            self.mailbox.try_send(notice).ok();
        }
    }
}

fn put<'a>(sessions: impl Iterator<Item = &'a Session>, kind: fn(Params) -> Notice, params: &Value) {
    let mut sessions = sessions.peekable();
    if sessions.peek().is_some() {
        let (value, bytes) = (Arc::new(params.clone()), weight::of(params));
        sessions.for_each(|session| session.put(kind, &value, bytes));
    }
}

/// The place of a level among all of them.
pub(super) fn level(name: &str) -> Option<usize> {
    LEVELS.iter().position(|level| *level == name)
}

impl Hub {
    /// A new session, and what servers have to say to it.
    pub(super) fn join(&self) -> (Asker, Receiver<Notice>) {
        let (mailbox, notices) = channel(MOST_WAITING);
        let mut state = self.state();
        state.next += 1;
        let asker = state.next;
        state.sessions.insert(
            asker,
            Session { level: None, subscriptions: BTreeSet::new(), mailbox, waiting: Arc::default() },
        );
        (asker, notices)
    }

    /// A session is over. Gives the resources to which nobody is subscribed any more.
    pub(super) fn leave(&self, asker: Asker) -> Vec<String> {
        let mut state = self.state();
        let left = state.sessions.remove(&asker).map(|session| session.subscriptions).unwrap_or_default();
        left.into_iter().filter(|uri| !state.is_subscribed(uri)).collect()
    }

    /// A session wants log messages of this level and worse.
    pub(super) fn set_level(&self, asker: Asker, level: usize) {
        if let Some(session) = self.state().sessions.get_mut(&asker) {
            session.level = Some(level);
        }
    }

    /// The level at which servers have to log, so that every session that said one gets what it wants.
    pub(super) fn level(&self) -> Option<&'static str> {
        let state = self.state();
        let lowest = state.sessions.values().filter_map(|session| session.level).min();
        lowest.and_then(|level| LEVELS.get(level).copied())
    }

    /// A session wants to know of changes of a resource. Whether it may: there is a limit for each session.
    pub(super) fn subscribe(&self, asker: Asker, uri: &str) -> bool {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&asker) else { return true };
        let subscriptions = &mut session.subscriptions;
        let room = subscriptions.len() < SUBSCRIPTIONS_OF_A_SESSION && uri.len() <= SUBSCRIPTION_BYTES;
        if room && !subscriptions.contains(uri) {
            subscriptions.insert(uri.to_owned());
        }
        room || subscriptions.contains(uri)
    }

    /// It does not any more. Whether nobody else does, either.
    pub(super) fn unsubscribe(&self, asker: Asker, uri: &str) -> bool {
        let mut state = self.state();
        if let Some(session) = state.sessions.get_mut(&asker) {
            session.subscriptions.remove(uri);
        }
        !state.is_subscribed(uri)
    }

    /// Everything to which somebody is subscribed.
    pub(super) fn subscriptions(&self) -> BTreeSet<String> {
        self.state().sessions.values().flat_map(|session| session.subscriptions.iter().cloned()).collect()
    }

    /// A resource has changed.
    pub(super) fn updated(&self, params: &Value) {
        let state = self.state();
        let Some(uri) = params.get("uri").and_then(Value::as_str) else { return };
        let subscribed = state.sessions.values().filter(|session| session.subscriptions.contains(uri));
        put(subscribed, Notice::Updated, params);
    }

    /// A server logs something that is of no certain call: it goes to those who may have caused it, and to everybody if
    /// nobody has.
    pub(super) fn log(&self, params: &Value, askers: &BTreeSet<Asker>) {
        let state = self.state();
        let meant = |asker: &Asker| askers.is_empty() || askers.contains(asker);
        let sessions = state.sessions.iter().filter(|(asker, session)| meant(asker) && session.wants(params));
        put(sessions.map(|(_, session)| session), Notice::Log, params);
    }

    /// Whether a session wants this log message.
    pub(super) fn wants_log(&self, asker: Asker, params: &Value) -> bool {
        self.state().sessions.get(&asker).is_some_and(|session| session.wants(params))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_subscribed(&self, uri: &str) -> bool {
        self.sessions.values().any(|session| session.subscriptions.contains(uri))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn logs(notices: &mut Receiver<Notice>) -> Vec<Value> {
        let log = |notice| {
            if let Notice::Log(params) = notice { params.to_value()["data"].clone() } else { Value::Null }
        };
        std::iter::from_fn(|| notices.try_recv().ok()).map(log).collect()
    }

    #[test]
    fn each_session_gets_the_level_that_it_wants_and_servers_log_for_all() {
        let hub = Hub::default();
        let ((quiet, mut to_quiet), (loud, mut to_loud)) = (hub.join(), hub.join());
        assert_eq!(hub.level(), None);
        hub.set_level(quiet, level("error").unwrap());
        assert_eq!(hub.level(), Some("error"));
        hub.set_level(loud, level("debug").unwrap());
        assert_eq!(hub.level(), Some("debug"));
        for level in ["debug", "error"] {
            hub.log(&json!({"level": level, "data": level}), &BTreeSet::new());
        }
        hub.log(&json!({"level": "alert", "data": "to one"}), &[quiet].into());
        assert_eq!(logs(&mut to_quiet), ["error", "to one"]);
        assert_eq!(logs(&mut to_loud), ["debug", "error"]);
        hub.leave(loud);
        assert_eq!(hub.level(), Some("error"));
        assert_eq!(level("loud"), None);
    }

    #[test]
    fn updates_go_to_subscribers_and_the_last_one_is_told() {
        let hub = Hub::default();
        let ((a, mut to_a), (b, mut to_b)) = (hub.join(), hub.join());
        assert!(hub.subscribe(a, "test://1"));
        assert!(hub.subscribe(b, "test://1"));
        assert!(hub.subscribe(b, "test://2"));
        hub.updated(&json!({"uri": "test://2"}));
        assert!(to_a.try_recv().is_err() && matches!(to_b.try_recv(), Ok(Notice::Updated(_))));
        assert!(!hub.unsubscribe(a, "test://1"), "b still is");
        assert_eq!(hub.leave(b), ["test://1", "test://2"]);
        assert_eq!(hub.subscriptions(), BTreeSet::new());
    }

    #[test]
    fn a_client_that_does_not_read_costs_bounded_memory() {
        let hub = Hub::default();
        let (_, mut notices) = hub.join();
        for number in 0..2 * MOST_WAITING {
            hub.log(&json!({"level": "info", "data": number}), &BTreeSet::new());
        }
        assert_eq!(logs(&mut notices).len(), MOST_WAITING);
        // Long ones are fewer; one alone may be as long as it is.
        let log = |length: usize| json!({"level": "info", "data": "x".repeat(length)});
        for _ in 0..100 {
            hub.log(&log(MOST_WAITING_BYTES / 10), &BTreeSet::new());
        }
        assert_eq!(logs(&mut notices).len(), 9);
        hub.log(&log(2 * MOST_WAITING_BYTES), &BTreeSet::new());
        hub.log(&log(1), &BTreeSet::new());
        assert_eq!(logs(&mut notices).len(), 1);
        hub.log(&log(1), &BTreeSet::new());
        assert_eq!(logs(&mut notices).len(), 1, "there is room again");
    }

    #[test]
    fn a_session_has_a_limit_of_subscriptions() {
        let hub = Hub::default();
        let ((many, _), (other, _)) = (hub.join(), hub.join());
        for number in 0..SUBSCRIPTIONS_OF_A_SESSION {
            assert!(hub.subscribe(many, &format!("test://{number}")));
        }
        assert!(hub.subscribe(many, "test://7"), "it is already");
        assert!(!hub.subscribe(many, "test://one-more") && hub.subscribe(other, "test://one-more"));
        assert!(!hub.subscribe(other, &"x".repeat(SUBSCRIPTION_BYTES + 1)));
        assert!(hub.subscribe(other, &"x".repeat(SUBSCRIPTION_BYTES)));
    }
}
