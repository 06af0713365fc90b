//! What a stage expects of an agent, and whether its transcript meets it. An agent's exit code proves nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::transcript::{CallStatus, Item, McpToolCall, TranscriptEvent};
use crate::{ExitCode, Failure};

/// One scripted task given to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name; `stage:<name>` is its step.
    pub name: String,
    /// What a person, or an agent with a model of its own, is told.
    pub prompt: String,
    /// The calls that must happen, in this order, and nothing else.
    #[serde(rename = "call")]
    pub calls: Vec<ExpectedCall>,
    /// Tools that the gateway lists after the stage and not before it.
    #[serde(default)]
    pub tools_gained: BTreeSet<String>,
    /// Tools that the gateway lists before the stage and not after it.
    #[serde(default)]
    pub tools_lost: BTreeSet<String>,
}

/// A call that must happen: name, arguments, outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedCall {
    /// Name of the tool, as the gateway lists it.
    pub tool: String,
    /// Its arguments, exactly.
    pub arguments: Value,
    /// How it must end.
    #[serde(default)]
    pub outcome: Outcome,
    /// A text that must stand in the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_contains: Option<String>,
}

/// How a call must end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Completed, without `isError`.
    #[default]
    Ok,
    /// The tool answers with `isError`.
    ToolError,
}

/// Reads a transcript, one JSON object a line.
///
/// # Errors
/// Exit 11, `transcript-unreadable`, with the line.
pub fn read_transcript(path: &str, text: &str) -> Result<Vec<TranscriptEvent>, Failure> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| {
            Failure::new(
                ExitCode::ExpectationNotMet,
                "transcript-unreadable",
                "the transcript has a line that is not an event",
            )
            .on(format!("{path}:{}", index + 1))
            .because(error.to_string())
            .hint("the agent was cut short, or its version writes another schema")
        })
    });
    read.collect()
}

/// The calls of a transcript that ended, in order.
pub fn ended_calls(transcript: &[TranscriptEvent]) -> Vec<&McpToolCall> {
    let ended = transcript.iter().filter_map(|event| match event {
        TranscriptEvent::ItemCompleted { item: Item::McpToolCall(call) } => Some(call),
        _ => None,
    });
    ended.collect()
}

/// Judges a stage by its transcript.
///
/// # Errors
/// Exit 11: `turn-not-completed`, `call-missing`, `call-unexpected`, `arguments-differ`, `call-failed`,
/// `call-succeeded`, `result-differs`.
pub fn judge(stage: &Stage, transcript: &[TranscriptEvent]) -> Result<(), Failure> {
    let fail = |kind: &str, what: String| {
        Failure::new(ExitCode::ExpectationNotMet, kind, what).on(format!("stage {}", stage.name))
    };
    let calls = ended_calls(transcript);
    for (number, expected) in stage.calls.iter().enumerate() {
        let Some(call) = calls.get(number) else {
            return Err(fail(
                "call-missing",
                format!("call {} ({}) never happened", number + 1, expected.tool),
            )
            .because(end_of(transcript))
            .because(format!("calls that did happen: {}", names(&calls)))
            .hint("look at the transcript: an agent's exit code proves nothing"));
        };
        judge_call(expected, call).map_err(|(kind, what, why)| {
            why.into_iter().fold(fail(kind, format!("call {}: {what}", number + 1)), Failure::because)
        })?;
    }
    if let Some(extra) = calls.get(stage.calls.len()) {
        return Err(fail("call-unexpected", format!("a call of {} was not in the script", extra.tool))
            .because(format!("all calls: {}", names(&calls))));
    }
    if !transcript.iter().any(|event| matches!(event, TranscriptEvent::TurnCompleted { .. })) {
        return Err(fail("turn-not-completed", "the agent's turn was not completed".to_owned())
            .because(end_of(transcript)));
    }
    Ok(())
}

type Mismatch = (&'static str, String, Vec<String>);

fn judge_call(expected: &ExpectedCall, call: &McpToolCall) -> Result<(), Mismatch> {
    let tool = &expected.tool;
    if call.tool != *tool {
        return Err(("call-missing", format!("{tool} was expected, {} was called", call.tool), vec![]));
    }
    if call.arguments != expected.arguments {
        let why = vec![format!("expected {}", expected.arguments), format!("called with {}", call.arguments)];
        return Err(("arguments-differ", format!("{tool} was called with other arguments"), why));
    }
    let text = call.result.as_ref().map(crate::transcript::ToolResult::text).unwrap_or_default();
    let error = call.error.as_ref().map(|error| error.message.clone());
    match (expected.outcome, call.status) {
        (Outcome::Ok, CallStatus::Completed) => {}
        (Outcome::ToolError, CallStatus::Failed) if error.is_none() => {}
        (Outcome::ToolError, CallStatus::Completed) => {
            return Err((
                "call-succeeded",
                format!("{tool} succeeded, an error was expected"),
                vec![clip(&text)],
            ));
        }
        _ => {
            let why = vec![error.unwrap_or_else(|| clip(&text))];
            return Err(("call-failed", format!("{tool} failed"), why));
        }
    }
    match &expected.result_contains {
        Some(part) if !text.contains(part.as_str()) => {
            let why = vec![format!("expected a text with {part:?}"), format!("got {:?}", clip(&text))];
            Err(("result-differs", format!("{tool} answered something else"), why))
        }
        _ => Ok(()),
    }
}

fn names(calls: &[&McpToolCall]) -> String {
    let names: Vec<_> = calls.iter().map(|call| call.tool.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn end_of(transcript: &[TranscriptEvent]) -> String {
    let said = transcript.iter().rev().find_map(|event| match event {
        TranscriptEvent::TurnFailed { error } => Some(format!("the turn failed: {}", error.message)),
        TranscriptEvent::Error { message } => Some(format!("the agent failed: {message}")),
        _ => None,
    });
    said.unwrap_or_else(|| {
        format!("the transcript ends after {} events without saying why", transcript.len())
    })
}

/// Keeps a message readable when a result is large.
fn clip(text: &str) -> String {
    const LIMIT: usize = 300;
    match text.char_indices().nth(LIMIT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Whether the tool list changed by a stage just as the stage says: what it gains was not there, what it loses was.
///
/// # Errors
/// Exit 32, `tools-missing`, for a tool that should be there; exit 11, `tools-differ`, for any other difference.
pub fn judge_tools(
    stage: &Stage,
    before: &BTreeSet<String>,
    after: &BTreeSet<String>,
) -> Result<(), Failure> {
    let expected: BTreeSet<String> =
        before.difference(&stage.tools_lost).chain(&stage.tools_gained).cloned().collect();
    let list = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let missing = list(expected.difference(after).collect());
    let differences = [
        ("missing", missing.clone()),
        ("not expected", list(after.difference(&expected).collect())),
        ("listed before the stage already", list(stage.tools_gained.intersection(before).collect())),
        ("not even listed before the stage", list(stage.tools_lost.difference(before).collect())),
    ];
    if differences.iter().all(|(_, names)| names.is_empty()) {
        return Ok(());
    }
    let (code, kind) = if missing.is_empty() {
        (ExitCode::ExpectationNotMet, "tools-differ")
    } else {
        (ExitCode::ReadyButIncomplete, "tools-missing")
    };
    let mut failure =
        Failure::new(code, kind, "the gateway's tool list is not what the stage should have made it")
            .on(format!("stage {}", stage.name));
    for (word, names) in differences.into_iter().filter(|(_, names)| !names.is_empty()) {
        failure = failure.because(format!("{word}: {names}"));
    }
    Err(failure)
}

#[cfg(test)]
mod tests;
