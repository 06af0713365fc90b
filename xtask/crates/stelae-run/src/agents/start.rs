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
    /// Where it is held until it was looked at, unless a person starts it.
    pub held: Option<Held<'a>>,
}

/// What holds an agent.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The program that does: `stelae-gateway`.
    pub holder: &'a Utf8Path,
    /// The socket of the harness.
    pub gate: &'a Utf8Path,
}

/// The arguments with which `stelae-gateway` holds `program`, whose own follow.
pub fn held(gate: &Utf8Path, program: &Utf8Path) -> Vec<String> {
    ["held", "--at", gate.as_str(), "--", program.as_str()].map(str::to_owned).to_vec()
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

    /// The program that is started: the model around the agent, what holds it, or the agent itself.
    fn started(&self) -> Utf8PathBuf {
        let holder = self.held.map(|held| held.holder);
        self.model.map(|model| model.player).or(holder).unwrap_or(&self.program.path).to_owned()
    }

    /// The words of the agent's program, behind a model: with what holds it in front.
    fn behind_model(&self) -> Vec<String> {
        let Some(Held { holder, gate }) = self.held else { return vec![self.program.path.to_string()] };
        std::iter::once(holder.to_string()).chain(held(gate, &self.program.path)).collect()
    }

    /// The arguments of the model around the agent, and the agent.
    fn room(&self) -> Vec<String> {
        let Some(model) = self.model else {
            return self.held.map(|own| held(own.gate, &self.program.path)).unwrap_or_default();
        };
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
        args.push("--".to_owned());
        args.extend(self.behind_model());
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
        "sha256": program.sealed.sha256,
        "version": program.version,
        "args": filled.args,
        "settings": filled.settings,
    })
}
