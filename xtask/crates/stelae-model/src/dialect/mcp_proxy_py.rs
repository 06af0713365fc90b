//! The file that the `mcp-proxy` of PyPI takes as `--named-server-config`, as its `config_loader.py` reads it.
//!
//! It gives each server an endpoint of its own, `/servers/<name>/mcp`, listens only when all of them are initialised, and
//! hands on no more of its own environment than `HOME`, `PATH` and their like.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::proxy::ServerEntry;

/// The whole file. Where it listens is said by its arguments.
pub(super) fn file(servers: &Map<String, Value>) -> Value {
    json!({ "mcpServers": servers })
}

/// One server; none, if it is no program.
pub(super) fn server(entry: &ServerEntry, environment: &BTreeMap<String, String>) -> Option<Value> {
    let command = entry.command.as_ref()?;
    Some(json!({ "command": command, "args": entry.args, "env": environment }))
}
