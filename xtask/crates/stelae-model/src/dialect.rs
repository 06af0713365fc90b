//! What a foreign gateway reads in place of our `proxy.json`: the same servers, in its own words.
//!
//! Each dialect is a file of this folder. What a foreign gateway cannot do is said: it is refused where leaving it out
//! would change what a server is, and told in a sentence where it only does less.

mod mcp_proxy_go;
mod mcp_proxy_py;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::proxy::{ProxyConfig, ServerEntry};
use crate::{ExitCode, Failure};

/// Whose configuration file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// The Go program `mcp-proxy`: `mcpProxy` with `type` and `version`, servers with `transportType`.
    McpProxyGo,
    /// The `mcp-proxy` of PyPI: `--named-server-config`, programs on stdio only.
    McpProxyPy,
}

/// The environment of each server, whole, by the server's name: foreign gateways hand on their own, or nothing.
pub type Environments = BTreeMap<String, BTreeMap<String, String>>;

/// A configuration in a dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The file's whole text.
    pub text: String,
    /// What the gateway will not do of what `proxy.json` says; a sentence each.
    pub lacks: Vec<String>,
}

impl Dialect {
    /// Its name, as `stack.toml` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::McpProxyGo => "mcp-proxy-go",
            Self::McpProxyPy => "mcp-proxy-py",
        }
    }

    /// Says what `proxy` says. The same input gives the same bytes.
    ///
    /// # Errors
    /// Exit 21, `dialect-lacks`, with the key: the gateway has no words for something that a server cannot be without.
    pub fn render(self, proxy: &ProxyConfig, environments: &Environments) -> Result<Spoken, Failure> {
        let mut lacks = Vec::new();
        let mut servers = Map::new();
        for (name, entry) in &proxy.mcp_servers {
            self.check(name, entry)?;
            let environment = environments.get(name).unwrap_or(&entry.env);
            let said = match self {
                Self::McpProxyGo => Some(mcp_proxy_go::server(entry, environment)),
                Self::McpProxyPy => mcp_proxy_py::server(entry, environment),
            };
            match said {
                Some(said) => {
                    servers.insert(name.clone(), said);
                    lacks.extend(self.lacks(name, entry));
                }
                None => lacks.push(format!(
                    "{} serves programs on stdio only: server {name} is left out",
                    self.name()
                )),
            }
        }
        let whole = match self {
            Self::McpProxyGo => mcp_proxy_go::file(&proxy.mcp_proxy, &servers),
            Self::McpProxyPy => mcp_proxy_py::file(&servers),
        };
        Ok(Spoken { text: format!("{whole:#}\n"), lacks })
    }

    /// What must not be left out.
    fn check(self, name: &str, entry: &ServerEntry) -> Result<(), Failure> {
        if entry.cwd.is_some() {
            let why = format!("{} starts every server in its own folder", self.name());
            return Err(self.lacking(&format!("mcpServers.{name}.cwd"), why));
        }
        if self == Self::McpProxyPy && entry.tool_filter.is_some() {
            let why = format!("{} has no filters: every tool of the server would be there", self.name());
            return Err(self.lacking(&format!("mcpServers.{name}.toolFilter"), why));
        }
        if self == Self::McpProxyPy && entry.url.is_some() && entry.required {
            let why = format!("{} serves programs on stdio only, and this server is required", self.name());
            return Err(self.lacking(&format!("mcpServers.{name}.url"), why));
        }
        Ok(())
    }

    fn lacking(self, key: &str, why: String) -> Failure {
        let what = "the gateway that was chosen cannot serve what proxy.json has";
        Failure::new(ExitCode::Render, "dialect-lacks", what)
            .on(key)
            .because(why)
            .hint("take the key out with an overlay, or use the builtin gateway")
    }

    /// What is left out, and said. Every key of an entry is named here: one that comes new has to be decided on.
    fn lacks(self, server: &str, entry: &ServerEntry) -> Vec<String> {
        let ServerEntry {
            command: _,
            args: _,
            env: _,
            cwd: _,
            url: _,
            required: _,
            control,
            start_timeout_ms,
            call_timeout_ms,
            headers: _,
            allowed_deaths: _,
            protocol_version,
            tool_filter: _,
        } = entry;
        let gateway = self.name();
        let mut lacks = Vec::new();
        if *control {
            lacks.push(format!(
                "{gateway} does not reload: what server {server} installs or removes is served after the next restart"
            ));
        }
        for (key, limit) in [("startTimeoutMs", start_timeout_ms), ("callTimeoutMs", call_timeout_ms)] {
            if limit.is_some() {
                lacks.push(format!(
                    "{gateway} has no limits of its own: {key} of server {server} does not hold"
                ));
            }
        }
        if protocol_version.is_some() {
            lacks.push(format!(
                "{gateway} offers its own version: protocolVersion of server {server} does not hold"
            ));
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn proxy(servers: &Value) -> ProxyConfig {
        let section = json!({"name": "stelae", "addr": ":9090", "baseURL": "http://127.0.0.1:9090"});
        serde_json::from_value(json!({"mcpProxy": section, "mcpServers": servers})).unwrap()
    }

    fn render(dialect: Dialect, servers: &Value) -> Result<(Value, Vec<String>), Failure> {
        let environments =
            Environments::from([("a".to_owned(), [("ALL".to_owned(), "1".to_owned())].into())]);
        let spoken = dialect.render(&proxy(servers), &environments)?;
        Ok((serde_json::from_str(&spoken.text).unwrap(), spoken.lacks))
    }

    #[test]
    fn the_go_program_gets_its_type_its_version_and_a_loopback_address() {
        let servers = json!({
            "a": {"command": "/bin/a", "args": ["x"], "env": {"OWN": "only"}},
            "b": {"url": "http://127.0.0.1:1/mcp", "required": false},
        });
        let (said, lacks) = render(Dialect::McpProxyGo, &servers).unwrap();
        assert_eq!(
            said,
            json!({
                "mcpProxy": {
                    "baseURL": "http://127.0.0.1:9090",
                    "addr": "127.0.0.1:9090",
                    "name": "stelae",
                    "version": env!("CARGO_PKG_VERSION"),
                    "type": "streamable-http",
                },
                "mcpServers": {
                    "a": {
                        "transportType": "stdio",
                        "command": "/bin/a",
                        "args": ["x"],
                        "env": {"ALL": "1"},
                        "options": {"panicIfInvalid": true},
                    },
                    "b": {
                        "transportType": "streamable-http",
                        "url": "http://127.0.0.1:1/mcp",
                        "headers": {},
                        "options": {"panicIfInvalid": false},
                    },
                },
            })
        );
        assert_eq!(lacks, Vec::<String>::new());
    }

    #[test]
    fn the_python_program_gets_its_named_servers_and_leaves_out_what_is_no_program() {
        let servers =
            json!({"a": {"command": "/bin/a"}, "b": {"url": "http://127.0.0.1:1/mcp", "required": false}});
        let (said, lacks) = render(Dialect::McpProxyPy, &servers).unwrap();
        assert_eq!(
            said,
            json!({"mcpServers": {"a": {"command": "/bin/a", "args": [], "env": {"ALL": "1"}}}})
        );
        assert_eq!(lacks, ["mcp-proxy-py serves programs on stdio only: server b is left out"]);
        let failure =
            render(Dialect::McpProxyPy, &json!({"b": {"url": "http://127.0.0.1:1/mcp"}})).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Render, "dialect-lacks"));
        assert_eq!(failure.on, ["mcpServers.b.url"]);
    }

    #[test]
    fn a_filter_holds_or_is_refused() {
        let filter = json!({"mode": "block", "list": ["x"]});
        let servers = json!({"a": {"command": "/bin/a", "toolFilter": filter}});
        let (said, _) = render(Dialect::McpProxyGo, &servers).unwrap();
        assert_eq!(said["mcpServers"]["a"]["options"]["toolFilter"], filter);
        let failure = render(Dialect::McpProxyPy, &servers).unwrap_err();
        assert_eq!(failure.on, ["mcpServers.a.toolFilter"]);
    }

    #[test]
    fn headers_are_passed_on() {
        let servers = json!({"a": {"url": "http://127.0.0.1:1/mcp", "headers": {"X": "y"}}});
        let (said, _) = render(Dialect::McpProxyGo, &servers).unwrap();
        assert_eq!(said["mcpServers"]["a"]["headers"], json!({"X": "y"}));
    }

    #[test]
    fn what_does_not_hold_is_said_and_what_cannot_be_is_refused() {
        let servers = json!({"a": {"command": "/bin/a", "control": true, "callTimeoutMs": 5}});
        let (_, lacks) = render(Dialect::McpProxyGo, &servers).unwrap();
        assert_eq!(
            lacks,
            [
                "mcp-proxy-go does not reload: what server a installs or removes is served after the next restart",
                "mcp-proxy-go has no limits of its own: callTimeoutMs of server a does not hold",
            ]
        );
        for dialect in [Dialect::McpProxyGo, Dialect::McpProxyPy] {
            let failure = render(dialect, &json!({"a": {"command": "/bin/a", "cwd": "/"}})).unwrap_err();
            assert_eq!(failure.on, ["mcpServers.a.cwd"]);
        }
    }
}
