//! What clients' sessions have under way, and how many sessions there may be.
//!
//! rmcp has the sessions themselves. It takes an id that is under way a second time and forgets the first request, it takes
//! as many sessions as memory does, and one that is ended lets its calls go on for seconds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientJsonRpcMessage, ClientNotification, RequestId,
};
use rmcp::transport::streamable_http_server::SessionManager;
use rmcp::transport::streamable_http_server::session::SessionId;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use tokio::time::timeout;

use super::answers;
use super::log::event;
use super::shape::{Asked, Fault};

/// So many sessions can there be at once. One costs some 75 kB in a debug build, and a client that is well ends its
/// own: more than this is a client that does not, which should hear of it before the machine does.
const MOST: usize = 1_000;
/// Where there is no room, a session with which nothing was done for this long is forgotten for a new one.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// A session that does not take the cancellation of its calls for this long is ended without.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// The sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    manager: Arc<LocalSessionManager>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sessions: HashMap<SessionId, Session>,
    /// Requests for a session that are not answered: it may be there already, or not yet.
    beginning: usize,
}

#[derive(Debug)]
struct Session {
    /// HTTP requests that are not fully answered; the session's own stream is one.
    open: usize,
    /// JSON-RPC requests without an answer.
    under_way: HashSet<RequestId>,
    /// When something was last done with it.
    used: Instant,
}

impl Session {
    fn new(used: Instant) -> Self {
        Self { open: 0, under_way: HashSet::new(), used }
    }
}

impl Known {
    /// Takes over which sessions there are.
    fn are(&mut self, alive: &[SessionId], now: Instant) {
        let there: HashSet<_> = alive.iter().collect();
        self.sessions.retain(|id, session| session.open > 0 || there.contains(id));
        for id in alive {
            self.sessions.entry(id.clone()).or_insert_with(|| Session::new(now));
        }
    }

    /// The session that has been idle for the longest time, if that is long.
    fn idle(&self, now: Instant) -> Option<SessionId> {
        let idle =
            |session: &Session| session.open == 0 && now.saturating_duration_since(session.used) >= IDLE;
        let idle = self.sessions.iter().filter(|(_, session)| idle(session));
        idle.min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone())
    }
}

impl Sessions {
    /// Those of `manager`.
    pub(super) fn new(manager: Arc<LocalSessionManager>) -> Self {
        Self { manager, known: Mutex::default() }
    }

    /// Makes room for one more session; nothing if there is none `now`.
    async fn begin(self: &Arc<Self>, now: Instant) -> Option<Beginning> {
        // Counted before the sessions are: of two that begin at once each sees the other, as a session or as this.
        let beginning = {
            let mut known = self.known();
            known.beginning += 1;
            known.beginning
        };
        let one = Beginning(Arc::clone(self));
        let alive: Vec<_> = self.manager.sessions.read().await.keys().cloned().collect();
        let idle = {
            let mut known = self.known();
            known.are(&alive, now);
            if alive.len() + beginning <= MOST {
                return Some(one);
            }
            let idle = known.idle(now)?;
            // Nobody else counts on it.
            known.sessions.remove(&idle);
            idle
        };
        event!("{MOST} sessions: one that was idle for {} s or more is forgotten", IDLE.as_secs());
        timeout(CANCEL_LIMIT, self.manager.close_session(&idle)).await.ok()?.ok()?;
        Some(one)
    }

    /// Notes a request of a session; nothing if its id is under way.
    fn enter(self: &Arc<Self>, session: &SessionId, id: Option<RequestId>) -> Option<UnderWay> {
        let mut known = self.known();
        let entry = known.sessions.entry(session.clone()).or_insert_with(|| Session::new(Instant::now()));
        if id.as_ref().is_some_and(|id| !entry.under_way.insert(id.clone())) {
            return None;
        }
        entry.open += 1;
        Some(UnderWay { sessions: Arc::clone(self), session: session.clone(), id })
    }

