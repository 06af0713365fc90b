//! A server that is called by two clients, of which one has given up: whose is what it says?

use super::*;

/// Remembers for whom log messages of no certain call were.
#[derive(Debug, Default)]
struct Ear(Mutex<Vec<BTreeSet<Asker>>>);

impl Listener for Ear {
    fn notified(&self, _method: &str, _params: &Value, askers: &BTreeSet<Asker>) {
        self.0.lock().unwrap().push(askers.clone());
    }
}

/// A server that is called by `A`, which has given up, and by `B`.
struct Abandoned {
    peer: Peer,
    outgoing: UnboundedReceiver<Message>,
    ear: Arc<Ear>,
    id: u64,
    of_b: Call,
}

const A: Asker = 1;
const B: Asker = 2;

fn abandoned() -> Abandoned {
    let ear = Arc::<Ear>::default();
    let (peer, outgoing) = Peer::new(Arc::<Ear>::clone(&ear));
    let of_a = peer.call("tools/call", json!({}), Some(A), false);
    let of_b = peer.call("tools/call", json!({}), Some(B), false);
    let id = of_a.id;
    drop(of_a);
    Abandoned { peer, outgoing, ear, id, of_b }
}

impl Abandoned {
    fn hear(&self, message: &Value, of: Option<u64>) {
        for message in Message::parse(message.to_string().as_bytes()).unwrap() {
            self.peer.hear(message, of);
        }
    }

    fn asks(&self, of: Option<u64>) {
        self.hear(&json!({"id": "q", "method": "elicitation/create"}), of);
    }

    /// What the server was answered, if it was.
    fn answered(&mut self) -> Option<String> {
        let sent = std::iter::from_fn(|| self.outgoing.try_recv().ok());
        sent.filter_map(|message| match message {
            Message::Answer { outcome: Err(error), .. } => Some(error.message),
            _ => None,
        })
        .last()
    }

    /// Whether `B` is asked.
    async fn asks_b(mut self) -> bool {
        self.peer.close();
        while let Some(heard) = self.of_b.hear().await {
            if matches!(heard, Heard::Asked(_)) {
                return true;
            }
        }
        false
    }
}

#[tokio::test]
async fn a_question_of_a_call_that_was_given_up_is_put_to_nobody_else() {
    let mut on_pipes = abandoned();
    on_pipes.asks(None);
    let why = on_pipes.answered().expect("an answer to the server");
    assert!(why.contains("several clients are calling this server"), "{why}");
    assert!(!on_pipes.asks_b().await);

    let mut on_its_stream = abandoned();
    on_its_stream.asks(Some(on_its_stream.id));
    let why = on_its_stream.answered().expect("an answer to the server");
    assert!(why.contains("the call it belongs to was given up"), "{why}");
    assert!(!on_its_stream.asks_b().await);
}

#[tokio::test]
async fn whoever_is_alone_again_is_asked_once_the_server_has_answered_what_was_given_up() {
    let bench = abandoned();
    bench.hear(&json!({"id": bench.id, "result": {}}), None);
    bench.asks(None);
    assert!(bench.asks_b().await);
}

#[test]
fn a_log_message_of_a_call_that_was_given_up_may_be_of_either_and_on_its_stream_is_nobodys() {
    let bench = abandoned();
    let log = json!({"method": "notifications/message", "params": {"level": "info", "data": "secret"}});
    bench.hear(&log, None);
    bench.hear(&log, Some(bench.id));
    assert_eq!(*bench.ear.0.lock().unwrap(), [BTreeSet::from([A, B])]);
}
