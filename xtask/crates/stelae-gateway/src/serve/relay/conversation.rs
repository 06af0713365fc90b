//! What goes on between a client and a server until the answer comes: everything that is said is passed on, in the order in
//! which it is heard.

use std::fmt;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    CustomRequest, Notification, ProgressNotificationParam, ProgressToken, ServerNotification, ServerRequest,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestContext, RequestHandle, ServiceError};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::client;
use crate::serve::front::{Front, notify};
use crate::serve::link::Link;
use crate::serve::rpc::{Call, Heard, Question, RpcError};

/// How long a client may take to answer what a server asks: a person may be asked, and is not asked for longer.
const ASK_LIMIT: Duration = Duration::from_secs(10 * 60);
/// No call takes longer, however much its server has to say meanwhile.
const CALL_CEILING: Duration = Duration::from_secs(60 * 60);

/// Why there is no answer.
pub(super) enum NoAnswer {
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

/// What goes on between a client and a server until the answer comes.
pub(super) struct Conversation<'a> {
    pub(super) front: &'a Front,
    pub(super) server: &'a Link,
    pub(super) client: &'a Peer<RoleServer>,
    /// Under which the client wants to hear of progress.
    pub(super) token: Option<ProgressToken>,
    pub(super) limit: Duration,
}

impl Conversation<'_> {
    /// Whatever is sent to the client is sent in this one task, in the order in which it was heard. By the task rmcp knows
    /// to which request a question belongs, and by its token to which progress does; log messages go to the stream that
    /// the client has opened for everything else.
    pub(super) async fn until_the_answer(
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
