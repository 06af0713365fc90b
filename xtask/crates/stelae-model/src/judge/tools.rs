//! The tool list before and after a stage.

use std::collections::BTreeSet;

use crate::catalog::{Catalog, NotFound};
use crate::expect::Stage;
use crate::{ExitCode, Failure};

/// Whether the tool list is what the stage begins with: what it says itself, and what the stage before left.
///
/// # Errors
/// Exit 32, `tools-missing`, for a tool that should be there; exit 11, `tools-differ`, for one that should not.
pub fn judge_tools_before(
    stage: &Stage,
    left: &BTreeSet<String>,
    listed: &BTreeSet<String>,
) -> Result<(), Failure> {
    compare(stage, left, listed, "the gateway's tool list changed between two stages")?;
    match &stage.tools {
        Some(tools) => {
            compare(stage, tools, listed, "the gateway's tool list is not the one that the stage begins with")
        }
        None => Ok(()),
    }
}

/// That every call that must never happen is one of a tool that there is: of one that no server lists, it would prove nothing.
///
/// # Errors
/// Exit 20, `never-unknown`, with the name that is meant.
pub fn judge_never(stage: &Stage, catalog: &Catalog) -> Result<(), Failure> {
    for never in stage.never.iter().filter(|never| !stage.tools_gained.contains(&never.tool)) {
        let Err(NotFound::Unknown { name, near }) = catalog.find(&never.tool) else { continue };
        let what = "the stage forbids calls of a tool that no server lists";
        let failure = Failure::new(ExitCode::Environment, "never-unknown", what)
            .on(format!("config/smoke.toml: stage {}, never {name:?}", stage.name))
            .because(format!("the gateway lists {}", catalog.names().join(", ")));
        return Err(match near {
            Some(near) => failure.hint(format!("did you mean {near:?}?")),
            None => failure.hint("name a tool that the stack has, or leave it out"),
        });
    }
    Ok(())
}

fn compare(
    stage: &Stage,
    expected: &BTreeSet<String>,
    listed: &BTreeSet<String>,
    what: &str,
) -> Result<(), Failure> {
    let differences = [
        ("missing", names(expected.difference(listed))),
        ("not expected", names(listed.difference(expected))),
    ];
    verdict(stage, what, &differences)
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.cloned().collect::<Vec<_>>().join(", ")
}

/// The failure that these differences are, if they are any; the first of them is what is missing.
fn verdict(stage: &Stage, what: &str, differences: &[(&str, String)]) -> Result<(), Failure> {
    if differences.iter().all(|(_, names)| names.is_empty()) {
        return Ok(());
    }
    let (code, kind) = match differences.first() {
        Some((_, missing)) if !missing.is_empty() => (ExitCode::ReadyButIncomplete, "tools-missing"),
        _ => (ExitCode::ExpectationNotMet, "tools-differ"),
    };
    let failure = Failure::new(code, kind, what).on(format!("stage {}", stage.name));
    let told = differences.iter().filter(|(_, names)| !names.is_empty());
    Err(told.fold(failure, |failure, (word, names)| failure.because(format!("{word}: {names}"))))
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
    let differences = [
        ("missing", names(expected.difference(after))),
        ("not expected", names(after.difference(&expected))),
        ("listed before the stage already", names(stage.tools_gained.intersection(before))),
        ("not even listed before the stage", names(stage.tools_lost.difference(before))),
    ];
    verdict(stage, "the gateway's tool list is not what the stage should have made it", &differences)
}
