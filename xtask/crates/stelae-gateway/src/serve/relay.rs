//! Requests of clients: answered from the board, or relayed to the server that is meant, with everything that is said
//! until the answer comes.
//!
//! Both as raw JSON: rmcp's types would drop what they do not know (a tool's `execution`).

use std::fmt;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    CustomRequest, ErrorCode, ErrorData, Implementation, Notification, ProgressNotificationParam,
    ProgressToken, RequestMetaObject, ServerNotification, ServerRequest,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestContext, RequestHandle, ServiceError};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::board::{NoTarget, Target};
use super::front::{Front, notify};
use super::hub;
use super::link::Link;
use super::log::event;
use super::offer::Kind;
use super::rpc::{Call, Heard, Question, RpcError};
use crate::client;

/// How long a client may take to answer what a server asks: a person may be asked, and is not asked for longer.
const ASK_LIMIT: Duration = Duration::from_secs(10 * 60);
/// No call takes longer, however much its server has to say meanwhile.
const CALL_CEILING: Duration = Duration::from_secs(60 * 60);

impl Front {
    /// Answers a request that was kept out of rmcp's hands (see [`super::raw`]).
    pub(super) async fn answer(
        &self,
        method: &str,
        params: Option<Value>,
        context: RequestContext<RoleServer>,
    ) -> Result<Value, ErrorData> {
        let params = match params {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(params)) => params,
            Some(_) => return Err(ErrorData::invalid_params("params is not an object", None)),
        };
        let request = Request { front: self, method, params, context };
        match method {
            "tools/list" => Ok(self.board.catalog().list(Kind::Tool)),
            "prompts/list" => Ok(self.board.catalog().list(Kind::Prompt)),
            "resources/list" => Ok(self.board.catalog().list(Kind::Resource)),
            "resources/templates/list" => Ok(self.board.catalog().list(Kind::Template)),
            "tools/call" => request.call_tool().await,
            "prompts/get" => request.about("prompt", "name", |name| self.board.prompt(name)).await,
            "resources/read" => request.about("resource", "uri", |uri| self.board.resource(uri)).await,
            "resources/subscribe" => request.subscribe().await,
            "resources/unsubscribe" => request.unsubscribe(),
            "completion/complete" => request.complete().await,
            "logging/setLevel" => request.set_level(),
            other => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, other.to_owned(), None)),
        }
    }
}

/// A request of a client.
struct Request<'a> {
    front: &'a Front,
    method: &'a str,
    params: Map<String, Value>,
    context: RequestContext<RoleServer>,
}

