//! Who plays a stage, and whose model thinks for it.

mod settings;
mod version;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use settings::{AgentSettings, Filled, Reached, read_settings};
pub use version::{CliVersion, version_said};

/// Who plays the stages of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agent {
    /// `stelae-gateway agent`, which plays the calls of a stage as they stand there.
    #[default]
    Builtin,
    /// Codex CLI.
    Codex,
    /// Claude Code.
    Claude,
}

impl Agent {
    /// Its name, as `--agent` and `config/tools.toml` have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Codex => "codex",
            Self::Claude => "claude",
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose model thinks for an agent CLI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Ours, which plays the calls of a stage: no key, no internet, the same every time.
    #[default]
    Scripted,
    /// The one of the agent's maker, with the user's credentials.
    Live,
}

/// The name under which an agent knows the stack's MCP server.
pub const SERVER: &str = "stelae";
