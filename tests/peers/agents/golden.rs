//! The same in every run, but for what is masked: that is what makes a run worth comparing with.

use camino::Utf8PathBuf;
use stelae_tests::{Ended, Source};

use super::{Cli, SMOKE, text};

const RUNS: usize = 10;
const STAGES: [&str; 3] = ["bundle-tools", "install", "remove"];

fn green(ended: &Ended, source: &Source) -> Utf8PathBuf {
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
    source.run_folder(&ended.run_id())
}

/// What is left of a run when everything is masked that is another in each.
fn masked(folder: &Utf8PathBuf) -> [String; 3] {
    STAGES.map(|stage| text(folder, &format!("transcripts/{stage}.golden.json")))
}

fn ten_runs(test: &str, agent: &'static str) {
    let Some(cli) = Cli::need(test, agent) else { return };
    let source = Source::of_working_tree();
    let first = masked(&green(&cli.smoke(&source, &["--record", "first"]).run(), &source));
    for run in 1..RUNS {
        let folder = green(&cli.smoke(&source, &["--compare", "first"]).run(), &source);
        assert_eq!(masked(&folder), first, "run {run}");
    }

    source.edit(
        SMOKE,
        "pattern = \"{{ NONCE }}\", path = \"stelae-nonce.txt\" }\nresult = [{ json = \"/matches\", equals = [{ path = \"stelae-nonce.txt\", line = 1, text = \"{{ NONCE }}\" }] }]",
        "pattern = \"cargo xtask ci\", path = \"README.md\" }\nresult = [{ contains = \"README.md\" }]",
    );
    let ended = cli.smoke(&source, &["--compare", "first", "--keep", "never"]).run();
    assert_eq!(ended.verdict(), (11, "golden-differs".to_owned()), "{}", ended.stderr);
    for part in ["stage bundle-tools: call 2 (grep): arguments: was ", "call 2 (grep): result: was "] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    assert_eq!(ended.left(), Vec::<String>::new());

    let other = cli.xtask(&source, &["--format", "json", "smoke", "--compare", "first"]).run();
    assert_eq!(other.verdict(), (2, "contradictory".to_owned()), "{}", other.stderr);
    assert!(other.stderr.contains(&format!("it is of {agent}, and builtin is to play")), "{}", other.stderr);
}

#[test]
fn ten_runs_with_codex_have_one_transcript_and_what_changes_is_named() {
    ten_runs("golden::ten_runs_with_codex_have_one_transcript_and_what_changes_is_named", "codex");
}

#[test]
fn ten_runs_with_claude_have_one_transcript_and_what_changes_is_named() {
    ten_runs("golden::ten_runs_with_claude_have_one_transcript_and_what_changes_is_named", "claude");
}