impl Request<'_> {
    fn text(&self, key: &str) -> Result<String, ErrorData> {
        let text = self.params.get(key).and_then(Value::as_str);
        text.map(str::to_owned)
            .ok_or_else(|| ErrorData::invalid_params(format!("params have no {key:?}"), None))
    }

    /// Relays it to the server that is meant. What that server calls the thing is not always what clients call it.
    async fn about(
        mut self,
        what: &str,
        key: &str,
        find: impl FnOnce(&str) -> Result<Target, NoTarget>,
    ) -> Result<Value, ErrorData> {
        let name = self.text(key)?;
        let target = find(&name).map_err(no_target)?;
        self.params.insert(key.to_owned(), target.own.as_str().into());
        self.ask(&format!("{what} {name:?}"), target).await
    }

    async fn call_tool(self) -> Result<Value, ErrorData> {
        let front = self.front;
        let Some(calls) = &front.calls else {
            return self.about("tool", "name", |name| front.board.tool(name)).await;
        };
        let mut open = calls.begin(client_name(&self.context.peer), &self.params);
        let find = |name: &str| front.board.tool(name).inspect(|target| open.given_to(&target.server));
        let answer = self.about("tool", "name", find).await;
        open.end(&answer).await;
        answer
    }

    async fn subscribe(self) -> Result<Value, ErrorData> {
        let (front, uri) = (self.front, self.text("uri")?);
        // Before it is asked for, so that no change falls in between.
        front.hub.subscribe(front.asker, &uri);
        let answer = self.about("resource", "uri", |uri| front.board.resource(uri)).await;
        if answer.is_err() {
            front.hub.unsubscribe(front.asker, &uri);
        }
        answer
    }

    fn unsubscribe(self) -> Result<Value, ErrorData> {
        let uri = self.text("uri")?;
        if self.front.hub.unsubscribe(self.front.asker, &uri) {
            self.front.unsubscribe_upstream(&uri);
        }
        Ok(json!({}))
    }

    /// Which server is meant stands in a reference.
    async fn complete(mut self) -> Result<Value, ErrorData> {
        let Some(Value::Object(reference)) = self.params.get_mut("ref") else {
            return Err(ErrorData::invalid_params("params have no \"ref\"", None));
        };
        let text = |key: &str| reference.get(key).and_then(Value::as_str).map(str::to_owned);
        let (called, target) = match (text("name"), text("uri")) {
            (Some(name), _) => {
                let target = self.front.board.prompt(&name).map_err(no_target)?;
                reference.insert("name".to_owned(), target.own.as_str().into());
                (format!("prompt {name:?}"), target)
            }
            (None, Some(uri)) => {
                (format!("resource {uri:?}"), self.front.board.resource(&uri).map_err(no_target)?)
            }
            (None, None) => {
                return Err(ErrorData::invalid_params("ref has neither a name nor a uri", None));
            }
        };
        self.ask(&called, target).await
    }

    fn set_level(self) -> Result<Value, ErrorData> {
        let level = self.text("level")?;
        let Some(level) = hub::level(&level) else {
            return Err(ErrorData::invalid_params(format!("there is no level {level:?}"), None));
        };
        let Front { hub, board, asker, .. } = self.front;
        let before = hub.level();
        hub.set_level(*asker, level);
        if let Some(level) = hub.level().filter(|level| Some(*level) != before) {
            for (_, link) in board.links() {
                if link.capabilities.get("logging").is_some() {
                    let call = link.peer.call("logging/setLevel", json!({"level": level}), None, false);
                    // A server that does not answer goes on logging as it did; nobody waits for it.
                    tokio::spawn(tokio::time::timeout(link.limit, call.answer()));
                }
            }
        }
        Ok(json!({}))
    }

    /// Asks a server, and passes on what it says until it answers, in the order in which it is said.
    async fn ask(self, called: &str, target: Target) -> Result<Value, ErrorData> {
        let Self { front, method, mut params, context } = self;
        // The token is of the client's own choice, and may be another client's, too: servers get one of ours.
        let token = context.meta.get_progress_token();
        if let Some(meta) = meta(&context.meta) {
            params.insert("_meta".to_owned(), meta);
        }
        let Target { server, link, .. } = target;
        let call = link.peer.call(method, Value::Object(params), Some(front.asker), token.is_some());
        let conversation =
            Conversation { front, server: &link, client: &context.peer, token, limit: link.limit };
        conversation.until_the_answer(call, &context).await.map_err(|why| {
            match &why {
                // What a server says is for its caller: it may quote secrets, and has line breaks.
                NoAnswer::Refused(error) => {
                    event!("server {server:?}: {method} of {called} was refused with error {}", error.code);
                }
                why => event!("server {server:?} of {called} {why}"),
            }
            no_answer(&server, called, why)
        })
    }
}

/// Why there is no answer.
enum NoAnswer {
    /// The server answered with a JSON-RPC error, which is the client's to see.
    Refused(RpcError),
    /// The connection ended first.
    Gone,
    /// It was silent for as long as this.
    TooLate(Duration),
    /// The client cancelled.
    Cancelled,
    /// The client did not read what was said for as long as this, or there was no end to it.
    Unread(Duration),
}

