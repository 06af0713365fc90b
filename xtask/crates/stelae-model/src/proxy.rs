//! The shape of a rendered `proxy.json`: what the renderer writes and the gateway reads, typed once for both.
//!
//! Unknown keys are errors. Every string is final: templates are resolved before this type is read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::server_name;
use crate::value::{EnvValue as _, Port, digest};

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
    /// `host:port` to listen on: see [`Self::address`] for what it may be.
    pub addr: String,
    /// The URL under which clients reach it, without a trailing slash: `http://127.0.0.1:9090`.
    #[serde(rename = "baseURL")]
    pub base_url: String,
}

impl ProxySection {
    /// Where the gateway listens. All who read `addr` read it here, so that they cannot disagree.
    ///
    /// `127.x.y.z:PORT`, `[::1]:PORT`, and `localhost:PORT` or the old stack's `:PORT`, which both are `127.0.0.1:PORT`:
    /// the old stack listened on all interfaces with the latter, and this one listens on loopback only.
    ///
    /// # Errors
    /// Why it is none of these, as a sentence.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let addr = &self.addr;
        let (host, port) = addr.rsplit_once(':').ok_or_else(|| format!("{addr:?} has no port"))?;
        let port = Port::parse(port).map_err(|why| format!("the port in {addr:?} {why}"))?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let ip = match (host, bracketed) {
            ("" | "localhost", _) => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
            (_, Some(inner)) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            (_, None) => host.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        };
        let ip = ip.ok_or_else(|| format!("{addr:?} is not an IP address and a port"))?;
        if !ip.is_loopback() {
            return Err(format!("{addr:?} is not a loopback address: this stack listens on loopback only"));
        }
        Ok(SocketAddr::new(ip, port.number()))
    }
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
    /// How long a call may go without a word from the server, in milliseconds (default 60,000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_timeout_ms: Option<u64>,
    /// Headers for `url`: a token of its own, for instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// So often may it die while a run looks at it (default 0): more deaths fail the run. The gateway starts it again in any
    /// case.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub allowed_deaths: u32,
    /// The newest protocol version that is offered to the server (default 2025-11-25): one of [`PROTOCOL_VERSIONS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Which of its tools clients see; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_filter: Option<ToolFilter>,
}

/// The versions of MCP that can be offered to a server, oldest first.
pub const PROTOCOL_VERSIONS: [&str; 5] =
    ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", WITHOUT_INITIALIZE];
/// The first version that has no `initialize`, and in which a server cannot ask its client anything. On stdio only.
pub const WITHOUT_INITIALIZE: &str = "2026-07-28";

/// Some of a server's tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolFilter {
    /// What being listed means.
    pub mode: FilterMode,
    /// Tools, by the names that the server gives them.
    pub list: BTreeSet<String>,
}

/// What being listed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterMode {
    /// These, and no others.
    Allow,
    /// All but these.
    Block,
}

/// For serde: a flag that is set unless it is given.
pub(crate) fn yes() -> bool {
    true
}

/// For serde: a number that is not written when it is 0.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// For serde: such a flag is not written when it is set.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(crate) fn is_yes(flag: &bool) -> bool {
    *flag
}

impl ProxyConfig {
    /// Checks what the types cannot say: the address, names, and one transport per server.
    ///
    /// # Errors
    /// The first fault found, as a sentence that names the address or the server.
    pub fn check(&self) -> Result<(), String> {
        self.mcp_proxy.address().map_err(|why| format!("mcpProxy.addr: {why}"))?;
        server_name::check_all(self.mcp_servers.keys().map(String::as_str))?;
        for (name, entry) in &self.mcp_servers {
            match (&entry.command, &entry.url) {
                (Some(_), Some(_)) => return Err(format!("server {name:?} has both `command` and `url`")),
                (None, None) => return Err(format!("server {name:?} has neither `command` nor `url`")),
                (None, Some(url)) if !url.starts_with("http://") => {
                    return Err(format!("server {name:?}: url {:?} is not plain http", shown_url(url)));
                }
                (Some(_), None) if !entry.headers.is_empty() => {
                    return Err(format!("server {name:?} has `headers`, and no `url` to send them to"));
                }
                _ => {}
            }
            let version = entry.protocol_version.as_deref();
            if let Some(version) = version.filter(|version| !PROTOCOL_VERSIONS.contains(version)) {
                let known = PROTOCOL_VERSIONS.join(", ");
                return Err(format!("server {name:?}: protocolVersion {version:?} is none of {known}"));
            }
            if version == Some(WITHOUT_INITIALIZE) && entry.url.is_some() {
                return Err(format!(
                    "server {name:?}: protocolVersion {WITHOUT_INITIALIZE} is for servers on stdio"
                ));
            }
        }
        Ok(())
    }
}

/// A URL as it may be kept and shown: without user, password, query and fragment, in which secrets stand.
pub fn shown_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

