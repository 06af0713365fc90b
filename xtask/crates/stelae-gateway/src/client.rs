//! The HTTP client for MCP endpoints and for the gateway's own control route.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{AuthRequiredError, StreamableHttpClientTransportConfig};
use stelae_model::value::{BearerToken, EnvValue, Secret};

use crate::token;

/// An endpoint that does not even accept a connection in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that goes straight to the address it is given.
///
/// # Errors
/// When the operating system refuses what a client needs.
pub(crate) fn http() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        // HTTP_PROXY captures loopback too, unless every user also sets NO_PROXY.
        .no_proxy()
        // A redirect would carry the session id, or a token, to an address that nobody configured.
        .redirect(reqwest::redirect::Policy::none())
        // rmcp does the same: a reused connection whose last body was not read to its end waits for a delayed ACK.
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
}

/// A streamable-HTTP transport to the MCP endpoint at `url`, which is shown `token`.
///
/// # Errors
/// As [`http`].
pub(crate) fn transport(
    url: &str,
    token: Option<&Secret<BearerToken>>,
) -> reqwest::Result<StreamableHttpClientTransport<reqwest::Client>> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(Arc::<str>::from(url));
    config.auth_header = token.and_then(EnvValue::to_env);

    Ok(StreamableHttpClientTransport::with_client(http()?, config))
}

/// Why a request got no answer, without the names of the types it went through.
pub(crate) fn explain_request(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => error.message.to_string(),
        ServiceError::TransportSend(error) => root_cause(error),
        other => other.to_string(),
    }
}

/// Why there is no session.
pub(crate) fn explain_start(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::JsonRpcError(error) => format!("initialize was refused: {}", error.message),
        ClientInitializeError::TransportError { error, .. } if asks_for_a_token(error) => {
            format!("it answered 401: is {} what it asks for?", token::CLIENT_TOKEN)
        }
        ClientInitializeError::TransportError { error, .. } => root_cause(error),
        ClientInitializeError::ConnectionClosed(_) => "closed the connection before it was ready".to_owned(),
        other => format!("initialize failed: {other}"),
    }
}

fn asks_for_a_token(mut error: &(dyn Error + 'static)) -> bool {
    while let Some(cause) = error.source() {
        error = cause;
        if error.is::<AuthRequiredError>() {
            return true;
        }
    }
    false
}

/// The innermost cause, which is the operating system's: `Connection refused (os error 111)`.
pub(crate) fn root_cause(mut error: &(dyn Error + 'static)) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
