//! What was lent to the agent of a stage that a person plays: it comes back, and what was read aloud of it is taken out of the
//! evidence.

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Failure;
use stelae_model::expect::Stage;

use super::papers::{Papers, spoken};
use super::prepare::{agent_home, homes};
use super::verdict::cut_short;
use crate::agents::AgentHome;
use crate::record::RunFolder;
use crate::smoke::context::SmokeContext;

/// Takes back what was lent for the stage, if anything was. From here on none of it is told.
///
/// # Errors
/// Exit 10, `agent-home`.
pub(crate) fn take_back(cx: &SmokeContext, stage: &Stage) -> Result<(), Failure> {
    let Some(home) = AgentHome::reclaim(&agent_home(cx, stage))? else { return Ok(()) };
    home.secrets().iter().for_each(|secret| cx.recorder.hide(secret));
    let papers = Papers::of(cx, &stage.name);
    end_loan(home, &[&papers.transcript, &papers.complaints])
}

/// The same for all stages of a run that is over, or is ended.
///
/// # Errors
/// Exit 10, `agent-home`: the workspace holds what its user may need.
pub fn take_back_all(workspace: &Utf8Path, folder: &RunFolder) -> Result<(), Failure> {
    for home in AgentHome::reclaim_all(&homes(workspace))? {
        let stage = home.path().file_name().unwrap_or_default().to_owned();
        let spoken = spoken(workspace, folder, &stage);
        end_loan(home, &spoken.each_ref())?;
    }
    Ok(())
}

fn end_loan(home: AgentHome, papers: &[&Utf8PathBuf]) -> Result<(), Failure> {
    // What is read has to have an end; what cannot be cut is found out by whoever reads it.
    papers.iter().for_each(|path| drop(cut_short(path)));
    let hidden = home.hide_credentials(papers);
    home.give_back().and(hidden)
}

#[cfg(test)]
mod tests {
    use stelae_model::agent::{Agent, Model};
    use stelae_model::env::{Environment, Layers};

    use super::*;

    #[test]
    fn what_was_lent_comes_back_and_is_nowhere_in_the_evidence() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(guard.path()).unwrap();
        let (workspace, user) = (root.join("w"), root.join("auth.json"));
        let folder = RunFolder::create(root, "r").unwrap();
        std::fs::write(&user, r#"{"OPENAI_API_KEY":"the-old-one-of-the-user"}"#).unwrap();
        let process = vec![("CODEX_HOME".to_owned(), root.to_string())];
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let mut home = AgentHome::create(&homes(&workspace).join("install")).unwrap();
        home.lend_credentials(Agent::Codex, Model::Live, &host).unwrap();
        home.leave();

        let newer = r#"{"OPENAI_API_KEY":"the-new-one-of-the-user"}"#;
        let link = homes(&workspace).join("install/auth.json");
        std::fs::remove_file(&link).unwrap();
        std::fs::write(&link, newer).unwrap();
        let aloud = "it was the-old-one-of-the-user, and is the-new-one-of-the-user";
        let papers = ["transcripts/install.jsonl", "logs/agent-install.log"].map(|name| folder.join(name));
        papers.iter().for_each(|path| std::fs::write(path, aloud).unwrap());

        take_back_all(&workspace, &folder).unwrap();
        assert_eq!(std::fs::read_to_string(&user).unwrap(), newer);
        assert!(!link.exists());
        for path in &papers {
            assert_eq!(std::fs::read_to_string(path).unwrap(), "it was ***, and is ***", "{path}");
        }
        take_back_all(&workspace, &folder).unwrap();
    }
}
