//! Processes of the stack that die while a run looks at it: none of these is a pass, unless the stack's own data allows it.

use std::fs;

use serde_json::Value;
use stelae_tests::{Ended, Source, Xtask};

const SMOKE: &str = "config/smoke.toml";
const STACK: &str = "config/stack.toml";

/// An MCP server that is a shell without children. `$0` is what it does after it answered a call, in `sh`.
const SERVER: &str = r#"
say() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
while IFS= read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case $line in
    *'"method":"initialize"'*)
      say '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"fragile","version":"1"}}' ;;
    *'"method":"tools/list"'*) say '{"tools":[{"name":"fragile","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"tools/call"'*) . "$1" ;;
    *'"method":"ping"'*) say '{}' ;;
  esac
done
"#;

/// What it answers a call with.
const ANSWER: &str = r#"say '{"content":[{"type":"text","text":"unhurt"}]}'"#;

/// The stack with that server in its bundle, whose first stage calls it. `on_call` is what it does then; `more` are more lines of
/// its description.
fn with_server(on_call: &str, more: &str) -> Source {
    let source = Source::of_working_tree();
    source.write("tests/server.sh", SERVER);
    source.write("tests/on-call.sh", on_call);
    let text = format!(
        "name = \"fragile\"\ndescription = \"dies\"\ntransport = \"stdio\"\ncommand = \"/bin/sh\"\n\
         args = [\"<<STELAE_ROOT>>/tests/server.sh\", \"<<STELAE_ROOT>>/tests/on-call.sh\"]\n{more}\n"
    );
    source.write("config/bundles/core/servers/fragile.toml", &text);
    call_in_the_first_stage(&source);
    source
}

fn call_in_the_first_stage(source: &Source) {
    let second = "[[stage]]\nname = \"install\"";
    let call =
        "[[stage.call]]\ntool = \"fragile\"\narguments = {}\nresult_contains = \"unhurt\"\n".to_owned();
    source.edit(SMOKE, second, &(call + "\n" + second));
    source.edit(SMOKE, "\ntools = [\"grep\"", "\ntools = [\"fragile\", \"grep\"");
}

fn smoke(source: &Source) -> Ended {
    Xtask::new(source.path(), &["--format", "json", "smoke", "--keep", "never"]).run()
}

