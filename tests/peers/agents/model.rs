//! A model that fails: named, and asked once.

use std::collections::BTreeMap;

use stelae_tests::Source;

use super::{Cli, FIRST, Failed, lines, misbehave};

/// How it fails, and what the verdict says of it.
struct Case {
    how: &'static str,
    kind: &'static str,
    says: &'static [&'static str],
}

const fn at_turn_1(how: &'static str, says: &'static [&'static str]) -> Case {
    Case { how, kind: "model-failed", says }
}

/// What every agent is told apart by.
const ALL: [Case; 5] = [
    Case { how: "{ how = \"dead\" }", kind: "model-unreached", says: &["never reached its model"] },
    at_turn_1("{ turn = 1, how = { status = 401 } }", &["the model answered with status 401 at turn 2"]),
    at_turn_1("{ turn = 1, how = { status = 429 } }", &["the model answered with status 429 at turn 2"]),
    at_turn_1("{ turn = 1, how = { status = 500 } }", &["the model answered with status 500 at turn 2"]),
    at_turn_1(
        "{ turn = 1, how = \"cut-stream\" }",
        &["the model broke off in the middle of its answer at turn 2"],
    ),
];

const NOT_COMPLETED: &str = "{ turn = 1, how = \"not-completed\" }";
const CODEX: Case =
    at_turn_1(NOT_COMPLETED, &["the model did not say that its answer was complete at turn 2"]);
/// Claude Code takes such an answer for a whole one, and makes all of its calls.
const CLAUDE: Case = Case {
    how: NOT_COMPLETED,
    kind: "failure-unnoticed",
    says: &["the model did not say that its answer was complete, and claude did not notice"],
};

/// How often it was asked for each turn.
fn asked(failed: &Failed) -> BTreeMap<u64, usize> {
    let mut asked = BTreeMap::new();
    let paper = format!("transcripts/{FIRST}.model.jsonl");
    for request in lines(&failed.folder, &paper) {
        *asked.entry(request["turn"].as_u64().unwrap()).or_default() += 1;
    }
    asked
}

/// How long the stage took, for whoever reads the log: 2 s are aimed at.
fn elapsed_ms(failed: &Failed) -> u64 {
    let events = lines(&failed.folder, "events.jsonl");
    let step = format!("stage:{FIRST}");
    let ended = events
        .iter()
        .find(|event| event["event"]["kind"] == "step-finished" && event["event"]["step"] == step);
    ended.unwrap()["event"]["elapsed_ms"].as_u64().unwrap()
}

fn every_failure_is_named(test: &str, agent: &'static str, own: Case) {
    let Some(cli) = Cli::need(test, agent) else { return };
    for Case { how, kind, says } in ALL.into_iter().chain([own]) {
        let source = Source::of_working_tree();
        misbehave(&source, how);
        let failed = cli.fails(&source);
        failed.is(how, kind, says);
        let asked = asked(&failed);
        eprintln!("{agent}: {how}: {} ms, asked {asked:?}", elapsed_ms(&failed));
        assert!(asked.values().all(|&times| times == 1), "{how}: {asked:?}");
        let turns = match kind {
            "model-unreached" => 0,
            "failure-unnoticed" => 5,
            _ => 2,
        };
        assert_eq!(asked.len(), turns, "{how}: {asked:?}");
    }
}

#[test]
fn codex_has_a_model_that_fails() {
    every_failure_is_named("model::codex_has_a_model_that_fails", "codex", CODEX);
}

#[test]
fn claude_has_a_model_that_fails() {
    every_failure_is_named("model::claude_has_a_model_that_fails", "claude", CLAUDE);
}