/// A `proxy.json` as it may be kept and shown: what servers have in their `env` and `headers` are digests, and what stands
/// around the address in their `url` is cut off. What they are called and everything else stays readable, arguments too,
/// which everybody on the machine can read anyway; a text that is no JSON is a digest as a whole.
pub fn masked(text: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return digest(text) };
    let servers = value.get_mut("mcpServers").and_then(Value::as_object_mut);
    for entry in servers.into_iter().flat_map(|servers| servers.values_mut()) {
        if let Some(Value::String(url)) = entry.get_mut("url") {
            *url = shown_url(url);
        }
        for key in ["env", "headers"] {
            let own = entry.get_mut(key).and_then(Value::as_object_mut);
            for kept in own.into_iter().flat_map(|own| own.values_mut()) {
                *kept = digest(kept.as_str().unwrap_or(&kept.to_string())).into();
            }
        }
    }
    format!("{value:#}\n")
}

/// Whether `name` has the characters of a name, which leads nowhere as the name of a file: [`server_name`] has the whole rule for
/// servers.
pub fn is_plain_name(name: &str) -> bool {
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
    /// Died, or was refused, before it was ready or after; will be started again soon.
    Backoff,
    /// Does not come up: its program cannot be executed, or its limit passed. It is tried again all the same.
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
    /// How often each server that died has died since the gateway was started, removed servers included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deaths: BTreeMap<String, u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(addr: &str) -> Result<String, String> {
        let section = ProxySection { name: "s".into(), addr: addr.into(), base_url: String::new() };
        let config = ProxyConfig { mcp_proxy: section.clone(), mcp_servers: BTreeMap::new() };
        assert_eq!(config.check().is_ok(), section.address().is_ok());
        section.address().map(|address| address.to_string())
    }

    #[test]
    fn of_a_url_only_the_address_is_shown() {
        for (url, shown) in [
            ("http://127.0.0.1:1/mcp", "http://127.0.0.1:1/mcp"),
            ("https://me:hunter2@host:2/a@b?key=hunter2#hunter2", "https://host:2/a@b"),
            ("http://hunter2@host?hunter2", "http://host"),
            ("nonsense?hunter2", "nonsense"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
        let text = r#"{"mcpServers": {"a": {"url": "http://x:hunter2@h/p?k=hunter2"}}}"#;
        assert!(masked(text).contains("\"url\": \"http://h/p\""), "{}", masked(text));
    }

    #[test]
    fn what_stands_between_a_server_and_its_tool_is_in_no_servers_name() {
        let check = |name: &str| {
            let servers = format!(r#"{{"{name}": {{"command": "x"}}}}"#);
            let section = r#"{"name": "s", "addr": "127.0.0.1:1", "baseURL": "http://127.0.0.1:1"}"#;
            let text = format!(r#"{{"mcpProxy": {section}, "mcpServers": {servers}}}"#);
            serde_json::from_str::<ProxyConfig>(&text).unwrap().check()
        };
        assert_eq!(check("a_b-c"), Ok(()));
        assert!(check("a__b").unwrap_err().contains("two underscores"));
    }

    #[test]
    fn addresses_are_loopback_with_a_port() {
        for (addr, means) in [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("127.1.2.3:1", "127.1.2.3:1"),
            ("[::1]:65535", "[::1]:65535"),
            ("localhost:80", "127.0.0.1:80"),
            (":80", "127.0.0.1:80"),
        ] {
            assert_eq!(address(addr).as_deref(), Ok(means));
        }
        for (addr, why) in [
            ("0.0.0.0:80", "not a loopback"),
            ("[::]:80", "not a loopback"),
            ("192.168.0.1:80", "not a loopback"),
            ("[::ffff:127.0.0.1]:80", "not a loopback"),
            ("::1:80", "not an IP address and a port"),
            ("[127.0.0.1]:80", "not an IP address and a port"),
            ("example.org:80", "not an IP address and a port"),
            ("127.1:80", "not an IP address and a port"),
            ("127.0.0.1:0", "1 to 65535"),
            ("127.0.0.1:", "1 to 65535"),
            ("127.0.0.1", "has no port"),
            ("", "has no port"),
        ] {
            let refused = address(addr).unwrap_err();
            assert!(refused.contains(why), "{addr}: {refused}");
        }
    }

    #[test]
    fn what_is_kept_has_digests_for_what_servers_have_of_their_own() {
        let text = |own: &str| {
            format!(
                r#"{{"mcpProxy": {{"name": "s"}}, "mcpServers": {{"a": {{"command": "x", "env": {{"KEY": "{own}", "N": 7}},
                "headers": {{"Authorization": "{own}"}}}}, "b": {{"url": "http://x"}}}}}}"#
            )
        };
        let kept = masked(&text("hunter2"));
        assert!(!kept.contains("hunter2") && !kept.contains(": 7"), "{kept}");
        assert_eq!(kept.matches("sha256:f52fbd32b2b3").count(), 2);
        assert!(kept.contains("\"command\": \"x\"") && kept.contains("\"KEY\""), "{kept}");
        assert_ne!(kept, masked(&text("hunter3")));
        assert!(masked("hunter2 {").starts_with("sha256:"));
    }
}
