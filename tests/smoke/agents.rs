//! `--agent`, without any real agent CLI: what is found out before anything is built, and agents that are not what they
//! seem. What the real ones do is in the target `peers`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_tests::{Ended, Source, Xtask, runs, until};
use tempfile::TempDir;

/// A machine on which no agent CLI is installed, but for what a test says.
struct Machine {
    source: Source,
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { source: Source::of_working_tree(), folder: stelae_tests::private_folder() };
        fs::create_dir(machine.path("bin")).unwrap();
        machine
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    /// A program on PATH that says of itself which version it is.
    fn has(&self, agent: &str, says: &str) {
        self.has_program(agent, &format!("echo '{says}'"));
    }

    fn has_program(&self, agent: &str, script: &str) {
        let path = self.path("bin").join(agent);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A `codex` on PATH that is no agent at all, in a source that pins a version which nobody has installed: `script` is what
    /// it does when it is told to play.
    fn with_liar(script: &str) -> Self {
        let machine = Self::new();
        let pins = fs::read_to_string(machine.source.path().join("config/tools.toml")).unwrap();
        let pins: toml::Table = toml::from_str(&pins).unwrap();
        let pinned = pins["tools"]["codex"]["version"].as_str().unwrap();
        machine.source.edit("config/tools.toml", &format!("version = \"{pinned}\""), "version = \"0.0.1\"");
        let version = "[ \"$1\" = --version ] && { echo codex-cli 0.0.1; exit 0; }";
        machine.has_program("codex", &format!("{version}\n{script}"));
        machine
    }

    /// That its first stage fails like this, and nothing is left.
    fn is_found_out(&self, code: i32, kind: &str, parts: &[&str]) {
        let path = format!("{}:{}", self.path("bin"), std::env::var("PATH").unwrap());
        let args = ["--format", "json", "smoke", "--agent", "codex", "--keep", "never"];
        let ended = Xtask::new(self.source.path(), &args).env("PATH", &path).run();
        assert_eq!(ended.verdict(), (code, kind.to_owned()), "{}", ended.stderr);
        assert_eq!(ended.json()["failed_step"], "stage:bundle-tools", "{}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "no {part:?} in: {}", ended.stderr);
        }
        assert_eq!(ended.left(), Vec::<String>::new());
    }

    fn smoke(&self, args: &[&str]) -> Ended {
        let path = std::env::var("PATH").unwrap();
        let has_agent =
            |folder: &&str| ["codex", "claude"].iter().any(|name| Utf8Path::new(folder).join(name).exists());
        let rest: Vec<&str> = path.split(':').filter(|folder| !has_agent(folder)).collect();
        let path = format!("{}:{}", self.path("bin"), rest.join(":"));
        let xtask = Xtask::new(self.source.path(), &["--format", "json", "smoke"]).args(args);
        xtask.env("PATH", &path).env("STELAE_CACHE_HOME", self.path("cache").as_str()).run()
    }

    /// That it fails like this before anything is built, and leaves nothing.
    fn refuses(&self, args: &[&str], code: i32, kind: &str, parts: &[&str]) {
        let ended = self.smoke(args);
        assert_eq!(ended.verdict(), (code, kind.to_owned()), "{args:?}: {}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "{args:?}: no {part:?} in: {}", ended.stderr);
        }
        assert_eq!(runs(self.source.path()), Vec::<String>::new());
        assert_eq!(ended.left(), Vec::<String>::new());
    }
}

#[test]
fn an_agent_that_is_not_installed_is_one_command_away() {
    let machine = Machine::new();
    for agent in ["codex", "claude"] {
        let what = format!("{agent} is not installed");
        let hint = format!("hint: cargo xtask tools install {agent}");
        machine.refuses(
            &["--agent", agent],
            40,
            "agent-missing",
            &[&what, "neither there nor on PATH", &hint],
        );
    }
}

#[test]
fn another_version_than_the_pinned_one_is_told_or_refused() {
    let machine = Machine::new();
    machine.has("codex", "codex-cli 0.1.0");
    let ended = machine.smoke(&["--agent", "codex", "--until", "clone", "--keep", "never"]);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let tools = fs::read_to_string(machine.source.path().join("config/tools.toml")).unwrap();
    let tools: toml::Table = toml::from_str(&tools).unwrap();
    let pinned = tools["tools"]["codex"]["version"].as_str().unwrap();
    let difference = format!("codex is 0.1.0, and was measured as {pinned}: ");
    let warnings = ended.json()["warnings"].to_string();
    assert!(warnings.contains(&difference), "{warnings}");
    assert_eq!(ended.left(), Vec::<String>::new());
    fs::remove_dir_all(machine.source.path().join("target/xtask/runs")).unwrap();

    let locked = ["--agent", "codex", "--locked-agents"];
    machine.refuses(&locked, 40, "agent-version", &[&difference, "hint: cargo xtask tools install codex"]);
    machine.has("codex", "no version at all");
    machine.refuses(&["--agent", "codex"], 10, "agent-unusable", &["no version at all"]);
}

#[test]
fn a_live_model_needs_credentials_and_an_agent_that_has_a_model() {
    let machine = Machine::new();
    machine.has("codex", "codex-cli 0.169.0");
    machine.has("claude", "2.1.328 (Claude Code)");
    let live = |agent| ["--agent", agent, "--model", "live"];
    machine.refuses(&live("codex"), 40, "agent-credentials", &[".codex/auth.json", "hint: codex login"]);
    machine.refuses(
        &live("claude"),
        40,
        "agent-credentials",
        &[".claude/.credentials.json", "hint: claude auth login"],
    );
    machine.refuses(&live("builtin"), 2, "contradictory", &["the builtin agent has no model"]);
}

#[test]
fn settings_and_prompts_that_cannot_be_read_are_found_before_anything_is_built() {
    let machine = Machine::new();
    let agents = "config/agents.toml";
    machine.source.edit(agents, "[claude]\nargs = ", "[claude]\nargv = []\nargs = ");
    for agent in ["codex", "claude"] {
        machine.refuses(
            &["--agent", agent],
            20,
            "agents-config",
            &["config/agents.toml", "unknown field `argv`"],
        );
    }
    machine.source.edit(agents, "argv = []\n", "");
    machine.source.edit(agents, "{{ AGENT_HOME }}", "{{ AGENT_HOEM }}");
    machine.refuses(&["--agent", "claude"], 21, "unknown-name", &["config/agents.toml:", "AGENT_HOEM"]);

    machine.source.edit("config/smoke.toml", "prompt = \"Install", "prompt = \"{{ MCP_ULR }} Install");
    machine.refuses(&[], 21, "unknown-name", &["config/smoke.toml: prompt of stage install:1:", "MCP_ULR"]);
}

#[test]
fn a_prompt_has_the_values_of_its_run() {
    let source = Source::of_working_tree();
    source.edit(
        "config/smoke.toml",
        "prompt = \"Read ",
        "prompt = \"At {{ MCP_URL }}, port {{ PROXY_PORT }}: read ",
    );
    let args = ["--format", "json", "smoke", "--until", "stage:bundle-tools", "--keep", "never"];
    let ended = Xtask::new(source.path(), &args).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let folder = source.run_folder(&ended.run_id());
    let prompt = fs::read_to_string(folder.join("transcripts/bundle-tools.prompt.txt")).unwrap();
    let restarted = fs::read_to_string(folder.join("steps/restart.json")).unwrap();
    let restarted: serde_json::Value = serde_json::from_str(&restarted).unwrap();
    let url = restarted["endpoints"]["url"].as_str().unwrap();
    let (_, port) = url.trim_end_matches("/mcp").rsplit_once(':').unwrap();
    assert!(prompt.starts_with(&format!("At {url}, port {port}: read ")), "{prompt}");
}

#[test]
fn a_call_that_must_never_happen_is_no_pass() {
    let source = Source::of_working_tree();
    source.edit(
        "config/smoke.toml",
        "arguments = { operation = \"remove_server\" }",
        "arguments = { operation = \"install_server\" }",
    );
    let ended = Xtask::new(source.path(), &["--format", "json", "smoke", "--keep", "never"]).run();
    assert_eq!(ended.verdict(), (11, "call-forbidden".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "stage:install");
    assert!(
        ended.stderr.contains("manage_stelae was called, which this stage must never do"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.left(), Vec::<String>::new());
}

/// What Codex would print if it had played the first stage.
const PERFECT: &str = r#"N=$(cat stelae-nonce.txt)
cat <<END
{"type":"thread.started","thread_id":"t"}
{"type":"turn.started"}
{"type":"item.completed","item":{"id":"0","type":"mcp_tool_call","server":"stelae","tool":"workspace_fs_read","arguments":{"operation":"read_file","path":"stelae-nonce.txt"},"result":{"content":[{"type":"text","text":"$N\\n"}]},"error":null,"status":"completed"}}
{"type":"item.completed","item":{"id":"1","type":"mcp_tool_call","server":"stelae","tool":"grep","arguments":{"pattern":"$N","path":"stelae-nonce.txt"},"result":{"content":[{"type":"text","text":"stelae-nonce.txt:1: $N"}],"structured_content":{"matches":[{"path":"stelae-nonce.txt","line":1,"text":"$N"}]}},"error":null,"status":"completed"}}
{"type":"item.completed","item":{"id":"2","type":"mcp_tool_call","server":"stelae","tool":"workspace_fs_read","arguments":{"operation":"read_file","path":"../outside-$N"},"result":{"content":[{"type":"text","text":"\"../outside-$N\" leads out of the workspace"}]},"error":null,"status":"failed"}}
{"type":"item.completed","item":{"id":"3","type":"mcp_tool_call","server":"stelae","tool":"manage_stelae","arguments":{"operation":"list_discovered_servers","params":{}},"result":{"content":[],"structured_content":{"servers":[{"name":"wordcount"}]}},"error":null,"status":"completed"}}
{"type":"turn.completed","usage":{}}
END"#;

#[test]
fn a_perfect_transcript_of_what_never_happened_is_no_pass() {
    let said = ["call 1: the model asked for nothing", "call 1: the transcript has workspace_fs_read"];
    Machine::with_liar(PERFECT).is_found_out(11, "witnesses-differ", &said);
}

#[test]
fn an_agent_that_does_nothing_and_is_content_is_no_pass() {
    Machine::with_liar("exit 0").is_found_out(11, "model-unreached", &["codex never reached its model"]);
}

#[test]
fn a_line_that_is_cut_has_its_place() {
    let cut = "printf '{\"type\":\"turn.started\"}\\n{\"type\":\"turn.comp'";
    let place = "transcripts/bundle-tools.jsonl:2";
    Machine::with_liar(cut).is_found_out(11, "transcript-unreadable", &[place]);
}

#[test]
fn a_token_that_an_agent_reads_aloud_is_in_no_verdict() {
    const TOKEN: &str = "hunter2-of-the-clients";
    let machine = Machine::with_liar(
        r#"printf '{"type":"turn.failed","error":{"message":"the token is %s"}}\n' "$STELAE_MCP_TOKEN""#,
    );
    let path = format!("{}:{}", machine.path("bin"), std::env::var("PATH").unwrap());
    let args = ["--format", "json", "smoke", "--agent", "codex", "--keep", "never"];
    let xtask = Xtask::new(machine.source.path(), &args).env("PATH", &path);
    let ended = xtask.env("STELAE_MCP_TOKEN", TOKEN).run();
    assert_eq!(ended.verdict(), (11, "model-unreached".to_owned()), "{}", ended.stderr);
    let verdict = machine.source.run_folder(&ended.run_id()).join("verdict.json");
    for text in [&fs::read_to_string(verdict).unwrap(), &ended.stdout, &ended.stderr] {
        assert!(text.contains("the token is (secret)") && !text.contains(TOKEN), "{text}");
    }
}

/// Neither it nor what is around it; and what is around it still keeps it from the network.
#[test]
fn an_agent_cannot_write_to_the_home_of_its_user() {
    let user = tempfile::tempdir().unwrap();
    let home = Utf8Path::from_path(user.path()).unwrap();
    fs::write(home.join(".bashrc"), "mine\n").unwrap();
    let script =
        format!("if echo x >>{home}/.bashrc; then echo it-was-written >&2; else echo it-was-kept >&2; fi");
    let machine = Machine::with_liar(&script);
    let path = format!("{}:{}", machine.path("bin"), std::env::var("PATH").unwrap());
    let args = ["--format", "json", "smoke", "--agent", "codex", "--keep", "never"];
    let ended = Xtask::new(machine.source.path(), &args).env("PATH", &path).env("HOME", home.as_str()).run();
    assert_eq!(ended.verdict(), (11, "model-unreached".to_owned()), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(home.join(".bashrc")).unwrap(), "mine\n");
    let folder = machine.source.run_folder(&ended.run_id());
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(read("events.jsonl").contains("it-was-kept"), "{}", read("events.jsonl"));
    let network = read("transcripts/bundle-tools.network.json");
    assert!(network.contains("network-namespace"), "{network}");
    assert_eq!(ended.left(), Vec::<String>::new());
}

/// Through the link to it, where everything else of the user's is read-only.
#[test]
fn an_agent_can_renew_the_credentials_that_it_was_lent() {
    let user = tempfile::tempdir().unwrap();
    let home = Utf8Path::from_path(user.path()).unwrap();
    fs::create_dir(home.join(".codex")).unwrap();
    let credentials = home.join(".codex/auth.json");
    fs::write(&credentials, r#"{"OPENAI_API_KEY":"the-old-one-of-the-user"}"#).unwrap();
    let script = format!(
        "echo '{{\"OPENAI_API_KEY\":\"the-new-one-of-the-user\"}}' >\"$CODEX_HOME/auth.json\"; \
         if echo x >{home}/.codex/config.toml; then echo it-was-written >&2; else echo it-was-kept >&2; fi"
    );
    let machine = Machine::with_liar(&script);
    let path = format!("{}:{}", machine.path("bin"), std::env::var("PATH").unwrap());
    let args = ["--format", "json", "smoke", "--agent", "codex", "--model", "live", "--keep", "never"];
    let ended = Xtask::new(machine.source.path(), &args).env("PATH", &path).env("HOME", home.as_str()).run();
    assert_eq!(ended.code, 11, "{}", ended.stderr);
    let events = machine.source.run_folder(&ended.run_id()).join("events.jsonl");
    let events = fs::read_to_string(events).unwrap();
    assert!(events.contains("it-was-kept"), "{events}");
    assert!(fs::read_to_string(credentials).unwrap().contains("the-new-one-of-the-user"), "{}", ended.stderr);
    assert!(!home.join(".codex/config.toml").exists());
}

#[test]
fn a_program_that_is_gone_when_it_is_to_play_is_no_fault_of_an_agent() {
    let machine = Machine::with_liar("");
    machine.has_program("codex", "echo codex-cli 0.0.1; rm -- \"$0\"");
    machine.is_found_out(40, "agent-not-started", &["codex is not there any more"]);
}

#[test]
fn a_program_that_is_another_one_when_it_is_to_play_does_not_play() {
    let machine = Machine::with_liar("");
    machine.has_program("codex", "echo codex-cli 0.0.1; echo '# and more' >> \"$0\"");
    machine.is_found_out(50, "program-changed", &["codex was changed", "sha256 was "]);
}

#[test]
fn a_transcript_that_floods_the_disk_is_cut_and_not_read() {
    let line = "head -c 1000000 /dev/zero | tr '\\0' x";
    let flood = format!(
        "i=0; while [ $i -lt 70 ]; do printf '{{\"type\":\"x\",\"pad\":\"'; {line}; echo '\"}}'; i=$((i+1)); done"
    );
    let machine = Machine::with_liar(&flood);
    let said = ["the transcript is longer than any agent's", "it has 64 MiB or more"];
    machine.is_found_out(11, "transcript-too-long", &said);
    let run = runs(machine.source.path()).pop().unwrap();
    let transcript = machine.source.run_folder(&run).join("transcripts/bundle-tools.jsonl");
    assert_eq!(transcript.metadata().unwrap().len(), 64 * 1024 * 1024);
}

/// Hears no signal but the last, and has a child that gets away.
const DEAF: &str = "trap '' TERM INT HUP\n(setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' &)\nwhile :; do sleep 1; done";

#[test]
fn one_that_hears_nothing_and_has_children_that_get_away_is_ended_with_them() {
    let machine = Machine::with_liar(DEAF);
    let said = ["codex was stopped after ", "its limit passed", "it never reached its model"];
    machine.is_found_out(10, "command-timed-out", &said);
}

#[test]
fn one_that_waits_for_nothing_is_ended_when_a_service_of_the_stack_dies() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dies");
    let file = file.to_str().unwrap();
    let machine = Machine::with_liar(&format!(": > {file}; exec sleep 600"));
    let script = format!("steps = [{{ await-file = {file:?} }}, {{ exit = 9 }}]\n");
    machine.source.write("tests/mortal.toml", &script);
    let service = format!(
        "[services.mortal]\ncommand = {:?}\nargs = [\"--script\", \"<<STELAE_ROOT>>/tests/mortal.toml\"]\n",
        env!("CARGO_BIN_EXE_stelae-fixture")
    );
    machine.source.edit("config/stack.toml", "[readiness]\n", &format!("{service}\n[readiness]\n"));
    machine.is_found_out(10, "service-died", &["service:mortal died", "exit status 9", "was ended for that"]);
}

#[test]
fn what_a_person_has_started_goes_with_the_stack() {
    let machine = Machine::with_liar(DEAF);
    let path = format!("{}:{}", machine.path("bin"), std::env::var("PATH").unwrap());
    let args = ["smoke", "--agent", "codex", "--manual-stage", "bundle-tools"];
    let stopped = Xtask::new(machine.source.path(), &args).env("PATH", &path).run();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let command = stopped.stdout.lines().find(|line| line.starts_with("  (")).unwrap();
    let mut played = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).spawn().unwrap();
    until("the agent and its child", || {
        let alive = stopped.alive();
        alive.iter().filter(|process| process.contains("while :")).count() == 1
            && alive.iter().any(|process| process.contains("/bin/codex exec"))
    });
    let run = runs(machine.source.path()).pop().unwrap();
    let ended = Xtask::new(machine.source.path(), &["runs", "stop", &run]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    played.wait().unwrap();
    assert_eq!(stopped.left(), Vec::<String>::new());
}