    /// Cancels what a session has under way, as its client could have done before it ended the session.
    async fn cancel(&self, session: &SessionId) {
        let ids: Vec<_> = {
            let known = self.known();
            known.sessions.get(session).into_iter().flat_map(|session| &session.under_way).cloned().collect()
        };
        if ids.is_empty() {
            return;
        }
        event!("a session is ended by its client, calls that are cancelled: {}", ids.len());
        let cancelling = async {
            for id in ids {
                let why = "the session is over".to_owned();
                let params = CancelledNotificationParam::new(Some(id), Some(why));
                let cancelled = ClientNotification::CancelledNotification(CancelledNotification::new(params));
                let message = ClientJsonRpcMessage::notification(cancelled);
                self.manager.accept_message(session, message).await?;
            }
            Ok::<_, <LocalSessionManager as SessionManager>::Error>(())
        };
        match timeout(CANCEL_LIMIT, cancelling).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => event!("its calls cannot be cancelled: {why}"),
            Err(_) => event!("its calls cannot be cancelled: it takes no more messages"),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is about to be.
struct Beginning(Arc<Sessions>);

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.known().beginning -= 1;
    }
}

/// A request of a session. When it is dropped, it is over.
#[derive(Debug)]
pub(super) struct UnderWay {
    sessions: Arc<Sessions>,
    session: SessionId,
    id: Option<RequestId>,
}

impl UnderWay {
    /// The id of what is not answered.
    pub(super) fn id(&self) -> Option<&RequestId> {
        self.id.as_ref()
    }

