//! How an agent CLI is started for a stage.

use std::net::SocketAddr;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use stelae_model::Failure;
use stelae_model::agent::{Agent, Filled, Model};
use stelae_model::env::{Environment, Invocation};

use super::process::{self, Own};
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

impl CliStart<'_> {
    /// What is started: the agent; with a model of ours, that one around it.
    ///
    /// # Errors
    /// Exit 20, when the run's variables are not what they should be.
    pub fn invocation(&self) -> Result<Invocation, Failure> {
        let model = self.model.map(|model| model.address);
        let own = Own { home: self.home.path(), model, no_proxy: &self.no_proxy(), token: true };
        let invocation = process::of(self.agent, self.started(), self.cwd.to_owned(), self.inside, &own)?;
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
