//! Signals at every moment: the run ends by itself, and nothing of it is left.

use std::fs;
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::Value;
use stelae_tests::{Ended, Run, Source, Xtask, runs, until};

fn start(source: &Source, args: &[&str]) -> Run {
    let args: Vec<&str> = ["--format", "json", "smoke"].iter().chain(args).copied().collect();
    // Under `nohup` a hangup is nothing to a run, rightly; and tests are run under it, too.
    Xtask::new(source.path(), &args).start_under(&["env", "--default-signal=HUP"])
}

/// Puts the fixture, with the script that the source has, in the gateway's place.
fn with_fixture(source: &Source) {
    let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
    let stack = "config/stack.toml";
    source.edit(
        stack,
        "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"",
        &format!("command = \"{fixture}\""),
    );
    let old = "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]";
    source.edit(stack, old, "args = [\"--script\", \"<<STELAE_ROOT>>/tests/fixture-script.toml\"]");
    // It reads no file.
    source.edit(stack, "[{ equals = \"[workspace]\\n\" }]", "[{ contains = \"was called\" }]");
}

/// Waits until the only run of the source is in this step, and gives its id.
fn await_step(source: &Source, run: &mut Run, step: &str) -> String {
    await_event(source, run, &format!("{{\"kind\":\"step-started\",\"step\":\"{step}\""))
}

/// Waits until the only run of the source has an event that begins like this, and gives its id.
fn await_event(source: &Source, run: &mut Run, begun: &str) -> String {
    let mut id = String::new();
    until(begun, || {
        // Asked for first: then the events that are read are all that there are.
        let ended = run.has_ended();
        let events = runs(source.path()).into_iter().next().map(|found| {
            id = found;
            fs::read_to_string(source.run_folder(&id).join("events.jsonl")).unwrap_or_default()
        });
        let has_begun = events.is_some_and(|events| events.contains(begun));
        assert!(has_begun || !ended, "it ended before {begun}: {}", run.stderr());
        has_begun
    });
    id
}

/// A run that got the signal in this step, or later; nothing if its verdict was there before the signal was sent, which
/// happens on a busy machine: a whole warm run takes less than a second.
fn signalled_in(source: &Source, step: &str, signal: Signal) -> Option<(Ended, String)> {
    let mut run = start(source, &[]);
    let id = await_step(source, &mut run, step);
    let sent = SystemTime::now();
    run.signal(signal);
    let ended = run.wait();
    let verdict = fs::metadata(source.run_folder(&id).join("verdict.json"));
    let over = verdict.and_then(|verdict| verdict.modified()).is_ok_and(|written| written <= sent);
    (!over).then_some((ended, id))
}

/// The same, made again until the signal comes in time.
fn signalled_in_time(step: &str, signal: Signal) -> (Source, Ended, String) {
    let once = |_| {
        let source = Source::of_working_tree();
        let (ended, id) = signalled_in(&source, step, signal)?;
        Some((source, ended, id))
    };
    (0..20).find_map(once).expect("a run that is not over before the signal")
}

fn interrupted_in(step: &str, signal: Signal, code: i32) {
    let (source, ended, id) = signalled_in_time(step, signal);

    assert_eq!(ended.verdict(), (code, "interrupted".to_owned()), "{step}: {}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new(), "{step}");
    let folder = source.run_folder(&id);
    let verdict: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("verdict.json")).unwrap()).unwrap();
    assert_eq!(verdict["evidence_complete"], true);
    for file in ["plan.json", "snapshot.json", "teardown.json"] {
        assert!(folder.join(file).exists(), "{step}: no {file}");
    }
    let events = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    assert!(events.lines().last().unwrap().contains("\"kind\":\"verdict\""));
}