/// What goes on between a client and a server until the answer comes.
struct Conversation<'a> {
    front: &'a Front,
    server: &'a Link,
    client: &'a Peer<RoleServer>,
    /// Under which the client wants to hear of progress.
    token: Option<ProgressToken>,
    limit: Duration,
}

impl Conversation<'_> {
    /// Whatever is sent to the client is sent in this one task, in the order in which it was heard. By the task rmcp knows
    /// to which request a question belongs, and by its token to which progress does; log messages go to the stream that
    /// the client has opened for everything else.
    async fn until_the_answer(
        &self,
        mut call: Call,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, NoAnswer> {
        let over = Instant::now() + CALL_CEILING.max(self.limit);
        let mut silent_until = Instant::now() + self.limit;
        loop {
            let heard = tokio::select! {
                // An answer that is there is given, whatever else happened.
                biased;
                heard = call.hear() => heard,
                () = context.ct.cancelled() => {
                    call.give_up("cancelled by the client");
                    return Err(NoAnswer::Cancelled);
                }
                () = sleep_until(silent_until.min(over)) => {
                    if Instant::now() < over && self.server.peer.waits_for(self.front.asker) {
                        // It is the client who lets us wait, and that has a limit of its own.
                        silent_until = Instant::now() + self.limit;
                        continue;
                    }
                    call.give_up("no answer in time");
                    self.server.pulse.too_late(self.limit);
                    return Err(NoAnswer::TooLate(self.limit));
                }
            };
            self.server.pulse.heard();
            let heard = match heard {
                Some(Heard::Answer(answer)) => return answer.map_err(NoAnswer::Refused),
                Some(heard) => heard,
                None => return Err(NoAnswer::Gone),
            };
            silent_until = Instant::now() + self.limit;
            // Not biased: one that keeps talking would never let the other two have a word.
            let given_up = tokio::select! {
                () = self.pass_on(heard) => continue,
                () = context.ct.cancelled() => NoAnswer::Cancelled,
                () = sleep_until(silent_until.min(over)) => NoAnswer::Unread(self.limit),
            };
            call.give_up("its client does not listen any more");
            return Err(given_up);
        }
    }

    /// Tells the client what was heard. That takes as long as the client takes to read it: it has streams, and they are
    /// not endless.
    async fn pass_on(&self, heard: Heard) {
        match heard {
            Heard::Progress(params) => self.progress(params).await,
            // A client that is gone is noticed by its cancellation.
            Heard::Log(params) if self.front.hub.wants_log(self.front.asker, &params) => {
                notify(self.client, "notifications/message", Some(params)).await;
            }
            Heard::Asked(question) => self.ask_client(question).await,
            Heard::Log(_) | Heard::Answer(_) => {}
        }
    }

    async fn progress(&self, params: Value) {
        let Some(token) = self.token.clone() else { return };
        let Value::Object(mut params) = params else { return };
        params.insert("progressToken".to_owned(), json!(token));
        // rmcp knows by this type to which stream it belongs.
        let Ok(params) = serde_json::from_value::<ProgressNotificationParam>(Value::Object(params)) else {
            return;
        };
        let notification = ServerNotification::ProgressNotification(Notification::new(params));
        self.client.send_notification(notification).await.ok();
    }

    /// Puts a question to the client. Its answer is waited for elsewhere: over pipes, a question may be of another call of
    /// the same client, and outlive this one.
    async fn ask_client(&self, question: Question) {
        if let Some(why) = self.refuses(&question.method) {
            return question.answer(Err(why));
        }
        let request = CustomRequest::new(question.method.clone(), question.params.clone());
        let request = ServerRequest::CustomRequest(request);
        match self.client.send_cancellable_request(request, PeerRequestOptions::no_options()).await {
            Ok(asked) => drop(tokio::spawn(self.front.while_it_lasts(answered(asked, question)))),
            Err(why) => question.answer(Err(refused(&why))),
        }
    }

    /// A client is asked only for what it has said that it can do.
    fn refuses(&self, method: &str) -> Option<RpcError> {
        let info = self.client.peer_info();
        let capabilities = info.as_ref().map(|info| &info.capabilities);
        let can = capabilities.is_some_and(|can| match method {
            "sampling/createMessage" => can.sampling.is_some(),
            "elicitation/create" => can.elicitation.is_some(),
            "roots/list" => can.roots.is_some(),
            _ => false,
        });
        (!can).then(|| {
            RpcError::new(RpcError::METHOD_NOT_FOUND, format!("the client does not support {method}"))
        })
    }
}

