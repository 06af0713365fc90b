//! Serving MCP on stdin and stdout until stdin ends.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use rmcp::service::ServerInitializeError;
use rmcp::{ServerHandler, ServiceExt, transport};
use stelae_model::Failure;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A call that runs when stdin ends may still finish in this time. rmcp alone waits five seconds for it, and a server
/// should not outlive a killed client by that.
const LAST_CALL: Duration = Duration::from_millis(250);

/// Serves `handler` until the client closes our stdin, which is how a client says goodbye, and how its death looks.
///
/// # Errors
/// When the handshake goes wrong, or the runtime cannot start.
pub(crate) fn serve(handler: impl ServerHandler) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected(format!("the runtime cannot start: {error}")))?;
    let outcome = runtime.block_on(session(handler));
    // A tool that still runs on a thread of its own must not keep a server alive whose client has left.
    runtime.shutdown_background();
    outcome.map_err(|why| Failure::unexpected("the MCP session on stdio failed").because(why))
}

async fn session(handler: impl ServerHandler) -> Result<(), String> {
    let (stdin, stdout) = transport::stdio_pipes();
    let ended = CancellationToken::new();
    let service = match handler.serve((Watched { stdin, ended: ended.clone() }, stdout)).await {
        Ok(service) => service,
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let mut waiting = pin!(service.waiting());
    tokio::select! {
        over = &mut waiting => over.map(drop).map_err(|error| error.to_string()),
        () = ended.cancelled() => {
            timeout(LAST_CALL, waiting).await.ok();
            Ok(())
        }
    }
}

/// A stdin that tells when it has ended.
struct Watched<R> {
    stdin: R,
    ended: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stdin).poll_read(cx, buffer);
        let nothing_more = match &polled {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
        };
        if nothing_more {
            self.ended.cancel();
        }
        polled
    }
}
