//! Messages as lines, on stdin and stdout.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::session::{Refusal, Server, answer};

/// Serves until stdin ends.
pub(crate) async fn serve(server: Arc<Server>) {
    let (stream, messages) = mpsc::unbounded_channel();
    let session = server.session(stream.clone());
    let ended = CancellationToken::new();
    let writer = tokio::spawn(write(messages, ended.clone()));
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(message) => session.receive(message, stream.clone()),
            Err(error) => {
                let refusal = Refusal { code: -32700, message: error.to_string() };
                stream.send(answer(&Value::Null, Err(refusal))).ok();
            }
        }
    }
    session.end();
    ended.cancel();
    writer.await.expect("the writer does not panic");
}

/// Writes what is there before it ends.
async fn write(mut messages: mpsc::UnboundedReceiver<Value>, ended: CancellationToken) {
    #[expect(clippy::disallowed_methods, reason = "MCP is spoken there")]
    let mut stdout = stdout();
    loop {
        let message = tokio::select! {
            biased;
            Some(message) = messages.recv() => message,
            () = ended.cancelled() => return,
        };
        let line = format!("{message}\n");
        // A client that has closed its end has gone, and stdin says so, too.
        if stdout.write_all(line.as_bytes()).await.is_err() || stdout.flush().await.is_err() {
            return;
        }
    }
}