    /// Its id is free: whoever has the answer may ask again before the stream has ended.
    pub(super) fn answered(&mut self) {
        if let Some(id) = self.id.take()
            && let Some(session) = self.sessions.known().sessions.get_mut(&self.session)
        {
            session.under_way.remove(&id);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.answered();
        if let Some(session) = self.sessions.known().sessions.get_mut(&self.session) {
            session.open -= 1;
            session.used = Instant::now();
        }
    }
}

/// Refuses a session too many with 503, a session that is not there with 404, and an id that is under way with 400; cancels
/// the calls of a session that is ended.
pub(super) async fn watch(State(sessions): State<Arc<Sessions>>, request: Request, next: Next) -> Response {
    let asked = request.extensions().get::<Asked>().cloned();
    let session = request.headers().get("mcp-session-id").and_then(|id| id.to_str().ok());
    let Some(session) = session.map(SessionId::from) else {
        if !asked.is_some_and(|asked| asked.initialize) {
            return next.run(request).await;
        }
        // Held until the session is there.
        let Some(_beginning) = sessions.begin(Instant::now()).await else { return full() };
        return next.run(request).await;
    };
    // Never an error: it is a look into a map.
    if !sessions.manager.has_session(&session).await.unwrap_or_default() {
        let text = "there is no such session, or not any more: begin with initialize\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    if request.method() == Method::DELETE {
        sessions.cancel(&session).await;
        return next.run(request).await;
    }
    let id = asked.and_then(|asked| asked.id);
    let Some(under_way) = sessions.enter(&session, id.clone()) else {
        event!("refused {}: a request with its id is under way", request.uri().path());
        return Fault::invalid(id, "a request with this id is under way in this session").into_response();
    };
    next.run(request).await.map(|body| answers::watched(body, under_way))
}

fn full() -> Response {
    event!("refused a session: there are {MOST}, and none of them has been idle for {} s", IDLE.as_secs());
    let text = format!(
        "there are {MOST} sessions, which is as many as there may be: end those that are not needed with DELETE, or try \
         again later\n"
    );
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::{StreamExt as _, stream};
    use rmcp::model::{CustomRequest, CustomResult, ErrorData};
    use rmcp::service::RequestContext;
    use rmcp::{RoleServer, ServerHandler, ServiceExt as _};
    use serde_json::{Value, json};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Tells when it is called, and when that is cancelled.
    struct Hanging(UnboundedSender<&'static str>);

    impl ServerHandler for Hanging {
        async fn on_custom_request(
            &self,
            _request: CustomRequest,
            context: RequestContext<RoleServer>,
        ) -> Result<CustomResult, ErrorData> {
            self.0.send("called").unwrap();
            context.ct.cancelled().await;
            self.0.send("cancelled").unwrap();
            Ok(CustomResult(Value::Null))
        }
    }

    fn message(message: Value) -> ClientJsonRpcMessage {
        serde_json::from_value(message).unwrap()
    }

    #[tokio::test]
    async fn calls_are_cancelled_while_the_session_still_is() {
        let manager = Arc::new(LocalSessionManager::default());
        let sessions = Arc::new(Sessions::new(Arc::clone(&manager)));
        let (id, transport) = manager.create_session().await.unwrap();
        let (tell, mut told) = unbounded_channel();
        let serving = tokio::spawn(Hanging(tell).serve(transport));
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "0"},
        });
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        manager.initialize_session(&id, message(initialize)).await.unwrap();
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        manager.accept_message(&id, message(initialized)).await.unwrap();
        let call = json!({"jsonrpc": "2.0", "id": 7, "method": "hang"});
        let under_way = sessions.enter(&id, Some(RequestId::Number(7))).unwrap();
        let _stream = manager.create_stream(&id, message(call)).await.unwrap();
        assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap(), Some("called"));
        sessions.cancel(&id).await;
        assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap(), Some("cancelled"));
        assert!(manager.has_session(&id).await.unwrap(), "and not by the end of the session");
        drop((under_way, serving.await.unwrap()));
    }

    #[tokio::test]
    async fn an_id_is_free_with_the_answer_and_the_request_is_over_with_its_stream() {
        let sessions = Arc::new(Sessions::new(Arc::default()));
        let (session, id) = (SessionId::from("s"), Some(RequestId::Number(7)));
        let under_way = sessions.enter(&session, id.clone()).unwrap();
        assert!(sessions.enter(&session, id.clone()).is_none());
        let events =
            [r#"data: {"jsonrpc":"2.0","id":7,"method":"roots/list"}"#, r#"data: {"id":7,"result":{}}"#];
        let events = stream::iter(events.map(Ok::<_, std::io::Error>)).chain(stream::pending());
        let mut body = answers::watched(Body::from_stream(events), under_way).into_data_stream();
        body.next().await.unwrap().unwrap();
        assert!(sessions.enter(&session, id.clone()).is_none(), "a question of the server's is no answer");
        body.next().await.unwrap().unwrap();
        let again = sessions.enter(&session, id.clone()).expect("it is answered");
        let open = || sessions.known().sessions[&session].open;
        assert_eq!(open(), 2);
        drop(body);
        assert_eq!(open(), 1);
        assert!(
            sessions.enter(&session, id.clone()).is_none(),
            "the first one does not free the second one's id"
        );
        drop(again);
        assert!(sessions.enter(&session, id).is_some());
    }

    #[test]
    fn the_one_that_was_idle_for_longest_is_forgotten_and_none_that_is_in_use() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let [busy, old, older]: [SessionId; 3] = ["busy", "old", "older"].map(SessionId::from);
        let mut known = Known::default();
        known.are(&[busy.clone(), older.clone()], begun);
        known.are(&[busy.clone(), older.clone(), old.clone()], at(10));
        known.sessions.get_mut(&busy).unwrap().open = 1;
        assert_eq!(known.idle(at(299)), None);
        assert_eq!(known.idle(at(300)), Some(older.clone()));
        assert_eq!(known.idle(at(1_000)), Some(older.clone()));
        known.sessions.get_mut(&older).unwrap().used = at(900);
        assert_eq!(known.idle(at(1_000)), Some(old.clone()));
        // What is over is not known any more; what is still being answered is.
        known.are(std::slice::from_ref(&older), at(1_000));
        assert_eq!(known.idle(at(2_000)), Some(older));
        assert!(known.sessions.contains_key(&busy) && !known.sessions.contains_key(&old));
    }

    #[tokio::test]
    async fn where_there_is_no_room_one_that_is_idle_for_long_makes_it() {
        let manager = Arc::new(LocalSessionManager::default());
        let mut transports = Vec::new();
        for _ in 0..MOST {
            transports.push(manager.create_session().await.unwrap());
        }
        let sessions = Arc::new(Sessions::new(Arc::clone(&manager)));
        let in_use: Vec<_> =
            transports.iter().skip(1).map(|(id, _)| sessions.enter(id, None).unwrap()).collect();
        let begun = Instant::now();
        assert!(sessions.begin(begun).await.is_none(), "none has been idle for long");
        let room = sessions.begin(begun + 2 * IDLE).await;
        assert!(room.is_some());
        assert!(!manager.has_session(&transports[0].0).await.unwrap(), "it is forgotten");
        assert_eq!(manager.sessions.read().await.len(), MOST - 1, "and no other one");
        assert!(sessions.begin(begun + 2 * IDLE).await.is_none(), "the room is taken, all others are in use");
        drop(room);
        assert!(sessions.begin(begun + 2 * IDLE).await.is_some(), "the room was not used");
        drop(in_use);
    }
}
