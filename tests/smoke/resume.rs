//! Stopping on purpose, and going on.

use std::fs;
use std::process::{Command, Output};

use stelae_tests::{Ended, Source, Xtask};

fn outcomes(json: &serde_json::Value) -> Vec<String> {
    let steps = json["steps"].as_array().unwrap();
    steps.iter().map(|step| step["outcome"].as_str().unwrap_or("-").to_owned()).collect()
}

#[test]
fn a_run_that_stopped_goes_on_where_it_stopped() {
    let source = Source::of_working_tree();
    let workspace = stelae_tests::private_folder();
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
    let workspace = stelae_tests::private_folder();
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

/// A run that stopped before a stage, with its stack up; the stack is ended also when the test fails.
struct Stopped {
    /// Of clients, by the variable; empty for none.
    token: &'static str,
    source: Source,
    ended: Ended,
    run: String,
}

impl Stopped {
    fn before(stage: &str) -> Self {
        Self::before_with_token(stage, "")
    }

    fn before_with_token(stage: &str, token: &'static str) -> Self {
        let source = Source::of_working_tree();
        let xtask = Xtask::new(source.path(), &["smoke", "--manual-stage", stage]);
        let ended = xtask.env("STELAE_MCP_TOKEN", token).run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let run = stelae_tests::runs(source.path()).remove(0);
        let stopped = Self { token, source, ended, run };
        assert!(
            stopped.processes().iter().any(|process| process.contains("serve --config")),
            "the stack is not up"
        );
        stopped
    }

    fn processes(&self) -> Vec<String> {
        self.ended.alive()
    }

    fn resume(&self, args: &[&str]) -> Ended {
        let before = ["--format", "json", "smoke", "--resume", &self.run];
        let args: Vec<&str> = before.iter().chain(args).copied().collect();
        Xtask::new(self.source.path(), &args).env("STELAE_MCP_TOKEN", self.token).run()
    }

    /// Types what was printed.
    fn play(&self, token: &str) -> Output {
        let command = self.ended.stdout.lines().find_map(|line| line.strip_prefix("  (")).unwrap();
        let mut bash = Command::new("bash");
        bash.arg("-ec").arg(format!("({command}")).env("STELAE_MCP_TOKEN", token).output().unwrap()
    }

    fn stop(&self) -> Ended {
        Xtask::new(self.source.path(), &["runs", "stop", &self.run]).run()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn a_stage_that_nobody_played_is_no_pass() {
    let stopped = Stopped::before("install");
    let early = stopped.resume(&[]);
    assert_eq!(early.verdict(), (11, "transcript-missing".to_owned()), "{}", early.stderr);
    assert_eq!(stopped.processes(), Vec::<String>::new());
}

#[test]
fn the_printed_command_plays_the_stage_and_it_is_judged_the_same_way() {
    let stopped = Stopped::before("install");
    let played = stopped.play("");
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));

    let ended = stopped.resume(&[]);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(stopped.ended.left(), Vec::<String>::new());
}

#[test]
fn a_token_of_clients_is_asked_for_and_kept_nowhere() {
    let stopped = Stopped::before_with_token("install", "hunter2-of-clients");
    let refused = stopped.play("another");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("401") && said.contains("STELAE_MCP_TOKEN"), "{said}");
    let played = stopped.play(stopped.token);
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    // Readiness, both stages and what is checked between them have shown it, or this would not be green.
    let ended = stopped.resume(&[]);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let folder = stopped.source.run_folder(&stopped.run);
    stelae_tests::assert_nowhere_in(&folder, stopped.token);
    assert!(!format!("{}{}", stopped.ended.stdout, ended.stderr).contains(stopped.token));
}

#[test]
fn a_stack_left_up_is_ended_by_runs_stop() {
    let stopped = Stopped::before("bundle-tools");
    let ended = stopped.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(stopped.ended.left(), Vec::<String>::new());
}

