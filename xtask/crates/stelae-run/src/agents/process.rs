//! The process of an agent: its whole environment. Which variables an agent reads is its type.

use std::net::SocketAddr;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::agent::Agent;
use stelae_model::env::programs::{CLAUDE, CODEX};
use stelae_model::env::{Base, ClaudeEnv, CodexEnv, Environment, Invocation, ProgramEnv as _};
use stelae_model::value::{AbsolutePath, EnvValue, HttpUrl, Secret, Text};
use stelae_model::{ExitCode, Failure};

/// What an agent's process has of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    /// Its home, for whatever it keeps.
    pub(super) home: &'a Utf8Path,
    /// Our model, where that is the one. Every way outside leads there, too: it names who was wanted.
    pub(super) model: Option<SocketAddr>,
    /// Hosts that are reached without a proxy: a proxy variable captures loopback, too.
    pub(super) no_proxy: &'a str,
    /// Whether it shows the stack's token, if there is one.
    pub(super) token: bool,
}

/// A key that opens nothing: Claude Code asks nobody without one.
const NO_KEY: &str = "of-no-use";

/// An agent's process, without arguments: `program` is the agent, or what is around it.
///
/// # Errors
/// Exit 20, when a variable is not what it should be.
pub(super) fn of(
    agent: Agent,
    program: Utf8PathBuf,
    cwd: Utf8PathBuf,
    environment: &Environment,
    own: &Own<'_>,
) -> Result<Invocation, Failure> {
    let home: AbsolutePath = parse(own.home.as_str())?;
    let base = Base { home: home.clone(), ..Base::from_environment(environment)? };
    let model = own.model.map(|address| format!("http://{address}"));
    let proxy = model.clone().map(Secret::new);
    // With a model of ours nobody else is to be reached, with or without a proxy.
    let hosts = |of_host: Option<Text>| match of_host.filter(|_| own.model.is_none()) {
        Some(hosts) => parse::<Text>(&format!("{},{}", own.no_proxy, hosts.as_str())).map(Some),
        None => parse(own.no_proxy).map(Some),
    };
    Ok(match agent {
        Agent::Claude => {
            let env = ClaudeEnv::from_environment(environment)?;
            let env = ClaudeEnv {
                home,
                base_url: model.as_deref().map(parse::<HttpUrl>).transpose()?,
                api_key: model.map(|_| Secret::new(NO_KEY.to_owned())),
                mcp_token: env.mcp_token.filter(|_| own.token),
                https_proxy: proxy.clone().or(env.https_proxy),
                http_proxy: proxy.or(env.http_proxy),
                no_proxy: hosts(env.no_proxy)?,
                ..env
            };
            CLAUDE.invoke(program, cwd, &base, &env)
        }
        Agent::Codex | Agent::Builtin => {
            let env = CodexEnv::from_environment(environment)?;
            let env = CodexEnv {
                home,
                mcp_token: env.mcp_token.filter(|_| own.token),
                https_proxy: proxy.clone().or(env.https_proxy),
                http_proxy: proxy.or(env.http_proxy),
                no_proxy: hosts(env.no_proxy)?,
                ..env
            };
            CODEX.invoke(program, cwd, &base, &env)
        }
    })
}

fn parse<T: EnvValue>(text: &str) -> Result<T, Failure> {
    let what = "a variable of the agent is not what it should be";
    T::parse(text).map_err(|why| Failure::new(ExitCode::Environment, "agent-environment", what).because(why))
}

#[cfg(test)]
mod tests {
    use stelae_model::env::Layers;

    use super::*;

    fn environment(agent: Agent, model: Option<&str>, token: bool) -> impl Fn(&str) -> Option<String> {
        let process = [
            ("STELAE_MCP_TOKEN", "a-token-of-clients"),
            ("HTTPS_PROXY", "http://p:1"),
            ("NO_PROXY", "intra.example"),
            ("ANTHROPIC_API_KEY", "sk"),
        ];
        let process = process.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let model = model.map(|address| address.parse().unwrap());
        let own = Own { home: Utf8Path::new("/h"), model, no_proxy: "127.0.0.9", token };
        let invocation = of(agent, "/p".into(), "/".into(), &host, &own).unwrap();
        move |name| invocation.environment().get(name).cloned()
    }

    #[test]
    fn with_a_model_of_ours_every_way_outside_leads_there() {
        for agent in [Agent::Codex, Agent::Claude] {
            let text = environment(agent, Some("127.0.0.9:2"), true);
            for name in ["HTTPS_PROXY", "HTTP_PROXY"] {
                assert_eq!(text(name).as_deref(), Some("http://127.0.0.9:2"));
            }
            assert_eq!(
                (text("NO_PROXY").as_deref(), text("HOME").as_deref()),
                (Some("127.0.0.9"), Some("/h"))
            );
            assert!(text("STELAE_MCP_TOKEN").is_some());
        }
        let claude = environment(Agent::Claude, Some("127.0.0.9:2"), true);
        assert_eq!(claude("ANTHROPIC_BASE_URL").as_deref(), Some("http://127.0.0.9:2"));
        assert_eq!(claude("ANTHROPIC_API_KEY").as_deref(), Some(NO_KEY));
    }

    #[test]
    fn with_a_live_model_there_is_no_key_and_the_users_proxy() {
        for agent in [Agent::Codex, Agent::Claude] {
            let text = environment(agent, None, false);
            assert_eq!(text("HTTPS_PROXY").as_deref(), Some("http://p:1"));
            assert_eq!(text("NO_PROXY").as_deref(), Some("127.0.0.9,intra.example"));
            for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "STELAE_MCP_TOKEN"] {
                assert_eq!(text(name), None, "{name}");
            }
        }
    }
}
