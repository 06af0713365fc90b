//! `env`: values with their origin, errors with their place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use stelae_tests::{Ended, Source, Xtask};

fn env(source: &Source, args: &[&str]) -> Ended {
    let args: Vec<&str> = ["--format", "json", "env"].iter().chain(args).copied().collect();
    Xtask::new(source.path(), &args).run()
}

fn fails_with(source: &Source, text: &str, kind: &str, parts: &[&str]) {
    fs::write(source.path().join(".env"), text).unwrap();
    let ended = env(source, &["show"]);
    assert_eq!(ended.verdict(), (20, kind.to_owned()), "{text}: {}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{text}: no {part:?} in {}", ended.stderr);
    }
}

#[test]
fn show_says_value_layer_and_line() {
    let source = Source::of_working_tree();
    fs::write(source.path().join(".env"), "# comment\nPROXY_PORT=8123\n").unwrap();
    let json = env(&source, &["show"]).json();
    let all = json["variables"].as_array().unwrap();
    let find = |name: &str| all.iter().find(|variable| variable["name"] == name).unwrap().clone();
    let port = find("PROXY_PORT");
    assert_eq!((port["value"].as_str(), port["origin"]["layer"].as_str()), (Some("8123"), Some("env-file")));
    assert_eq!(
        (&port["origin"]["place"]["line"], &port["origin"]["place"]["column"]),
        (&2.into(), &1.into())
    );
    assert_eq!(find("PUBLIC_BASE_URL")["value"], "http://127.0.0.1:8123");
}

#[test]
fn secrets_are_shown_as_digests() {
    let source = Source::of_working_tree();
    for args in
        [&["--format", "json", "env", "show"][..], &["env", "show"], &["env", "explain", "STELAE_MCP_TOKEN"]]
    {
        let ended = Xtask::new(source.path(), args).env("STELAE_MCP_TOKEN", "hunter2").run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(
            ended.stdout.contains("sha256:f52fbd32b2b3") && !ended.stdout.contains("hunter2"),
            "{}",
            ended.stdout
        );
    }
}

#[test]
fn each_bad_line_has_its_error_with_place_and_hint() {
    let source = Source::of_working_tree();
    fails_with(&source, "PROXY_PROT=1\n", "unknown-variable", &[".env:1:1", "did you mean PROXY_PORT?"]);
    fails_with(&source, "\nPROXY_PORT=0\n", "bad-value", &[".env:2:12", "\"0\" is not a port"]);
    fails_with(&source, "PROXY_PORT=70000\n", "bad-value", &["1 to 65535"]);
    fails_with(&source, "PROXY_PORT=1\nPROXY_PORT=2\n", "duplicate-variable", &[".env:2:1", "line 1"]);
    fails_with(&source, "PROXY_PORT=$(id -u)\n", "env-file-syntax", &[".env:1:12"]);
    fails_with(&source, "PUBLIC_BASE_URL=http://x\n", "not-settable", &[".env:1:1", "derived"]);
    let circle = "STELAE_CONFIG_HOME=${STELAE_STATE_HOME}\nSTELAE_STATE_HOME=${STELAE_CONFIG_HOME}\n";
    fails_with(
        &source,
        circle,
        "cycle",
        &[".env:1:20", "STELAE_CONFIG_HOME -> STELAE_STATE_HOME -> STELAE_CONFIG_HOME"],
    );
}

#[test]
fn a_file_of_the_command_line_must_be_there_and_what_is_set_wins() {
    let source = Source::of_working_tree();
    let missing =
        Xtask::new(source.path(), &["--format", "json", "--env-file", "no-such-file", "env", "show"]).run();
    assert_eq!(missing.verdict(), (20, "env-file-unreadable".to_owned()));
    let set = Xtask::new(source.path(), &["--set", "PROXY_PORT=7", "env", "explain", "PROXY_PORT"]).run();
    assert!(
        set.stdout.starts_with("PROXY_PORT = 7\n") && set.stdout.contains("command line"),
        "{}",
        set.stdout
    );
    assert_eq!(Xtask::new(source.path(), &["--set", "PROXY_PORT", "env", "show"]).run().code, 2);
}

