//! The shape of a rendered `proxy.json`: what the renderer writes and the gateway reads, typed once for both.
//!
//! Unknown keys are errors. Every string is final: templates are resolved before this type is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A whole `proxy.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyConfig {
    /// The gateway itself.
    pub mcp_proxy: ProxySection,
    /// The servers behind it, by name. Names match `[A-Za-z0-9_-]{1,64}`.
    #[serde(default)]
    pub mcp_servers: BTreeMap<String, ServerEntry>,
}

/// How the gateway presents itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxySection {
    /// The name given to clients in `initialize`.
    pub name: String,
    /// `host:port` to listen on; the host is a loopback address unless told otherwise.
    pub addr: String,
    /// The URL under which clients reach it, without a trailing slash: `http://127.0.0.1:9090`.
    #[serde(rename = "baseURL")]
    pub base_url: String,
}

/// One server behind the gateway: a program on stdio (`command`) or a streamable-HTTP endpoint (`url`), never both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerEntry {
    /// Absolute path of the program, or a name to be found on `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Variables of its own, put on top of those that every server gets (`ServerEnv`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory; the gateway's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Streamable-HTTP endpoint, plain `http://` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Readiness of the gateway waits for this server.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub required: bool,
    /// The server may ask the gateway to reload: it gets `STELAE_CONTROL_TOKEN`. Only the stack's own server should.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// Limit for `initialize` plus `tools/list`, in milliseconds (default 10,000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout_ms: Option<u64>,
    /// Limit for one call, in milliseconds (default 60,000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_timeout_ms: Option<u64>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_yes(required: &bool) -> bool {
    *required
}

impl ProxyConfig {
    /// Checks what the types cannot say: names, and one transport per server.
    ///
    /// # Errors
    /// The first fault found, as a sentence that names the server.
    pub fn check(&self) -> Result<(), String> {
        for (name, entry) in &self.mcp_servers {
            if !is_server_name(name) {
                return Err(format!("server name {name:?} is not [A-Za-z0-9_-]{{1,64}}"));
            }
            match (&entry.command, &entry.url) {
                (Some(_), Some(_)) => return Err(format!("server {name:?} has both `command` and `url`")),
                (None, None) => return Err(format!("server {name:?} has neither `command` nor `url`")),
                (None, Some(url)) if !url.starts_with("http://") => {
                    return Err(format!("server {name:?}: url {url:?} is not plain http"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether `name` can be a server's name: it becomes a tool prefix, a file name and a label in logs.
pub fn is_server_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// State of one server as `/readyz` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// Being started, or `initialize` is under way.
    Starting,
    /// Initialised, and its tools are in the list.
    Ready,
    /// Died; will be started again.
    Backoff,
    /// Cannot come up: its program does not exist, or its limit passed.
    Failed,
}

/// One server in the answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerHealth {
    /// Where it stands.
    pub state: ServerState,
    /// Whether readiness waits for it.
    pub required: bool,
    /// How many tools it contributes now.
    pub tools: usize,
    /// How often it was started again after dying.
    pub restarts: u32,
    /// Why it is not ready; absent when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The body of `GET /readyz` (200 when ready, else 503) and of a successful `POST /-/reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// Every required server is `ready`.
    pub ready: bool,
    /// All servers, by name.
    pub servers: BTreeMap<String, ServerHealth>,
}
