//! What a green run with an agent CLI shows, and leaves.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use stelae_tests::Source;

use super::{Cli, json, lines, nonce, text};

/// Whether this machine lets us make network namespaces.
fn namespaces() -> bool {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-current-user"]);
    }
    let allowed = unshare.args(["--net", "--", "/bin/true"]).stderr(Stdio::null()).status();
    allowed.is_ok_and(|status| status.success())
}

fn is_green(test: &str, agent: &'static str) {
    let Some(cli) = Cli::need(test, agent) else { return };
    let source = Source::of_working_tree();
    let ended = cli.smoke(&source, &[]).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
    let steps = ended.json()["steps"].as_array().unwrap().clone();
    assert_eq!(steps.len(), 12);
    // `verify` among them: git is clean.
    assert!(steps.iter().all(|step| step["outcome"] == "passed"), "{steps:?}");

    let folder = source.run_folder(&ended.run_id());
    let smoke = text(&source.path().to_owned(), super::SMOKE).replace("{{ NONCE }}", &nonce(&folder));
    let smoke: toml::Table = toml::from_str(&smoke).unwrap();
    let stages = smoke["stage"].as_array().unwrap();
    assert_eq!(stages.len(), 3);
    for stage in stages {
        let name = stage["name"].as_str().unwrap();
        let paper = |what: &str| format!("transcripts/{name}.{what}");
        assert_eq!(text(&folder, &paper("prompt.txt")).trim_end(), stage["prompt"].as_str().unwrap());
        assert!(!lines(&folder, &paper("jsonl")).is_empty());
        // One request for each call, and one to say that all is done.
        let told: Vec<Value> = stage["call"].as_array().unwrap().iter().map(|call| json!(call)).collect();
        let requests = lines(&folder, &paper("model.jsonl"));
        let turns: Vec<_> = requests.iter().map(|request| request["turn"].as_u64().unwrap()).collect();
        assert_eq!(turns, (0..=told.len() as u64).collect::<Vec<_>>());
        // What the gateway was given is what the stage has, call by call.
        let calls = lines(&folder, &paper("calls.jsonl"));
        let part = |calls: &[Value]| {
            calls.iter().map(|call| (call["tool"].clone(), call["arguments"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(part(&calls), part(&told));

        let described = json(&folder, &paper("agent.json"));
        assert_eq!(described["agent"], agent);
        assert_eq!(described["version"]["said"], described["version"]["pinned"]);
        assert!(described["program"].as_str().unwrap().starts_with(cli.cache.as_str()), "{described}");
        // It was looked at while it played, and had what it was given.
        let environment = json(&folder, &paper("environment.json"));
        assert_eq!(environment["processes"].as_array().unwrap().len(), 1, "{environment}");
        assert_eq!(environment["processes"][0]["process"], agent);
        assert_eq!(environment["differences"], json!([]));
        let network = json(&folder, &paper("network.json"));
        assert_eq!(network["attempts"], json!({"no_route": 0, "lookups": 0, "named": []}), "{network}");
        assert_eq!(network["exit_code"], 0);
        if namespaces() {
            assert_eq!(network["isolation"], "network-namespace", "{network}");
        }
    }
    // What agents put into their homes is no evidence.
    let mut logs = folder.join("logs").read_dir_utf8().unwrap().map(Result::unwrap);
    assert!(logs.all(|entry| entry.file_type().unwrap().is_file()), "{folder}/logs");
    let offered = |name: &str| -> BTreeSet<String> {
        let first = lines(&folder, &format!("transcripts/{name}.model.jsonl")).remove(0);
        first["offered"].as_array().unwrap().iter().map(|tool| tool.as_str().unwrap().to_owned()).collect()
    };
    let gained: Vec<_> = offered("remove").difference(&offered("install")).cloned().collect();
    assert!(gained.len() == 1 && gained[0].ends_with("count_words"), "{gained:?}");
}

#[test]
fn codex_plays_three_stages_without_a_key_or_a_network() {
    is_green("green::codex_plays_three_stages_without_a_key_or_a_network", "codex");
}

#[test]
fn claude_plays_three_stages_without_a_key_or_a_network() {
    is_green("green::claude_plays_three_stages_without_a_key_or_a_network", "claude");
}
