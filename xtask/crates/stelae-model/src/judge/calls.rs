//! The calls of a transcript against the expected ones.

use serde_json::Value;

use super::{Played, clip, unmet};
use crate::Failure;
use crate::agent::{Model, SERVER};
use crate::expect::{Answer, ExpectedCall, Outcome};
use crate::transcript::{AgentEvent, Call, CallEnd};

/// That every expected call happened, in order and as told, no forbidden one, and with a scripted model no other.
pub(super) fn check(played: &Played<'_>) -> Result<(), Failure> {
    let calls = played.transcript.calls();
    forbidden(played, &calls)?;
    let mut rest = calls.iter().copied();
    for (index, expected) in played.stage.calls.iter().enumerate() {
        let number = index + 1;
        let call = match played.model {
            Model::Scripted => rest.next(),
            // A model of its own also looks around: what matters is that it comes to this.
            Model::Live => rest.clone().find(|call| fits(played, expected, call)).or_else(|| {
                rest.clone().find(|call| is_of(&expected.tool, call) && has_arguments(played, expected, call))
            }),
        };
        let Some(call) = call else { return Err(missing(played, number, expected, &calls)) };
        if played.model == Model::Live {
            let at = calls.iter().position(|other| std::ptr::eq(*other, call)).unwrap_or_default();
            rest = calls[at + 1..].iter().copied();
        }
        judge_call(played, expected, call).map_err(|(kind, what, why)| {
            why.into_iter()
                .fold(unmet(played, kind, format!("call {number}: {what}")), Failure::because)
                .hint("look at the transcript: an agent's exit code proves nothing")
        })?;
    }
    if played.model == Model::Scripted {
        nothing_else(played, rest.next(), &calls)?;
    }
    if !played.transcript.is_completed() {
        let what = "the agent did not come to the end of its turn";
        return Err(unmet(played, "turn-not-completed", what).because(end_of(played)));
    }
    Ok(())
}

/// Told or not: what the gateway was given counts as well.
fn forbidden(played: &Played<'_>, calls: &[&Call]) -> Result<(), Failure> {
    let never = &played.stage.never;
    let told = calls
        .iter()
        .filter(|call| never.iter().any(|never| is_of(&never.tool, call) && never.has(&call.arguments)));
    let told = told.map(|call| (call.tool.as_str(), &call.arguments));
    let given = played
        .given
        .into_iter()
        .flatten()
        .filter(|call| never.iter().any(|never| never.tool == call.tool && never.has(&call.arguments)));
    let given = given.map(|call| (call.tool.as_str(), &call.arguments));
    match told.chain(given).next() {
        Some((tool, arguments)) => {
            let what = format!("{tool} was called, which this stage must never do");
            Err(unmet(played, "call-forbidden", what)
                .because(format!("called with {}", clip(&arguments.to_string())))
                .because(format!("all calls that the agent tells of: {}", names(calls))))
        }
        None => Ok(()),
    }
}

fn nothing_else(played: &Played<'_>, extra: Option<&Call>, calls: &[&Call]) -> Result<(), Failure> {
    if let Some(extra) = extra {
        let what = format!("a call of {} was not in the script", extra.tool);
        return Err(unmet(played, "call-unexpected", what).because(format!("all calls: {}", names(calls))));
    }
    let acted = played.transcript.events.iter().find_map(|event| match event {
        AgentEvent::Acted(what) => Some(what),
        _ => None,
    });
    match acted {
        Some(acted) => {
            let what = format!("the agent did something that was not in the script: {acted}");
            Err(unmet(played, "action-unexpected", what)
                .because("only tools of the stack's MCP server are to be called"))
        }
        None => Ok(()),
    }
}

fn missing(played: &Played<'_>, number: usize, expected: &ExpectedCall, calls: &[&Call]) -> Failure {
    let failure = unmet(played, "call-missing", format!("call {number} ({}) never happened", expected.tool));
    let failure = match played.transcript.unended()[..] {
        [] => failure,
        [.., last] => failure.because(format!("the call of {last} never came back")),
    };
    failure
        .because(end_of(played))
        .because(format!("calls that did happen: {}", names(calls)))
        .hint("look at the transcript: an agent's exit code proves nothing")
}

/// The kind of a mismatch, what it is, and why.
type Mismatch = (&'static str, String, Vec<String>);

fn fits(played: &Played<'_>, expected: &ExpectedCall, call: &Call) -> bool {
    judge_call(played, expected, call).is_ok()
}

/// A model of its own may say more than it has to, and leave out what is empty.
fn has_arguments(played: &Played<'_>, expected: &ExpectedCall, call: &Call) -> bool {
    match (played.model, &expected.arguments) {
        (Model::Live, Value::Object(members)) => {
            let is_empty = |value: &Value| match value {
                Value::Null => true,
                Value::Object(members) => members.is_empty(),
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            members.iter().all(|(name, value)| is_empty(value) || call.arguments.get(name) == Some(value))
        }
        _ => call.arguments == expected.arguments,
    }
}

/// Whether a call is of the tool with this name: where an agent knows each server by its own name, a tool may be named with it.
fn is_of(tool: &str, call: &Call) -> bool {
    call.tool == tool || (call.server != SERVER && format!("{}__{}", call.server, call.tool) == tool)
}

fn judge_call(played: &Played<'_>, expected: &ExpectedCall, call: &Call) -> Result<(), Mismatch> {
    let tool = &expected.tool;
    if !is_of(tool, call) {
        return Err(("call-missing", format!("{tool} was expected, {} was called", call.tool), vec![]));
    }
    if !has_arguments(played, expected, call) {
        let why = vec![format!("expected {}", expected.arguments), format!("called with {}", call.arguments)];
        return Err(("arguments-differ", format!("{tool} was called with other arguments"), why));
    }
    match (expected.outcome, &call.end) {
        (Outcome::Ok, CallEnd::Answered(_)) | (Outcome::ToolError, CallEnd::ToolError(_)) => {}
        (Outcome::ToolError, CallEnd::Answered(text)) => {
            let what = format!("{tool} succeeded, an error was expected");
            return Err(("call-succeeded", what, vec![clip(text)]));
        }
        (_, end) => return Err(("call-failed", format!("{tool} failed"), vec![clip(end.text())])),
    }
    let answer = Answer { text: call.end.text(), structured: call.structured.as_ref() };
    let judged = expected.expected().try_for_each(|expected| expected.judge(answer));
    judged.map_err(|why| ("result-differs", format!("{tool} answered something else"), why))
}

fn names(calls: &[&Call]) -> String {
    let names: Vec<_> = calls.iter().map(|call| call.tool.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn end_of(played: &Played<'_>) -> String {
    let events = played.transcript.events.len();
    match played.transcript.failure() {
        Some(why) => format!("the agent gave up: {}", clip(why)),
        None if played.transcript.is_completed() => "the agent says that it is done".to_owned(),
        None => format!("the transcript ends after {events} events without saying why"),
    }
}
