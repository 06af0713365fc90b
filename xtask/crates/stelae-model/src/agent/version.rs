//! Which version an agent CLI is, and whether that is the one it was measured with.

use serde::{Deserialize, Serialize};

use super::Agent;
use crate::{ExitCode, Failure};

/// A version, as the program says it and as it is pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CliVersion {
    /// What the program says.
    pub said: String,
    /// What `config/tools.toml` pins.
    pub pinned: String,
}

/// The version in what `--version` prints: `codex-cli 0.169.0`, `2.1.328 (Claude Code)`.
pub fn version_said(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace();
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

impl CliVersion {
    /// What another version than the pinned one may do otherwise; nothing if it is that.
    pub fn difference(&self, agent: Agent) -> Option<String> {
        (self.said != self.pinned).then(|| {
            format!(
                "{agent} is {}, and was measured as {}: names of tools, flags, settings and rules of approval may differ",
                self.said, self.pinned
            )
        })
    }

    /// That it is the pinned one.
    ///
    /// # Errors
    /// Exit 40, `agent-version`.
    pub fn check_locked(&self, agent: Agent) -> Result<(), Failure> {
        match self.difference(agent) {
            Some(difference) => {
                let what = format!("{agent} is not the version that is pinned");
                Err(Failure::new(ExitCode::PrerequisiteMissing, "agent-version", what)
                    .because(difference)
                    .hint(format!("cargo xtask tools install {agent}, or leave --locked-agents out")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_says_its_version_in_its_own_way() {
        for (said, version) in [
            ("codex-cli 0.169.0\n", Some("0.169.0")),
            ("2.1.328 (Claude Code)\n", Some("2.1.328")),
            ("command not found", None),
        ] {
            assert_eq!(version_said(said), version);
        }
    }

    #[test]
    fn another_version_is_a_difference_and_refused_when_locked() {
        let version = |said: &str| CliVersion { said: said.to_owned(), pinned: "0.169.0".to_owned() };
        assert_eq!(version("0.169.0").difference(Agent::Codex), None);
        assert_eq!(version("0.169.0").check_locked(Agent::Codex), Ok(()));
        let failure = version("0.170.0").check_locked(Agent::Codex).unwrap_err();
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::PrerequisiteMissing, "agent-version")
        );
        assert!(failure.to_string().contains("0.170.0"), "{failure}");
    }
}
