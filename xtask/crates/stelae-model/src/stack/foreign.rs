//! Foreign gateways: programs that can be put in the builtin gateway's place, each described under a name.

use serde::{Deserialize, Serialize};

use super::{Gateway, Socket, Stack, default_grace_ms};
use crate::dialect::Dialect;
use crate::env::nearest;
use crate::{ExitCode, Failure};

/// The name of the gateway that `[gateway]` describes; no foreign one can have it.
pub const BUILTIN: &str = "builtin";
/// What stands for a server's name in the path of its endpoint.
pub const SERVER_IN_PATH: &str = "{server}";

/// A program of somebody else's that can have the endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignGateway {
    /// Its program; `<<NAME>>` stands for a variable, `<<TOOLS>>` for the folder of installed tools.
    pub command: String,
    /// What `cargo xtask tools install` calls it; absent: whoever uses it has to see to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Its arguments; as in `command`, and `<<GATEWAY_CONFIG>>` stands for the file that is rendered for it.
    #[serde(default)]
    pub args: Vec<String>,
    /// How it gets its port.
    #[serde(default = "own_socket")]
    pub socket: Socket,
    /// As [`Gateway::grace_ms`].
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
    /// As [`Gateway::needs`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<String>>,
    /// As [`Gateway::restarts`].
    #[serde(default)]
    pub restarts: u32,
    /// What is rendered for it.
    pub dialect: Dialect,
    /// Path of its MCP endpoint, if one has all servers; either this or `server_mcp_path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_path: Option<String>,
    /// Path of the endpoint of each server, with `{server}` for its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_mcp_path: Option<String>,
    /// Path that answers 2xx as soon as it serves; absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
}

fn own_socket() -> Socket {
    Socket::Own
}

/// The gateway that a stack is started with.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Its name: [`BUILTIN`], or that of a foreign one.
    pub name: String,
    /// Its process.
    pub gateway: Gateway,
    /// What `cargo xtask tools install` calls it.
    pub tool: Option<String>,
    /// What is rendered for it; the builtin one reads `proxy.json` itself.
    pub dialect: Option<Dialect>,
    /// The paths of its MCP endpoints.
    pub mcp: McpPaths,
    /// Path that answers 2xx as soon as it serves.
    pub health_path: Option<String>,
    /// Path that says which server is ready and which is not.
    pub ready_path: Option<String>,
}

/// Under which paths MCP is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum McpPaths {
    /// One that has all servers.
    One(String),
    /// One for each server; [`SERVER_IN_PATH`] stands for its name.
    PerServer(String),
}

impl Chosen {
    /// Whether what is installed or removed while it is up is served without a restart.
    pub fn reloads(&self) -> bool {
        self.dialect.is_none()
    }
}

impl Stack {
    /// The gateway of this name.
    ///
    /// # Errors
    /// Exit 2, `unknown-gateway`, with a suggestion.
    pub fn choose(&self, name: &str) -> Result<Chosen, Failure> {
        if name == BUILTIN {
            return Ok(self.builtin());
        }
        match self.gateways.get(name) {
            Some(foreign) => Ok(foreign.chosen(name)),
            None => Err(self.unknown(name)),
        }
    }

    fn builtin(&self) -> Chosen {
        Chosen {
            name: BUILTIN.to_owned(),
            gateway: self.gateway.clone(),
            tool: None,
            dialect: None,
            mcp: McpPaths::One(self.readiness.mcp_path.clone()),
            health_path: self.readiness.health_path.clone(),
            ready_path: self.readiness.ready_path.clone(),
        }
    }

    fn unknown(&self, name: &str) -> Failure {
        let names: Vec<&str> =
            std::iter::once(BUILTIN).chain(self.gateways.keys().map(String::as_str)).collect();
        let failure =
            Failure::new(ExitCode::Usage, "unknown-gateway", format!("there is no gateway {name:?}"));
        match nearest(name, names.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean {near}?")),
            None => failure.hint(format!(
                "there are: {}; one is described by [gateways.NAME] in config/stack.toml",
                names.join(", ")
            )),
        }
    }
}

impl ForeignGateway {
    /// That it has one kind of paths, as [`parse_stack`](super::parse_stack) has made sure.
    fn paths(&self) -> McpPaths {
        match (&self.mcp_path, &self.server_mcp_path) {
            (_, Some(pattern)) => McpPaths::PerServer(pattern.clone()),
            (path, None) => McpPaths::One(path.clone().unwrap_or_default()),
        }
    }

