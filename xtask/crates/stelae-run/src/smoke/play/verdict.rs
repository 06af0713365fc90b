//! Puts everybody who saw a stage before the judge.

use std::io;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use stelae_model::agent::{Agent, Model};
use stelae_model::calls::{GatewayCall, read_calls};
use stelae_model::event::Event;
use stelae_model::expect::Stage;
use stelae_model::failure::shortened;
use stelae_model::judge::{Played, judge};
use stelae_model::model_record::{ModelRequest, read_model_requests};
use stelae_model::stack::BUILTIN;
use stelae_model::transcript::Transcript;
use stelae_model::{ExitCode, Failure};

use super::papers::Papers;
use super::prepare::prompt;
use crate::files::{limits, open_existing, read_untrusted, read_untrusted_text};
use crate::smoke::context::SmokeContext;
use crate::smoke::state::Restarted;

/// Where the gateway's log of calls is.
pub(crate) const CALLS: &str = "calls.jsonl";

/// Its name among the papers of a stage that a person plays.
pub(super) const BEGUN: &str = "begun.json";
/// The name of what the printed command writes when it begins, each time.
pub(super) const TRIED: &str = "tried.json";

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
        let read = |name: &str| -> Result<Self, Failure> {
            let path = cx.folder.join(&papers.named(name));
            let text =
                read_untrusted_text(&path, LONGEST).map_err(|error| missing(&path, &error, &cx.plan.run))?;
            serde_json::from_str(&text).map_err(|error| missing(&path, &error.into(), &cx.plan.run))
        };
        let first = read(BEGUN)?;
        // Written by the printed command. Who typed another one is judged by all calls since they were told.
        let last = read(TRIED).unwrap_or(first);
        let before = last.calls_before.saturating_sub(first.calls_before);
        if before > 0 {
            cx.recorder.warn(format!("{before} calls were made before the last try, and are not judged"));
        }
        Ok(last)
    }
}

fn missing(path: &Utf8Path, error: &io::Error, run: &str) -> Failure {
    let what = "there is no transcript of the stage";
    Failure::new(ExitCode::ExpectationNotMet, "transcript-missing", what)
        .on(path.to_string())
        .because(error.to_string())
        .hint(format!("to have the command printed again: cargo xtask smoke --resume {run} --from restart"))
}

/// Judges a stage that was played. Gives how many calls the gateway had been given by then.
///
/// # Errors
/// Exit 11: what [`judge`] says, and `transcript-missing`, `transcript-unreadable`, `transcript-too-long`, `calls-missing`,
/// `calls-unreadable`, `model-record-missing`, `model-record-unreadable`.
pub(super) fn judge_stage(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    papers: &Papers,
    begun: Begun,
) -> Result<usize, Failure> {
    let (agent, model) = (cx.plan.agent, cx.plan.model);
    let transcript = transcript(cx, papers)?;
    tell(cx, stage, &transcript);
    // What it says besides is a help, and no proof.
    let complaints = read_untrusted(&papers.complaints, LONGEST).unwrap_or_default();
    let complaints = String::from_utf8_lossy(&complaints);
    let asked = asked(cx, papers)?;
    let given = given(cx, restarted, papers, begun)?;
    let inside = cx.sandbox.environment(&cx.host)?;
    let prompt = prompt(stage, &inside, &restarted.endpoints.url, restarted.nonce())?;
    let played = Played {
        stage,
        prompt: &prompt,
        agent,
        model,
        transcript: &transcript,
        complaints: &complaints,
        asked: asked.as_deref(),
        given: given.as_deref(),
    };
    judge(&played).map_err(|failure| failure.on(papers.transcript.to_string()))?;
    Ok(begun.calls_before + given.map_or(0, |given| given.len()))
}

/// That the gateway was given nothing since a stage had been judged, when it had been given so many calls: an agent may have
/// left one behind that had not ended.
///
/// # Errors
/// Exit 11, `witnesses-differ`.
pub(crate) fn check_nothing_since(
    cx: &SmokeContext,
    restarted: &Restarted,
    after: &str,
) -> Result<(), Failure> {
    let Some(seen) = cx.calls_seen else { return Ok(()) };
    let calls = account(cx, restarted)?.unwrap_or_default();
    let Some(late) = calls.get(seen) else { return Ok(()) };
    let what = "the gateway was given a call that no stage tells of";
    Err(Failure::new(ExitCode::ExpectationNotMet, "witnesses-differ", what)
        .on(after.to_owned())
        .because(format!("{} {}", late.tool, late.arguments))
        .because(format!("by {}", late.client.as_deref().unwrap_or("a client without a name")))
        .hint("whoever played had ended, and the call had not"))
}

