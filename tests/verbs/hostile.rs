//! What others wrote, wherever it is printed: it moves no cursor, and no line of it looks like a line of ours.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8Path;
use serde_json::{Value, json};
use stelae_tests::{Ended, Home, Source, Xtask};

/// Lines that are ours to print.
const FAKES: [&str; 3] = ["pass (0): all is well", "error: fake", " hint: rm -rf ~"];

/// A text with everything that a terminal acts upon, and the lines above.
fn hostile() -> String {
    format!(
        "x\u{1b}[2J\u{1b}]8;;http://evil\u{7}\r\u{9b}1A\u{8}\u{b}\u{7f}\u{202e}\u{2028}\u{feff}\n{}\n",
        FAKES.join("\n")
    )
}
/// How it begins where it is shown, or quoted as Rust does.
// Of a log, the sequences that colour it are left out before.
const SHOWN: [&str; 3] =
    [r"x\x1b[2J\x1b]8;;http:/", r"x\u{1b}[2J\u{1b}]8;;http:/", r"x\r\x9b1A\x08\x0b\x7f\u{202e}"];

fn is_tame(what: &str, ended: &Ended) {
    for text in [&ended.stdout, &ended.stderr] {
        let acts =
            |c: char| (c.is_control() && c != '\n' && c != '\t') || "\u{202e}\u{2028}\u{feff}".contains(c);
        assert!(!text.contains(acts), "{what}: {text:?}");
        for line in text.lines() {
            assert!(!FAKES.iter().any(|fake| line.trim_end() == fake.trim_end()), "{what}: {text}");
        }
    }
}

/// That a verb is tame, and did quote the text: one that is silent about it would show nothing.
fn quotes(what: &str, xtask: Xtask) -> Ended {
    let ended = xtask.run();
    is_tame(what, &ended);
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert!(
        SHOWN.iter().any(|shown| all.contains(shown)),
        "{what} does not quote it ({}): {all}",
        ended.code
    );
    ended
}

/// The same for `--format json`, whose document has the text as it was.
fn keeps(what: &str, root: &Utf8Path, args: &[&str]) {
    let ended = Xtask::new(root, &[&["--format", "json"], args].concat()).run();
    is_tame(what, &ended);
    let has = |text: &str| text.contains("x\u{1b}[2J\u{1b}]8;;http://evil\u{7}\r\u{9b}1A");
    assert!(any_text(&ended.json(), &has), "{what}: {}", ended.stdout);
}

fn any_text(value: &Value, wanted: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => wanted(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, wanted)),
        Value::Object(members) => members.iter().any(|(key, item)| wanted(key) || any_text(item, wanted)),
        _ => false,
    }
}

#[test]
fn an_argument_is_quoted_and_not_obeyed() {
    let (source, hostile) = (Source::of_working_tree(), hostile());
    let set = format!("{hostile}=1");
    let path = format!("/nonexistent/{hostile}");
    for args in [
        &[hostile.as_str()][..],
        &["env", "explain", &hostile],
        &["bundle", "install", &hostile],
        &["bundle", "install", &path],
        &["tools", "path", &hostile],
        &["tools", "install", &hostile],
        &["runs", "show", &hostile],
        &["runs", "stop", &hostile],
        &["smoke", "--plan", "--gateway", &hostile],
        &["smoke", "--plan", "--until", &hostile],
        &["smoke", "--plan", "--source", &path],
        &["--set", &set, "env", "show"],
        &["--root", &path, "env", "show"],
        &["--env-file", &path, "env", "show"],
        &["render-proxy", "--template", &path],
        &["soak", "--runs", &hostile],
    ] {
        let ended = quotes(&format!("{args:?}"), Xtask::new(source.path(), args));
        assert_ne!(ended.code, 0, "{args:?}");
    }
    keeps("an unknown variable", source.path(), &["env", "explain", &hostile]);
}

#[test]
fn a_file_is_quoted_and_not_obeyed() {
    let hostile = hostile();
    let key = json!(hostile).to_string();
    for (file, args) in [
        ("config/smoke.toml", &["smoke", "--plan"][..]),
        ("config/stack.toml", &["restart"]),
        ("config/tools.toml", &["tools", "list"]),
    ] {
        let source = Source::of_working_tree();
        let text = fs::read_to_string(source.path().join(file)).unwrap();
        // TOML and JSON escape alike what may not stand in a text.
        let key = stelae_model::terminal::shown_json(&key);
        source.write(file, &format!("{key} = 1\n{text}"));
        let ended = quotes(file, Xtask::new(source.path(), args));
        assert_ne!(ended.code, 0, "{file}");
    }
    let source = Source::of_working_tree();
    fs::write(source.path().join(".env"), format!("{}=1\n", &hostile[..hostile.find('\r').unwrap()]))
        .unwrap();
    let ended = Xtask::new(source.path(), &["env", "show"]).run();
    is_tame(".env", &ended);
    assert!(ended.code != 0 && SHOWN.iter().any(|shown| ended.stderr.contains(shown)), "{}", ended.stderr);
    // A file that git does not know.
    fs::remove_file(source.path().join(".env")).unwrap();
    fs::write(source.path().join("x\u{1b}[2J\u{202e}\npass (0): all is well"), "").unwrap();
    let ended = Xtask::new(source.path(), &["smoke", "--plan"]).run();
    is_tame("git status", &ended);
    assert!(ended.stdout.contains("pass (0): all is well"), "{}", ended.stdout);
}