    fn chosen(&self, name: &str) -> Chosen {
        Chosen {
            name: name.to_owned(),
            gateway: Gateway {
                command: self.command.clone(),
                args: self.args.clone(),
                socket: self.socket,
                env_file: None,
                grace_ms: self.grace_ms,
                needs: self.needs.clone(),
                restarts: self.restarts,
            },
            tool: self.tool.clone(),
            dialect: Some(self.dialect),
            mcp: self.paths(),
            health_path: self.health_path.clone(),
            ready_path: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse_stack, tests::GOOD};
    use super::*;

    const FOREIGN: &str = "[gateways.go]\ncommand = \"x\"\ndialect = \"mcp-proxy-go\"\n";

    #[test]
    fn the_builtin_one_is_what_the_file_calls_the_gateway() {
        let chosen = parse_stack("stack.toml", GOOD).unwrap().choose(BUILTIN).unwrap();
        assert_eq!((chosen.gateway.command.as_str(), chosen.mcp), ("g", McpPaths::One("/mcp".to_owned())));
    }

    #[test]
    fn a_foreign_one_binds_its_port_itself_and_has_what_it_says_and_no_more() {
        let text =
            format!("{GOOD}health_path = \"/healthz\"\n{FOREIGN}server_mcp_path = \"/{{server}}/mcp\"\n");
        let chosen = parse_stack("stack.toml", &text).unwrap().choose("go").unwrap();
        assert_eq!(chosen.mcp, McpPaths::PerServer("/{server}/mcp".to_owned()));
        assert_eq!((chosen.gateway.socket, chosen.health_path.as_deref()), (Socket::Own, None));
        assert!(!chosen.reloads());
    }

    #[test]
    fn an_unknown_one_is_a_slip_of_the_command_line() {
        let text = format!("{GOOD}{FOREIGN}mcp_path = \"/mcp\"\n");
        let stack = parse_stack("stack.toml", &text).unwrap();
        for (name, hint) in
            [("og", "there are: builtin, go; one is described"), ("biultin", "did you mean builtin?")]
        {
            let failure = stack.choose(name).unwrap_err();
            assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Usage, "unknown-gateway"));
            assert!(failure.hint.as_deref().unwrap_or_default().starts_with(hint), "{failure}");
        }
    }

    #[test]
    fn what_a_foreign_one_must_not_say_has_its_key() {
        for (says, key, why) in [
            ("", "gateways.go", "it needs either `mcp_path` or `server_mcp_path`"),
            (
                "mcp_path = \"/a\"\nserver_mcp_path = \"/{server}\"",
                "gateways.go",
                "it needs either `mcp_path` or `server_mcp_path`",
            ),
            ("mcp_path = \"mcp\"", "gateways.go.mcp_path", "a path begins with /"),
            (
                "server_mcp_path = \"/mcp\"",
                "gateways.go.server_mcp_path",
                "without {server}, all servers have one path",
            ),
            ("mcp_path = \"/mcp\"\nhealth_path = \"up\"", "gateways.go.health_path", "a path begins with /"),
            ("mcp_path = \"/mcp\"\nrestarts = 11", "gateways.go.restarts", "it is 11, and must be 0 to 10"),
            (
                "mcp_path = \"/mcp\"\ngrace_ms = 86400001",
                "gateways.go.grace_ms",
                "it is 86400001, and must be 0 to 86400000",
            ),
        ] {
            let failure = parse_stack("stack.toml", &format!("{GOOD}{FOREIGN}{says}\n")).unwrap_err();
            assert_eq!((&failure.on[0], &failure.why[0]), (&format!("stack.toml: {key}"), &why.to_owned()));
        }
        let builtin =
            format!("{GOOD}{}mcp_path = \"/mcp\"\n", FOREIGN.replace("gateways.go", "gateways.builtin"));
        assert_eq!(parse_stack("stack.toml", &builtin).unwrap_err().on, ["stack.toml: gateways.builtin"]);
        let needs = format!("{GOOD}{FOREIGN}mcp_path = \"/mcp\"\nneeds = [\"x\"]\n");
        let failure = parse_stack("stack.toml", &needs).unwrap_err();
        assert_eq!(
            (failure.kind.as_str(), &failure.on[0][..]),
            ("unknown-service", "stack.toml: gateways.go.needs")
        );
    }
}
