//! The two pipes of a process: a line is a message.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use tokio_util::sync::CancellationToken;

use super::message::Message;
use super::peer::{Listener, Peer};
use crate::serve::log::event;

/// A longer line ends the connection: no answer is as long, and whoever writes one without an end must not fill our memory.
const LINE_BYTES: u64 = 64 * 1024 * 1024;
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
    let (reader, name) = (peer.clone(), name.to_owned());
    let closed = gone.clone();
    tokio::spawn(async move {
        let told = closed.run_until_cancelled(read(&name, stdout, &reader)).await;
        if let Some(Err(error)) = told {
            event!("server {name:?}: its stdout cannot be read: {error}");
        }
        closed.cancel();
        reader.close();
    });
    let writer = tokio::spawn(async move {
        // A pipe that cannot be written to has no reader any more.
        gone.run_until_cancelled(write(stdin, outgoing)).await;
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

async fn write(mut stdin: ChildStdin, mut outgoing: UnboundedReceiver<Message>) -> io::Result<()> {
    while let Some(message) = outgoing.recv().await {
        stdin.write_all(&message.to_line()).await?;
    }
    Ok(())
}
