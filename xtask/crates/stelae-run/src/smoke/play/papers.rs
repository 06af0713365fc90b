//! What is kept of a stage.

use camino::Utf8PathBuf;
use stelae_model::Failure;

use crate::files::remove_stale;
use crate::smoke::context::SmokeContext;

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
    /// Those of the stage of this name.
    pub(super) fn of(cx: &SmokeContext, name: &str) -> Self {
        let place = |what: &str| cx.place(&format!("transcripts/{name}.{what}"));
        Self {
            transcript: place("jsonl"),
            complaints: cx.log(&format!("agent-{name}")),
            script: place("script.json"),
            requests: place("model.jsonl"),
            network: place("network.json"),
            name: name.to_owned(),
        }
    }

    /// Removes what an earlier session that failed here has left: it would be judged, or told, together with the new one.
    pub(super) fn clear(&self, cx: &SmokeContext) -> Result<(), Failure> {
        [&self.transcript, &self.complaints, &self.requests, &self.network]
            .into_iter()
            .try_for_each(|path| remove_stale(path))?;
        WRITTEN.into_iter().try_for_each(|what| remove_stale(&cx.folder.join(&self.named(what))))
    }

    /// The name of another paper, below the run's folder: `prompt.txt`, `calls.jsonl`, `agent.json`.
    pub(super) fn named(&self, what: &str) -> String {
        format!("transcripts/{}.{what}", self.name)
    }
}