#[test]
fn a_stack_that_was_left_up_and_died_is_started_again() {
    let stopped = Stopped::before("bundle-tools");
    let supervisor =
        stopped.processes().into_iter().find(|process| process.contains("restart --attached")).unwrap();
    let pid: i32 = supervisor.split(' ').next().unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    stelae_tests::until("the end of the stack", || stopped.processes().is_empty());
    // It stops again where the stage is to be played, with a new stack.
    let ended = stopped.resume(&[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.json()["sentence"].as_str().unwrap().starts_with("stopped after structural"),
        "{}",
        ended.stdout
    );
    assert!(!stopped.processes().is_empty());
}

#[test]
fn a_transcript_of_an_earlier_session_is_not_what_is_judged() {
    let stopped = Stopped::before("bundle-tools");
    let transcript = stopped.source.run_folder(&stopped.run).join("transcripts/bundle-tools.jsonl");
    let played = stopped.play("");
    assert!(played.status.success() && transcript.exists());
    // It starts the stack anew and stops again: what was played with the old stack counts no more.
    let again = stopped.resume(&["--from", "restart"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(!transcript.exists());
    assert_eq!(stopped.resume(&[]).verdict(), (11, "transcript-missing".to_owned()));
}

#[test]
fn going_back_to_the_restart_replaces_the_stack_that_is_up() {
    let stopped = Stopped::before("install");
    let gateway =
        |processes: Vec<String>| processes.into_iter().find(|one| one.contains("serve --config")).unwrap();
    let first = gateway(stopped.processes());
    let again = stopped.resume(&["--from", "restart"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let second = gateway(stopped.processes());
    assert_ne!(first, second);
    assert!(!stopped.processes().contains(&first), "two stacks are up");
}

#[test]
fn a_stack_that_is_left_up_keeps_its_workspace_whatever_was_said() {
    let source = Source::of_working_tree();
    let args = ["--format", "json", "smoke", "--manual-stage", "bundle-tools", "--keep", "never"];
    let ended = Xtask::new(source.path(), &args).run();
    let run = stelae_tests::runs(source.path()).remove(0);
    let stopped = Stopped { token: "", source, ended, run };
    assert_eq!(stopped.ended.code, 0, "{}", stopped.ended.stderr);
    // What is to be typed is in the document, too.
    let json = stopped.ended.json();
    let instructions = json["instructions"].as_str().unwrap_or_default();
    assert!(instructions.contains(&format!("cargo xtask smoke --resume {}", stopped.run)), "{json}");
    // What it was started for is behind it: asked to stop before that, it does nothing.
    assert_eq!(stopped.resume(&["--until", "structural"]).verdict(), (2, "contradictory".to_owned()));
    assert!(!stopped.processes().is_empty());
    // It went once the run is over.
    assert_eq!(stopped.resume(&["--until", "stage:bundle-tools"]).code, 11);
    assert_eq!(stopped.ended.left(), Vec::<String>::new());
}

#[test]
fn a_run_that_is_under_way_is_not_resumed() {
    let stopped = Stopped::before("install");
    let folder = stopped.source.run_folder(&stopped.run);
    let before = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let plan: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("plan.json")).unwrap()).unwrap();
    let lock =
        fs::File::open(format!("{}/.stelae-workspace.lock", plan["workspace"].as_str().unwrap())).unwrap();
    lock.lock().unwrap();
    assert_eq!(stopped.resume(&["--from", "clone"]).verdict(), (40, "workspace-in-use".to_owned()));
    assert_eq!(fs::read_to_string(folder.join("events.jsonl")).unwrap(), before);
    assert!(folder.join("steps/restart.json").exists());
}

#[test]
fn a_server_that_died_and_came_back_is_no_pass() {
    let stopped = Stopped::before("install");
    let server = stopped.processes().into_iter().find(|one| one.ends_with("stelae-gateway server ")).unwrap();
    let pid: i32 = server.split(' ').next().unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    stelae_tests::until("another server", || {
        stopped.processes().iter().any(|one| one.ends_with("stelae-gateway server ") && *one != server)
    });
    let ended = stopped.resume(&["--from", "structural"]);
    assert_eq!(ended.verdict(), (10, "service-died".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("server stelae died once"), "{}", ended.stderr);
    assert!(ended.stderr.contains("signal: 9 (SIGKILL)"), "{}", ended.stderr);
}

#[test]
fn a_stack_that_is_left_up_keeps_its_address_and_gives_it_back_when_it_goes() {
    let stopped = Stopped::before("bundle-tools");
    let folder = stopped.source.run_folder(&stopped.run);
    let sandbox: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("sandbox.json")).unwrap()).unwrap();
    let address = sandbox["address"].as_str().unwrap();
    let restarted = fs::read_to_string(folder.join("steps/restart.json")).unwrap();
    let url = format!("http://{address}:{}/mcp", sandbox["port"]);
    assert!(restarted.contains(&url), "{url}: {restarted}");
    // The session that leased it is over; whoever it started has inherited the lease.
    let lease = fs::File::open(stelae_tests::cache().join("leases").join(address)).unwrap();
    let is_free = || lease.try_lock().is_ok();
    assert!(!is_free());
    // Its end frees it for the session that starts another stack there.
    let again = stopped.resume(&["--from", "restart"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(!is_free());
    assert_eq!(stopped.stop().code, 0);
    assert!(is_free());
}
