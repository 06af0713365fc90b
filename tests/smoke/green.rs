//! What a green run shows, and leaves.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use stelae_model::calls::{CallOutcome, read_calls};
use stelae_tests::{Ended, Source, Xtask};

fn smoke(source: &Source) -> Xtask {
    Xtask::new(source.path(), &["--format", "json", "smoke"])
}

/// A green run, with a look before the teardown that saw everything: a machine that is starved gets more than one try.
fn looked_at(source: &Source) -> Ended {
    const TOO_SOON: &str = "there was no time to look at everything";
    for _try in 0..10 {
        let ended = smoke(source).run();
        assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
        let snapshot = source.run_folder(&ended.run_id()).join("snapshot.json");
        if !fs::read_to_string(snapshot).unwrap().contains(TOO_SOON) {
            return ended;
        }
    }
    panic!("there never was time to look at a few processes");
}

#[test]
fn a_fresh_clone_is_proven_and_nothing_is_left() {
    let source = Source::of_working_tree();
    let ended = looked_at(&source);
    assert_eq!(ended.left(), Vec::<String>::new());

    let folder = source.run_folder(&ended.run_id());
    let read =
        |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let json = |name: &str| serde_json::from_str::<Value>(&read(name)).unwrap();

    let steps = ended.json()["steps"].as_array().unwrap().clone();
    assert_eq!(steps.len(), 12);
    assert!(steps.iter().all(|step| step["outcome"] == "passed"), "{steps:?}");
    assert_eq!(json("verdict.json"), ended.json());

    // Who was looked at, and that nothing differed.
    let environment = json("environment.json");
    let processes: BTreeSet<_> = environment["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["process"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(processes, ["gateway", "server:stelae", "xtask"].map(str::to_owned).into());
    assert_eq!(environment["differences"], Value::Array(vec![]));

    // The events are numbered without a gap, and end with the verdict.
    let events: Vec<Value> =
        read("events.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().enumerate().all(|(number, event)| event["seq"] == number));
    assert_eq!(events.last().unwrap()["event"]["kind"], "verdict");

    // A server was really installed: the agent called its tool, and its process was there to write a log line.
    assert!(read("transcripts/remove.jsonl").contains("count_words"));
    let calls = read_calls("calls.jsonl", &read("calls.jsonl")).unwrap();
    let counted = calls.iter().find(|call| call.tool == "count_words").expect("a call");
    let nonce = json("steps/clone.json")["nonce"].as_str().unwrap().to_owned();
    let server = format!("wordcount_{nonce}");
    assert_eq!((counted.server.as_deref(), counted.outcome), (Some(&*server), CallOutcome::Answered));
    assert!(
        events.iter().any(|event| event["event"]["text"].as_str().is_some_and(|text| text.contains(&server)))
    );
    assert_eq!(read("rendered/proxy.json"), read("rendered/proxy.after.json"));

    // Both looks before the teardown, the run's and that of the stack's own supervisor; and both proofs.
    let snapshot = json("snapshot.json");
    let commands = snapshot["processes"].to_string();
    // A command line is cut: that of the supervisor is long before its verb comes.
    for part in ["--of-run", "serve --config", "\"state\":\"listen\"", "STELAE_CONTROL_TOKEN\":\"sha256:"] {
        assert!(commands.contains(part), "{part}: {snapshot}");
    }
    let rungs = snapshot["probes"]["history"].to_string();
    assert!(rungs.contains("canary") && snapshot["problems"] == Value::Array(vec![]), "{snapshot}");
    assert_eq!(json("stack/snapshot.json")["schema"], 1);
    assert_eq!(json("teardown.json")["proof"], "no-child-left");
    assert_eq!(json("stack/teardown.json")["proof"], "no-child-left");
}

#[test]
fn a_service_beside_the_gateway_is_part_of_what_is_proven() {
    let source = Source::of_working_tree();
    source.write("config/idle.env", "OWN=1\n");
    let service = "[services.idle]\ncommand = \"sleep\"\nargs = [\"600\"]\nenv_file = \"config/idle.env\"\n";
    source.edit("config/stack.toml", "[readiness]\n", &format!("{service}\n[readiness]\n"));
    let ended = smoke(&source).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
    let folder = source.run_folder(&ended.run_id());
    let report = fs::read_to_string(folder.join("environment.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let processes = report["processes"].as_array().unwrap();
    let service = processes.iter().find(|one| one["process"] == "service:idle").unwrap();
    assert!(service["command"].as_str().unwrap().ends_with("sleep 600"), "{service}");
    assert!(service["environment"]["OWN"].as_str().unwrap().starts_with("sha256:"), "{service}");
    assert!(folder.join("logs/service-idle.log").exists());
}

#[test]
fn a_secret_of_a_server_is_passed_on_and_kept_nowhere() {
    let source = Source::of_working_tree();
    let server = "config/bundles/core/servers/stelae.toml";
    source.edit(server, "control = true", "control = true\n[env]\nOWN_KEY = \"hunter2-of-a-server\"");
    let ended = smoke(&source).run();
    // The attestation has seen it in the live process, or this would not be green.
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let folder = source.run_folder(&ended.run_id());
    let rendered = fs::read_to_string(folder.join("rendered/proxy.json")).unwrap();
    assert!(rendered.contains("\"OWN_KEY\": \"sha256:"), "{rendered}");
    stelae_tests::assert_nowhere_in(&folder, "hunter2-of-a-server");

    assert!(!ended.stdout.contains("hunter2-of") && !ended.stderr.contains("hunter2-of"));
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let source = Source::of_working_tree();
    let (one, other) = (smoke(&source).start(), smoke(&source).start());
    let (one, other) = (one.wait(), other.wait());
    for ended in [&one, &other] {
        assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
        assert_eq!(ended.left(), Vec::<String>::new());
    }
    let port = |run: &str| fs::read_to_string(source.run_folder(run).join("sandbox.json")).unwrap();
    assert_ne!(port(&one.run_id()), port(&other.run_id()));
}

#[test]
fn uncommitted_changes_are_reported_and_not_in_the_clone() {
    let source = Source::of_working_tree();
    fs::write(source.path().join("new-file.txt"), "x").unwrap();
    let ended =
        Xtask::new(source.path(), &["--format", "json", "smoke", "--until", "clone", "--keep", "always"])
            .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let warnings = ended.json()["warnings"].to_string();
    assert!(warnings.contains("1 uncommitted changes") && warnings.contains("new-file.txt"), "{warnings}");
    let run = ended.run_id();
    let clone = stelae_tests::cache().join(format!("workspaces/{run}/repo"));
    assert!(clone.join("README.md").exists() && !clone.join("new-file.txt").exists());
}

#[test]
fn the_plan_that_is_printed_is_the_plan_that_runs() {
    let source = Source::of_working_tree();
    let plan = Xtask::new(source.path(), &["--format", "json", "smoke", "--plan", "--until", "clone"]).run();
    let ran = Xtask::new(source.path(), &["--format", "json", "smoke", "--until", "clone"]).run();
    let kept: Value = serde_json::from_str(
        &fs::read_to_string(source.run_folder(&ran.run_id()).join("plan.json")).unwrap(),
    )
    .unwrap();
    let without_names = |mut plan: Value| {
        for name in ["run", "workspace"] {
            plan[name] = Value::Null;
        }
        plan
    };
    assert_eq!(without_names(plan.json()), without_names(kept));
    // A plan leaves nothing: no folder of a run but the real one's.
    assert_eq!(stelae_tests::runs(source.path()), [ran.run_id()]);
}