/// A longer transcript is none, and is not read.
const LONGEST: u64 = limits::TRANSCRIPT;

/// What the agent says that it did.
pub(super) fn transcript(cx: &SmokeContext, papers: &Papers) -> Result<Transcript, Failure> {
    let path = &papers.transcript;
    if path.metadata().is_ok_and(|metadata| metadata.len() >= LONGEST) {
        let what = "the transcript is longer than any agent's, and was not read";
        return Err(Failure::new(ExitCode::ExpectationNotMet, "transcript-too-long", what)
            .on(path.to_string())
            .because(format!("it has {} MiB or more", LONGEST >> 20)));
    }
    let bytes = read_untrusted(path, LONGEST).map_err(|error| missing(path, &error, &cx.plan.run))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|&&byte| byte == b'\n').count() + 1;
        let what = "the transcript has a line that is not an event";
        Failure::new(ExitCode::ExpectationNotMet, "transcript-unreadable", what)
            .on(format!("{path}:{line}"))
            .because("it is no UTF-8")
    })?;
    Transcript::read(cx.plan.agent, path.as_str(), &text)
}

/// Cuts what was written beyond what is read. Gives whether there was any.
pub(super) fn cut_short(path: &Utf8Path) -> io::Result<bool> {
    if !path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > LONGEST) {
        return Ok(false);
    }
    open_existing(path)?.set_len(LONGEST)?;
    Ok(true)
}

/// The same for all that an agent says: evidence is to be looked at.
pub(super) fn cut(cx: &SmokeContext, papers: &Papers) {
    for path in [&papers.transcript, &papers.complaints] {
        match cut_short(path) {
            Ok(false) => {}
            Ok(true) => {
                cx.recorder.warn(format!("{path} was longer than {} MiB, and is cut there", LONGEST >> 20));
            }
            Err(error) => cx.recorder.evidence_failed(path.as_str(), &error),
        }
    }
}

/// What our model was asked; nothing where the agent has another one, or none.
pub(super) fn asked(cx: &SmokeContext, papers: &Papers) -> Result<Option<Vec<ModelRequest>>, Failure> {
    match (cx.plan.agent, cx.plan.model) {
        (Agent::Builtin, _) | (_, Model::Live) => Ok(None),
        _ => {
            let path = &papers.requests;
            let text = read_untrusted_text(path, LONGEST);
            let text = text.map_err(|error| {
                let (kind, what) = match error.kind() {
                    io::ErrorKind::FileTooLarge => {
                        ("model-record-unreadable", "the record of what the model was asked is too long")
                    }
                    _ => ("model-record-missing", "there is no record of what the model was asked"),
                };
                Failure::new(ExitCode::ExpectationNotMet, kind, what)
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
    let bytes = read_untrusted(&path, LONGEST).map_err(|error| {
        if error.kind() == io::ErrorKind::FileTooLarge {
            let what = "the gateway's account of its calls is too long";
            return Failure::new(ExitCode::ExpectationNotMet, "calls-unreadable", what)
                .on(path.to_string())
                .because(error.to_string());
        }
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
    for stumble in transcript.stumbles() {
        cx.recorder.warn(format!("the agent stumbled: {}", shortened(stumble, 300)));
    }
    for (kind, count) in transcript.unknown() {
        cx.recorder.note(format!("the transcript has {count} of {kind:?}, which this program does not know"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_not_read_and_is_cut() {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(guard.path()).unwrap().join("calls.jsonl");
        assert!(matches!(cut_short(&path), Ok(false)));
        // A hole: it takes no room on the disk.
        std::fs::File::create(&path).unwrap().set_len(LONGEST + 1).unwrap();
        assert_eq!(read_untrusted(&path, LONGEST).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(matches!(cut_short(&path), Ok(true)));
        assert_eq!(path.metadata().unwrap().len(), LONGEST);
        assert!(matches!(cut_short(&path), Ok(false)));
        std::fs::write(&path, "short").unwrap();
        assert_eq!(read_untrusted(&path, LONGEST).unwrap(), b"short");
        assert!(read_untrusted(path.parent().unwrap(), LONGEST).is_err());
    }
}
