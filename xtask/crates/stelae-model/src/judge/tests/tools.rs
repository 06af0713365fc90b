//! What a stage may do to the list of tools.

use super::*;
use crate::catalog::Catalog;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn tool_lists_must_change_as_told() {
    assert_eq!(judge_tools(&stage(), &set(&["a"]), &set(&["a", "count"])), Ok(()));
    let failure = judge_tools(&stage(), &set(&["a"]), &set(&["a"])).unwrap_err();
    assert_eq!(
        (failure.exit_code, failure.why[0].as_str()),
        (ExitCode::ReadyButIncomplete, "missing: count")
    );
    let failure = judge_tools(&stage(), &set(&["a"]), &set(&["a", "b", "count"])).unwrap_err();
    assert_eq!(
        (failure.exit_code, failure.why[0].as_str()),
        (ExitCode::ExpectationNotMet, "not expected: b")
    );
}

#[test]
fn a_tool_is_gained_or_lost_only_if_the_stage_did_it() {
    let told = |gained: &[&str], lost: &[&str], before: &[&str], after: &[&str]| {
        let stage = Stage { tools_gained: set(gained), tools_lost: set(lost), ..stage() };
        let failure = judge_tools(&stage, &set(before), &set(after)).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::ExpectationNotMet, "tools-differ"));
        failure.why
    };
    assert_eq!(
        told(&["count"], &[], &["a", "count"], &["a", "count"]),
        ["listed before the stage already: count"]
    );
    assert_eq!(told(&[], &["gone"], &["a"], &["a"]), ["not even listed before the stage: gone"]);
    assert_eq!(told(&[], &["a"], &["a", "b"], &["a", "b"]), ["not expected: a"]);
}

#[test]
fn a_stage_begins_with_the_tools_that_it_says_and_that_were_left() {
    let stage = Stage { tools: Some(set(&["a", "b"])), ..stage() };
    let judged = |left: &[&str], listed: &[&str]| {
        judge_tools_before(&stage, &set(left), &set(listed)).map_err(|failure| (failure.kind, failure.what))
    };
    assert_eq!(judged(&["a", "b"], &["a", "b"]), Ok(()));
    let (kind, what) = judged(&["a", "b"], &["a"]).unwrap_err();
    assert_eq!((kind.as_str(), what.contains("between two stages")), ("tools-missing", true));
    let (kind, what) = judged(&["a"], &["a"]).unwrap_err();
    assert_eq!((kind.as_str(), what.contains("begins with")), ("tools-missing", true));
    assert_eq!(judged(&["a", "b", "c"], &["a", "b", "c"]).unwrap_err().0, "tools-differ");
}

#[test]
fn a_call_that_must_never_happen_is_of_a_tool_that_there_is() {
    let mut catalog = Catalog::default();
    catalog.add(None, ["grep", "read"].map(str::to_owned));
    let never = |tool: &str| {
        let mut stage = stage();
        stage.never.push(ForbiddenCall { tool: tool.to_owned(), arguments: None });
        judge_never(&stage, &catalog)
    };
    assert_eq!((never("grep"), never("count")), (Ok(()), Ok(())), "listed, and gained");
    let failure = never("rea").unwrap_err();
    assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "never-unknown"));
    assert_eq!(failure.hint.as_deref(), Some("did you mean \"read\"?"));
    // Two servers have it: then it is there.
    let mut twice = Catalog::default();
    twice.add(Some("a"), ["read".to_owned()]);
    twice.add(Some("b"), ["read".to_owned()]);
    let mut both = stage();
    both.never = vec![ForbiddenCall { tool: "read".to_owned(), arguments: None }];
    assert_eq!(judge_never(&both, &twice), Ok(()));
    both.never[0].tool = "a__read".to_owned();
    assert_eq!(judge_never(&both, &twice), Ok(()));
    both.never[0].tool = "c__read".to_owned();
    assert_eq!(judge_never(&both, &twice).unwrap_err().kind, "never-unknown");
}
