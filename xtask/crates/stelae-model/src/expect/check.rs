//! What a stage must not say: expectations that anything meets, and words that cannot mean what they say.

use serde_json::Value;

use super::json::fault_of_value;
use super::{Expected, ExpectedCall, ForbiddenCall, Stage};
use crate::manifest::Declared;

/// A fault of a stage: where in it, what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageFault {
    /// Its place in the stage; empty: the stage itself.
    pub place: String,
    /// What is wrong.
    pub why: String,
    /// What to write instead.
    pub hint: Option<String>,
}

fn fault(place: impl Into<String>, why: impl Into<String>, hint: &str) -> StageFault {
    StageFault { place: place.into(), why: why.into(), hint: Some(hint.to_owned()) }
}

/// The first fault of a stage whose texts are filled in.
pub(super) fn stage_fault(stage: &Stage) -> Option<StageFault> {
    if stage.calls.is_empty() {
        return Some(fault("", "a stage without calls can only be green", "add a [[stage.call]]"));
    }
    if stage.prompt.trim().is_empty() {
        return Some(fault("prompt", "it is empty", "say what the agent is to do"));
    }
    if let Some(tool) = stage.tools_gained.intersection(&stage.tools_lost).next() {
        let why = format!("{tool} is gained and lost at once");
        return Some(fault("tools_gained", why, "leave it out of one of the two"));
    }
    let calls = stage.calls.iter().enumerate();
    let call = calls.into_iter().find_map(|(number, call)| call_fault(&format!("call {}", number + 1), call));
    call.or_else(|| never_fault(&stage.never))
        .or_else(|| declared_fault("may_change", &stage.may_change))
        .or_else(|| declared_fault("may_leave", &stage.may_leave))
}

fn call_fault(place: &str, call: &ExpectedCall) -> Option<StageFault> {
    if call.tool.trim().is_empty() {
        return Some(fault(place, "it names no tool", "tool = \"…\""));
    }
    if !call.arguments.is_object() {
        return Some(fault(
            format!("{place}: arguments"),
            "they are no table",
            "arguments = { name = \"value\" }",
        ));
    }
    if let Some((why, hint)) = fault_of_value(&call.arguments) {
        return Some(fault(format!("{place}: arguments"), why, hint));
    }
    if let Some((why, hint)) =
        call.result_contains.as_ref().and_then(|part| Expected::contains(part.as_str()).fault())
    {
        return Some(fault(format!("{place}: result_contains"), why, hint));
    }
    let result = call.result.as_deref().map_or(Ok(()), |all| list_fault(&format!("{place}: result"), all));
    result.err()
}

/// The first fault of what is expected of one answer.
///
/// # Errors
/// The list is empty, says something twice, or has an expectation that anything meets.
pub(crate) fn list_fault(place: &str, expected: &[Expected]) -> Result<(), StageFault> {
    if expected.is_empty() {
        return Err(fault(place, "an empty list expects nothing", "result = [{ contains = \"…\" }]"));
    }
    for (index, one) in expected.iter().enumerate() {
        let place = format!("{place} {}", index + 1);
        if let Some((why, hint)) = one.fault() {
            return Err(fault(place, why, hint));
        }
        if expected[..index].contains(one) {
            return Err(fault(place, "it is expected twice", "leave one of the two out"));
        }
    }
    Ok(())
}

fn never_fault(never: &[ForbiddenCall]) -> Option<StageFault> {
    for (index, one) in never.iter().enumerate() {
        let place = format!("never {}", index + 1);
        if one.tool.trim().is_empty() {
            return Some(fault(place, "it names no tool", "tool = \"…\""));
        }
        if one.arguments.as_ref().is_some_and(serde_json::Map::is_empty) {
            let hint = "leave `arguments` out: the tool is never called then, whatever with";
            return Some(fault(place, "empty arguments say nothing", hint));
        }
        let arguments = one.arguments.clone().map(Value::Object);
        if let Some((why, hint)) = arguments.as_ref().and_then(fault_of_value) {
            return Some(fault(format!("{place}: arguments"), why, hint));
        }
        if never[..index].contains(one) {
            return Some(fault(place, "it is forbidden twice", "leave one of the two out"));
        }
    }
    None
}

/// The first fault of what may change.
pub(crate) fn declared_fault(key: &str, patterns: &[String]) -> Option<StageFault> {
    let (pattern, why, hint) = Declared::read(patterns).err()?;
    let hint = hint.map(|hint| format!("did you mean {hint:?}?"));
    Some(StageFault { place: format!("{key}: {pattern:?}"), why, hint })
}
