//! Faults, put into a source and committed: each has its verdict, and the verdict says what a person needs.

use std::net::TcpListener;

use stelae_tests::{Source, Xtask, held_port};

const TEMPLATE: &str = "config/proxy.template.json";
const STACK: &str = "config/stack.toml";

fn smoke(source: &Source) -> stelae_tests::Ended {
    Xtask::new(source.path(), &["--format", "json", "smoke", "--keep", "never"]).run()
}

/// Runs it, and checks code, kind, and that the failure's text has all of these parts.
fn fails(source: &Source, code: i32, kind: &str, step: &str, parts: &[&str]) {
    let ended = smoke(source);
    assert_eq!(ended.verdict(), (code, kind.to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], step);
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part:?} in: {}", ended.stderr);
    }
    assert_eq!(ended.left(), Vec::<String>::new());
}

/// The stack with the fixture in the gateway's place.
fn with_fixture(script: &str) -> Source {
    let source = Source::of_working_tree();
    source.write("tests/fixture-script.toml", script);
    let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
    source.edit(
        STACK,
        "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"",
        &format!("command = \"{fixture}\""),
    );
    let args = "args = [\"--script\", \"<<STELAE_ROOT>>/tests/fixture-script.toml\"]";
    source.edit(STACK, "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]", args);
    source.edit(STACK, "idle_ms = 10_000", "idle_ms = 5_000");
    source
}

#[test]
fn the_incident_a_port_in_the_template_that_a_stranger_has() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port().to_string();
    let source = Source::of_working_tree();
    // The address, too: on an address of its own, the run would not meet the stranger.
    source.edit(TEMPLATE, "<<PROXY_HOST>>:<<PROXY_PORT>>", &format!("127.0.0.1:{port}"));
    let us = std::process::id().to_string();
    let command = std::env::args().next().unwrap();
    fails(
        &source,
        33,
        "port-taken",
        "restart",
        &[&us, &command, &format!("proxy.json says port {port}"), "<<PROXY_PORT>>"],
    );
}

#[test]
fn a_port_in_the_template_that_nobody_has_is_found_too() {
    let held = held_port();
    let free = held.address().port().to_string();
    let source = Source::of_working_tree();
    source.edit(TEMPLATE, "<<PROXY_PORT>>", &free);
    fails(
        &source,
        20,
        "port-differs",
        "restart",
        &[&format!("proxy.json says port {free}"), "PROXY_PORT is "],
    );
}

#[test]
fn a_variable_that_an_env_file_overrides_is_found_in_the_live_process() {
    let source = Source::of_working_tree();
    source.write("config/gateway.env", "PROXY_HOST=127.0.0.9\n");
    source.edit(STACK, "grace_ms = 6000", "grace_ms = 6000\nenv_file = \"config/gateway.env\"");
    let parts =
        ["gateway (pid ", "PROXY_HOST is \"127.0.0.9\"", "declared is \"127.0.0.", "environment.json"];
    fails(&source, 20, "environment-differs", "structural", &parts);
}

#[test]
fn a_variable_that_nobody_declared_is_a_leak() {
    let source = Source::of_working_tree();
    source.write("config/gateway.env", "SURPRISE=1\n");
    source.edit(STACK, "grace_ms = 6000", "grace_ms = 6000\nenv_file = \"config/gateway.env\"");
    fails(&source, 20, "environment-differs", "structural", &["gateway (pid ", "SURPRISE is there"]);
}

#[test]
fn a_service_that_an_env_file_gives_another_host_is_found() {
    let source = Source::of_working_tree();
    source.write("config/idle.env", "PROXY_HOST=127.0.0.9\nOWN=1\n");
    let service = "[services.idle]\ncommand = \"sleep\"\nargs = [\"600\"]\nenv_file = \"config/idle.env\"\n";
    source.edit(STACK, "[readiness]\n", &format!("{service}\n[readiness]\n"));
    let parts = ["service:idle (pid ", "PROXY_HOST is \"127.0.0.9\"", "declared is \"127.0.0."];
    fails(&source, 20, "environment-differs", "structural", &parts);
}

#[test]
fn a_servers_own_variable_that_redefines_a_declared_one_is_found() {
    let source = Source::of_working_tree();
    let server = "config/bundles/core/servers/stelae.toml";
    source.edit(server, "control = true", "control = true\n[env]\nTZ = \"UTC\"\nOWN = \"mine\"");
    fails(&source, 20, "environment-differs", "structural", &["server:stelae (pid ", "TZ is"]);
}

#[test]
fn a_gateway_that_lists_only_some_tools() {
    let source = with_fixture("steps = [{ listen = \"passed\" }]\n[answers]\ntools = [\"grep\"]\n");
    fails(&source, 32, "tools-missing", "restart", &["manage_stelae", "workspace_fs_read"]);
}

