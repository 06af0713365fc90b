//! What is kept of a stage.

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Failure;

use crate::files::remove_stale;
use crate::record::RunFolder;
use crate::smoke::context::{SmokeContext, beside};

/// What the run writes by itself.
const WRITTEN: [&str; 8] = [
    "prompt.txt",
    "agent.json",
    "calls.jsonl",
    "environment.json",
    "golden.json",
    "env",
    "begun.json",
    "tried.json",
];

/// The files of one stage, in the evidence.
#[derive(Debug)]
pub(super) struct Papers {
    /// What the agent says that it did, line by line as it wrote it.
    pub(super) transcript: Utf8PathBuf,
    /// What the agent says besides.
    pub(super) complaints: Utf8PathBuf,
    /// The calls that are to be made, for the builtin agent or for the model.
    pub(super) script: Utf8PathBuf,
    /// What our model was asked.
    pub(super) requests: Utf8PathBuf,
    /// What the agent wanted to reach.
    pub(super) network: Utf8PathBuf,
    /// Names, below the run's folder, of what the run writes by itself.
    name: String,
}

impl Papers {
    /// Those of a stage that begins. What an earlier session that failed here has left, wherever, is removed: it would be judged,
    /// or told, together with the new one.
    ///
    /// # Errors
    /// Exit 10, `stale-file`.
    pub(super) fn begin(cx: &SmokeContext, name: &str) -> Result<Self, Failure> {
        for place in [cx.folder.path(), &*beside(&cx.sandbox.workspace)] {
            Self::at(name, |file| place.join(file)).clear()?;
        }
        let papers = Self::at(name, |file| cx.place(file));
        WRITTEN.into_iter().try_for_each(|what| remove_stale(&cx.folder.join(&papers.named(what))))?;
        Ok(papers)
    }

    /// Those of a stage that was begun: wherever they are, and not where there is room by now.
    pub(super) fn of(cx: &SmokeContext, name: &str) -> Self {
        Self::at(name, |file| cx.found(file))
    }

    fn at(name: &str, place: impl Fn(&str) -> Utf8PathBuf) -> Self {
        let paper = |what: &str| place(&format!("transcripts/{name}.{what}"));
        Self {
            transcript: paper("jsonl"),
            complaints: place(&format!("logs/agent-{name}.log")),
            script: paper("script.json"),
            requests: paper("model.jsonl"),
            network: paper("network.json"),
            name: name.to_owned(),
        }
    }

    fn clear(&self) -> Result<(), Failure> {
        [&self.transcript, &self.complaints, &self.script, &self.requests, &self.network]
            .into_iter()
            .try_for_each(|path| remove_stale(path))
    }

    /// The name of another paper, below the run's folder: `prompt.txt`, `calls.jsonl`, `agent.json`.
    pub(super) fn named(&self, what: &str) -> String {
        format!("transcripts/{}.{what}", self.name)
    }
}

/// Everywhere where what the agent of a stage says may be.
pub(super) fn spoken(workspace: &Utf8Path, folder: &RunFolder, name: &str) -> [Utf8PathBuf; 4] {
    let in_folder = Papers::at(name, |file| folder.join(file));
    let in_workspace = Papers::at(name, |file| beside(workspace).join(file));
    [in_folder.transcript, in_folder.complaints, in_workspace.transcript, in_workspace.complaints]
}
