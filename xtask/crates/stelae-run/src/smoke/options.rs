//! What a smoke run was asked to do.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use stelae_model::agent::{Agent, Model};
use stelae_model::flow::{Budgets, Keep};

use crate::agents::AgentProgram;

/// What to do with a workspace that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfExists {
    /// Leave it alone and say so.
    #[default]
    Refuse,
    /// Go on in it, if it is of the same commit.
    Reuse,
    /// Remove it, if it is one of ours and nobody uses it.
    Replace,
}

/// The gateway of runs of before there was a choice.
fn builtin() -> String {
    stelae_model::stack::BUILTIN.to_owned()
}

/// Everything that is decided before a run starts; `plan.json`, and what `--plan` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this schema: 1.
    pub schema: u32,
    /// Id of the run.
    pub run: String,
    /// The repository that is cloned.
    pub source: Utf8PathBuf,
    /// The commit that is cloned.
    pub head: String,
    /// Changes of the source that are not committed, and so not in the clone.
    pub uncommitted: Vec<String>,
    /// Where the run works.
    pub workspace: Utf8PathBuf,
    /// What to do when that is there already.
    pub if_exists: IfExists,
    /// Whether it stays.
    pub keep: Keep,
    /// Builds into an empty folder.
    pub cold: bool,
    /// Who plays the stages.
    pub agent: Agent,
    /// Whose model tells an agent CLI what to do.
    #[serde(default)]
    pub model: Model,
    /// The program of an agent CLI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_program: Option<AgentProgram>,
    /// An agent CLI of another version than the pinned one is refused.
    #[serde(default)]
    pub locked_agents: bool,
    /// Which gateway the stack has: `builtin`, or the name of a foreign one.
    #[serde(default = "builtin")]
    pub gateway: String,
    /// The steps in order, with their budgets.
    pub budgets: Budgets,
    /// The last step that is carried out.
    pub until: Option<String>,
    /// The first step that is carried out anew when the run is resumed.
    pub from: Option<String>,
    /// The stage that a person plays.
    pub manual_stage: Option<String>,
    /// Where what the run came to is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Utf8PathBuf>,
    /// What the run has to come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Utf8PathBuf>,
}