#[test]
fn a_gateway_that_exits_0_before_it_is_ready() {
    let source = with_fixture("steps = [{ say = \"good bye\" }, { exit = 0 }]\n");
    fails(&source, 30, "exited-before-ready", "restart", &["good bye"]);
}

#[test]
fn a_gateway_that_is_silent() {
    let source = with_fixture("steps = [{ listen = \"passed\" }]\n[answers]\nnot-found-until = 1000000\n");
    fails(&source, 31, "idle", "restart", &["/healthz answered 404"]);
}

#[test]
fn a_tool_call_that_fails_although_the_agent_exits_0() {
    let source = Source::of_working_tree();
    source.edit(
        "config/smoke.toml",
        "path = \"stelae-nonce.txt\" }\nresult = [{ equals",
        "path = \"no-such.md\" }\nresult = [{ equals",
    );
    fails(
        &source,
        11,
        "call-failed",
        "stage:bundle-tools",
        &["call 1: workspace_fs_read failed", "no-such.md"],
    );
}

#[test]
fn a_tool_that_should_have_come_and_did_not() {
    let source = Source::of_working_tree();
    source.edit(
        "config/smoke.toml",
        "tools_gained = [\"count_words\"]",
        "tools_gained = [\"count_words\", \"count_lines\"]",
    );
    fails(&source, 32, "tools-missing", "stage:install", &["missing: count_lines"]);
}

#[test]
fn a_tool_that_should_have_gone_and_did_not() {
    let source = Source::of_working_tree();
    source.edit(
        "config/smoke.toml",
        "tools_lost = [\"count_words\"]",
        "tools_lost = [\"count_words\", \"grep\"]",
    );
    fails(&source, 11, "tools-differ", "stage:remove", &["not expected: grep"]);
}

#[test]
fn a_tool_that_is_said_to_come_and_was_there_before() {
    let source = Source::of_working_tree();
    let gained = "tools_gained = [\"count_words\"";
    source.edit("config/smoke.toml", &format!("{gained}]"), &format!("{gained}, \"grep\"]"));
    fails(&source, 11, "tools-differ", "stage:install", &["listed before the stage already: grep"]);
}

#[test]
fn a_stack_that_writes_into_the_clone() {
    let source = Source::of_working_tree();
    source.edit(STACK, "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"", "command = \"/bin/sh\"");
    let script = "echo x | tee -a README.md; exec env -u PWD -u OLDPWD -u SHLVL -u _ <<STELAE_BIN_DIR>>/stelae-gateway serve --config <<STELAE_CONFIG_HOME>>/proxy.json";
    source.edit(
        STACK,
        "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]",
        &format!("args = [\"-c\", \"{script}\"]"),
    );
    fails(&source, 50, "git-not-clean", "structural", &["changed (content): repo:README.md"]);
}

#[test]
fn a_clone_that_does_not_build() {
    let source = Source::of_working_tree();
    source.edit("xtask/src/main.rs", "fn main()", "fn main(");
    fails(&source, 10, "build-failed", "build", &["xtask/src/main.rs"]);
}

#[test]
fn a_template_that_is_missing() {
    let source = Source::of_working_tree();
    source.edit("config/stack.toml", "version = 1", "version = 1");
    std::fs::remove_file(source.path().join(TEMPLATE)).unwrap();
    source.write("config/other.txt", "a commit without the template");
    fails(&source, 21, "template-missing", "render", &[TEMPLATE]);
}

