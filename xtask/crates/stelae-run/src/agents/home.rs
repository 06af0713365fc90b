//! The home of an agent for one stage: nothing is in it but what this stage needs.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::agent::{Agent, Filled, Model};
use stelae_model::env::Environment;
use stelae_model::value::Secret;
use stelae_model::{ExitCode, Failure};

use super::credentials;
use super::lent::Lent;
use crate::files::{self, create_private, create_private_dirs, discard, limits, read_untrusted};

/// A home. Dropped, it has no credentials any more, whatever else is kept of the run, unless newer ones could not be given
/// back to their user: better left than lost.
#[derive(Debug)]
pub struct AgentHome {
    path: Utf8PathBuf,
    lent: Option<Lent>,
}

impl AgentHome {
    /// An empty one at `path`, 0700. One that an earlier session left there is removed, without what was lent to it.
    ///
    /// # Errors
    /// Exit 10, `agent-home`.
    pub fn create(path: &Utf8Path) -> Result<Self, Failure> {
        Self::reclaim(path)?.map_or(Ok(()), Self::give_back)?;
        let made = discard(path).and_then(|()| create_private_dirs(path));
        made.map_err(|error| unusable(path, &error))?;
        Ok(Self { path: path.to_owned(), lent: None })
    }

    /// One that was left for a person, and to which something is lent.
    ///
    /// # Errors
    /// Exit 10, `agent-home`: nobody knows what.
    pub fn reclaim(path: &Utf8Path) -> Result<Option<Self>, Failure> {
        Ok(Lent::earlier(path)?.map(|lent| Self { path: path.to_owned(), lent: Some(lent) }))
    }

    /// All of them in a folder.
    ///
    /// # Errors
    /// As for [`AgentHome::reclaim`].
    pub fn reclaim_all(folder: &Utf8Path) -> Result<Vec<Self>, Failure> {
        Lent::homes(folder).iter().filter_map(|home| Self::reclaim(home).transpose()).collect()
    }

    /// Takes back what is lent to it.
    ///
    /// # Errors
    /// Exit 10, `agent-home`: newer credentials cannot be given to their user, and stay where they are.
    pub fn give_back(mut self) -> Result<(), Failure> {
        self.lent.take().map_or(Ok(()), |lent| lent.give_back())
    }

    /// Its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// The file of the user that is lent to it.
    pub fn lent_file(&self) -> Option<Utf8PathBuf> {
        self.lent.as_ref().map(|lent| lent.original().to_owned())
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
        let lent = Lent::lend(&self.path, credentials.name, credentials.path);
        self.lent = Some(lent.map_err(|error| unusable(&self.path, &error))?);
        Ok(())
    }

    /// What is secret in the lent credentials.
    pub fn secrets(&self) -> Vec<Secret<String>> {
        self.lent.iter().flat_map(Lent::secrets).map(Secret::new).collect()
    }

    /// Takes what is secret in the lent credentials out of these files: an agent with a model of its own may have read them aloud.
    ///
    /// # Errors
    /// Exit 10, `agent-home`: one of them may still hold it.
    pub fn hide_credentials(&self, files: &[&Utf8PathBuf]) -> Result<(), Failure> {
        let Some(lent) = &self.lent else { return Ok(()) };
        let secrets = lent.secrets();
        for &path in files {
            // Also of what is no UTF-8: a byte that is wrong must not hide a token that is right.
            let bytes = match read_untrusted(path, limits::LOG) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.map_err(|error| unusable(path, &error))?,
            };
            let text = String::from_utf8_lossy(&bytes);
            if secrets.iter().any(|secret| text.contains(secret.as_str())) {
                // Of two that begin alike the longer one comes first.
                let hidden =
                    secrets.iter().rev().fold(text.into_owned(), |text, secret| text.replace(secret, "***"));
                files::replace(path, hidden.as_bytes(), files::Readable::ByOwner)
                    .map_err(|error| unusable(path, &error))?;
            }
        }
        Ok(())
    }

    /// Removes it, and whatever an agent has put in there.
    ///
    /// # Errors
    /// Exit 10, `agent-home`.
    pub(super) fn remove(self) -> Result<(), Failure> {
        discard(&self.path).map_err(|error| unusable(&self.path, &error))
    }

    /// Stays as it is: a person goes on with it.
    pub fn leave(mut self) {
        self.lent = None;
    }
}