#[test]
fn the_record_of_a_run_is_quoted_and_not_obeyed() {
    let (source, hostile) = (Source::of_working_tree(), hostile());
    let runs = source.path().join("target/xtask/runs");
    let failure = json!({"exit_code": 10, "kind": "x", "what": hostile, "on": [hostile], "why": [hostile],
        "hint": hostile, "log_tail": [hostile]});
    let verdict = json!({"schema": 1, "run": "r", "exit_code": 10, "sentence": hostile, "steps": [],
        "warnings": [hostile], "failure": failure});
    fs::create_dir_all(runs.join("r")).unwrap();
    fs::write(runs.join("r").join("verdict.json"), verdict.to_string()).unwrap();
    fs::write(runs.join("r").join("a\u{1b}[2J\npass (0): all is well"), "").unwrap();
    fs::create_dir_all(runs.join("z\u{1b}[2J\npass (0): all is well")).unwrap();
    let shown = Xtask::new(source.path(), &["runs", "show", "r"]).run();
    is_tame("runs show", &shown);
    let list = Xtask::new(source.path(), &["runs", "list"]).run();
    is_tame("runs list", &list);
    for (ended, quoted) in [(&shown, r"a\x1b[2J\npass"), (&list, r"z\x1b[2J\npass")] {
        assert!(ended.stdout.contains(quoted) && ended.code == 0, "{}", ended.stdout);
    }
}

