//! The calls are as they should be, says the agent. Our model and our gateway have seen them, too, and have to agree.

use serde_json::Value;

use super::{Played, causes, clip, unmet};
use crate::Failure;
use crate::agent::Agent;
use crate::calls::{CallOutcome, GatewayCall};
use crate::model_record::ModelRequest;
use crate::transcript::{Call, CallEnd};

/// That everybody tells of the same calls.
pub(super) fn check(played: &Played<'_>) -> Result<(), Failure> {
    let calls = played.transcript.calls();
    if let Some(asked) = played.asked {
        check_model(played, asked, &calls)?;
    }
    if let Some(given) = played.given {
        check_gateway(played, given, &calls)?;
    }
    Ok(())
}

fn check_model(played: &Played<'_>, asked: &[ModelRequest], calls: &[&Call]) -> Result<(), Failure> {
    if let Some(fault) = asked.iter().find_map(|request| request.fault.as_ref()) {
        let what = format!("{} asked its model for something that it should not", played.agent);
        return Err(unmet(played, "model-fault", what).because(clip(fault)));
    }
    if let Some(failed) = asked.iter().find_map(causes::failed) {
        let what = format!("the model {failed}, and {} did not notice", played.agent);
        return Err(unmet(played, "failure-unnoticed", what)
            .because("its transcript is what it would have been if all had gone well"));
    }
    let turns: Vec<_> = asked.iter().filter_map(|request| request.turn).collect();
    if let Some(again) = turns.windows(2).find(|pair| pair[0] == pair[1]) {
        let what = format!("{} asked its model more than once for turn {}", played.agent, again[0] + 1);
        return Err(unmet(played, "model-asked-again", what)
            .because("an answer got lost, or the agent is told to try again"));
    }
    let said =
        asked.iter().filter_map(|request| Some((request.called.as_deref()?, request.arguments.as_ref())));
    let said: Vec<_> = said.collect();
    let told: Vec<_> = calls.iter().map(|call| (call.tool.as_str(), Some(&call.arguments))).collect();
    same(played, "the model asked for", &said, "the transcript has", &told)
}

fn check_gateway(played: &Played<'_>, given: &[GatewayCall], calls: &[&Call]) -> Result<(), Failure> {
    let seen = given.iter().enumerate().map(|(index, call)| {
        // Long arguments are only counted in the gateway's account.
        let as_long = |bytes: u64| {
            calls.get(index).is_some_and(|told| told.arguments.to_string().len() as u64 == bytes)
        };
        let known = call.cut().is_none_or(|bytes| !as_long(bytes));
        (call.tool.as_str(), known.then_some(&call.arguments))
    });
    let seen: Vec<_> = seen.collect();
    let told: Vec<_> = calls.iter().map(|call| (call.tool.as_str(), Some(&call.arguments))).collect();
    same(played, "the gateway was given", &seen, "the transcript has", &told).map_err(|failure| {
        // Behind the last line there is none that would show a gap.
        let may_have_lost = given.len() < calls.len();
        if may_have_lost {
            failure.hint("the gateway's log says if it could not write its last calls")
        } else {
            failure
        }
    })?;
    for (number, (given, call)) in given.iter().zip(calls).enumerate() {
        if !agrees(played.agent, given.outcome, &call.end) {
            let what =
                format!("call {} ({}) ended otherwise than {} says", number + 1, call.tool, played.agent);
            let why = given.why.as_deref().map(|why| format!(": {}", clip(why))).unwrap_or_default();
            return Err(unmet(played, "witnesses-differ", what)
                .because(format!("the gateway saw that it was {}{why}", word(given.outcome)))
                .because(format!("the transcript says that it was {}", call.end.word())));
        }
    }
    Ok(())
}

/// A tool, and the arguments it was called with as far as they are known.
type Seen<'a> = (&'a str, Option<&'a Value>);

fn same(
    played: &Played<'_>,
    one: &str,
    ones: &[Seen<'_>],
    other: &str,
    others: &[Seen<'_>],
) -> Result<(), Failure> {
    let differs = |(a, b): (&Seen<'_>, &Seen<'_>)| a.0 != b.0 || (a.1.is_some() && !same_arguments(a.1, b.1));
    let at = match ones.iter().zip(others).position(differs) {
        None if ones.len() == others.len() => return Ok(()),
        None => ones.len().min(others.len()),
        Some(at) => at,
    };
    let shown = |seen: &[Seen<'_>]| match seen.get(at) {
        Some((tool, Some(arguments))) => clip(&format!("{tool} {arguments}")),
        Some((tool, None)) => (*tool).to_owned(),
        None => "nothing".to_owned(),
    };
    let what = format!("{} tells of other calls than the ones that were seen", played.agent);
    Err(unmet(played, "witnesses-differ", what)
        .because(format!("call {}: {one} {}", at + 1, shown(ones)))
        .because(format!("call {}: {other} {}", at + 1, shown(others)))
        .because(format!("in all: {} and {}", ones.len(), others.len())))
}

/// No arguments at all, and none of them, are the same.
fn same_arguments(one: Option<&Value>, other: Option<&Value>) -> bool {
    let some = |value: Option<&Value>| {
        value
            .filter(|value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty()))
            .cloned()
    };
    some(one) == some(other)
}

fn agrees(agent: Agent, given: CallOutcome, end: &CallEnd) -> bool {
    match (given, end) {
        (CallOutcome::Answered, CallEnd::Answered(_)) | (CallOutcome::ToolError, CallEnd::ToolError(_)) => {
            true
        }
        (CallOutcome::Failed, CallEnd::Failed(_)) => true,
        // Claude Code says the same of both.
        (CallOutcome::Failed, CallEnd::ToolError(_)) => agent == Agent::Claude,
        _ => false,
    }
}

fn word(outcome: CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Answered => "answered",
        CallOutcome::ToolError => "answered with an error",
        CallOutcome::Failed => "not answered",
    }
}
