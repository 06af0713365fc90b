//! The HTTP client for MCP endpoints and for the gateway's own control route.

use std::sync::Arc;
use std::time::Duration;

use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

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

/// A streamable-HTTP transport to the MCP endpoint at `url`.
///
/// # Errors
/// As [`http`].
pub(crate) fn transport(url: &str) -> reqwest::Result<StreamableHttpClientTransport<reqwest::Client>> {
    let config = StreamableHttpClientTransportConfig::with_uri(Arc::<str>::from(url));
    Ok(StreamableHttpClientTransport::with_client(http()?, config))
}
