//! Why the calls are not what they should be: what went wrong before them, from the way in outwards.
//!
//! Each of these has been seen with an exit code of 0 (`docs/AGENTS.md`).

use super::{Played, clip, unmet};
use crate::Failure;
use crate::misbehaviour::Wrong;
use crate::model_record::ModelRequest;
use crate::transcript::CallEnd;

/// Mismatches that something before them can be behind. What was called and should not have been needs no excuse.
const EXPLAINED: [&str; 3] = ["call-missing", "call-failed", "turn-not-completed"];

/// The cause, with the mismatch that it led to; without one, the mismatch.
pub(super) fn explain(played: &Played<'_>, mismatch: Failure) -> Failure {
    if !EXPLAINED.contains(&mismatch.kind.as_str()) {
        return mismatch;
    }
    let causes =
        [server_missing, model_fault, model_failed, model_unreached, unsupported_call, approval_refused];
    match causes.into_iter().find_map(|cause| cause(played)) {
        Some(cause) => {
            let hint = cause.hint.clone().or(mismatch.hint);
            let cause = cause.because(mismatch.what);
            // What the agent says of itself is said once.
            let said = played.transcript.failure().map(clip);
            let told = |why: &String| said.as_ref().is_some_and(|said| why.contains(said.as_str()));
            let already = cause.why.iter().any(told);
            let more = mismatch.why.into_iter().filter(|why| !(already && told(why)));
            Failure { hint, ..more.fold(cause, Failure::because) }
        }
        None => mismatch,
    }
}

/// What Codex says when a server is `required`, and is not there.
const REQUIRED: &str = "required MCP servers failed to initialize";

/// What Codex says when nobody answers where a server should be.
const UNREACHED: &str = "error sending request";

/// The agent came up without the stack's MCP server: it goes on without its tools, and nothing of that is in the transcript
/// of Codex.
fn server_missing(played: &Played<'_>) -> Option<Failure> {
    let why = if let Some((name, state)) = played.transcript.unconnected() {
        format!("it says that the server {name} is {state:?}")
    } else if let Some(line) = line_with(played.complaints, REQUIRED) {
        line
    } else if first_turn(played).is_some_and(|request| request.offered.is_empty()) {
        "it offered its model none of the server's tools".to_owned()
    } else {
        return None;
    };
    let what = format!("{} came up without the stack's MCP server", played.agent);
    let failure = unmet(played, "server-missing", what).because(why);
    let failure = match line_with(played.complaints, UNREACHED) {
        Some(line) => failure.because(line),
        None => failure,
    };
    Some(failure.hint("is the URL of the server in the agent's settings the stack's? config/agents.toml"))
}

fn first_turn<'a>(played: &Played<'a>) -> Option<&'a ModelRequest> {
    played.asked?.iter().find(|request| request.turn.is_some() && request.wrong.is_none())
}

/// What the agent asked of its model and should not have. Where it wanted to go to somebody else is no matter of the model: it
/// was told that it could not, and that it tried is said.
pub(super) fn fault(asked: &[ModelRequest]) -> Option<&str> {
    asked.iter().filter(|request| request.outside.is_none()).find_map(|request| request.fault.as_deref())
}

/// The agent asked for something that its model does not have, or in a way that it does not understand.
fn model_fault(played: &Played<'_>) -> Option<Failure> {
    let refused = played
        .asked?
        .iter()
        .find(|request| request.outside.is_none() && request.fault.is_some() && request.status >= 400)?;
    let what = format!("{} asked its model for something that it should not", played.agent);
    let why = clip(refused.fault.as_deref().unwrap_or_default());
    Some(unmet(played, "model-fault", what).because(why).hint(format!(
        "a newer {} may speak another dialect; every request is in transcripts/{}.model.jsonl",
        played.agent, played.stage.name
    )))
}

/// The model refused to answer, or did not come to the end of its answer.
fn model_failed(played: &Played<'_>) -> Option<Failure> {
    let request = played.asked?.iter().find(|request| failed(request).is_some())?;
    let turn = request.turn.map_or_else(String::new, |turn| format!(" at turn {}", turn + 1));
    let what = format!("the model {}{turn}", failed(request)?);
    let failure = unmet(played, "model-failed", what)
        .hint(format!("every request is in transcripts/{}.model.jsonl", played.stage.name));
    Some(match played.transcript.failure() {
        Some(said) => failure.because(format!("{} says: {}", played.agent, clip(said))),
        None => failure.because(format!("{} says nothing of it", played.agent)),
    })
}

/// How a request failed, if it did.
pub(super) fn failed(request: &ModelRequest) -> Option<String> {
    match request.wrong {
        Some(Wrong::CutStream) => Some("broke off in the middle of its answer".to_owned()),
        Some(Wrong::NotCompleted) => Some("did not say that its answer was complete".to_owned()),
        // What was wrong with the request is a fault of the agent, and told as one.
        _ if request.fault.is_none() && request.outside.is_none() && request.status >= 400 => {
            Some(format!("answered with status {}", request.status))
        }
        _ => None,
    }
}

/// Our model was asked nothing.
fn model_unreached(played: &Played<'_>) -> Option<Failure> {
    if !played.asked?.iter().all(|request| request.turn.is_none()) {
        return None;
    }
    let what = format!("{} never reached its model", played.agent);
    let failure = unmet(played, "model-unreached", what);
    let said = played.transcript.failure().map(clip);
    let said = said.or_else(|| complaint(played.complaints));
    Some(match said {
        Some(said) => failure.because(format!("it says: {said}")),
        None => failure.because("it says nothing of it"),
    })
}

/// The line that is most likely to say what went wrong: the first that calls itself an error, else the last.
fn complaint(text: &str) -> Option<String> {
    let is_error = |line: &&str| line.trim_start().to_ascii_lowercase().starts_with("error");
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    lines().find(is_error).or_else(|| lines().next_back()).map(clip)
}

/// What Codex says on stderr, and nowhere else, of a tool that it does not have.
const UNSUPPORTED: &str = "unsupported call: ";

/// The model asked for a tool that the agent does not have.
fn unsupported_call(played: &Played<'_>) -> Option<Failure> {
    let not_found = played.transcript.calls().into_iter().find_map(|call| match &call.end {
        CallEnd::NoSuchTool(text) => Some((call.tool.clone(), clip(text))),
        _ => None,
    });
    let unsupported = || {
        let line = line_with(played.complaints, UNSUPPORTED)?;
        let (_, tool) = line.rsplit_once(UNSUPPORTED)?;
        Some((tool.trim().to_owned(), line.clone()))
    };
    let (tool, why) = not_found.or_else(unsupported)?;
    let what = format!("{} was told to call {tool}, and has no such tool", played.agent);
    let failure = unmet(played, "unsupported-call", what).because(why);
    Some(match first_turn(played) {
        Some(request) => failure.because(format!("it offers {}", request.offered.join(", "))),
        None => failure,
    })
}

/// Nobody approved of a tool.
fn approval_refused(played: &Played<'_>) -> Option<Failure> {
    let refused = played.transcript.calls().into_iter().find_map(|call| match &call.end {
        CallEnd::Refused(text) => Some((call.tool.clone(), text.clone())),
        _ => None,
    })?;
    let what = format!("{} did not make the call of {}: nobody approved of it", played.agent, refused.0);
    let hint = "the agent's settings approve of all tools of the stack: config/agents.toml";
    Some(unmet(played, "approval-refused", what).because(clip(&refused.1)).hint(hint))
}

fn line_with(text: &str, part: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains(part))?;
    Some(clip(&line[line.find(part).unwrap_or_default()..]))
}
