//! What clients' sessions have under way, and how many sessions there may be.
//!
//! rmcp has the sessions themselves. It takes an id that is under way a second time and forgets the first request, it takes
//! as many sessions as memory does, and one that is ended lets its calls go on for seconds.
//!
//! Where there is no room for a new session, an old one gives way: first one that never asked for anything, then the one that
//! was not used for the longest time; one with an open event stream after those without. A session with a call under way
//! never does. A client whose session is gone gets 404, and by the protocol begins a new one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientJsonRpcMessage, ClientNotification, RequestId,
};
use rmcp::transport::streamable_http_server::SessionManager;
use rmcp::transport::streamable_http_server::session::SessionId;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answers;
use super::limits::{CALLS_OF_A_SESSION, SESSIONS as MOST};
use super::log::event;
use super::shape::{Asked, Fault};
use crate::connections::{Refusals, share_of_others, user_of};
use crate::peer_user::PeerUser;

/// A session that does not take the cancellation of its calls for this long is ended without.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// The sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    manager: Arc<LocalSessionManager>,
    known: Mutex<Known>,
    /// Requests of all sessions that the gateway can be at work on.
    calls: Arc<Semaphore>,
    refusals: Arc<Refusals>,
}

#[derive(Debug, Default)]
struct Known {
    sessions: HashMap<SessionId, Session>,
    /// Requests for a session that are not answered: it may be there already, or not yet.
    beginning: usize,
    /// Those of them that are of other users.
    beginning_of_others: usize,
}

#[derive(Debug)]
struct Session {
    /// HTTP requests that are not fully answered; the session's own stream is one.
    open: usize,
    /// Those of them that are event streams on which no answer comes (GET).
    streams: usize,
    /// Requests that the gateway is at work on, also when their client is gone.
    calls: usize,
    /// Whether it ever asked for anything.
    asked: bool,
    /// Whether another user than the gateway's began it.
    of_others: bool,
    /// JSON-RPC requests without an answer.
    under_way: HashSet<RequestId>,
    /// When something was last done with it.
    used: Instant,
}

impl Session {
    fn new(used: Instant) -> Self {
        Self {
            open: 0,
            streams: 0,
            calls: 0,
            asked: false,
            of_others: false,
            under_way: HashSet::new(),
            used,
        }
    }

    /// Whether nothing is lost with it that its client cannot have again.
    fn may_give_way(&self) -> bool {
        self.open == self.streams && self.calls == 0
    }
}

impl Known {
    /// Takes over which sessions there are.
    fn are(&mut self, alive: &[SessionId], now: Instant) {
        let there: HashSet<_> = alive.iter().collect();
        self.sessions.retain(|id, session| session.open > 0 || session.calls > 0 || there.contains(id));
        for id in alive {
            self.sessions.entry(id.clone()).or_insert_with(|| Session::new(now));
        }
    }

    /// The session that gives way, among those that `may`; other users' first.
    fn first(&self, may: impl Fn(&Session) -> bool) -> Option<SessionId> {
        let idle = self.sessions.iter().filter(|(_, session)| session.may_give_way() && may(session));
        let order =
            |session: &Session| (!session.of_others, session.streams > 0, session.asked, session.used);
        idle.min_by_key(|(_, session)| order(session)).map(|(id, _)| id.clone())
    }
}

impl Sessions {
    /// Those of `manager`, with so many calls at once.
    pub(super) fn new(manager: Arc<LocalSessionManager>, calls: usize, refusals: Arc<Refusals>) -> Self {
        Self { manager, known: Mutex::default(), calls: Arc::new(Semaphore::new(calls)), refusals }
    }

