//! A stage that a person plays with an agent CLI, by the command that was printed.

use std::process::Command;

use camino::Utf8PathBuf;
use stelae_tests::{Ended, Source, runs};

use super::Cli;
use crate::run::run;

/// A run that stopped before a stage, with its stack up; the stack is ended also when the test fails.
#[derive(Debug)]
pub(super) struct Stopped<'a> {
    cli: &'a Cli,
    pub(super) source: Source,
    ended: Ended,
    run: String,
}

impl<'a> Stopped<'a> {
    pub(super) fn before(cli: &'a Cli, stage: &str) -> Self {
        let source = Source::of_working_tree();
        let args = ["smoke", "--agent", cli.name, "--manual-stage", stage];
        let ended = cli.xtask(&source, &args).run();
        let run = runs(source.path()).pop().unwrap_or_default();
        let stopped = Self { cli, source, ended, run };
        assert_eq!(stopped.ended.code, 0, "{}", stopped.ended.stderr);
        assert!(!stopped.processes().is_empty(), "the stack is not up");
        stopped
    }

    /// The run's evidence.
    pub(super) fn folder(&self) -> Utf8PathBuf {
        self.source.run_folder(&self.run)
    }

    /// What is alive of it.
    pub(super) fn processes(&self) -> Vec<String> {
        self.ended.alive()
    }

    pub(super) fn resume(&self, args: &[&str]) -> Ended {
        let resume = ["--format", "json", "smoke", "--keep", "never", "--resume", &self.run];
        self.cli.xtask(&self.source, &resume).args(args).run()
    }

    /// The command that was printed.
    fn command(&self) -> &str {
        let mut lines = self.ended.stdout.lines();
        lines.find(|line| line.starts_with("  (")).unwrap_or_else(|| panic!("{}", self.ended.stdout))
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.cli.xtask(&self.source, &["runs", "stop", &self.run]).run();
    }
}

fn is_judged_the_same_way(test: &str, agent: &'static str) {
    let Some(cli) = Cli::need(test, agent) else { return };
    let stopped = Stopped::before(&cli, "bundle-tools");
    let played = run(Command::new("sh").args(["-c", stopped.command()]));
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    let ended = stopped.resume(&[]);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let steps = ended.json()["steps"].as_array().unwrap().clone();
    let outcomes: Vec<_> = steps.iter().map(|step| step["outcome"].as_str().unwrap_or("-")).collect();
    assert_eq!(outcomes[..7], ["resumed"; 7]);
    assert_eq!(outcomes[7..], ["passed"; 5]);
    assert_eq!(stopped.ended.left(), Vec::<String>::new());
}

#[test]
fn what_a_person_plays_with_codex_is_judged_the_same_way() {
    is_judged_the_same_way("manual::what_a_person_plays_with_codex_is_judged_the_same_way", "codex");
}

#[test]
fn what_a_person_plays_with_claude_is_judged_the_same_way() {
    is_judged_the_same_way("manual::what_a_person_plays_with_claude_is_judged_the_same_way", "claude");
}

#[test]
fn a_stage_that_nobody_played_with_codex_is_no_pass() {
    let Some(cli) = Cli::need("manual::a_stage_that_nobody_played_with_codex_is_no_pass", "codex") else {
        return;
    };
    let stopped = Stopped::before(&cli, "bundle-tools");
    let early = stopped.resume(&[]);
    assert_eq!(early.verdict(), (11, "transcript-missing".to_owned()), "{}", early.stderr);
    assert_eq!(stopped.ended.left(), Vec::<String>::new());
}
