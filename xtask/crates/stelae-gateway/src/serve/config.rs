//! Reading `proxy.json`.

use std::fs;
use std::net::SocketAddr;

use camino::Utf8Path;
use stelae_model::proxy::ProxyConfig;
use stelae_model::{ExitCode, Failure};

/// Reads and checks the configuration at `path`.
///
/// # Errors
/// Exit code 40 when the file cannot be read, 21 when it is not a valid configuration.
pub(super) fn load(path: &Utf8Path) -> Result<ProxyConfig, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::new(
            ExitCode::PrerequisiteMissing,
            "config-unreadable",
            "the gateway's configuration cannot be read",
        )
        .on(path.as_str())
        .because(error.to_string())
        .hint("cargo xtask render-proxy")
    })?;
    let config: ProxyConfig =
        serde_json::from_str(&text).map_err(|error| invalid(path).because(error.to_string()))?;
    config.check().map_err(|why| invalid(path).because(why))?;
    Ok(config)
}

/// The address to listen on.
///
/// # Errors
/// Exit code 21 when it is not `address:port`, or not a loopback address.
pub(super) fn address(path: &Utf8Path, config: &ProxyConfig) -> Result<SocketAddr, Failure> {
    let addr = &config.mcp_proxy.addr;
    let parsed: SocketAddr = addr
        .replace("localhost:", "127.0.0.1:")
        .parse()
        .map_err(|_| invalid(path).because(format!("mcpProxy.addr {addr:?} is not address:port")))?;
    if parsed.ip().is_loopback() {
        Ok(parsed)
    } else {
        let why = format!(
            "mcpProxy.addr {addr:?} is not a loopback address: this gateway listens on loopback only"
        );
        Err(invalid(path).because(why))
    }
}

fn invalid(path: &Utf8Path) -> Failure {
    Failure::new(ExitCode::Render, "config-invalid", "the gateway's configuration is invalid")
        .on(path.as_str())
}
