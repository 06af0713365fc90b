//! The configuration of the Go program `mcp-proxy` (module `github.com/TBXark/mcp-proxy`), as its `config.go` reads it.
//!
//! It gives each server an endpoint of its own, `/<name>/mcp`, answers it from the first moment that the server is
//! initialised (404 before), and hands its own environment on to all of them. `-expand-env=false` belongs to its
//! arguments: otherwise it takes every `$` in this file for a variable.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::proxy::{ProxySection, ServerEntry};

/// The whole file.
pub(super) fn file(section: &ProxySection, servers: &Map<String, Value>) -> Value {
    // `:9090` would be every interface there.
    let addr = section.address().map_or_else(|_| section.addr.clone(), |address| address.to_string());
    json!({
        "mcpProxy": {
            "baseURL": section.base_url,
            "addr": addr,
            "name": section.name,
            "version": env!("CARGO_PKG_VERSION"),
            // Its default is the transport that MCP has left behind.
            "type": "streamable-http",
        },
        "mcpServers": servers,
    })
}

/// One server.
pub(super) fn server(entry: &ServerEntry, environment: &BTreeMap<String, String>) -> Value {
    // One that is required and refuses to be initialised ends the gateway, which is seen at once; of any other it goes on
    // without. (One that dies before it answers is waited for, for ever: there, readiness has its own limit.)
    let mut options = json!({ "panicIfInvalid": entry.required });
    if let Some(filter) = &entry.tool_filter {
        options["toolFilter"] = json!(filter);
    }
    match &entry.url {
        Some(url) => json!({
            "transportType": "streamable-http",
            "url": url,
            "headers": entry.headers,
            "options": options,
        }),
        None => json!({
            "transportType": "stdio",
            "command": entry.command,
            "args": entry.args,
            "env": environment,
            "options": options,
        }),
    }
}
