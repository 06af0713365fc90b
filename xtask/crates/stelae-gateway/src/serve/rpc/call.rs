//! One request that is under way: what is heard of it meanwhile, in order, and its one answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::message::RpcError;
use super::peer::Peer;
use super::question::Question;
use crate::serve::weight;

/// So many events wait for a client that reads slowly. More are dropped: a server that floods must not fill our memory,
/// and whoever reads for all clients of a server must not wait for one of them.
const MOST_WAITING: usize = 1_000;
/// Nor do more bytes of them, unless it is one alone.
const MOST_WAITING_BYTES: usize = 8 * 1024 * 1024;

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
    waiting: Arc<Waiting>,
    over: bool,
    /// What the server is told when this is dropped; nothing for what may not be cancelled.
    reason: Option<&'static str>,
}

impl Call {
    /// A call with the id `id`, and the end at which its news are put in.
    pub(super) fn new(peer: Peer, id: u64, method: &str) -> (Self, Teller) {
        let (tell, heard) = unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        let teller = Teller { tell, waiting: Arc::clone(&waiting) };
        let reason = (method != "initialize").then_some("cancelled by the client");
        (Self { peer, id, heard, waiting, over: false, reason }, teller)
    }

    /// What is heard next; `None` when the connection is over. What the server said first, comes first.
    pub(in crate::serve) async fn hear(&mut self) -> Option<Heard> {
        let heard = self.heard.recv().await;
        if let Some(heard) = &heard {
            self.waiting.less(weight_of(heard));
        }
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
    waiting: Arc<Waiting>,
}

impl Teller {
    /// Tells; gives back what nobody listens to, or what is one too many. An answer never is.
    pub(super) fn tell(&self, heard: Heard) -> Result<(), Heard> {
        let weight = weight_of(&heard);
        let room = self.waiting.more(weight);
        let too_many = !room && !matches!(heard, Heard::Answer(_));
        let told = if too_many { Err(heard) } else { self.tell.send(heard).map_err(|unheard| unheard.0) };
        if told.is_err() {
            self.waiting.less(weight);
        }
        told
    }
}

/// How many events wait, and how many bytes of them.
#[derive(Debug, Default)]
struct Waiting {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// One more; whether there is room for it.
    fn more(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let few = self.events.fetch_add(1, Ordering::Relaxed) < MOST_WAITING;
        few && (before == 0 || before + bytes <= MOST_WAITING_BYTES)
    }

    /// One less.
    fn less(&self, bytes: usize) {
        self.events.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What an event weighs that may be dropped.
fn weight_of(heard: &Heard) -> usize {
    match heard {
        Heard::Progress(params) | Heard::Log(params) => weight::of(params),
        Heard::Asked(question) => question.params.as_ref().map_or(0, weight::of),
        Heard::Answer(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_or_for_one_that_is_long() {
        let waiting = Waiting::default();
        assert!(waiting.more(2 * MOST_WAITING_BYTES), "one alone");
        assert!(!waiting.more(1));
        waiting.less(1);
        waiting.less(2 * MOST_WAITING_BYTES);
        assert!((0..MOST_WAITING).all(|_| waiting.more(1)));
        assert!(!waiting.more(1));
    }
}