    /// Makes room for one more session; nothing if there is none `now`.
    async fn begin(self: &Arc<Self>, now: Instant, of_others: bool) -> Option<Beginning> {
        // Counted before the sessions are: of two that begin at once each sees the other, as a session or as this.
        let (beginning, beginning_of_others) = {
            let mut known = self.known();
            known.beginning += 1;
            known.beginning_of_others += usize::from(of_others);
            (known.beginning, known.beginning_of_others)
        };
        let one = Beginning { sessions: Arc::clone(self), of_others };
        let alive: Vec<_> = self.manager.sessions.read().await.keys().cloned().collect();
        let first = {
            let mut known = self.known();
            known.are(&alive, now);
            let others = known.sessions.values().filter(|session| session.of_others).count();
            let first = if of_others && others + beginning_of_others > share_of_others(MOST) {
                known.first(|session| session.of_others)?
            } else if alive.len() + beginning > MOST {
                known.first(|session| !of_others || session.of_others)?
            } else {
                return Some(one);
            };
            // Of two that begin at once, each takes the place of another one.
            known.sessions.remove(&first);
            first
        };
        self.refusals.note("sessions that gave way to new ones", || {
            format!("there are {MOST} sessions: one that is not in use gives way to a new one")
        });
        timeout(CANCEL_LIMIT, self.manager.close_session(&first)).await.ok()?.ok()?;
        Some(one)
    }

    /// A session that was begun.
    fn has_begun(&self, session: SessionId, of_others: bool) {
        let now = Instant::now();
        self.known().sessions.entry(session).or_insert_with(|| Session::new(now)).of_others = of_others;
    }

    /// Notes a request of a session.
    fn enter(
        self: &Arc<Self>,
        session: &SessionId,
        id: Option<RequestId>,
        method: &Method,
    ) -> Result<UnderWay, NotNow> {
        let mut known = self.known();
        let entry = known.sessions.entry(session.clone()).or_insert_with(|| Session::new(Instant::now()));
        let mut call = None;
        if let Some(id) = &id {
            if entry.under_way.contains(id) {
                return Err(NotNow::IdInUse);
            }
            if entry.calls >= CALLS_OF_A_SESSION {
                return Err(NotNow::TooManyOfTheSession);
            }
            let permit = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| NotNow::TooMany)?;
            entry.under_way.insert(id.clone());
            entry.calls += 1;
            entry.asked = true;
            let call_of = Call { sessions: Arc::clone(self), session: session.clone(), _permit: permit };
            call = Some(Arc::new(call_of));
        }
        let stream = *method == Method::GET;
        entry.open += 1;
        entry.streams += usize::from(stream);
        Ok(UnderWay { sessions: Arc::clone(self), session: session.clone(), id, stream, call })
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

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotNow {
    IdInUse,
    TooManyOfTheSession,
    TooMany,
}

/// A session that is about to be.
struct Beginning {
    sessions: Arc<Sessions>,
    of_others: bool,
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let mut known = self.sessions.known();
        known.beginning -= 1;
        known.beginning_of_others -= usize::from(self.of_others);
    }
}

/// A request that the gateway is at work on. It is an extension of that request, which rmcp drops when its handler has ended:
/// later than the HTTP exchange, when the client does not wait for the answer.
#[derive(Debug)]
struct Call {
    sessions: Arc<Sessions>,
    session: SessionId,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(session) = self.sessions.known().sessions.get_mut(&self.session) {
            session.calls = session.calls.saturating_sub(1);
        }
    }
}

/// A request of a session. When it is dropped, it is over.
#[derive(Debug)]
pub(super) struct UnderWay {
    sessions: Arc<Sessions>,
    session: SessionId,
    id: Option<RequestId>,
    stream: bool,
    /// Until it is handed to the request.
    call: Option<Arc<Call>>,
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
            session.open = session.open.saturating_sub(1);
            session.streams = session.streams.saturating_sub(usize::from(self.stream));
            session.used = Instant::now();
        }
    }
}

