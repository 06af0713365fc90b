//! How an agent CLI is started for a stage.

use std::net::SocketAddr;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use stelae_model::agent::{Agent, Filled, Model};
use stelae_model::env::programs::{CLAUDE, CODEX};
use stelae_model::env::{Base, ClaudeEnv, CodexEnv, Environment, Invocation, ProgramEnv as _};
use stelae_model::value::{AbsolutePath, EnvValue, HttpUrl, Secret, Text};
use stelae_model::{ExitCode, Failure};

use super::{AgentHome, AgentProgram};

/// A start of an agent CLI.
#[derive(Debug)]
pub struct CliStart<'a> {
    /// Which.
    pub agent: Agent,
    /// Its program.
    pub program: &'a AgentProgram,
    /// Its home.
    pub home: &'a AgentHome,
    /// Its arguments.
    pub args: &'a [String],
    /// Where it works.
    pub cwd: &'a Utf8Path,
    /// The variables of the run.
    pub inside: &'a Environment,
    /// Its model, where that is ours.
    pub model: Option<ScriptedModel<'a>>,
    /// Every host that it may reach without a proxy.
    pub reach: &'a [SocketAddr],
}

/// Our model, and what is written about it.
#[derive(Clone, Copy, Debug)]
pub struct ScriptedModel<'a> {
    /// The program that plays it: `stelae-gateway`.
    pub player: &'a Utf8Path,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it plays.
    pub script: &'a Utf8Path,
    /// Every request.
    pub record: &'a Utf8Path,
    /// What the agent tried to reach.
    pub report: &'a Utf8Path,
}

/// A key that opens nothing: Claude Code asks nobody without one.
const NO_KEY: &str = "of-no-use";

impl CliStart<'_> {
    /// What is started: the agent; with a model of ours, that one around it.
    ///
    /// # Errors
    /// Exit 20, when the run's variables are not what they should be.
    pub fn invocation(&self) -> Result<Invocation, Failure> {
        let home: AbsolutePath = parse(self.home.path().as_str())?;
        let base = Base { home: home.clone(), ..Base::from_environment(self.inside)? };
        let proxy = self.model.map(|model| Secret::new(format!("http://{}", model.address)));
        let no_proxy: Text = parse(&self.no_proxy())?;
        let (program, cwd) = (self.started(), self.cwd.to_owned());
        let invocation = match self.agent {
            Agent::Claude => {
                let env = ClaudeEnv::from_environment(self.inside)?;
                let https_proxy = proxy.clone().or(env.https_proxy);
                let http_proxy = proxy.or(env.http_proxy);
                let base_url = self.model.map(|model| parse::<HttpUrl>(&format!("http://{}", model.address)));
                let api_key = self.model.map(|_| Secret::new(NO_KEY.to_owned()));
                let no_proxy = Some(no_proxy);
                let base_url = base_url.transpose()?;
                let env = ClaudeEnv { home, base_url, api_key, https_proxy, http_proxy, no_proxy, ..env };
                CLAUDE.invoke(program, cwd, &base, &env)
            }
            _ => {
                let env = CodexEnv::from_environment(self.inside)?;
                let https_proxy = proxy.clone().or(env.https_proxy);
                let http_proxy = proxy.or(env.http_proxy);
                let env = CodexEnv { home, https_proxy, http_proxy, no_proxy: Some(no_proxy), ..env };
                CODEX.invoke(program, cwd, &base, &env)
            }
        };
        Ok(invocation.args(self.room()).args(self.args.iter().cloned()))
    }

    fn started(&self) -> Utf8PathBuf {
        self.model.map_or(&*self.program.path, |model| model.player).to_owned()
    }

    /// The arguments of the model around the agent, and the agent.
    fn room(&self) -> Vec<String> {
        let Some(model) = self.model else { return Vec::new() };
        let mut args = vec!["with-model".to_owned(), "--listen".to_owned(), model.address.to_string()];
        for (flag, path) in
            [("--script", model.script), ("--record", model.record), ("--report", model.report)]
        {
            args.extend([flag.to_owned(), path.to_string()]);
        }
        args.push("--no-route".to_owned());
        for address in self.reach {
            args.extend(["--reach".to_owned(), address.to_string()]);
        }
        args.extend(["--".to_owned(), self.program.path.to_string()]);
        args
    }

    /// Loopback, by every name: a proxy variable captures it, too.
    fn no_proxy(&self) -> String {
        let mut hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned(), "::1".to_owned()];
        let all = self.reach.iter().copied().chain(self.model.map(|model| model.address));
        for host in all.map(|address| address.ip().to_string()) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts.join(",")
    }
}

fn parse<T: EnvValue>(text: &str) -> Result<T, Failure> {
    T::parse(text).map_err(|why| Failure::new(ExitCode::Environment, "agent-environment", why))
}

/// What the evidence says of it.
pub fn described(agent: Agent, model: Model, program: &AgentProgram, filled: &Filled) -> Value {
    json!({
        "schema": 1,
        "agent": agent,
        "model": model,
        "program": program.path,
        "version": program.version,
        "args": filled.args,
        "settings": filled.settings,
    })
}
