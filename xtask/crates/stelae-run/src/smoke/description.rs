//! What describes a run, as the commit that is cloned has it. What stands in the source's work tree and is not committed
//! decides nothing: a run would be green on what another clone of the same commit does not have.

use camino::Utf8Path;
use stelae_model::Failure;
use stelae_model::agent::{Agent, Model};
use stelae_model::golden::Golden;
use stelae_model::stack::{Stack, parse_stack};
use stelae_model::stages::{SmokeConfig, parse_smoke};
use stelae_model::tools::{Tools, parse_tools};

use super::play;
use crate::git::Committed;

/// The stages, the budgets and the bundle.
pub(super) const SMOKE: &str = "config/smoke.toml";
/// The gateway and the services.
pub(super) const STACK: &str = "config/stack.toml";
/// How agent CLIs are started.
pub(super) const AGENTS: &str = "config/agents.toml";
/// Which programs of other projects are used.
const TOOLS: &str = "config/tools.toml";

/// What describes a run.
#[derive(Clone, Debug)]
pub struct Description {
    committed: Committed,
    /// The stages, the budgets and the bundle.
    pub smoke: SmokeConfig,
    /// The gateway and the services.
    pub(super) stack: Stack,
    /// What the run has to come to, if it is compared.
    pub(super) golden: Option<Compared>,
}

/// A golden run that is compared with.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    /// What it came to.
    pub(super) golden: Golden,
    /// Where it was read, for messages.
    pub(super) place: String,
    /// Whether it is in the commit. Else it is one that the user has recorded, and not committed yet.
    pub(super) committed: bool,
}

/// The files that a description is made of: the same in every commit, and the golden run that is compared with.
pub(super) fn paths(golden: Option<&str>) -> Vec<&str> {
    [SMOKE, STACK, AGENTS, TOOLS].into_iter().chain(golden).collect()
}

/// Where a golden run stands in the commit that is cloned, if it is one of this source.
pub(super) fn path_in_commit<'a>(source: &Utf8Path, golden: Option<&'a Utf8Path>) -> Option<&'a str> {
    golden?.strip_prefix(source).ok().map(Utf8Path::as_str)
}

impl Description {
    /// Reads it.
    ///
    /// # Errors
    /// Exit 20, with the place in the commit: `smoke-config`, `stack-config`, and `-missing`, `-unreadable`, `-not-utf8`.
    pub(super) fn read(committed: Committed) -> Result<Self, Failure> {
        let text = committed.text(SMOKE, "smoke-config", "the description of the smoke run")?;
        let smoke = parse_smoke(&committed.place(SMOKE), text)?;
        let text = committed.text(STACK, "stack-config", "the description of the stack")?;
        let stack = parse_stack(&committed.place(STACK), text)?;
        Ok(Self { committed, smoke, stack, golden: None })
    }

    /// The pins of other projects' programs.
    ///
    /// # Errors
    /// Exit 20, `tools-config`, and as for [`Self::read`].
    pub(super) fn tools(&self) -> Result<Tools, Failure> {
        let text = self.committed.text(TOOLS, "tools-config", "the list of pinned tools")?;
        parse_tools(&self.committed.place(TOOLS), text)
    }

    /// How agent CLIs are started: the place, for messages, and the text.
    ///
    /// # Errors
    /// Exit 20, `agents-config`, as for [`Self::read`].
    pub(super) fn agents(&self) -> Result<(String, &str), Failure> {
        let text = self.committed.text(AGENTS, "agents-config", "the description of the agents")?;
        Ok((self.committed.place(AGENTS), text))
    }

    /// That the settings of an agent CLI can be filled in.
    ///
    /// # Errors
    /// Exit 20, `agents-config`; 21 for a name that there is not, with its place.
    pub(super) fn check_agents(&self, agent: Agent, model: Model) -> Result<(), Failure> {
        if agent == Agent::Builtin {
            return Ok(());
        }
        let (place, text) = self.agents()?;
        play::check_settings(agent, model, &place, text)
    }

    /// How messages name a file of the commit.
    pub(super) fn place(&self, path: &str) -> String {
        self.committed.place(path)
    }

    /// Another file of the commit, of those that were read: its text.
    pub(super) fn find(&self, path: &str) -> Option<&str> {
        self.committed.find(path)
    }
}
