//! What a start needs, read from files and resolved: which program, with which arguments, on which address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::endpoints::Endpoints;
use stelae_model::env::declared::{
    CI, PATH, PROXY_HOST, PROXY_PORT, STELAE_CONFIG_HOME, STELAE_MCP_TOKEN, STELAE_ROOT,
};
use stelae_model::env::programs::{GATEWAY, SERVICE};
use stelae_model::env::{
    Base, Environment, GatewayEnv, Invocation, ProgramEnv as _, ServiceEnv, expand_env_file,
};
use stelae_model::lifecycle::Patience;
use stelae_model::proxy::ProxyConfig;
use stelae_model::render::{Names, Source, Syntax, parse_json, resolve};
use stelae_model::stack::{Chosen, Gateway, McpPaths, SERVER_IN_PATH, Service, Stack, parse_stack};
use stelae_model::value::{AbsolutePath, EnvValue as _, Secret};
use stelae_model::{ExitCode, Failure};

use super::foreign;
use crate::files::read_regular_text;
use crate::programs;
use crate::watch::{Canary, McpEndpoint, McpWanted, Wanted};

/// What to do when `proxy.json` names another port than the environment.
pub(super) const PORT_WRITTEN_DOWN: &str = "cargo xtask render-proxy --diff; is a port written into the template or the overlay, where <<PROXY_PORT>> belongs?";

/// A stack that can be started.
#[derive(Debug)]
pub struct StackConfig {
    /// `stack.toml`, with the chosen gateway as its gateway.
    pub stack: Stack,
    /// What `stack.toml` calls the gateway, whichever runs: the stack's own server and the builtin agent are its program.
    pub builtin: Gateway,
    /// The gateway that runs.
    pub chosen: Chosen,
    /// The rendered `proxy.json`.
    pub proxy: ProxyConfig,
    /// Where the gateway listens, by `proxy.json`: that is what its readers believe.
    pub address: SocketAddr,
    root: Utf8PathBuf,
    /// The `stack.toml` that was read.
    file: Utf8PathBuf,
}

impl StackConfig {
    /// Reads `stack.toml` (the root's, or another) and the rendered `proxy.json`. `gateway` is the name of the one that runs.
    ///
    /// # Errors
    /// Exit 20, `stack-config`; 2, `unknown-gateway`; 40, `not-rendered`; 21, `bad-proxy-config`.
    pub fn read(
        environment: &Environment,
        stack_file: Option<&Utf8Path>,
        gateway: &str,
    ) -> Result<Self, Failure> {
        let root = environment.get::<STELAE_ROOT>()?.as_path().to_owned();
        let path = stack_file.map_or_else(|| root.join("config/stack.toml"), Utf8Path::to_owned);
        let text = read_regular_text(&path).map_err(|error| {
            Failure::new(ExitCode::Environment, "stack-config", "the description of the stack cannot be read")
                .on(path.to_string())
                .because(error.to_string())
        })?;
        let mut stack = parse_stack(path.as_str(), &text)?;
        let chosen = stack.choose(gateway)?;
        let builtin = std::mem::replace(&mut stack.gateway, chosen.gateway.clone());
        let proxy_path = environment.get::<STELAE_CONFIG_HOME>()?.join("proxy.json");
        let proxy = read_proxy(&proxy_path)?;
        let address = proxy.mcp_proxy.address().map_err(|why| bad_proxy(&proxy_path, why))?;
        Ok(Self { stack, builtin, chosen, proxy, address, root, file: path })
    }

    /// That the rendered address is the one that the environment says: a port written into the template would make
    /// the gateway listen where nobody looks.
    ///
    /// # Errors
    /// Exit 20, `port-differs`.
    pub fn check_port(&self, environment: &Environment) -> Result<(), Failure> {
        let wanted = environment.get::<PROXY_PORT>()?.number();
        if self.address.port() == wanted {
            return Ok(());
        }
        Err(Failure::new(
            ExitCode::Environment,
            "port-differs",
            "proxy.json and the environment name different ports",
        )
        .on(format!("{}/proxy.json", environment.get::<STELAE_CONFIG_HOME>()?))
        .because(self.port_note(wanted))
        .hint(PORT_WRITTEN_DOWN))
    }

    /// Says which port each of the two names; part of a failure.
    pub fn port_note(&self, wanted: u16) -> String {
        format!("proxy.json says port {}, PROXY_PORT is {wanted}", self.address.port())
    }