impl Drop for AgentHome {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            // The way for whoever fails in between; what does not go back stays, and its note is found.
            lent.give_back().ok();
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

    /// A home to which the credentials of a user are lent.
    fn lending(root: &Utf8Path, key: &str) -> (AgentHome, Environment) {
        std::fs::write(root.join("auth.json"), format!(r#"{{"OPENAI_API_KEY":"{key}"}}"#)).unwrap();
        let process = vec![("CODEX_HOME".to_owned(), root.to_string())];
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let mut home = AgentHome::create(&root.join("agent/s")).unwrap();
        home.lend_credentials(Agent::Codex, Model::Live, &host).unwrap();
        (home, host)
    }

    #[test]
    fn newer_credentials_become_the_users() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let (home, _) = lending(root, "the-old-one-of-the-user");
        // As an agent does that writes beside it and renames.
        let newer = r#"{"OPENAI_API_KEY":"the-new-one-of-the-user"}"#;
        std::fs::remove_file(root.join("agent/s/auth.json")).unwrap();
        std::fs::write(root.join("agent/s/auth.json"), newer).unwrap();
        drop(home);
        assert_eq!(std::fs::read_to_string(root.join("auth.json")).unwrap(), newer);
        assert!(!root.join("agent/s/auth.json").exists());

        let (home, _) = lending(root, "one-that-changes-meanwhile");
        std::fs::remove_file(root.join("agent/s/auth.json")).unwrap();
        std::fs::write(root.join("agent/s/auth.json"), newer).unwrap();
        std::fs::write(root.join("auth.json"), "{}").unwrap();
        drop(home);
        assert_eq!(std::fs::read_to_string(root.join("auth.json")).unwrap(), "{}", "its user's own is newer");

        let (home, _) = lending(root, "one-for-a-person");
        home.leave();
        assert!(root.join("agent/s/auth.json").exists());
        drop(AgentHome::reclaim(&root.join("agent/s")).unwrap().unwrap());
        assert!(!root.join("agent/s/auth.json").exists() && root.join("auth.json").exists());
    }

    #[test]
    fn a_home_that_is_made_anew_gives_back_what_was_lent_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let (home, _) = lending(root, "the-old-one-of-the-user");
        home.leave();
        std::fs::remove_file(root.join("agent/s/auth.json")).unwrap();
        std::fs::write(root.join("agent/s/auth.json"), "the new one").unwrap();
        AgentHome::create(&root.join("agent/s")).unwrap();
        assert_eq!(std::fs::read_to_string(root.join("auth.json")).unwrap(), "the new one");
        assert_eq!(AgentHome::reclaim_all(&root.join("agent")).unwrap().len(), 0);
    }

    #[test]
    fn what_an_agent_reads_aloud_is_taken_out_of_the_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let (home, _) = lending(root, "a-secret-of-the-user");
        let paper = root.join("transcript");
        std::fs::write(&paper, "it is a-secret-of-the-user, says auth.json").unwrap();
        let broken = root.join("broken");
        std::fs::write(&broken, b"\xff a-secret-of-the-user").unwrap();
        home.hide_credentials(&[&paper, &broken, &root.join("none")]).unwrap();
        assert_eq!(std::fs::read_to_string(&paper).unwrap(), "it is ***, says auth.json");
        assert_eq!(std::fs::read_to_string(&broken).unwrap(), "\u{fffd} ***");
    }
}
