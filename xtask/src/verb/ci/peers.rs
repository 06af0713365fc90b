//! The step `peers`: installs what others have written, and has our gateway stand between them.
//!
//! A machine without their toolchains or without a network skips what needs them; that is said, and is no green.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use stelae_model::floors::Wanted;
use stelae_model::terminal::Lines;
use stelae_model::tools::Kind;
use stelae_model::{ExitCode, Failure};
use stelae_run::deadline::Deadline;
use stelae_run::files::{Readable, read_regular_text, replace};
use stelae_run::record::Recorder;
use stelae_run::report::Terminal;
use stelae_run::signals::Interrupt;
use stelae_run::tools::{Job, Shelf, install};
use xshell::{Cmd, Shell};

use super::{LIMIT, cache_home, counted};
use crate::context::Context;

/// What the tests of the target ask for, cheapest first.
const NEEDED: [&str; 11] = [
    "conformance",
    "server-everything",
    "server-filesystem",
    "server-memory",
    "mcp-server-time",
    "mcp",
    "mcp-proxy",
    "mcp-proxy-py",
    "codex",
    "claude",
    "rust-mcp-filesystem",
];

/// The tests of the target that stand on programs of others, as they call themselves. One that says nothing, whatever took
/// it out, was not run.
const TESTS: [&str; 28] = [
    "agents::endpoint::claude_loses_its_server_in_the_middle",
    "agents::endpoint::claude_waits_for_a_slow_server",
    "agents::endpoint::codex_is_not_started_when_a_tool_is_gone",
    "agents::endpoint::codex_loses_its_server_in_the_middle",
    "agents::endpoint::codex_waits_for_a_slow_server",
    "agents::golden::ten_runs_with_claude_have_one_transcript_and_what_changes_is_named",
    "agents::golden::ten_runs_with_codex_have_one_transcript_and_what_changes_is_named",
    "agents::green::claude_plays_three_stages_without_a_key_or_a_network",
    "agents::green::codex_plays_three_stages_without_a_key_or_a_network",
    "agents::manual::a_stage_that_nobody_played_with_codex_is_no_pass",
    "agents::manual::what_a_person_plays_with_claude_is_judged_the_same_way",
    "agents::manual::what_a_person_plays_with_codex_is_judged_the_same_way",
    "agents::model::claude_has_a_model_that_fails",
    "agents::model::codex_has_a_model_that_fails",
    "agents::unseen::claude_ends_well_and_has_not_done_it",
    "agents::unseen::codex_ends_well_and_has_not_done_it",
    "conformance",
    "conformance-control",
    "foreign::a_port_that_was_taken_before_is_33_before_the_program_is_started",
    "foreign::a_required_server_that_cannot_come_up_is_named_whatever_the_go_program_does",
    "foreign::a_run_over_the_go_program_is_green_as_far_as_it_can_be",
    "foreign::a_server_that_is_not_required_does_not_keep_the_go_program_from_its_work",
    "foreign::an_agent_cli_works_over_the_go_program",
    "foreign::the_go_program_serves_the_same_stack",
    "foreign::the_incident_with_the_go_program",
    "foreign::the_incident_with_the_python_program",
    "foreign::the_python_program_serves_the_same_stack",
    "three-registries",
];

/// The name of the target among the floors.
const TARGET: &str = "peers peers/main.rs";

/// No tool takes as long to be installed, on two slow cores from cold.
const INSTALL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Everything is installed, and then there is one command.
pub(super) const LONGEST: Duration = INSTALL_LIMIT.saturating_mul(NEEDED.len() as u32).saturating_add(LIMIT);

/// A tool, as it is handed over to the tests: its program, or why there is none.
#[derive(Debug, Serialize)]
struct Handed {
    name: &'static str,
    path: Option<Utf8PathBuf>,
    why: Option<String>,
    /// What it cost to install it, or to find it.
    elapsed_ms: u128,
}

/// What a test says that it did.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    /// Its name.
    test: String,
    /// Whether it ran.
    outcome: Outcome,
    /// Why it did not.
    why: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Ran,
    Skipped,
}

/// What the step cost, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Peers {
    /// What was handed over to them.
    tools: Vec<Handed>,
    /// Every test of the target.
    tests: Vec<Told>,
}