    /// The gateway's process: program, arguments, and its whole environment.
    ///
    /// # Errors
    /// Exit 21 for a template in `command` or `args`; 20 for its env file; 40 when its program is not there.
    pub fn gateway(
        &self,
        environment: &Environment,
        token: Option<Secret<String>>,
        calls: Option<&Utf8Path>,
    ) -> Result<Invocation, Failure> {
        let gateway = &self.stack.gateway;
        let (program, words) = self.gateway_command(environment)?;
        let read = GatewayEnv::from_environment(environment)?;
        // Somebody else's would not ask clients for theirs.
        let mcp_token = read.mcp_token.clone().filter(|_| self.chosen.reloads());
        let calls = calls.filter(|_| self.chosen.reloads());
        let calls = calls.map(|path| AbsolutePath::parse(path.as_str()).map_err(Failure::unexpected));
        let env = GatewayEnv { control_token: token, mcp_token, calls: calls.transpose()?, ..read };
        let base = Base::from_environment(environment)?;
        let own = self.env_file(gateway.env_file.as_deref(), environment)?;
        Ok(GATEWAY.invoke(program, self.root.clone(), &base, &env).args(words).own_variables(own))
    }

    /// Program and arguments of the gateway that runs; that of a foreign one is there.
    fn gateway_command(&self, environment: &Environment) -> Result<(Utf8PathBuf, Vec<String>), Failure> {
        let gateway = &self.stack.gateway;
        if self.chosen.reloads() {
            let names = Names::from(environment);
            return self.command("gateway", &gateway.command, &gateway.args, environment, &names);
        }
        let table = format!("gateways.{}", self.chosen.name);
        let names = foreign::names(environment, &self.chosen)?;
        let (program, words) = self.command(&table, &gateway.command, &gateway.args, environment, &names)?;
        foreign::check_program(&self.chosen, &program, environment)?;
        Ok((program, words))
    }

    /// Writes what a foreign gateway reads in place of `proxy.json`, and gives what it will not do of what that says.
    ///
    /// # Errors
    /// Exit 21: `dialect-lacks`, `output-unwritable`.
    pub fn write_dialect(&self, environment: &Environment) -> Result<Vec<String>, Failure> {
        foreign::write_config(&self.chosen, &self.proxy, environment)
    }

    /// The process of a service: program, arguments, and its whole environment.
    ///
    /// # Errors
    /// As [`Self::gateway`].
    pub fn service(
        &self,
        name: &str,
        service: &Service,
        environment: &Environment,
    ) -> Result<Invocation, Failure> {
        let table = format!("services.{name}");
        let (program, words) =
            self.command(&table, &service.command, &service.args, environment, &Names::from(environment))?;
        let env = ServiceEnv::from_environment(environment)?;
        let base = Base::from_environment(environment)?;
        let own = self.env_file(service.env_file.as_deref(), environment)?;
        let invocation = SERVICE.invoke_named(name, program, self.root.clone(), &base, &env);
        Ok(invocation.args(words).own_variables(own))
    }

