//! A request that a server sends to us: it is answered exactly once, at the latest when nobody is left who could.

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::message::RpcError;
use super::peer::Peer;

/// Such a request.
#[derive(Debug)]
pub(in crate::serve) struct Question {
    /// What is asked for: `sampling/createMessage`, `elicitation/create`, …
    pub(in crate::serve) method: String,
    /// Its params, as they came.
    pub(in crate::serve) params: Option<Value>,
    /// The server does not want to know any more.
    pub(in crate::serve) withdrawn: CancellationToken,
    id: Value,
    peer: Peer,
    answered: bool,
}

impl Question {
    /// A question of the server behind `peer`.
    pub(super) fn new(
        peer: Peer,
        id: Value,
        method: String,
        params: Option<Value>,
        withdrawn: CancellationToken,
    ) -> Self {
        Self { method, params, withdrawn, id, peer, answered: false }
    }

    /// Answers it.
    pub(in crate::serve) fn answer(mut self, answer: Result<Value, RpcError>) {
        self.answered = true;
        self.peer.answer(std::mem::take(&mut self.id), answer);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.answered {
            let why = RpcError::new(RpcError::INTERNAL, format!("nobody is left to answer {}", self.method));
            self.peer.answer(std::mem::take(&mut self.id), Err(why));
        }
    }
}
