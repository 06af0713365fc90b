//! Serving MCP on stdin and stdout until stdin ends.

use rmcp::service::ServerInitializeError;
use rmcp::{ServerHandler, ServiceExt, transport};
use stelae_model::Failure;
use tokio::runtime;

/// Serves `handler` until the client closes our stdin, which is how a client says goodbye, and how its death looks.
///
/// # Errors
/// When the handshake goes wrong, or the runtime cannot start.
pub(crate) fn serve(handler: impl ServerHandler) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected(format!("the runtime cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        match handler.serve(transport::stdio_pipes()).await {
            Ok(service) => service.waiting().await.map(drop).map_err(|error| error.to_string()),
            Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    });
    // A tool that still runs on a thread of its own must not keep a server alive whose client has left.
    runtime.shutdown_background();
    outcome.map_err(|why| Failure::unexpected("the MCP session on stdio failed").because(why))
}
