//! The two pipes of a process: a line is a message.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::message::Message;
use super::peer::{Listener, Peer};
use crate::serve::log::event;

/// A longer line ends the connection: no answer is as long, and whoever writes one without an end must not fill our memory.
const LINE_BYTES: u64 = 64 * 1024 * 1024;
/// What waits for a server that does not read: four of the longest requests of clients. One that is at work on a call in its
/// only thread does not read, either, and may have no room for a long request: it has more time than any call should take.
const PATIENCE: Patience = Patience { bytes: 64 * 1024 * 1024, time: Duration::from_secs(10 * 60) };
/// So many lines that are no messages are told of in one life of a server.
const STRAY_LINES_TOLD: usize = 5;

/// A peer over pipes. The connection is over when `gone` is cancelled, by whoever comes first: the server by closing its
/// stdout or its stdin, or we. Its stdin is closed when the task has ended.
pub(in crate::serve) fn over_stdio(
    name: &str,
    stdin: ChildStdin,
    stdout: ChildStdout,
    listener: Arc<dyn Listener>,
    gone: CancellationToken,
) -> (Peer, JoinHandle<()>) {
    let (peer, outgoing) = Peer::new(listener);
    let (reader, ending, name) = (peer.clone(), peer.clone(), name.to_owned());
    let closed = gone.clone();
    tokio::spawn(async move {
        let told = closed.run_until_cancelled(read(&name, stdout, &reader)).await;
        if let Some(Err(error)) = told {
            let why = format!("its stdout cannot be read: {error}");
            event!("server {name:?}: {why}");
            reader.end(why);
        }
        closed.cancel();
        reader.close();
    });
    let writer = tokio::spawn(async move {
        let written = gone.run_until_cancelled(write(stdin, outgoing, PATIENCE)).await;
        if let Some(Err(stuck)) = written
            && let Some(why) = stuck.explain()
        {
            ending.end(why);
        }
        gone.cancel();
    });
    (peer, writer)
}

async fn read(name: &str, stdout: ChildStdout, peer: &Peer) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, stdout);
    let (mut line, mut stray) = (Vec::new(), 0_usize);
    while (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await? > 0 {
        if line.len() as u64 == LINE_BYTES && line.last() != Some(&b'\n') {
            return Err(io::Error::other(format!("a line is longer than {LINE_BYTES} bytes")));
        }
        if !line.trim_ascii().is_empty() {
            match Message::parse(&line) {
                Ok(messages) => messages.into_iter().for_each(|message| peer.hear(message, None)),
                // Some programs greet on stdout. Nothing is lost by listening on.
                Err(why) => {
                    stray += 1;
                    if stray <= STRAY_LINES_TOLD {
                        event!("server {name:?}: a line on its stdout is no message: {why}");
                    }
                }
            }
        }
        line.clear();
    }
    Ok(())
}

/// Writes what is to be sent, in order, until there is nothing more to come.
///
/// It is taken out of the channel while the server does not read: so it is seen how much of it waits.
async fn write(
    mut stdin: impl AsyncWrite + Unpin,
    mut outgoing: UnboundedReceiver<Message>,
    patience: Patience,
) -> Result<(), Stuck> {
    let (mut waiting, mut written, mut waiting_bytes) = (VecDeque::<Vec<u8>>::new(), 0, 0);
    let mut stuck_at = Instant::now() + patience.time;
    loop {
        let rest = waiting.front().map(|line| &line[written..]);
        tokio::select! {
            message = outgoing.recv() => {
                let Some(message) = message else { return Ok(()) };
                let line = message.to_line();
                if waiting.is_empty() {
                    stuck_at = Instant::now() + patience.time;
                }
                waiting_bytes += line.len();
                waiting.push_back(line);
                if waiting_bytes > patience.bytes {
                    return Err(Stuck::TooMuch);
                }
            }
            // A write that did not come to its end has written nothing.
            taken = async { stdin.write(rest.unwrap_or_default()).await }, if rest.is_some() => {
                let taken = taken.ok().filter(|taken| *taken > 0).ok_or(Stuck::Closed)?;
                (written, waiting_bytes) = (written + taken, waiting_bytes - taken);
                stuck_at = Instant::now() + patience.time;
                if waiting.front().is_some_and(|line| line.len() == written) {
                    waiting.pop_front();
                    written = 0;
                }
            }
            () = sleep_until(stuck_at), if rest.is_some() => return Err(Stuck::TooLong),
        }
    }
}

