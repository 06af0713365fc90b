//! Whether a server lives, which is not the same as whether it answers now: one that is at work on a call of ours in its only
//! thread answers nothing else meanwhile.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::message::RpcError;
use super::peer::Peer;

impl Peer {
    /// Asks the server whether it lives: any answer says so. As long as it has something of ours to work on, its silence says
    /// nothing, and is waited out; that ends with the limits of the calls, so this has an end whenever those have.
    ///
    /// # Errors
    /// Why it is taken for dead: nobody listens, or the connection is over, or nothing was heard of it for `limit` while
    /// every call that it had before was over.
    pub(in crate::serve) async fn ping(&self, limit: Duration) -> Result<(), String> {
        let mut before = self.progress();
        let mut answer = pin!(self.call("ping", json!({}), None, false).answer());
        loop {
            let answered = timeout(limit, &mut answer).await;
            let now = self.progress();
            // One that said something lives, and may have begun with the next call.
            let at_work = now.heard > before.heard || self.has_work_from_before(before.next);
            match answered {
                Ok(Some(Err(error))) if error.code == RpcError::UNREACHABLE => {
                    return Err(format!("no answer to ping: {error}"));
                }
                Ok(Some(Err(error))) if error.code == RpcError::BROKEN_OFF && !at_work => {
                    return Err(format!("no answer to ping: {error}"));
                }
                // A server that refuses `ping` has answered.
                Ok(Some(_)) => return Ok(()),
                Ok(None) => return Err("the session was closed".to_owned()),
                Err(_) if !at_work => {
                    return Err(format!("no answer to ping within {} ms", limit.as_millis()));
                }
                Err(_) if now.heard > before.heard => before = now,
                // The same ping is waited for on: more of them would only fill the server's queue.
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::super::message::Message;
    use super::super::peer::Silence;
    use super::*;

    const LIMIT: Duration = Duration::from_millis(1);
    /// For so long nothing happens, which a slow machine can only make more certain.
    const A_WHILE: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(30);

    fn progress(peer: &Peer) {
        peer.hear(Message::Notification { method: "notifications/progress".to_owned(), params: None }, None);
    }

    #[tokio::test]
    async fn a_silent_server_is_dead_once_the_calls_that_it_had_are_over() {
        let (peer, _outgoing) = Peer::new(Arc::new(Silence));
        let call = peer.call("tools/call", json!({}), Some(1), false);
        let mut ping = pin!(peer.ping(LIMIT));
        assert!(timeout(A_WHILE, &mut ping).await.is_err(), "it is at work");
        // What it is given now it has not begun with, as far as anybody knows.
        let _later = peer.call("tools/call", json!({}), Some(2), false);
        drop(call);
        let dead = timeout(PATIENCE, ping).await.expect("an end");
        assert_eq!(dead, Err("no answer to ping within 1 ms".to_owned()));
    }

    #[tokio::test]
    async fn a_word_of_the_server_makes_the_next_call_its_excuse() {
        let (peer, _outgoing) = Peer::new(Arc::new(Silence));
        let call = peer.call("tools/call", json!({}), Some(1), false);
        let mut ping = pin!(peer.ping(LIMIT));
        assert!(timeout(A_WHILE, &mut ping).await.is_err(), "it is at work");
        let next = peer.call("tools/call", json!({}), Some(1), false);
        progress(&peer);
        assert!(timeout(A_WHILE, &mut ping).await.is_err(), "it has said something");
        drop(call);
        assert!(timeout(A_WHILE, &mut ping).await.is_err(), "it is at work on the next one");
        drop(next);
        assert!(timeout(PATIENCE, ping).await.expect("an end").is_err());
    }

    #[tokio::test]
    async fn of_what_keeps_a_ping_from_being_answered_only_work_is_an_excuse() {
        for (code, idle, at_work) in [
            (RpcError::UNREACHABLE, false, false),
            (RpcError::BROKEN_OFF, false, true),
            (RpcError::INTERNAL, true, true),
            (RpcError::METHOD_NOT_FOUND, true, true),
        ] {
            for (lives, busy) in [(idle, false), (at_work, true)] {
                let (peer, mut outgoing) = Peer::new(Arc::new(Silence));
                let _call = busy.then(|| peer.call("tools/call", json!({}), Some(1), false));
                let ping = async {
                    let failing = async {
                        loop {
                            let sent = outgoing.recv().await.unwrap();
                            if let Message::Request { id, method, .. } = sent
                                && method == "ping"
                            {
                                return peer.fail(&id, RpcError::new(code, "why"));
                            }
                        }
                    };
                    tokio::join!(peer.ping(PATIENCE), failing).0
                };
                assert_eq!(ping.await.is_ok(), lives, "{code}, busy: {busy}");
            }
        }
    }

    #[tokio::test]
    async fn an_answered_ping_is_a_sign_of_life_and_a_closed_connection_is_none() {
        let (peer, mut outgoing) = Peer::new(Arc::new(Silence));
        let answering = async {
            let Some(Message::Request { id, .. }) = outgoing.recv().await else { panic!("no ping") };
            peer.hear(Message::Answer { id, outcome: Ok(Value::Null) }, None);
        };
        assert_eq!(tokio::join!(peer.ping(PATIENCE), answering).0, Ok(()));
        let (dead, ()) = tokio::join!(peer.ping(PATIENCE), async { peer.close() });
        assert_eq!(dead, Err("the session was closed".to_owned()));
    }
}