macro_rules! ctrl_c_in {
    ($($name:ident: $step:literal),+ $(,)?) => {
        $(#[test] fn $name() { interrupted_in($step, Signal::INT, 130); })+
    };
}

ctrl_c_in! {
    ctrl_c_in_clone: "clone",
    ctrl_c_in_build: "build",
    ctrl_c_in_setup: "setup",
    ctrl_c_in_bundle: "bundle",
    ctrl_c_in_render: "render",
    ctrl_c_in_restart: "restart",
    ctrl_c_in_structural: "structural",
    ctrl_c_in_stage_bundle_tools: "stage:bundle-tools",
    ctrl_c_in_stage_install: "stage:install",
    ctrl_c_in_stage_remove: "stage:remove",
}

#[test]
fn term_and_hangup_have_their_own_codes() {
    interrupted_in("restart", Signal::TERM, 143);
    interrupted_in("structural", Signal::HUP, 129);
}

#[test]
fn ctrl_c_in_verify_or_later_is_not_swallowed() {
    let source = Source::of_working_tree();
    let mut run = start(&source, &[]);
    await_step(&source, &mut run, "verify");
    // It may be over before the signal comes; then, and only then, it may be green.
    let in_time = !run.has_ended();
    if in_time {
        run.signal(Signal::INT);
    }
    let ended = run.wait();
    let events = fs::read_to_string(source.run_folder(&runs(source.path())[0]).join("events.jsonl")).unwrap();
    let interrupted = events.contains("\"kind\":\"interrupted\"");
    assert_eq!(ended.code, if interrupted { 130 } else { 0 }, "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

/// The signal comes when every process is gone, and the clone is looked at for the last time; in some of these, at the least.
#[test]
fn ctrl_c_in_the_last_look_leaves_no_workspace() {
    let source = Source::of_working_tree();
    let mut codes = Vec::new();
    for _ in 0..6 {
        fs::remove_dir_all(source.path().join("target")).ok();
        let mut run = start(&source, &[]);
        await_event(&source, &mut run, "{\"kind\":\"torn-down\"");
        run.signal(Signal::INT);
        let ended = run.wait();
        assert!([0, 130].contains(&ended.code), "{}", ended.stderr);
        assert_eq!(ended.left(), Vec::<String>::new(), "{}", ended.stderr);
        codes.push(ended.code);
    }
    assert!(codes.contains(&130), "{codes:?}");
}

#[test]
fn ctrl_c_before_a_stage_is_handed_over_takes_the_stack_along() {
    let once = |_| {
        let source = Source::of_working_tree();
        let mut run = start(&source, &["--manual-stage", "bundle-tools"]);
        let id = await_event(&source, &mut run, "{\"kind\":\"step-finished\",\"step\":\"structural\"");
        run.signal(Signal::INT);
        let ended = run.wait();
        let left = ended.alive();
        // It may have been handed over before the signal came. Then that is said, or there is nothing to say.
        let stopped = Xtask::new(source.path(), &["runs", "stop", &id]).run();
        assert!([0, 2, 40].contains(&stopped.code), "{}", stopped.stderr);
        if ended.code == 0 || ended.stderr.contains("the stack had been left up by then") {
            return None;
        }
        Some((ended, left))
    };
    let (ended, left) = (0..20).find_map(once).expect("a signal before the stage is handed over");
    assert_eq!(ended.verdict(), (130, "interrupted".to_owned()), "{}", ended.stderr);
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn ctrl_c_in_the_teardown() {
    let source = Source::of_working_tree();
    // Ready, and deaf to SIGTERM: the teardown lasts as long as its grace, unless somebody presses Ctrl-C.
    let script = "on-term = \"ignore\"\nsteps = [{ listen = \"passed\" }]\n[answers]\n\
                  tools = [\"grep\", \"manage_stelae\", \"workspace_fs_read\"]\n";
    source.write("tests/fixture-script.toml", script);
    with_fixture(&source);
    let mut run = start(&source, &["--until", "restart", "--keep", "never"]);
    await_step(&source, &mut run, "teardown");
    run.signal(Signal::INT);
    let ended = run.wait();
    assert_eq!(ended.verdict(), (130, "interrupted".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "teardown");
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn under_timeout_3_nothing_is_left() {
    let source = Source::of_working_tree();
    // Into an empty folder, so that it is in the middle of the build.
    let xtask = Xtask::new(source.path(), &["--format", "json", "smoke", "--cold"]);
    let ended = xtask.start_under(&["timeout", "3"]).wait();
    assert_eq!(ended.code, 124, "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
    assert_eq!(ended.json()["exit_code"], 143);
}

#[test]
fn no_process_survives_the_kill_of_the_harness() {
    let (_source, ended, _) = signalled_in_time("structural", Signal::KILL);
    assert_eq!(ended.code, 137);
    // The supervisor in the clone sees the end of its life line, and takes the stack with it.
    until("the end of the stack", || ended.alive().is_empty());
}

#[test]
fn no_process_survives_the_kill_of_the_harness_while_the_stack_starts() {
    let source = Source::of_working_tree();
    // It listens, answers nothing, and goes on saying something: it is neither ready nor given up for 20 s.
    let script = "steps = [{ listen = \"passed\" }, { chatter-every-ms = 100 }]\n[answers]\nnot-found-until = 1000000\n";
    source.write("tests/fixture-script.toml", script);
    with_fixture(&source);
    for stage in [None, Some("install")] {
        let mut args = vec!["--format", "json", "smoke"];
        args.extend(stage.iter().flat_map(|stage| ["--manual-stage", *stage]));
        let xtask = Xtask::new(source.path(), &args);
        let run = xtask.start();
        until("the fixture", || run.alive().iter().any(|process| process.contains("fixture-script.toml")));
        run.signal(Signal::KILL);
        let ended = run.wait();
        assert_eq!(ended.code, 137);
        until("the end of the stack", || ended.alive().is_empty());
        // Not because the start was given up. Whether it had time to say why is another matter: in a namespace the kernel
        // may kill it on its way down.

        let log =
            runs(source.path()).pop().map(|id| source.run_folder(&id).join("logs/restart.log")).unwrap();
        let log = fs::read_to_string(log).unwrap();
        assert!(["idle", "ceiling"].iter().all(|limit| !log.contains(limit)), "{stage:?}: {log}");
    }
}