#[track_caller]
fn dies(ended: &Ended, parts: &[&str]) {
    assert_eq!(ended.verdict(), (10, "service-died".to_owned()), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part:?} in: {}", ended.stderr);
    }
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[track_caller]
fn passes_with(ended: &Ended, warning: &str) {
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let warnings = ended.json()["warnings"].as_array().unwrap().clone();
    let has = |text: &Value| text.as_str().unwrap().contains(warning);
    assert_eq!(warnings.iter().filter(|text| has(text)).count(), 1, "{warning:?}: {warnings:?}");
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn a_server_that_crashes_after_its_answer_is_no_pass() {
    let crash = format!("{ANSWER}; echo the last word >&2; exit 7");
    let ended = smoke(&with_server(&crash, ""));
    dies(&ended, &["server fragile died once", "exit status: 7", "| the last word", "gateway.log"]);
}

#[test]
fn a_server_that_crashes_instead_of_an_answer_is_the_cause_and_not_the_call() {
    let ended = smoke(&with_server("kill -SEGV $$", ""));
    dies(&ended, &["server fragile died once", "signal: 11 (SIGSEGV)", "call"]);
}

#[test]
fn a_crash_that_its_bundle_allows_is_a_warning() {
    let crash = format!("{ANSWER}; exit 7");
    let ended = smoke(&with_server(&crash, "allowed_deaths = 1"));
    passes_with(&ended, "server fragile died once, which its allowed_deaths = 1 permits");
}

#[test]
fn a_server_that_comes_up_at_its_second_start_is_no_pass() {
    let source = with_server(ANSWER, "");
    let first =
        "[ -e \"$STELAE_STATE_HOME/was-here\" ] || { : > \"$STELAE_STATE_HOME/was-here\"; exit 4; }\n";
    source.write("tests/server.sh", &format!("{first}{SERVER}"));
    dies(&smoke(&source), &["server fragile died once", "exit status: 4", "before it was ready"]);
}

#[test]
fn a_server_that_crashed_and_was_removed_afterwards_is_no_pass() {
    let source = Source::of_working_tree();
    source.write(
        "tests/server.sh",
        &SERVER.replace("\"fragile\",\"inputSchema\"", "\"count_words\",\"inputSchema\""),
    );
    // What it is to count ends with the run's nonce.
    let longest = r#"longest=${line##*three }; longest=${longest%%\"*}"#;
    let answer = ANSWER.replace("unhurt", r#"{\"longest\":\"'$longest'\",\"words\":4}"#);
    let answer = format!("{longest}; {answer}");
    // It lives long enough for its removal to be asked for, and is gone when that begins.
    source.write("tests/on-call.sh", &format!("{answer}; exit 7"));
    let server = "\"command\": \"/bin/sh\", \"args\": [\"<<STELAE_ROOT>>/tests/server.sh\", \"<<STELAE_ROOT>>/tests/on-call.sh\"]";
    let discovery = fs::read_to_string(source.path().join("config/discovery.json")).unwrap();
    let old = "\"command\": \"<<STELAE_BIN_DIR>>/stelae-gateway\",\n      \"args\": [\"demo-server\"]";
    assert!(discovery.contains(old), "{discovery}");
    source.edit("config/discovery.json", old, server);
    let ended = smoke(&source);
    dies(&ended, &["server wordcount_n", "exit status: 7"]);
    assert_eq!(ended.json()["failed_step"], "stage:remove");
}

#[test]
fn an_optional_server_that_never_came_is_named_in_the_verdict() {
    let source = Source::of_working_tree();
    let text = "name = \"bad\"\ndescription = \"d\"\ntransport = \"stdio\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"exit 4\"]\n";
    source.write("config/bundles/core/servers/bad.toml", &format!("{text}required = false\n"));
    passes_with(
        &smoke(&source),
        "server bad is not required, and never was ready: exited before it was ready",
    );
}

#[test]
fn a_service_that_is_started_again_as_its_stack_says_is_a_warning() {
    let source = Source::of_working_tree();
    let script = "[ -e $STELAE_STATE_HOME/was-here ] && exec env -u PWD -u OLDPWD -u SHLVL -u _ sleep 600; : > $STELAE_STATE_HOME/was-here; exit 4";
    let service = format!("[services.idle]\ncommand = \"sh\"\nargs = [\"-c\", '{script}']\n");
    source.edit(STACK, "[readiness]\n", &format!("{service}restarts = 1\n\n[readiness]\n"));
    passes_with(&smoke(&source), "is started again (1 of 1)");
    source.edit(STACK, "restarts = 1\n", "");
    let ended = smoke(&source);
    assert!(matches!(ended.code, 10 | 30), "{}", ended.stderr);
}

/// A service beside the gateway that dies as soon as a file is there.
fn with_mortal_service(source: &Source, file: &str) {
    let script =
        format!("steps = [{{ await-file = {file:?} }}, {{ say = \"the reason\" }}, {{ exit = 9 }}]\n");
    source.write("tests/mortal.toml", &script);
    let service = format!(
        "[services.mortal]\ncommand = {:?}\nargs = [\"--script\", \"<<STELAE_ROOT>>/tests/mortal.toml\"]\n",
        env!("CARGO_BIN_EXE_stelae-fixture")
    );
    source.edit(STACK, "[readiness]\n", &format!("{service}\n[readiness]\n"));
}

#[test]
fn an_agent_that_waits_is_ended_when_a_service_of_the_stack_dies() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dies");
    let source = with_server(&format!(": > {}", file.display()), "");
    with_mortal_service(&source, file.to_str().unwrap());
    let ended = smoke(&source);
    // Ended by the harness: its own call has a minute.
    dies(&ended, &["service:mortal died", "exit status 9", "| the reason", "agent was ended for that"]);
    assert_eq!(ended.json()["failed_step"], "stage:bundle-tools");
}

#[test]
fn an_agent_that_waits_is_ended_when_the_gateway_dies() {
    for (victim, how) in [("kill -9 $PPID", "exit status 10"), ("kill -9 $(ps -o ppid= -p $PPID)", "SIGKILL")]
    {
        let ended = smoke(&with_server(&format!("{victim}; sleep 600"), ""));
        dies(&ended, &["the gateway died while the stack was up", how]);
        assert_eq!(ended.json()["failed_step"], "stage:bundle-tools");
    }
}
