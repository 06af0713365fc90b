//! Requests of clients: answered from the board, or relayed to the server that is meant, with everything that is said
//! until the answer comes.
//!
//! Both as raw JSON: rmcp's types would drop what they do not know (a tool's `execution`).

mod conversation;

use axum::http::request::Parts;
use rmcp::RoleServer;
use rmcp::model::{ErrorCode, ErrorData, Implementation, RequestMetaObject};
use rmcp::service::{Peer, RequestContext};
use serde_json::{Map, Value, json};

use super::board::{NoTarget, Target};
use super::front::Front;
use super::hub;
use super::limits::{SUBSCRIPTION_BYTES, SUBSCRIPTIONS_OF_A_SESSION};
use super::log::event;
use super::offer::Kind;
use super::raw::Held;
use super::rpc::RpcError;
use conversation::{Conversation, NoAnswer};

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
        if !front.hub.subscribe(front.asker, &uri) {
            let why = format!(
                "a session can subscribe to {SUBSCRIPTIONS_OF_A_SESSION} resources, and a URI can have {SUBSCRIPTION_BYTES} bytes"
            );
            return Err(ErrorData::invalid_params(why, None));
        }
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
        let Self { front, method, mut params, mut context } = self;
        // The token is of the client's own choice, and may be another client's, too: servers get one of ours.
        let token = context.meta.get_progress_token();
        if let Some(meta) = meta(&context.meta) {
            params.insert("_meta".to_owned(), meta);
        }
        let Target { server, link, .. } = target;
        let call = link.peer.call(method, Value::Object(params), Some(front.asker), token.is_some());
        // From here on the server has it: what is left of it here is small, and a call may take an hour.
        if let Some(head) = context.extensions.get_mut::<Parts>() {
            head.extensions.remove::<Held>();
        }
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

impl From<RpcError> for ErrorData {
    fn from(error: RpcError) -> Self {
        // A code that does not fit its type means nothing to anybody.
        let code = i32::try_from(error.code).map_or(ErrorCode::INTERNAL_ERROR, ErrorCode);
        Self::new(code, error.message, error.data)
    }
}