#[test]
fn a_bundle_and_an_overlay_are_quoted_and_not_obeyed() {
    let (home, hostile) = (Home::new(), hostile());
    let text = |args: &[&str]| {
        let set = |name: &str, folder: &str| format!("{name}={}", home.path().join(folder));
        let (config, state) = (set("STELAE_CONFIG_HOME", "config"), set("STELAE_STATE_HOME", "state"));
        let all = [&["--set", config.as_str(), "--set", state.as_str()], args].concat();
        Xtask::new(home.source.path(), &all)
    };
    let escaped = stelae_model::terminal::shown_json(&json!(hostile).to_string());
    let bundle = home.source.path().join("config/bundles/evil");
    fs::create_dir_all(bundle.join("servers")).unwrap();
    let about = format!("name = \"evil\"\nversion = \"1\"\ndescription = {escaped}\n");
    fs::write(bundle.join("bundle.toml"), about).unwrap();
    let server = "name = \"a\"\ndescription = \"d\"\ntransport = \"stdio\"\ncommand = \"x\"\n";
    fs::write(bundle.join("servers/a.toml"), server).unwrap();
    assert_eq!(quotes("bundle list", text(&["bundle", "list"])).code, 0);
    // What stands in a comment is in the difference that an overwriting install shows.
    assert_eq!(text(&["bundle", "install", "evil"]).run().code, 0);
    let comment: String = hostile.chars().filter(|c| *c != '\n' && *c != '\r').collect();
    // TOML allows no control character in a comment: only what is not one.
    let comment: String = comment.chars().filter(|c| !c.is_ascii_control()).collect();
    let installed = home.path().join("config/bundles/evil/servers/a.toml");
    fs::write(&installed, format!("# {comment}\n{server}")).unwrap();
    let ended = text(&["bundle", "install", "evil", "--force", "--dry-run"]).run();
    is_tame("bundle install --dry-run", &ended);
    assert!(ended.stderr.contains(r"\u{202e}"), "{}", ended.stderr);
    let overlay = home.path().join("overlay.json");
    fs::write(&overlay, format!("{{\"mcpServers\": {{{escaped}: {{\"command\": \"x\"}}}}}}")).unwrap();
    let ended = quotes("overlay", text(&["render-proxy", "--overlay", overlay.as_str()]));
    assert_ne!(ended.code, 0);
    let args = format!("{{\"mcpServers\": {{\"b\": {{\"command\": \"x\", \"args\": [{escaped}]}}}}}}");
    fs::write(&overlay, args).unwrap();
    fs::write(home.proxy_json(), hostile.as_bytes()).unwrap();
    let ended =
        quotes("render-proxy --diff", text(&["render-proxy", "--overlay", overlay.as_str(), "--diff"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

/// The end of a log of a program that did not come up, and its last lines as they are told.
#[test]
fn a_program_that_ends_is_quoted_and_not_obeyed() {
    let home = Home::new();
    let said = home.path().join("said");
    fs::write(&said, hostile()).unwrap();
    let held = stelae_tests::held_port();
    let port = format!("PROXY_PORT={}", held.address().port());
    for args in [&["env", "init"][..], &["bundle", "install", "core"], &["render-proxy"]] {
        let ended = home.run(&[&["--set", port.as_str()], args].concat());
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
    }
    let program = home.path().join("gateway");
    fs::write(&program, format!("#!/bin/sh\ncat {said} {said} >&2\nexit 3\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let stack = home.path().join("stack.toml");
    let text = fs::read_to_string(home.source.path().join("config/stack.toml")).unwrap();
    fs::write(&stack, text.replace("\"<<STELAE_BIN_DIR>>/stelae-gateway\"", &format!("{program:?}")))
        .unwrap();
    let set = |name: &str, folder: &str| format!("{name}={}", home.path().join(folder));
    let (config, state) = (set("STELAE_CONFIG_HOME", "config"), set("STELAE_STATE_HOME", "state"));
    let args =
        ["--set", &config, "--set", &state, "--set", &port, "restart", "--attached", "--budget-s", "300"];
    let args = [&args[..], &["--stack", stack.as_str()]].concat();
    let ended = quotes("restart --attached", Xtask::new(home.source.path(), &args));
    assert_eq!(ended.code, 30, "{}", ended.stderr);
}

/// Every ending has one document on stdout, or none where a command line is not understood.
#[test]
fn every_ending_has_one_document() {
    let source = Source::of_working_tree();
    let bin = source.path().join("target/fake-bin");
    fs::create_dir_all(&bin).unwrap();
    let cargo = bin.join("cargo");
    fs::write(
        &cargo,
        "#!/bin/sh\necho 'noise on stdout'\nprintf '{\"schema\": 9}\\n'\n[ \"$1\" != clippy ]\n",
    )
    .unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{bin}:/usr/bin:/bin");
    for (args, code, kind) in [
        (&["env", "show"][..], 0, ""),
        (&["nonsense"], 2, "usage"),
        (&["bundle", "install", "nonsense"], 22, "unknown-bundle"),
        (&["tools", "install", "nonsense"], 2, "unknown-tool"),
        (&["smoke", "--plan"], 0, ""),
        (&["smoke", "--until", "nonsense"], 2, "unknown-step"),
        (&["soak", "--runs", "1", "--jobs", "1", "--load", "0", "--kill", "never"], 0, ""),
        // What a verb's own children print on stdout is no part of the document.
        (&["ci", "--only", "format"], 0, ""),
        (&["ci", "--only", "lints"], 10, "ci-step-failed"),
    ] {
        let args = [&["--format", "json"], args].concat();
        let ended = Xtask::new(source.path(), &args).env("PATH", &path).run();
        let json = ended.json();
        assert_eq!(json["schema"], 1, "{args:?}: {}", ended.stdout);
        assert_eq!(ended.verdict(), (code, kind.to_owned()), "{args:?}: {}", ended.stderr);
    }
}

/// The verdict's own code wins, and what was lost is told; only a pass that did not arrive is none.
#[test]
fn a_lost_stdout_takes_no_code_but_that_of_a_pass() {
    let source = Source::of_working_tree();
    source.write("docs/EXIT_CODES.md", "stale\n");
    for (args, format, to, code) in [
        ("docs --check", "text", "> /dev/full", 50),
        ("docs --check", "json", "> /dev/full", 50),
        ("docs --check", "json", "| :", 50),
        ("tools install nonsense", "json", "> /dev/full", 2),
        ("smoke --plan", "json", "> /dev/full", 10),
        ("smoke --plan", "json", "| :", 10),
        ("smoke --plan", "text", "> /dev/full", 10),
        // A reader of text that has seen enough is no failure.
        ("env show", "text", "| :", 0),
    ] {
        // The code is that of `xtask`, and not of the reader, which has ended before anything is written.
        let run = format!("\"$0\" --format {format} {args}");
        let script = match to {
            "| :" => {
                format!("mkfifo \"$TMPDIR/p\"; : < \"$TMPDIR/p\" & exec 3> \"$TMPDIR/p\"; wait; {run} >&3")
            }
            _ => format!("{run} {to}"),
        };
        let ended = Xtask::new(source.path(), &["-c", &script]).run_in_shell();
        assert_eq!(ended.code, code, "{format} {args} {to}: {}", ended.stderr);
        let told = ended.stderr.contains("stdout did not take everything");
        assert_eq!(told, code != 0, "{format} {args} {to}: {}", ended.stderr);
    }
}
