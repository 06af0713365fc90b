//! Puts everybody who saw a stage before the judge.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use stelae_model::agent::{Agent, Model};
use stelae_model::calls::{GatewayCall, read_calls};
use stelae_model::event::Event;
use stelae_model::expect::Stage;
use stelae_model::judge::{Played, judge};
use stelae_model::model_record::{ModelRequest, read_model_requests};
use stelae_model::stack::BUILTIN;
use stelae_model::transcript::Transcript;
use stelae_model::{ExitCode, Failure};

use super::papers::Papers;
use crate::files::{read_regular, read_regular_text};
use crate::smoke::context::SmokeContext;
use crate::smoke::state::Restarted;

/// Where the gateway's log of calls is.
pub(crate) const CALLS: &str = "calls.jsonl";

/// Its name among the papers of a stage that a person plays.
pub(super) const BEGUN: &str = "begun.json";

/// How far the gateway's log of calls was when a stage began.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begun {
    /// So many calls were before it.
    calls_before: usize,
}

impl Begun {
    /// From here on.
    ///
    /// # Errors
    /// Exit 11, `calls-missing`, `calls-unreadable`.
    pub(super) fn now(cx: &SmokeContext, restarted: &Restarted) -> Result<Self, Failure> {
        Ok(Self { calls_before: account(cx, restarted)?.map_or(0, |calls| calls.len()) })
    }

    /// From where a person began for the last time: each try says where.
    pub(super) fn by_hand(cx: &SmokeContext, papers: &Papers) -> Result<Self, Failure> {
        let path = cx.folder.join(&papers.named(BEGUN));
        let text = read_regular_text(&path).map_err(|error| missing(&path, &error))?;
        serde_json::from_str(&text).map_err(|error| missing(&path, &error.into()))
    }
}

fn missing(path: &Utf8Path, error: &std::io::Error) -> Failure {
    let what = "there is no transcript of the stage";
    Failure::new(ExitCode::ExpectationNotMet, "transcript-missing", what)
        .on(path.to_string())
        .because(error.to_string())
        .hint("its stack is gone now; go on from restart, and the command is printed again: --from restart")
}

/// Judges a stage that was played.
///
/// # Errors
/// Exit 11: what [`judge`] says, and `transcript-missing`, `transcript-unreadable`, `calls-unreadable`,
/// `model-record-unreadable`.
pub(super) fn judge_stage(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    papers: &Papers,
    begun: Begun,
) -> Result<(), Failure> {
    let (agent, model) = (cx.plan.agent, cx.plan.model);
    let transcript = transcript(cx, papers)?;
    tell(cx, stage, &transcript);
    // What it says besides is a help, and no proof.
    let complaints = read_regular_text(&papers.complaints).unwrap_or_default();
    let asked = asked(cx, papers)?;
    let given = given(cx, restarted, papers, begun)?;
    let played = Played {
        stage,
        agent,
        model,
        transcript: &transcript,
        complaints: &complaints,
        asked: asked.as_deref(),
        given: given.as_deref(),
    };
    judge(&played).map_err(|failure| failure.on(papers.transcript.to_string()))
}

/// What the agent says that it did.
pub(super) fn transcript(cx: &SmokeContext, papers: &Papers) -> Result<Transcript, Failure> {
    let path = &papers.transcript;
    let text = read_regular_text(path).map_err(|error| missing(path, &error))?;
    Transcript::read(cx.plan.agent, path.as_str(), &text)
}

/// What our model was asked; nothing where the agent has another one, or none.
pub(super) fn asked(cx: &SmokeContext, papers: &Papers) -> Result<Option<Vec<ModelRequest>>, Failure> {
    match (cx.plan.agent, cx.plan.model) {
        (Agent::Builtin, _) | (_, Model::Live) => Ok(None),
        _ => {
            let path = &papers.requests;
            let text = read_regular_text(path).map_err(|error| {
                let what = "there is no record of what the model was asked";
                Failure::new(ExitCode::ExpectationNotMet, "model-record-missing", what)
                    .on(path.to_string())
                    .because(error.to_string())
            })?;
            read_model_requests(path, &text).map(Some)
        }
    }
}

/// The calls that our gateway was given, kept as a paper of the stage; nothing where there is another gateway.
fn given(
    cx: &SmokeContext,
    restarted: &Restarted,
    papers: &Papers,
    begun: Begun,
) -> Result<Option<Vec<GatewayCall>>, Failure> {
    let Some(mut calls) = account(cx, restarted)? else {
        cx.recorder
            .note("this gateway keeps no log of its calls: what the agent says of them is all there is");
        return Ok(None);
    };
    calls.drain(..begun.calls_before.min(calls.len()));
    let lines: Vec<_> = calls.iter().filter_map(|call| serde_json::to_string(call).ok()).collect();
    cx.keep(&papers.named("calls.jsonl"), (lines.join("\n") + "\n").as_bytes());
    Ok(Some(calls))
}

/// The gateway's account of its calls; nothing where it is not ours. Of a gateway that was killed the last line may be cut
/// anywhere.
fn account(cx: &SmokeContext, restarted: &Restarted) -> Result<Option<Vec<GatewayCall>>, Failure> {
    if cx.plan.gateway != BUILTIN {
        return Ok(None);
    }
    let path = restarted.calls.clone().unwrap_or_else(|| cx.place(CALLS));
    let bytes = read_regular(&path).map_err(|error| {
        let what = "the gateway keeps no account of its calls, and nobody can say what it was given";
        Failure::new(ExitCode::ExpectationNotMet, "calls-missing", what)
            .on(path.to_string())
            .because(error.to_string())
            .hint("what is started as the gateway has to hand on STELAE_CALLS to `stelae-gateway serve`")
    })?;
    read_calls(path.as_str(), &String::from_utf8_lossy(&bytes)).map(Some)
}

fn tell(cx: &SmokeContext, stage: &Stage, transcript: &Transcript) {
    for call in transcript.calls() {
        cx.recorder.event(Event::Call {
            stage: stage.name.clone(),
            tool: call.tool.clone(),
            status: call.end.word().to_owned(),
        });
    }
    for (kind, count) in transcript.unknown() {
        cx.recorder.note(format!("the transcript has {count} of {kind:?}, which this program does not know"));
    }
}
