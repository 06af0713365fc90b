//! The home of an agent for one stage: nothing is in it but what this stage needs.

use std::io;
use std::os::unix::fs::symlink;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::agent::{Agent, Filled, Model};
use stelae_model::env::Environment;
use stelae_model::{ExitCode, Failure};

use super::credentials;
use crate::files::{create_private, create_private_dirs};

/// A home. Dropped, it has no credentials any more, whatever else is kept of the run.
///
/// They are lent as a link to the file of their user: an agent that gets newer ones in their place keeps them where the
/// user's own sessions find them, and there is no second copy to be forgotten.
#[derive(Debug)]
pub struct AgentHome {
    path: Utf8PathBuf,
    credentials: Option<Utf8PathBuf>,
}

impl AgentHome {
    /// An empty one at `path`, 0700. One that an earlier session left there is removed.
    ///
    /// # Errors
    /// Exit 10, `agent-home`.
    pub fn create(path: &Utf8Path) -> Result<Self, Failure> {
        let made = match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => create_private_dirs(path),
        };
        made.map_err(|error| unusable(path, &error))?;
        Ok(Self { path: path.to_owned(), credentials: None })
    }

    /// Its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Writes what the agent reads when it starts.
    ///
    /// # Errors
    /// Exit 10, `agent-home`; 20, `agents-config`, for settings that its format cannot hold.
    pub fn furnish(&self, agent: Agent, filled: &Filled) -> Result<(), Failure> {
        let (name, text) = filled.file(agent)?;
        let path = self.path.join(name);
        create_private(&path, text.as_bytes()).map_err(|error| unusable(&path, &error))
    }

    /// Lends it the user's credentials, if the model is a live one.
    ///
    /// # Errors
    /// Exit 40, `agent-credentials`; 10, `agent-home`.
    pub fn lend_credentials(
        &mut self,
        agent: Agent,
        model: Model,
        host: &Environment,
    ) -> Result<(), Failure> {
        if model == Model::Scripted {
            return Ok(());
        }
        credentials::check(agent, host)?;
        let credentials = credentials::of(agent, host)?;
        let path = self.path.join(credentials.name);
        symlink(&credentials.path, &path).map_err(|error| unusable(&path, &error))?;
        self.credentials = Some(path);
        Ok(())
    }

    /// It was needed for a moment only.
    ///
    /// # Errors
    /// Exit 10, `agent-home`.
    pub(super) fn remove(self) -> Result<(), Failure> {
        std::fs::remove_dir_all(&self.path).map_err(|error| unusable(&self.path, &error))
    }

    /// Stays as it is: a person goes on with it.
    pub fn leave(mut self) {
        self.credentials = None;
    }
}

impl Drop for AgentHome {
    fn drop(&mut self) {
        if let Some(path) = &self.credentials {
            // Or whatever an agent has put in its place.
            std::fs::remove_file(path).ok();
        }
    }
}

fn unusable(path: &Utf8Path, error: &io::Error) -> Failure {
    Failure::new(ExitCode::StepFailed, "agent-home", "the agent's home cannot be made")
        .on(path.to_string())
        .because(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;
    use stelae_model::env::Layers;

    use super::*;

    #[test]
    fn a_home_is_its_owners_and_begins_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("agent/s");
        let mode = |path: &Utf8Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let settings = json!({"model": "m", "features": {"plugins": false}}).as_object().unwrap().clone();
        let filled = Filled { args: Vec::new(), settings };
        for (agent, name) in [(Agent::Codex, "config.toml"), (Agent::Claude, "mcp.json")] {
            let home = AgentHome::create(&path).unwrap();
            assert_eq!((mode(&path), path.read_dir_utf8().unwrap().count()), (0o700, 0));
            home.furnish(agent, &filled).unwrap();
            assert_eq!(mode(&path.join(name)), 0o600);
        }
    }

    #[test]
    fn credentials_are_lent_to_a_live_model_only_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        std::fs::write(root.join("auth.json"), r#"{"OPENAI_API_KEY":"sk-x"}"#).unwrap();
        let process = vec![("CODEX_HOME".to_owned(), root.to_string())];
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let path = root.join("agent");
        let mut home = AgentHome::create(&path).unwrap();
        home.lend_credentials(Agent::Codex, Model::Scripted, &host).unwrap();
        assert!(!path.join("auth.json").exists());
        home.lend_credentials(Agent::Codex, Model::Live, &host).unwrap();
        assert_eq!(path.join("auth.json").read_link_utf8().unwrap(), root.join("auth.json"));
        drop(home);
        assert!(!path.join("auth.json").exists());
        assert!(root.join("auth.json").exists());
    }
}
