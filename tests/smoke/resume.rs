//! Stopping on purpose, and going on.

use std::fs;
use std::process::Command;

use stelae_tests::{Source, Xtask, alive};

fn outcomes(json: &serde_json::Value) -> Vec<String> {
    let steps = json["steps"].as_array().unwrap();
    steps.iter().map(|step| step["outcome"].as_str().unwrap_or("-").to_owned()).collect()
}

#[test]
fn a_run_that_stopped_goes_on_where_it_stopped() {
    let source = Source::of_working_tree();
    let workspace = tempfile::tempdir().unwrap();
    let workspace = workspace.path().join("w").to_str().unwrap().to_owned();
    let first = Xtask::new(
        source.path(),
        &["--format", "json", "smoke", "--until", "render", "--workspace", &workspace],
    )
    .run();
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(outcomes(&first.json())[4..7], ["passed", "-", "-"]);
    let run = first.run_id();
    let ended = Xtask::new(source.path(), &["--format", "json", "smoke", "--resume", &run]).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let mut expected = vec!["resumed"; 5];
    expected.extend(["passed"; 7]);
    assert_eq!(outcomes(&ended.json()), expected);
    assert!(!fs::exists(&workspace).unwrap());
}

#[test]
fn from_says_where_to_go_on_and_must_have_been_reached() {
    let source = Source::of_working_tree();
    let workspace = tempfile::tempdir().unwrap();
    let workspace = workspace.path().join("w").to_str().unwrap().to_owned();
    let first = Xtask::new(
        source.path(),
        &["--format", "json", "smoke", "--until", "bundle", "--workspace", &workspace],
    )
    .run();
    assert_eq!(first.code, 0, "{}", first.stderr);
    let run = first.run_id();
    let from = |step: &str| {
        Xtask::new(
            source.path(),
            &["--format", "json", "smoke", "--resume", &run, "--from", step, "--until", "render"],
        )
        .run()
    };
    assert_eq!(from("restart").verdict(), (2, "not-resumable".to_owned()));
    let ended = from("setup");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(outcomes(&ended.json())[..5], ["resumed", "resumed", "passed", "passed", "passed"]);
    // The source moves on: the clone is of a commit that nobody asks about any more.
    source.write("new.txt", "x");
    assert_eq!(from("render").verdict(), (50, "workspace-stale".to_owned()));
}

#[test]
fn a_stage_played_by_hand_is_judged_the_same_way() {
    let source = Source::of_working_tree();
    let stopped = Xtask::new(source.path(), &["smoke", "--manual-stage", "install"]).run();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let run = stelae_tests::runs(source.path()).remove(0);
    let sandbox = stopped.sandbox.path().to_str().unwrap().to_owned();
    assert!(alive(&sandbox).iter().any(|process| process.contains("serve --config")), "the stack is not up");

    // Too early: nobody has played the stage.
    let early = Xtask::new(
        source.path(),
        &["--format", "json", "smoke", "--resume", &run, "--until", "stage:install"],
    );
    let early = early.run();
    assert_eq!(early.verdict(), (11, "transcript-missing".to_owned()), "{}", early.stderr);
}

#[test]
fn the_printed_commands_play_the_stage() {
    let source = Source::of_working_tree();
    let stopped = Xtask::new(source.path(), &["smoke", "--manual-stage", "install"]).run();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let run = stelae_tests::runs(source.path()).remove(0);
    let sandbox = stopped.sandbox.path().to_str().unwrap().to_owned();
    let commands: Vec<_> =
        stopped.stdout.lines().filter(|line| line.starts_with("  ") && !line.contains(" ms")).collect();
    assert_eq!(commands.len(), 1, "{}", stopped.stdout);
    let played = Command::new("bash").arg("-ec").arg(commands.join("\n")).output().unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));

    let ended = Xtask::new(source.path(), &["--format", "json", "smoke", "--resume", &run]).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(alive(&sandbox), Vec::<String>::new());
    assert_eq!(stopped.left(), Vec::<String>::new());
}

#[test]
fn a_stack_left_up_is_ended_by_runs_stop() {
    let source = Source::of_working_tree();
    let stopped = Xtask::new(source.path(), &["smoke", "--manual-stage", "bundle-tools"]).run();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let run = stelae_tests::runs(source.path()).remove(0);
    let ended = Xtask::new(source.path(), &["runs", "stop", &run]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(stopped.left(), Vec::<String>::new());
}