    /// The variables of the services' env files, by label; a service without one has a row, too.
    ///
    /// # Errors
    /// Exit 20 for a file that cannot be read, or says something else than variables.
    pub fn own_variables(
        &self,
        environment: &Environment,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, Failure> {
        let services = self.stack.services.iter();
        let file = |service: &Service| self.env_file(service.env_file.as_deref(), environment);
        services.map(|(name, service)| Ok((SERVICE.label(name), file(service)?))).collect()
    }

    /// Where processes of the stack have to listen, by label: the gateway, and each service with a port.
    ///
    /// # Errors
    /// Exit 20, when `PROXY_HOST` is not what it should be.
    pub fn addresses(&self, environment: &Environment) -> Result<BTreeMap<String, SocketAddr>, Failure> {
        let host = environment.get::<PROXY_HOST>()?.address();
        let services =
            self.stack.services.iter().filter_map(|(name, service)| {
                Some((SERVICE.label(name), SocketAddr::new(host, service.port?)))
            });
        Ok(services.chain([(GATEWAY.name.to_owned(), self.address)]).collect())
    }

    /// Program and arguments of one table of `stack.toml`.
    fn command(
        &self,
        table: &str,
        command: &str,
        args: &[String],
        environment: &Environment,
        names: &Names,
    ) -> Result<(Utf8PathBuf, Vec<String>), Failure> {
        let place = format!("{}: {table}", self.file);
        let mut words = resolved_words(&place, command, args, names)?;
        let command = Utf8PathBuf::from(words.remove(0));
        let program = match command.as_str().contains('/') {
            true => command,
            false => programs::find(command.as_str(), environment.get::<PATH>()?.as_str())?,
        };
        Ok((program, words))
    }

    fn env_file(
        &self,
        name: Option<&str>,
        environment: &Environment,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let Some(name) = name else { return Ok(BTreeMap::new()) };
        let path = self.root.join(name);
        let text = read_regular_text(&path).map_err(|error| {
            Failure::new(
                ExitCode::Environment,
                "env-file-unreadable",
                "the env file of a service cannot be read",
            )
            .on(path.to_string())
            .because(error.to_string())
            .hint(format!("make it readable, or take `env_file` out of {}", self.file))
        })?;
        expand_env_file(path.as_str(), &text, environment)
    }

    /// What "ready" means for the gateway.
    ///
    /// # Errors
    /// Exit 20, when `CI` is not what it should be.
    pub fn wanted(&self, environment: &Environment) -> Result<Wanted, Failure> {
        let rules = &self.stack.readiness;
        let canary = rules.canary.as_ref();
        Ok(Wanted {
            ready_line: None,
            address: Some(self.address),
            health_path: self.chosen.health_path.clone(),
            readiness_path: self.chosen.ready_path.clone(),
            mcp: Some(McpWanted {
                endpoints: self.mcp_endpoints(),
                headers: self.client_headers(environment)?,
                required_tools: rules.required_tools.clone(),
                canary: canary.map(|canary| Canary {
                    tool: canary.tool.clone(),
                    arguments: canary.arguments.clone(),
                    result: canary.result.clone(),
                }),
            }),
            patience: Patience {
                idle: Duration::from_millis(rules.idle_ms),
                ceiling: self.ceiling(environment)?,
            },
            port_variable: "PROXY_PORT".to_owned(),
        })
    }

    /// What "ready" means for a service. A ceiling of its own is the same under continuous integration.
    ///
    /// # Errors
    /// As [`Self::wanted`].
    pub fn service_wanted(&self, service: &Service, environment: &Environment) -> Result<Wanted, Failure> {
        let own = service.ceiling_ms.map(Duration::from_millis);
        let ceiling = own.map_or_else(|| self.ceiling(environment), Ok)?;
        let idle = Duration::from_millis(service.idle_ms.unwrap_or(self.stack.readiness.idle_ms));
        let host = environment.get::<PROXY_HOST>()?.address();
        Ok(Wanted {
            ready_line: service.ready_line.clone(),
            address: service.port.map(|port| SocketAddr::new(host, port)),
            health_path: service.health_path.clone(),
            readiness_path: None,
            mcp: None,
            patience: Patience { idle: idle.min(ceiling), ceiling },
            // It has none: the hint is made by whoever knows the service's name.
            port_variable: String::new(),
        })
    }

    /// What to do when the port of a service is taken.
    pub fn port_hint(&self, name: &str) -> String {
        format!("end it, or give services.{name} another `port` in {}", self.file)
    }

    fn ceiling(&self, environment: &Environment) -> Result<Duration, Failure> {
        let (rules, ci) = (&self.stack.readiness, environment.get::<CI>()?.is_some());
        Ok(Duration::from_millis(if ci { rules.ceiling_ci_ms } else { rules.ceiling_ms }))
    }

    /// What every request to the endpoints carries: the clients' token, where the gateway asks for one.
    ///
    /// # Errors
    /// Exit 20, when the token is none.
    pub fn client_headers(&self, environment: &Environment) -> Result<Vec<(String, String)>, Failure> {
        let token = environment.get::<STELAE_MCP_TOKEN>()?.filter(|_| self.chosen.reloads());
        Ok(token.iter().map(Secret::header).collect())
    }

    /// The paths where MCP is spoken.
    fn mcp_endpoints(&self) -> Vec<McpEndpoint> {
        match &self.chosen.mcp {
            McpPaths::One(path) => vec![McpEndpoint::of_all(path.clone())],
            McpPaths::PerServer(pattern) => {
                let servers = self.proxy.mcp_servers.iter();
                let endpoint = servers.map(|(name, entry)| McpEndpoint {
                    server: Some(name.clone()),
                    path: pattern.replace(SERVER_IN_PATH, name),
                    required: entry.required,
                });
                endpoint.collect()
            }
        }
    }

    /// Where the stack is reached; `answering` are the servers whose own endpoints answer, where each has one.
    pub fn endpoints(&self, answering: &[String]) -> Endpoints {
        let base = format!("http://{}", self.address);
        match &self.chosen.mcp {
            McpPaths::One(path) => Endpoints::one(base + path),
            McpPaths::PerServer(_) => {
                let answering: BTreeSet<&str> = answering.iter().map(String::as_str).collect();
                let all = self.mcp_endpoints().into_iter().filter_map(|endpoint| {
                    let server = endpoint.server.filter(|server| answering.contains(server.as_str()))?;
                    Some((server, format!("{base}{}", endpoint.path)))
                });
                Endpoints { servers: all.collect(), url: base.clone() }
            }
        }
    }

    /// URL that says which server is ready and which is not, where the gateway has one.
    pub fn ready_url(&self) -> Option<String> {
        self.chosen.ready_path.as_ref().map(|path| format!("http://{}{path}", self.address))
    }
}

/// Command and arguments with their tokens resolved; the command comes first.
fn resolved_words(
    place: &str,
    command: &str,
    args: &[String],
    names: &Names,
) -> Result<Vec<String>, Failure> {
    let command = (format!("{place}.command"), command);
    let args = args.iter().enumerate();
    let args = args.map(|(index, arg)| (format!("{place}.args[{index}]"), arg.as_str()));
    std::iter::once(command).chain(args).map(|(place, word)| resolved_word(&place, word, names)).collect()
}

/// One word. Tokens are those of JSON strings, so it is made one; line and column in that would be nobody's.
fn resolved_word(place: &str, word: &str, names: &Names) -> Result<String, Failure> {
    let bug = |error: serde_json::Error| Failure::unexpected(error.to_string());
    let source = Source::new(place, serde_json::to_string(word).map_err(bug)?);
    let resolved = parse_json(&source).and_then(|node| resolve(node, names, Syntax::default()));
    let value = resolved.map_err(|failure| Failure { on: vec![place.to_owned()], ..failure })?.to_value();
    serde_json::from_value(value).map_err(bug)
}

/// Reads a rendered `proxy.json`.
///
/// # Errors
/// Exit 40, `not-rendered`; 21, `bad-proxy-config`.
pub fn read_proxy(path: &Utf8Path) -> Result<ProxyConfig, Failure> {
    let text = read_regular_text(path).map_err(|error| {
        if error.kind() != std::io::ErrorKind::NotFound {
            return bad_proxy(path, format!("it cannot be read: {error}"));
        }
        let what = "the gateway's configuration is not there";
        Failure::new(ExitCode::PrerequisiteMissing, "not-rendered", what)
            .on(path.to_string())
            .because(error.to_string())
            .hint("cargo xtask render-proxy")
    })?;
    let proxy: ProxyConfig =
        serde_json::from_str(&text).map_err(|error| bad_proxy(path, error.to_string()))?;
    proxy.check().map_err(|why| bad_proxy(path, why))?;
    Ok(proxy)
}

fn bad_proxy(path: &Utf8Path, why: String) -> Failure {
    Failure::new(ExitCode::Render, "bad-proxy-config", "the gateway's configuration is not what it should be")
        .on(path.to_string())
        .because(why)
        .hint("cargo xtask render-proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(command: &str, args: &[&str]) -> Failure {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let names = Names::new([("PROXY_PORT", Some("1"))]);
        resolved_words("/other/stack.toml: gateway", command, &args, &names).unwrap_err()
    }

    #[test]
    fn a_bad_token_names_the_file_that_was_read_and_the_key() {
        let bad = failure("<<PROXY_PROT>>", &[]);
        assert_eq!(
            (bad.kind.as_str(), &bad.on[..]),
            ("unknown-name", &["/other/stack.toml: gateway.command".to_owned()][..])
        );
        let bad = failure("x", &["<<PROXY_PORT>>", "a\"<<PROXY_PORT"]);
        assert_eq!(
            (bad.kind.as_str(), &bad.on[..]),
            ("unclosed-token", &["/other/stack.toml: gateway.args[1]".to_owned()][..])
        );
    }
}