impl Peers {
    /// The lines of `ci`'s summary: every skip is among them.
    pub(super) fn lines(&self) -> Lines {
        let ran = self.tests.iter().filter(|told| told.outcome == Outcome::Ran).count();
        let seconds = |ms: u128| ms as f64 / 1000.0;
        let installs: u128 = self.tools.iter().map(|tool| tool.elapsed_ms).sum();
        let dearest = self.tools.iter().max_by_key(|tool| tool.elapsed_ms);
        let dearest = dearest.map(|tool| format!(", {} {:.1} s of it", tool.name, seconds(tool.elapsed_ms)));
        let mut lines = Lines::one(format!(
            "ci: peers: {ran} of {} tests ran; installs took {:.1} s{}",
            self.tests.len(),
            seconds(installs),
            dearest.unwrap_or_default()
        ));
        let skipped = self.skipped();
        lines
            .extend(skipped.map(|told| format!("ci: peers: SKIPPED {}: {}", told.test, told.why.join("; "))));
        lines
    }

    /// What was not shown.
    pub(super) fn skipped(&self) -> impl Iterator<Item = &Told> {
        self.tests.iter().filter(|told| told.outcome == Outcome::Skipped)
    }

    /// That everything ran.
    ///
    /// # Errors
    /// Exit 40, `peers-skipped`, with every skip and its reason.
    pub(super) fn require_all(&self) -> Result<(), Failure> {
        if self.skipped().next().is_none() {
            return Ok(());
        }
        let what = "tests with the programs of others did not run, and --require-peers says that they must";
        let failure = Failure::new(ExitCode::PrerequisiteMissing, "peers-skipped", what);
        let failure = self.skipped().fold(failure, |failure, told| {
            failure.on(told.test.clone()).because(format!("{}: {}", told.test, told.why.join("; ")))
        });
        Err(failure.hint("install what is missing, or leave --require-peers out"))
    }
}

/// Runs the step.
///
/// # Errors
/// Exit 10: a test failed, a tool is not what is pinned or does not install, or no test said what it did; 129, 130, 143.
pub(super) fn check(context: &Context, shell: &Shell, interrupt: &Interrupt) -> Result<Peers, Failure> {
    let folder = context.root().join("target/xtask/peers");
    let handed = install_all(context, interrupt)?;
    let (tools, report) = (folder.join("tools.json"), folder.join("report.jsonl"));
    let unwritable = |error: &std::io::Error| {
        Failure::unexpected("the folder of the peers cannot be used")
            .on(folder.to_string())
            .because(error.to_string())
    };
    let text =
        serde_json::to_string_pretty(&handed).map_err(|error| Failure::unexpected(error.to_string()))?;
    let written =
        fs::create_dir_all(&folder).and_then(|()| replace(&tools, text.as_bytes(), Readable::ByOwner));
    // What an earlier run said is not what this one says.
    written.and_then(|()| replace(&report, b"", Readable::ByOwner)).map_err(|error| unwritable(&error))?;
    interrupt.bail("ci")?;
    let test = |redirected: Cmd| {
        let words = ["cargo", "test", "--locked", "--package", "stelae-tests", "--test", "peers"];
        redirected.args(words).env("PEERS_TOOLS", &tools).env("PEERS_REPORT", &report).timeout(LIMIT)
    };
    counted::check(context, shell, "peers", &test, Wanted::Only(TARGET))?;
    let tests = read_report(&report, &TESTS)?;
    Ok(Peers { tools: handed, tests })
}

/// Installs what is needed, one after the other; what this machine cannot have is handed over as missing.
fn install_all(context: &Context, interrupt: &Interrupt) -> Result<Vec<Handed>, Failure> {
    let environment = context.environment()?;
    let shelf = Shelf::of_cache(&environment, &cache_home(context)?)?;
    let terminal = Terminal::with_colour(context.printer.colour());
    let recorder = Recorder::to_listeners(vec![terminal.listener()]);
    let (mut handed, mut silent) = (Vec::new(), BTreeSet::new());
    for name in NEEDED {
        interrupt.bail("ci")?;
        let (begun, tool) = (Instant::now(), shelf.stand(name)?);
        // A registry that has just not answered is not waited for again.
        let installed = if silent.contains(&tool.kind) && !tool.installed {
            Err(still_silent(tool.kind))
        } else {
            let deadline = Deadline::after(INSTALL_LIMIT);
            install(
                &shelf,
                name,
                &Job { environment: &environment, deadline, interrupt, recorder: &recorder },
            )
        };
        let (path, why) = match installed {
            Ok(_) => (Some(shelf.program(name)?), None),
            Err(failure) if failure.exit_code == ExitCode::PrerequisiteMissing => {
                context
                    .printer
                    .show(&Lines::block("", &format!("ci: peers: {name} is not there: {failure}")));
                silent.extend((failure.kind == "registry-unreachable").then_some(tool.kind));
                (None, Some(failure.what))
            }
            // A tool that is not what is pinned, or that does not build, is nothing to be skipped.
            Err(failure) => return Err(failure),
        };
        handed.push(Handed { name, path, why, elapsed_ms: begun.elapsed().as_millis() });
    }
    Ok(handed)
}