/// How much, and for how long, may wait for a server that does not read.
#[derive(Clone, Copy, Debug)]
struct Patience {
    bytes: usize,
    time: Duration,
}

/// Why nothing more can be written.
#[derive(Debug, PartialEq)]
enum Stuck {
    /// The pipe has no reader any more.
    Closed,
    /// More than [`Patience::bytes`] wait.
    TooMuch,
    /// Nothing was read for [`Patience::time`].
    TooLong,
}

impl Stuck {
    /// What is told of it, where it is more than that a pipe was closed.
    fn explain(&self) -> Option<String> {
        match self {
            Self::Closed => None,
            Self::TooMuch => {
                Some(format!("does not read its stdin: more than {} bytes wait for it", PATIENCE.bytes))
            }
            Self::TooLong => {
                Some(format!("does not read its stdin: nothing was taken for {} s", PATIENCE.time.as_secs()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::duplex;
    use tokio::time::timeout;

    use super::super::peer::Silence;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const LITTLE: Patience = Patience { bytes: 10_000, time: LIMIT };

    #[tokio::test]
    async fn what_is_sent_arrives_in_order_through_a_pipe_that_is_too_small_for_it() {
        let (stdin, far) = duplex(10);
        let (peer, outgoing) = Peer::new(Arc::new(Silence));
        let writing = tokio::spawn(write(stdin, outgoing, LITTLE));
        let mut lines = BufReader::new(far).lines();
        for round in 0..3 {
            (0..10).for_each(|number| peer.notify(&format!("{round}/{number}"), None));
            for number in 0..10 {
                let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(line["method"], format!("{round}/{number}"));
            }
        }
        drop(lines);
        peer.notify("nobody reads this", None);
        assert_eq!(timeout(LIMIT, writing).await.unwrap().unwrap(), Err(Stuck::Closed));
    }

    #[tokio::test]
    async fn a_server_that_reads_nothing_is_given_up_before_what_waits_for_it_fills_our_memory() {
        let (stdin, _far) = duplex(10);
        let (peer, outgoing) = Peer::new(Arc::new(Silence));
        let writing = tokio::spawn(write(stdin, outgoing, LITTLE));
        for _ in 0..10 {
            peer.notify("n", Some(json!("x".repeat(1_000))));
        }
        assert_eq!(timeout(LIMIT, writing).await.unwrap().unwrap(), Err(Stuck::TooMuch));
    }

    #[tokio::test]
    async fn a_server_that_asks_and_reads_no_answers_is_given_up_as_well() {
        let (stdin, _far) = duplex(10);
        let (peer, outgoing) = Peer::new(Arc::new(Silence));
        let writing = tokio::spawn(write(stdin, outgoing, LITTLE));
        let id = json!("x".repeat(100));
        for _ in 0..1_000 {
            peer.hear(Message::Request { id: id.clone(), method: "ping".to_owned(), params: None }, None);
            tokio::task::yield_now().await;
        }
        assert_eq!(timeout(LIMIT, writing).await.unwrap().unwrap(), Err(Stuck::TooMuch));
    }

    #[tokio::test]
    async fn only_what_waits_makes_a_server_that_reads_nothing_suspicious() {
        let (stdin, far) = duplex(10);
        let (peer, outgoing) = Peer::new(Arc::new(Silence));
        let hasty = Patience { time: Duration::from_millis(1), ..LITTLE };
        let mut writing = tokio::spawn(write(stdin, outgoing, hasty));
        // Nothing can come of waiting longer.
        assert!(timeout(Duration::from_millis(50), &mut writing).await.is_err(), "it has nothing to read");
        peer.notify("n", None);
        assert_eq!(timeout(LIMIT, writing).await.unwrap().unwrap(), Err(Stuck::TooLong));
        drop(far);
    }
}
