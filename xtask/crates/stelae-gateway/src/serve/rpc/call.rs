//! One request that is under way: what is heard of it meanwhile, in order, and its one answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::message::RpcError;
use super::peer::Peer;
use super::question::Question;

/// So many events wait for a client that reads slowly. More are dropped: a server that floods must not fill our memory,
/// and whoever reads for all clients of a server must not wait for one of them.
const MOST_WAITING: usize = 1_000;

/// What is heard of a request.
#[derive(Debug)]
pub(in crate::serve) enum Heard {
    /// The params of `notifications/progress`, with our token.
    Progress(Value),
    /// The params of `notifications/message`.
    Log(Value),
    /// The server asks whoever called it.
    Asked(Question),
    /// The answer. Nothing comes after it.
    Answer(Result<Value, RpcError>),
}

/// A request that was sent. Dropping it before its answer cancels it.
#[derive(Debug)]
pub(in crate::serve) struct Call {
    peer: Peer,
    pub(super) id: u64,
    heard: UnboundedReceiver<Heard>,
    waiting: Arc<AtomicUsize>,
    over: bool,
    /// What the server is told when this is dropped; nothing for what may not be cancelled.
    reason: Option<&'static str>,
}

impl Call {
    /// A call with the id `id`, and the end at which its news are put in.
    pub(super) fn new(peer: Peer, id: u64, method: &str) -> (Self, Teller) {
        let (tell, heard) = unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        let teller = Teller { tell, waiting: Arc::clone(&waiting) };
        let reason = (method != "initialize").then_some("cancelled by the client");
        (Self { peer, id, heard, waiting, over: false, reason }, teller)
    }

    /// What is heard next; `None` when the connection is over. What the server said first, comes first.
    pub(in crate::serve) async fn hear(&mut self) -> Option<Heard> {
        let heard = self.heard.recv().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.over = matches!(heard, Some(Heard::Answer(_)) | None);
        heard
    }

    /// The answer, whatever else is heard; `None` when the connection is over.
    pub(in crate::serve) async fn answer(mut self) -> Option<Result<Value, RpcError>> {
        loop {
            match self.hear().await? {
                Heard::Answer(answer) => return Some(answer),
                // Dropping a question refuses it.
                Heard::Progress(_) | Heard::Log(_) | Heard::Asked(_) => {}
            }
        }
    }

    /// Gives the call up; the server is told why.
    pub(in crate::serve) fn give_up(mut self, reason: &'static str) {
        self.reason = Some(reason);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.over {
            self.peer.forget(self.id, self.reason);
        }
    }
}

/// The end of a [`Call`] at which the reader of the connection puts in what it hears.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    tell: UnboundedSender<Heard>,
    waiting: Arc<AtomicUsize>,
}

impl Teller {
    /// Tells; gives back what nobody listens to, or what is one too many. An answer never is.
    pub(super) fn tell(&self, heard: Heard) -> Result<(), Heard> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let too_many = waiting >= MOST_WAITING && !matches!(heard, Heard::Answer(_));
        let told = if too_many { Err(heard) } else { self.tell.send(heard).map_err(|unheard| unheard.0) };
        if told.is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        told
    }
}
