//! The user's credentials, for a live model: one file of the agent's own home.
//!
//! The agents' own ways to ask are not used: `codex login status` says yes to `{}`, and `claude auth status` goes out to look.

use camino::Utf8PathBuf;
use serde_json::Value;
use stelae_model::agent::Agent;
use stelae_model::env::Environment;
use stelae_model::env::declared::{CLAUDE_CONFIG_DIR, CODEX_HOME};
use stelae_model::{ExitCode, Failure};

use crate::files::read_regular;

/// The file, its name in a home, and how to come by it.
pub(super) struct Credentials {
    /// Its name in the agent's home.
    pub(super) name: &'static str,
    /// Where the user has it.
    pub(super) path: Utf8PathBuf,
}

/// Where an agent's user has them.
///
/// # Errors
/// Exit 20, for a home that is no path.
pub(super) fn of(agent: Agent, host: &Environment) -> Result<Credentials, Failure> {
    let (name, home) = match agent {
        Agent::Claude => (".credentials.json", host.get::<CLAUDE_CONFIG_DIR>()?),
        _ => ("auth.json", host.get::<CODEX_HOME>()?),
    };
    Ok(Credentials { name, path: home.join(name) })
}

/// That there is something in them. Whether it is still good, only its maker can say.
///
/// # Errors
/// Exit 40, `agent-credentials`.
pub(super) fn check(agent: Agent, host: &Environment) -> Result<(), Failure> {
    let credentials = of(agent, host)?;
    let failure = |why: String| {
        let what = format!("a live model needs credentials of {agent}, and there are none to use");
        let login = if agent == Agent::Claude { "claude auth login" } else { "codex login" };
        Failure::new(ExitCode::PrerequisiteMissing, "agent-credentials", what)
            .on(credentials.path.to_string())
            .because(why)
            .hint(format!("{login}; or leave --model live out"))
    };
    let bytes = read_regular(&credentials.path).map_err(|error| failure(error.to_string()))?;
    // Never the error of the parser: it quotes what it reads.
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| failure("it is not JSON".to_owned()))?;
    let pointers: &[&str] = match agent {
        Agent::Claude => &["/claudeAiOauth/accessToken"],
        _ => &["/OPENAI_API_KEY", "/tokens/access_token"],
    };
    let holds =
        |pointer: &&str| value.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if pointers.iter().any(holds) {
        return Ok(());
    }
    Err(failure(format!("it has no {}", pointers.join(" and no "))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use camino::Utf8Path;
    use stelae_model::env::Layers;

    use super::*;

    fn checked(agent: Agent, text: Option<&str>) -> Result<(), Failure> {
        let home = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(home.path()).unwrap();
        let process = [("CODEX_HOME", path), ("CLAUDE_CONFIG_DIR", path)];
        let process = process.map(|(name, value)| (name.to_owned(), value.to_string())).into();
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        if let Some(text) = text {
            fs::write(of(agent, &host).unwrap().path, text).unwrap();
        }
        check(agent, &host)
    }

    #[test]
    fn what_the_agents_take_for_credentials_and_are_none_is_refused() {
        for agent in [Agent::Codex, Agent::Claude] {
            let nothing = [None, Some(""), Some("{"), Some("{}"), Some(r#"{"OPENAI_API_KEY":null}"#)];
            for text in nothing.into_iter().chain([Some(r#"{"OPENAI_API_KEY":"","claudeAiOauth":{}}"#)]) {
                let failure = checked(agent, text).unwrap_err();
                assert_eq!(
                    (failure.exit_code, failure.kind.as_str()),
                    (ExitCode::PrerequisiteMissing, "agent-credentials"),
                    "{text:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_what_it_holds() {
        let failure = checked(Agent::Codex, Some(r#"{"OPENAI_API_KEY": sk-very-secret}"#)).unwrap_err();
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }

    #[test]
    fn a_key_or_a_token_will_do() {
        assert_eq!(checked(Agent::Codex, Some(r#"{"OPENAI_API_KEY":"sk-x"}"#)), Ok(()));
        assert_eq!(checked(Agent::Codex, Some(r#"{"tokens":{"access_token":"x"}}"#)), Ok(()));
        assert_eq!(checked(Agent::Claude, Some(r#"{"claudeAiOauth":{"accessToken":"x"}}"#)), Ok(()));
    }
}
