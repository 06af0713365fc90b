//! The stack's MCP server goes wrong while an agent is at work on it, or between two stages: that is named.

use std::fs;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use stelae_tests::{Ended, Run, Source, await_line, programs, runs, until};

use super::manual::Stopped;
use super::{Cli, FIRST, json, misbehave, nonce};

/// A run in whose first stage the model is at its turn 1: the agent has made a call, and waits for what to do next.
struct Playing {
    source: Source,
    run: Run,
}

impl Playing {
    fn begin(cli: &Cli) -> Self {
        let source = Source::of_working_tree();
        misbehave(&source, "{ turn = 1, how = { slow-first-byte-ms = 1500 } }");
        let until_stage = format!("stage:{FIRST}");
        let xtask = cli.smoke(&source, &["--until", &until_stage, "--keep", "never"]);
        let mut playing = Self { source, run: xtask.start() };
        until("the model's second turn", || {
            assert!(!playing.run.has_ended(), "{}", playing.run.stderr());
            fs::read_to_string(playing.paper("model.jsonl")).is_ok_and(|text| text.lines().count() == 2)
        });
        playing
    }

    /// A paper of the stage; before there is a run, one that is nowhere.
    fn paper(&self, what: &str) -> Utf8PathBuf {
        let run = runs(self.source.path()).pop().unwrap_or_default();
        self.source.run_folder(&run).join(format!("transcripts/{FIRST}.{what}"))
    }

    /// Sends a signal to both processes of the gateway.
    fn signal_gateway(&self, signal: Signal) {
        let alive = self.run.alive();
        let gateway: Vec<_> =
            alive.into_iter().filter(|process| process.contains("stelae-gateway serve ")).collect();
        assert_eq!(gateway.len(), 2, "{gateway:?}");
        for process in gateway {
            let pid = process.split(' ').next().unwrap().parse().unwrap();
            let sent = kill_process(Pid::from_raw(pid).unwrap(), signal);
            // When one of the two dies, the other one may be gone as soon.
            assert!(sent.is_ok() || signal == Signal::KILL, "{process}: {sent:?}");
        }
    }

    fn wait(self) -> Ended {
        let ended = self.run.wait();
        assert_eq!(ended.left(), Vec::<String>::new());
        ended
    }
}

fn dies(test: &str, agent: &'static str) {
    let Some(cli) = Cli::need(test, agent) else { return };
    let playing = Playing::begin(&cli);
    playing.signal_gateway(Signal::KILL);
    let ended = playing.wait();
    let (code, kind) = ended.verdict();
    assert_eq!((code, kind.as_str()), (10, "service-died"), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], format!("stage:{FIRST}"));
    // The agent is not waited for: what it would have run into says less than why.
    for part in ["the gateway died while the stack was up", &format!("{agent} was ended for that")] {
        assert!(ended.stderr.contains(part), "no {part:?} in: {}", ended.stderr);
    }
}

fn is_slow(test: &str, agent: &'static str) {
    let Some(cli) = Cli::need(test, agent) else { return };
    let playing = Playing::begin(&cli);
    playing.signal_gateway(Signal::STOP);
    await_line(&playing.paper("jsonl"), "\"pattern\"");
    // The fault itself is that it takes four seconds: nobody ever says anything here.
    let (_nobody, never) = mpsc::channel::<()>();
    never.recv_timeout(Duration::from_secs(4)).unwrap_err();
    playing.signal_gateway(Signal::CONT);
    let ended = playing.wait();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let warnings = ended.json()["warnings"].to_string();
    eprintln!("{agent}: slow: {warnings}");
    assert!(
        warnings.contains("the agent waited ") && warnings.contains(" s for the answer of grep"),
        "{warnings}"
    );
}

fn loses_a_tool(test: &str, agent: &'static str) {
    let Some(cli) = Cli::need(test, agent) else { return };
    let stopped = Stopped::before(&cli, "remove");
    let restarted = json(&stopped.folder(), "steps/restart.json");
    let url = restarted["endpoints"]["url"].as_str().unwrap();
    let server = format!("wordcount_{}", nonce(&stopped.folder()));
    let removal = json!({ "operation": "remove_server", "params": { "name": server } });
    let script = json!({ "calls": [{ "tool": "manage_stelae", "arguments": removal }] });
    let path = stopped.source.path().join("target/script.json");
    fs::write(&path, script.to_string()).unwrap();
    let mut somebody = Command::new(&programs().gateway);
    let removed = somebody.args(["agent", "--url", url, "--script", path.as_str()]).output().unwrap();
    let said = String::from_utf8(removed.stdout).unwrap();
    assert!(removed.status.success() && said.contains(&format!("{server}: removed")), "{said}");

    let ended = stopped.resume(&["--from", "stage:remove"]);
    assert_eq!(ended.verdict(), (32, "tools-missing".to_owned()), "{}", ended.stderr);
    for part in
        ["the gateway's tool list changed between two stages", "on: stage remove", "missing: count_words"]
    {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    // The agent was not even started.
    assert!(!stopped.folder().join("transcripts/remove.jsonl").exists());
    assert_eq!(stopped.processes(), Vec::<String>::new());
}

#[test]
fn codex_loses_its_server_in_the_middle() {
    dies("endpoint::codex_loses_its_server_in_the_middle", "codex");
}

#[test]
fn claude_loses_its_server_in_the_middle() {
    dies("endpoint::claude_loses_its_server_in_the_middle", "claude");
}

#[test]
fn codex_waits_for_a_slow_server() {
    is_slow("endpoint::codex_waits_for_a_slow_server", "codex");
}

#[test]
fn claude_waits_for_a_slow_server() {
    is_slow("endpoint::claude_waits_for_a_slow_server", "claude");
}

#[test]
fn codex_is_not_started_when_a_tool_is_gone() {
    loses_a_tool("endpoint::codex_is_not_started_when_a_tool_is_gone", "codex");
}