/// Refuses a session too many with 503, a session that is not there with 404, and an id that is under way with 400; cancels
/// the calls of a session that is ended.
pub(super) async fn watch(
    State(sessions): State<Arc<Sessions>>,
    mut request: Request,
    next: Next,
) -> Response {
    let asked = request.extensions().get::<Asked>().cloned();
    let session = request.headers().get("mcp-session-id").and_then(|id| id.to_str().ok());
    let Some(session) = session.map(SessionId::from) else {
        if !asked.is_some_and(|asked| asked.initialize) {
            return next.run(request).await;
        }
        // Held until the session is there.
        let of_others = user_of(&request) != PeerUser::Same;
        let Some(_beginning) = sessions.begin(Instant::now(), of_others).await else {
            return sessions.full();
        };
        let answer = next.run(request).await;
        let session = answer.headers().get("mcp-session-id").and_then(|id| id.to_str().ok());
        if let Some(session) = session {
            sessions.has_begun(SessionId::from(session), of_others);
        }
        return answer;
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
    let mut under_way = match sessions.enter(&session, id.clone(), request.method()) {
        Ok(under_way) => under_way,
        Err(why) => return sessions.refuse(why, id),
    };
    if let Some(call) = under_way.call.take() {
        request.extensions_mut().insert(call);
    }
    next.run(request).await.map(|body| answers::watched(body, under_way))
}

impl Sessions {
    fn full(&self) -> Response {
        self.refusals.note("refused sessions", || {
            format!("refused a session: there are {MOST}, or as many as other users may have, and each has a call under way")
        });
        let text = format!(
            "there are {MOST} sessions, which is as many as there may be, or as many as other users may have, and each has a \
             call under way: end those that are not needed with DELETE, or try again later\n"
        );
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response()
    }

    fn refuse(&self, why: NotNow, id: Option<RequestId>) -> Response {
        let fault = match why {
            NotNow::IdInUse => Fault::invalid(id, "a request with this id is under way in this session"),
            NotNow::TooManyOfTheSession => {
                let why = format!(
                    "{CALLS_OF_A_SESSION} requests of this session are under way, which is as many as may be"
                );
                Fault::busy(id, why)
            }
            NotNow::TooMany => Fault::busy(id, "as many requests are under way as may be: try again"),
        };
        let text = fault.why().to_owned();
        self.refusals.note("refused requests of sessions", move || format!("refused a request: {text}"));
        fault.into_response()
    }
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

    fn of(manager: &Arc<LocalSessionManager>) -> Arc<Sessions> {
        Arc::new(Sessions::new(Arc::clone(manager), 2 * MOST, Refusals::new("test")))
    }

    fn message(message: Value) -> ClientJsonRpcMessage {
        serde_json::from_value(message).unwrap()
    }

    #[tokio::test]
    async fn calls_are_cancelled_while_the_session_still_is() {
        let manager = Arc::new(LocalSessionManager::default());
        let sessions = of(&manager);
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
        let under_way = sessions.enter(&id, Some(RequestId::Number(7)), &Method::POST).unwrap();
        let _stream = manager.create_stream(&id, message(call)).await.unwrap();
        assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap(), Some("called"));
        sessions.cancel(&id).await;
        assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap(), Some("cancelled"));
        assert!(manager.has_session(&id).await.unwrap(), "and not by the end of the session");
        drop((under_way, serving.await.unwrap()));
    }

    #[tokio::test]
    async fn an_id_is_free_with_the_answer_and_the_request_is_over_with_its_stream() {
        let sessions = of(&Arc::default());
        let (session, id) = (SessionId::from("s"), Some(RequestId::Number(7)));
        let enter = || sessions.enter(&session, id.clone(), &Method::POST);
        let under_way = enter().unwrap();
        assert_eq!(enter().unwrap_err(), NotNow::IdInUse);
        let events =
            [r#"data: {"jsonrpc":"2.0","id":7,"method":"roots/list"}"#, r#"data: {"id":7,"result":{}}"#];
        let events = stream::iter(events.map(Ok::<_, std::io::Error>)).chain(stream::pending());
        let mut body = answers::watched(Body::from_stream(events), under_way).into_data_stream();
        body.next().await.unwrap().unwrap();
        assert!(enter().is_err(), "a question of the server's is no answer");
        body.next().await.unwrap().unwrap();
        let again = enter().expect("it is answered");
        let open = || sessions.known().sessions[&session].open;
        assert_eq!(open(), 2);
        drop(body);
        assert_eq!(open(), 1);
        assert!(enter().is_err(), "the first one does not free the second one's id");
        drop(again);
        assert!(enter().is_ok());
    }

    #[test]
    fn one_that_never_asked_gives_way_first_and_one_with_a_call_never() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let names = ["calling", "unused-new", "unused-old", "used-old", "used-new", "streaming", "other"];
        let mut known = Known::default();
        let all: Vec<_> = names.map(SessionId::from).into();
        known.are(&all, at(50));
        let mut change = |name: &str, change: fn(&mut Session)| {
            change(known.sessions.get_mut(&SessionId::from(name)).unwrap());
        };
        change("calling", |session| (session.open, session.calls) = (1, 1));
        change("streaming", |session| (session.open, session.streams) = (1, 1));
        change("other", |session| (session.asked, session.of_others) = (true, true));
        for name in ["used-old", "used-new"] {
            change(name, |session| session.asked = true);
        }
        for (name, used) in [("unused-old", 40), ("used-old", 10), ("used-new", 60)] {
            known.sessions.get_mut(&SessionId::from(name)).unwrap().used = at(used);
        }
        assert_eq!(known.first(|session| session.of_others), Some(SessionId::from("other")));
        let mut order = Vec::new();
        while let Some(first) = known.first(|_| true) {
            order.push(first.to_string());
            known.sessions.remove(&first);
        }
        assert_eq!(order, ["other", "unused-old", "unused-new", "used-old", "used-new", "streaming"]);
        // A call of a client that is gone is one, too; what is over is not known any more.
        known.sessions.get_mut(&SessionId::from("calling")).unwrap().open = 0;
        known.are(&[], at(100));
        assert_eq!((known.first(|_| true), known.sessions.len()), (None, 1));
    }

    #[tokio::test]
    async fn where_there_is_no_room_one_that_is_not_in_use_makes_it() {
        let manager = Arc::new(LocalSessionManager::default());
        let mut transports = Vec::new();
        for _ in 0..MOST {
            transports.push(manager.create_session().await.unwrap());
        }
        let sessions = of(&manager);
        let call =
            |id: &SessionId, number| sessions.enter(id, Some(RequestId::Number(number)), &Method::POST);
        let in_use: Vec<_> =
            transports.iter().zip(1..).skip(1).map(|((id, _), number)| call(id, number).unwrap()).collect();
        let room = sessions.begin(Instant::now(), false).await;
        assert!(room.is_some());
        assert!(!manager.has_session(&transports[0].0).await.unwrap(), "it is forgotten");
        assert_eq!(manager.sessions.read().await.len(), MOST - 1, "and no other one");
        assert!(
            sessions.begin(Instant::now(), false).await.is_none(),
            "the room is taken, all others are in use"
        );
        drop(room);
        assert!(sessions.begin(Instant::now(), false).await.is_some(), "the room was not used");
        drop(in_use);
    }

    #[tokio::test]
    async fn other_users_have_a_share_of_the_sessions() {
        let manager = Arc::new(LocalSessionManager::default());
        let sessions = of(&manager);
        let mut transports = Vec::new();
        for number in 0..=share_of_others(MOST) {
            let (id, transport) = manager.create_session().await.unwrap();
            sessions.has_begun(id.clone(), number > 0);
            transports.push((id, transport));
        }
        let room = sessions.begin(Instant::now(), true).await;
        assert!(room.is_some());
        assert!(manager.has_session(&transports[0].0).await.unwrap(), "the user's own one stays");
        assert!(!manager.has_session(&transports[1].0).await.unwrap());
        assert_eq!(manager.sessions.read().await.len(), share_of_others(MOST));
    }

    #[tokio::test]
    async fn a_session_has_so_many_calls_also_when_its_client_does_not_wait() {
        let sessions = of(&Arc::default());
        let (session, other) = (SessionId::from("s"), SessionId::from("o"));
        let call = |session: &SessionId, number| {
            sessions.enter(session, Some(RequestId::Number(number)), &Method::POST)
        };
        let handled: Vec<_> = (0..)
            .take(CALLS_OF_A_SESSION)
            // The exchange is over at once, and the handler is not.
            .map(|number| call(&session, number).unwrap().call.take())
            .collect();
        assert_eq!(call(&session, -1).unwrap_err(), NotNow::TooManyOfTheSession);
        assert!(sessions.enter(&session, None, &Method::POST).is_ok(), "a notification is no call");
        assert!(call(&other, -1).is_ok());
        drop(handled);
        assert!(call(&session, -1).is_ok());
    }

    #[test]
    fn there_are_only_so_many_calls_in_all() {
        let manager = Arc::default();
        let sessions = Arc::new(Sessions::new(manager, 1, Refusals::new("test")));
        let call = |session: &str| {
            sessions.enter(&SessionId::from(session), Some(RequestId::Number(1)), &Method::POST)
        };
        let first = call("a").unwrap();
        assert_eq!(call("b").unwrap_err(), NotNow::TooMany);
        drop(first);
        assert!(call("b").is_ok());
    }
}