#[test]
fn a_budget_that_is_too_small_ends_the_run_by_itself() {
    let source = Source::of_working_tree();
    // An empty target folder: the build cannot be over in time.
    let ended = Xtask::new(
        source.path(),
        &["--format", "json", "smoke", "--cold", "--budget-s", "12", "--keep", "never"],
    )
    .run();
    assert_eq!(ended.code, 124, "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "build");
    assert_eq!(ended.left(), Vec::<String>::new());
}

/// The stack with a command that the gateway's shell carries out before it becomes the gateway.
fn with_prelude(prelude: &str) -> Source {
    let source = Source::of_working_tree();
    let script = format!(
        "{prelude}; exec env -u PWD -u OLDPWD -u SHLVL -u _ <<STELAE_BIN_DIR>>/stelae-gateway serve \
         --config <<STELAE_CONFIG_HOME>>/proxy.json"
    );
    source.edit(STACK, "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"", "command = \"/bin/sh\"");
    let old = "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]";
    source.edit(STACK, old, &format!("args = [\"-c\", '{script}']"));
    source
}

#[test]
fn a_stack_that_tells_git_to_look_away() {
    let prelude = "mkdir -p .git/info; echo \"*.junk\" | tee .git/info/exclude; echo x | tee stray.junk";
    fails(
        &with_prelude(prelude),
        50,
        "git-config-changed",
        "structural",
        &["repo:.git/info", "repo:stray.junk"],
    );
}

#[test]
fn a_stack_that_changes_a_reference() {
    fails(&with_prelude("git tag surprise"), 50, "git-refs-changed", "structural", &["refs/tags/surprise"]);
}

#[test]
fn a_stack_that_leaves_traces_in_what_is_rendered() {
    let overlay = "{\"mcpServers\": {\"extra\": {\"url\": \"http://127.0.0.1:1/mcp\", \"required\": false}}}";
    let prelude =
        format!("echo {} | tee $STELAE_CONFIG_HOME/proxy.overlay.json", overlay.replace('"', "\\\""));
    fails(
        &with_prelude(&prelude),
        50,
        "catalog-changed",
        "structural",
        &["added (file): config:proxy.overlay.json"],
    );
}

#[test]
fn a_server_that_a_stage_installs_is_attested_too() {
    let source = Source::of_working_tree();
    let env = "\"args\": [\"demo-server\"], \"env\": { \"PROXY_HOST\": \"127.0.0.9\" }";
    source.edit("config/discovery.json", "\"args\": [\"demo-server\"]", env);
    let parts = ["server:wordcount_n", "PROXY_HOST is \"127.0.0.9\""];
    fails(&source, 20, "environment-differs", "stage:install", &parts);
}

#[test]
fn what_the_users_git_ignores_is_not_clean_for_that() {
    let source = Source::of_working_tree();
    let script = "echo x > stray.junk; exec env -u PWD -u OLDPWD -u SHLVL -u _ <<STELAE_BIN_DIR>>/stelae-gateway serve \
                  --config <<STELAE_CONFIG_HOME>>/proxy.json";
    source.edit(STACK, "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"", "command = \"/bin/sh\"");
    let old = "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]";
    source.edit(STACK, old, &format!("args = [\"-c\", \"{script}\"]"));
    let xtask = Xtask::new(source.path(), &["--format", "json", "smoke", "--keep", "never"]);
    let home = xtask.tmp().with_file_name("home");
    std::fs::write(home.join("ignored"), "*.junk\n").unwrap();
    std::fs::write(home.join(".gitconfig"), format!("[core]\n\texcludesFile = {home}/ignored\n")).unwrap();
    let ended = xtask.run();
    assert_eq!(ended.verdict(), (50, "git-not-clean".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("added (file): repo:stray.junk"), "{}", ended.stderr);
}

#[test]
fn a_ceiling_that_does_not_fit_into_its_step_is_refused_before_anything_starts() {
    let source = Source::of_working_tree();
    source.edit(STACK, "ceiling_ci_ms = 25_000", "ceiling_ci_ms = 30_000");
    assert_eq!(smoke(&source).verdict(), (2, "budget-impossible".to_owned()));
    assert_eq!(stelae_tests::runs(source.path()), Vec::<String>::new());
}

/// The stack with one more server in its bundle, a Python program.
fn with_server(required: bool, program: &str) -> Source {
    let source = Source::of_working_tree();
    let text = format!(
        "name = \"bad\"\ndescription = \"misbehaves\"\ntransport = \"stdio\"\ncommand = \"/bin/sh\"\n\
         args = [\"-c\", \"{program}\"]\nrequired = {required}\nstart_timeout_ms = 2000\n"
    );
    source.write("config/bundles/core/servers/bad.toml", &text);
    source
}

#[test]
fn a_required_server_that_never_answers_is_no_pass() {
    let source = with_server(true, "exec sleep 600");
    fails(&source, 32, "servers-not-ready", "restart", &["server bad is"]);
}

#[test]
fn a_required_server_that_crashes_in_a_loop_is_no_pass() {
    let source = with_server(true, "exit 4");
    fails(&source, 32, "servers-not-ready", "restart", &["server bad is", "4"]);
}

#[test]
fn a_required_server_that_talks_nonsense_is_no_pass() {
    let source = with_server(true, "yes nonsense");
    fails(&source, 32, "servers-not-ready", "restart", &["server bad is"]);
}

#[test]
fn a_server_that_floods_its_stderr_drowns_nobody() {
    let source = with_server(true, "exec yes flood >&2");
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (32, "servers-not-ready".to_owned()), "{}", ended.stderr);
    let logs = source.run_folder(&ended.run_id()).join("logs");
    for log in ["gateway.log", "restart.log"] {
        let bytes = std::fs::metadata(logs.join(log)).unwrap().len();
        assert!(bytes < 10 * 1024 * 1024, "{log} has {bytes} bytes");
    }
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn a_server_that_nobody_requires_may_be_missing() {
    let source = with_server(false, "exit 4");
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}