/// Waits for the client's answer, and gives it to the server. One that is withdrawn is dropped; so is one whose session
/// ends, which refuses it.
async fn answered(mut asked: RequestHandle<RoleServer>, question: Question) {
    let withdrawn = question.withdrawn.clone();
    let why = tokio::select! {
        answer = &mut asked.rx => {
            let answer = answer.unwrap_or(Err(ServiceError::TransportClosed));
            return question.answer(answer.map(|answer| json!(answer)).map_err(|why| refused(&why)));
        }
        () = withdrawn.cancelled() => "the server does not want to know any more",
        () = sleep(ASK_LIMIT) => {
            question.answer(Err(refused(&ServiceError::Timeout { timeout: ASK_LIMIT })));
            "nobody waits any longer"
        }
    };
    // rmcp forgets it with this, too. A client that is gone needs no word.
    asked.cancel(Some(why.to_owned())).await.ok();
}

/// What the server is told of a client that did not do what it was asked for.
fn refused(why: &ServiceError) -> RpcError {
    match why {
        ServiceError::McpError(error) => RpcError {
            code: error.code.0.into(),
            message: error.message.to_string(),
            data: error.data.clone(),
        },
        other => RpcError::new(RpcError::INTERNAL, client::explain_request(other)),
    }
}

/// How the client calls itself, with its version if it says one.
fn client_name(client: &Peer<RoleServer>) -> Option<String> {
    let info = client.peer_info()?;
    let Implementation { name, version, .. } = &info.client_info;
    Some(if version.is_empty() { name.clone() } else { format!("{name} {version}") })
}

/// What the client said beside its request, without the token, which is between the two of us.
fn meta(meta: &RequestMetaObject) -> Option<Value> {
    let mut meta = serde_json::to_value(meta).ok()?;
    let fields = meta.as_object_mut()?;
    fields.remove("progressToken");
    (!fields.is_empty()).then_some(meta)
}

fn away(message: String) -> ErrorData {
    RpcError::new(RpcError::UNREACHABLE, message).into()
}

fn no_target(why: NoTarget) -> ErrorData {
    match why {
        NoTarget::NoSuch(why) => ErrorData::invalid_params(why, None),
        NoTarget::NoSuchResource(why) => ErrorData::resource_not_found(why, None),
        NoTarget::ServerAway(why) => away(why),
    }
}

fn no_answer(server: &str, called: &str, why: NoAnswer) -> ErrorData {
    match why {
        NoAnswer::Refused(error) => error.into(),
        why => away(format!("server {server:?} of {called} {why}")),
    }
}

/// What the server did.
impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "answered with error {}", error.code),
            Self::Gone => f.write_str("went away before it answered"),
            Self::TooLate(limit) => write!(f, "gave no answer within {} ms", limit.as_millis()),
            Self::Cancelled => f.write_str("was called, and the call was cancelled"),
            Self::Unread(limit) => {
                let limit = limit.as_millis();
                write!(f, "said more than its client read within {limit} ms, or than an hour has room for")
            }
        }
    }
}

impl From<RpcError> for ErrorData {
    fn from(error: RpcError) -> Self {
        // A code that does not fit its type means nothing to anybody.
        let code = i32::try_from(error.code).map_or(ErrorCode::INTERNAL_ERROR, ErrorCode);
        Self::new(code, error.message, error.data)
    }
}
