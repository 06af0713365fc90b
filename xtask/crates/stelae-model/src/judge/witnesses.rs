//! The calls are as they should be, says the agent. Our model and our gateway have seen them, too, and have to agree.

use serde_json::Value;

use super::{Played, causes, clip, unmet};
use crate::Failure;
use crate::agent::Model;
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
    if let Some(fault) = causes::fault(asked) {
        let what = format!("{} asked its model for something that it should not", played.agent);
        return Err(unmet(played, "model-fault", what).because(clip(fault)));
    }
    if let Some(failed) = asked.iter().find_map(causes::failed) {
        let what = format!("the model {failed}, and {} did not notice", played.agent);
        return Err(unmet(played, "failure-unnoticed", what)
            .because("its transcript is what it would have been if all had gone well"));
    }
    let turns: Vec<_> = asked.iter().filter(|request| request.turn.is_some()).collect();
    // Of a record that is full no body is kept.
    let first = turns.first().filter(|request| !request.body.is_null());
    if first.is_some_and(|request| !has_text(&request.body, played.prompt.trim())) {
        let what = format!("{} did not tell its model what it was to do", played.agent);
        return Err(unmet(played, "prompt-lost", what)
            .because(format!("nothing in the first request has the prompt: {}", clip(played.prompt)))
            .hint("is {{ PROMPT }} among the arguments in config/agents.toml?"));
    }
    let said =
        turns.iter().filter_map(|request| Some((request.called.as_deref()?, request.arguments.as_ref())));
    let said: Vec<_> = said.collect();
    let told: Vec<_> = calls.iter().map(|call| (call.tool.as_str(), Some(&call.arguments))).collect();
    for (number, request) in turns.iter().enumerate() {
        if request.turn.is_some_and(|turn| turn < number) {
            let what = format!("{} asked its model more than once for turn {number}", played.agent);
            return Err(unmet(played, "model-asked-again", what)
                .because("an answer got lost, or the agent is told to try again"));
        }
    }
    same(played, "the model asked for", &said, "the transcript has", &told)?;
    for (number, call) in calls.iter().enumerate() {
        let answered = turns.get(number + 1).and_then(|request| request.answered.as_ref());
        let failed = !matches!(call.end, CallEnd::Answered(_));
        let why = match answered {
            None => "its model was not told what the call came to".to_owned(),
            Some(told) if told.call != number => format!("its model was told of call {} then", told.call + 1),
            Some(told) if told.is_error.is_some_and(|is_error| is_error != failed) => {
                let word = if failed { "had gone well" } else { "had failed" };
                format!("its model was told that the call {word}: {}", clip(&told.text))
            }
            Some(_) => continue,
        };
        let what = format!("{} tells its model something else than us of call {}", played.agent, number + 1);
        return Err(unmet(played, "witnesses-differ", what).because(why).because(format!(
            "the transcript says that {} was {}",
            call.tool,
            call.end.word()
        )));
    }
    Ok(())
}

fn check_gateway(played: &Played<'_>, given: &[GatewayCall], calls: &[&Call]) -> Result<(), Failure> {
    let (mut given, mut calls) = (given.iter().collect::<Vec<_>>(), calls.to_vec());
    if played.model == Model::Live {
        // Some of what such a model wants never leaves the agent; and what it wants at once ends in any order.
        calls.retain(|call| !matches!(call.end, CallEnd::Refused(_) | CallEnd::NoSuchTool(_)));
        calls.sort_by_key(|call| (call.tool.clone(), call.arguments.to_string(), call.end.word()));
        given.sort_by_key(|call| (call.tool.clone(), call.arguments.to_string(), word_of(call.outcome)));
    }
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
    for (number, (given, call)) in given.iter().zip(&calls).enumerate() {
        if !agrees(given.outcome, &call.end) {
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

/// Whether a text of a request has this in it.
fn has_text(body: &Value, text: &str) -> bool {
    match body {
        Value::String(told) => told.contains(text),
        Value::Array(items) => items.iter().any(|item| has_text(item, text)),
        Value::Object(members) => members.values().any(|value| has_text(value, text)),
        _ => false,
    }
}

/// The word that the transcript has for it.
fn word_of(outcome: CallOutcome) -> &'static str {
    if outcome == CallOutcome::Answered { "completed" } else { "failed" }
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

fn agrees(given: CallOutcome, end: &CallEnd) -> bool {
    matches!(
        (given, end),
        (CallOutcome::Answered, CallEnd::Answered(_))
            | (CallOutcome::ToolError, CallEnd::ToolError(_))
            | (CallOutcome::Failed, CallEnd::Failed(_))
    )
}

fn word(outcome: CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Answered => "answered",
        CallOutcome::ToolError => "answered with an error",
        CallOutcome::Failed => "not answered",
    }
}