#[test]
fn init_writes_what_is_missing_and_nothing_twice() {
    let source = Source::of_working_tree();
    let home = stelae_tests::private_folder();
    let config = home.path().join("config").to_str().unwrap().to_owned();
    let state = home.path().join("state").to_str().unwrap().to_owned();
    let (config, state) = (format!("STELAE_CONFIG_HOME={config}"), format!("STELAE_STATE_HOME={state}"));
    let init = |extra: &[&str]| {
        let args: Vec<&str> = ["--format", "json", "--set", &config, "--set", &state, "env", "init"]
            .iter()
            .chain(extra)
            .copied()
            .collect();
        let ended = Xtask::new(source.path(), &args).run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let plan = ended.json()["plan"].as_array().unwrap().clone();
        plan.iter().map(|action| action["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(init(&["--dry-run"]), ["write", "create", "create", "create", "seed"]);
    assert!(!source.path().join(".env").exists());
    assert_eq!(init(&[]), ["write", "create", "create", "create", "seed"]);
    let text = fs::read_to_string(source.path().join(".env")).unwrap();
    assert!(text.contains("#PROXY_PORT=9090"), "{text}");
    assert_eq!(init(&[]), ["keep"; 5]);
    for folder in ["config", "state", "state/supervisor"] {
        let mode = fs::metadata(home.path().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    // What it writes can be read.
    assert_eq!(env(&source, &["show"]).code, 0);
}

#[test]
fn outside_of_a_repository_it_says_where_to_go() {
    // Not in the checkout: that is a repository.
    let folder = tempfile::tempdir().unwrap();
    let ended =
        Xtask::new(camino::Utf8Path::from_path(folder.path()).unwrap(), &["--format", "json", "env", "show"])
            .run();
    assert_eq!(ended.verdict(), (40, "no-root".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("--root PATH"));
}

#[test]
fn a_plan_that_fails_half_way_is_one_document_and_leaves_no_half_file() {
    let source = Source::of_working_tree();
    let file = source.path().join("a-file");
    fs::write(&file, "").unwrap();
    let state = format!("STELAE_STATE_HOME={file}/below");
    let ended = Xtask::new(source.path(), &["--format", "json", "--set", &state, "env", "init"]).run();
    assert_eq!(ended.verdict(), (20, "env-init".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["plan"][0]["action"], "write");
    let left: Vec<_> = fs::read_dir(source.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn a_command_line_that_is_not_understood_is_one_document_too() {
    let source = Source::of_working_tree();
    let ended = Xtask::new(source.path(), &["--format=json", "env", "shwo"]).run();
    assert_eq!(ended.verdict(), (2, "usage".to_owned()), "{}", ended.stderr);
    assert!(ended.json()["failure"]["what"].as_str().unwrap().contains("shwo"), "{}", ended.stdout);
    assert!(ended.stderr.contains("shwo"), "{}", ended.stderr);
    let text = Xtask::new(source.path(), &["env", "shwo"]).run();
    assert_eq!((text.code, text.stdout.as_str()), (2, ""));
}

/// The root that the environment says, and the one that a verb works in (whose env file it reads).
fn roots(xtask: Xtask) -> (String, String) {
    let ended = xtask.run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let json = ended.json();
    let all = json["variables"].as_array().unwrap();
    let value = |name: &str| {
        let found = all.iter().find(|variable| variable["name"] == name).unwrap();
        found["value"].as_str().unwrap_or_default().to_owned()
    };
    (value("STELAE_ROOT"), value("PROXY_PORT"))
}

#[test]
fn there_is_one_root_whoever_names_it() {
    let (a, b) = (Source::of_working_tree(), Source::of_working_tree());
    fs::write(a.path().join(".env"), "PROXY_PORT=1111\n").unwrap();
    fs::write(b.path().join(".env"), "PROXY_PORT=2222\n").unwrap();
    let in_a = (a.path().to_string(), "1111".to_owned());
    let in_b = (b.path().to_string(), "2222".to_owned());
    let set_b = format!("STELAE_ROOT={}", b.path());
    let b_root = b.path().as_str();
    let show = |flags: &[&str]| {
        let args: Vec<&str> =
            ["--format", "json"].iter().chain(flags).chain(&["env", "show"]).copied().collect();
        Xtask::new(a.path(), &args)
    };
    assert_eq!(roots(show(&[])), in_a);
    assert_eq!(roots(show(&["--root", b_root])), in_b);
    // A process of the stack in b, at work in a: what it has inherited names no root.
    assert_eq!(roots(show(&[]).env("STELAE_ROOT", b_root)), in_a);
    assert_eq!(roots(show(&["--root", b_root]).env("STELAE_ROOT", a.path().as_str())), in_b);
    let set = show(&["--set", &set_b]).run();
    assert_eq!(set.verdict(), (20, "not-settable".to_owned()), "{}", set.stderr);
    assert!(set.stderr.contains("hint: name the root of a repository: --root PATH"), "{}", set.stderr);
}

#[test]
fn a_stdout_that_takes_nothing_is_no_success() {
    let source = Source::of_working_tree();
    for format in ["text", "json"] {
        let xtask =
            Xtask::new(source.path(), &["-c", &format!("\"$0\" --format {format} env show > /dev/full")]);
        let ended = xtask.env("RUST_BACKTRACE", "0").run_in_shell();
        assert_eq!(ended.code, 10, "{format}: {}", ended.stderr);
        assert!(ended.stderr.contains("stdout did not take everything"), "{}", ended.stderr);
    }
}