fn still_silent(kind: Kind) -> Failure {
    let what = format!("{} cannot be reached", kind.registry());
    Failure::new(ExitCode::PrerequisiteMissing, "registry-unreachable", what)
        .because("it did not answer for the tool before")
}

fn read_report(path: &Utf8Path, tests: &[&str]) -> Result<Vec<Told>, Failure> {
    let broken = |why: String| {
        let what = "the tests of the target peers did not say what they did";
        Failure::new(ExitCode::StepFailed, "peers-silent", what).on(path.to_string()).because(why)
    };
    let text = read_regular_text(path).map_err(|error| broken(error.to_string()))?;
    let told: Result<Vec<Told>, _> = text.lines().map(serde_json::from_str).collect();
    let mut told = told.map_err(|error| broken(error.to_string()))?;
    told.sort_by(|one, other| one.test.cmp(&other.test));
    let said: BTreeSet<&str> = told.iter().map(|told| told.test.as_str()).collect();
    let expected: BTreeSet<&str> = tests.iter().copied().collect();
    let list = |names: Vec<&&str>| names.into_iter().copied().collect::<Vec<_>>().join(", ");
    let (silent, unknown) =
        (expected.difference(&said).collect::<Vec<_>>(), said.difference(&expected).collect::<Vec<_>>());
    match (silent.is_empty(), unknown.is_empty()) {
        (true, true) => Ok(told),
        (false, _) => Err(broken(format!("nothing was said by: {}", list(silent)))),
        (true, false) => Err(broken(format!("not in the list of ci/peers.rs: {}", list(unknown)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(tests: &[&str], lines: &str) -> Result<Peers, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("report.jsonl");
        fs::write(&path, lines).unwrap();
        let tool = |name, elapsed_ms| Handed { name, path: None, why: None, elapsed_ms };
        Ok(Peers { tools: vec![tool("a", 1_000), tool("b", 2_500)], tests: read_report(&path, tests)? })
    }

    #[test]
    fn a_skip_is_in_the_summary_and_fails_where_peers_are_required() {
        let ran = "{\"test\":\"x\",\"outcome\":\"ran\",\"why\":[]}\n";
        let green = peers(&["x"], ran).unwrap();
        assert_eq!(green.require_all(), Ok(()));
        assert_eq!(
            green.lines().as_str(),
            "ci: peers: 1 of 1 tests ran; installs took 3.5 s, b 2.5 s of it\n"
        );
        let skipped = "{\"test\":\"judge\",\"outcome\":\"skipped\",\"why\":[\"no node\"]}\n";
        let peers = peers(&["judge", "x"], &format!("{ran}{skipped}")).unwrap();
        let lines = peers.lines();
        assert!(lines.as_str().ends_with("ci: peers: SKIPPED judge: no node\n"), "{lines}");
        let failure = peers.require_all().unwrap_err();
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::PrerequisiteMissing, "peers-skipped")
        );
        assert_eq!((failure.on, failure.why), (vec!["judge".to_owned()], vec!["judge: no node".to_owned()]));
    }

    #[test]
    fn tests_that_say_nothing_are_not_green() {
        let ran = "{\"test\":\"y\",\"outcome\":\"ran\",\"why\":[]}\n";
        for lines in ["", "nonsense\n", "{\"test\":\"x\",\"outcome\":\"perhaps\",\"why\":[]}\n", ran] {
            assert_eq!(peers(&["x"], lines).unwrap_err().kind, "peers-silent", "{lines:?}");
        }
    }
}
