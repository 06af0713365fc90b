//! Real programs of others in the gateway's place, chosen with `--gateway`: one endpoint for each server.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::Command;

use camino::Utf8PathBuf;
use rustix::process::Signal;
use serde_json::{Value, json};
use stelae_run::ports::Placeholder;
use stelae_tests::{Ended, Home, Run, Source, Xtask, alive, await_line, held_port, programs, until};

use crate::handed::{Handed, need};

/// A stack that has the bundle `core` and, by its overlay, whatever else.
struct Stack {
    home: Home,
    port: u16,
    _held: Placeholder,
    /// Where the tools are.
    cache: Utf8PathBuf,
    gateway: &'static str,
}

impl Stack {
    fn new(handed: &Handed, gateway: &'static str, servers: &Value) -> Self {
        let held = held_port();
        // `restart` starts the programs that lie beside `xtask` itself: the ones that the tests built.
        assert!(programs().gateway.exists());
        let (port, cache) = (held.address().port(), handed.cache_of(gateway));
        let stack = Self { home: Home::new(), port, _held: held, cache, gateway };
        for args in [&["env", "init"][..], &["bundle", "install", "core"]] {
            stack.succeeds(args);
        }
        let overlay = json!({ "mcpServers": servers }).to_string();
        fs::write(stack.home.path().join("config/proxy.overlay.json"), overlay).unwrap();
        stack.succeeds(&["render-proxy"]);
        stack
    }

    fn run(&self, args: &[&str]) -> Ended {
        let set = [format!("PROXY_PORT={}", self.port), format!("STELAE_CACHE_HOME={}", self.cache)];
        let args: Vec<&str> = ["--set", &set[0], "--set", &set[1]].iter().chain(args).copied().collect();
        self.home.run(&args)
    }

    fn succeeds(&self, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended
    }

    /// Starts it in the foreground.
    fn attached(&self) -> Run {
        let set = |name: &str, value: &str| format!("--set={name}={value}");
        let home = self.home.path();
        let args = [
            "--format=json",
            &set("STELAE_CONFIG_HOME", home.join("config").as_str()),
            &set("STELAE_STATE_HOME", home.join("state").as_str()),
            &set("STELAE_CACHE_HOME", self.cache.as_str()),
            &set("PROXY_PORT", &self.port.to_string()),
            "restart",
            "--attached",
            &format!("--gateway={}", self.gateway),
            &format!("--log={}", self.log("gateway")),
        ];
        Xtask::new(self.home.source.path(), &args).start()
    }

    fn log(&self, name: &str) -> Utf8PathBuf {
        self.home.path().join(format!("{name}.log"))
    }

    fn nothing_is_left(&self) {
        assert_eq!(alive(self.home.path().as_str()), Vec::<String>::new());
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // Also when the test failed: a stack that is up outlives everything else.
        self.run(&["down"]);
    }
}

/// The failure of a start.
fn failure(ended: &Ended) -> Value {
    let records = ended.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let failure = records.filter_map(|record| record["event"].get("failure").cloned()).next();
    failure.unwrap_or_else(|| panic!("no failure: {}{}", ended.stdout, ended.stderr))
}

/// Two servers that have the same tool, beside the bundle's own.
fn twins() -> Value {
    let server = json!({ "command": "<<STELAE_BIN_DIR>>/stelae-gateway", "args": ["demo-server"] });
    json!({ "one": server, "two": server })
}

fn serves_the_same_stack(test: &str, gateway: &'static str) {
    let Some(handed) = need(test, &[gateway]) else { return };
    let stack = Stack::new(&handed, gateway, &twins());
    let up = stack.succeeds(&["restart", "--gateway", gateway]).json();
    let servers = up["servers"].as_object().unwrap();
    assert_eq!(servers.keys().collect::<Vec<_>>(), ["one", "stelae", "two"]);
    for url in servers.values() {
        assert!(url.as_str().unwrap().starts_with(&format!("http://127.0.0.1:{}/", stack.port)), "{url}");
    }

    // The builtin agent finds who has a tool; of two who have it, it wants to be told which.
    let script = json!({ "calls": [
        { "tool": "grep", "arguments": { "pattern": "cargo xtask", "path": "README.md" } },
        { "tool": "two__count_words", "arguments": { "text": "one two three" } },
        { "tool": "count_words", "arguments": { "text": "one" } },
    ]});
    let path = stack.home.path().join("script.json");
    fs::write(&path, script.to_string()).unwrap();
    let urls = servers.iter().map(|(name, url)| format!("--server-url={name}={}", url.as_str().unwrap()));
    let mut agent = Command::new(&programs().gateway);
    let played = agent.arg("agent").args(urls).args(["--script", path.as_str()]).output().unwrap();
    let said = String::from_utf8(played.stdout).unwrap();
    assert!(played.status.success(), "{said}{}", String::from_utf8_lossy(&played.stderr));
    let events = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let calls: Vec<Value> = events
        .filter(|event| event["type"] == "item.completed" && event["item"]["type"] == "mcp_tool_call")
        .map(|event| event["item"].clone())
        .collect();
    let statuses: Vec<_> = calls.iter().map(|call| call["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["completed", "completed", "failed"], "{said}");
    assert!(calls[0]["result"].to_string().contains("README.md"), "{said}");
    assert!(calls[1]["result"].to_string().contains("\"words\":3"), "{said}");
    let ambiguous = "tool \"count_words\" is ambiguous: write one__count_words or two__count_words";
    assert_eq!(calls[2]["error"]["message"], ambiguous);

    stack.succeeds(&["down"]);
    stack.nothing_is_left();
}

#[test]
fn the_go_program_serves_the_same_stack() {
    serves_the_same_stack("foreign::the_go_program_serves_the_same_stack", "mcp-proxy");
}

#[test]
fn the_python_program_serves_the_same_stack() {
    serves_the_same_stack("foreign::the_python_program_serves_the_same_stack", "mcp-proxy-py");
}

/// The incident that all of this began with: the program ends because somebody else has its port, and says only that. The
/// port is free when the stack begins; the stranger comes before the gateway. Who sees him first, the program or whoever
/// watches it, is a matter of the machine's speed.
fn incident(test: &str, gateway: &'static str) {
    let Some(handed) = need(test, &[gateway]) else { return };
    let stack = Stack::new(&handed, gateway, &json!({}));
    let (gate, script) = (stack.home.path().join("gate"), stack.home.path().join("first.toml"));
    let steps = format!("steps = [{{ say = 'waiting' }}, {{ await-file = '{gate}' }}, {{ say = 'up' }}]");
    fs::write(&script, steps).unwrap();
    let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
    let service = format!(
        "[services.first]\ncommand = '{fixture}'\nargs = ['--script', '{script}']\nready_line = 'up'\n\n[readiness]\n"
    );
    stack.home.source.edit("config/stack.toml", "\n[readiness]\n", &format!("\n{service}"));
    let run = stack.attached();
    await_line(&stack.log("service-first"), "waiting");
    let _stranger = TcpListener::bind(("127.0.0.1", stack.port)).unwrap();
    fs::write(gate, "").unwrap();
    let ended = run.wait();
    let failure = failure(&ended);
    assert_eq!((ended.code, failure["kind"].as_str()), (33, Some("port-taken")), "{failure:#}");
    let text = failure.to_string();
    for part in [format!("pid {}", std::process::id()), std::env::args().next().unwrap()] {
        assert!(text.contains(&part), "no {part:?} in {failure:#}");
    }
    stack.nothing_is_left();
}

#[test]
fn the_incident_with_the_go_program() {
    incident("foreign::the_incident_with_the_go_program", "mcp-proxy");
}

#[test]
fn the_incident_with_the_python_program() {
    incident("foreign::the_incident_with_the_python_program", "mcp-proxy-py");
}

#[test]
fn a_port_that_was_taken_before_is_33_before_the_program_is_started() {
    let test = "foreign::a_port_that_was_taken_before_is_33_before_the_program_is_started";
    let Some(handed) = need(test, &["mcp-proxy"]) else { return };
    let stack = Stack::new(&handed, "mcp-proxy", &json!({}));
    let _stranger = TcpListener::bind(("127.0.0.1", stack.port)).unwrap();
    let ended = stack.run(&["restart", "--gateway", "mcp-proxy"]);
    assert_eq!(ended.verdict(), (33, "port-taken".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("pid {}", std::process::id())), "{}", ended.stderr);
    stack.nothing_is_left();
}

/// The Go program waits for ever for a server that dies instead of answering, and ends by one that is not there at all.
#[test]
fn a_required_server_that_cannot_come_up_is_named_whatever_the_go_program_does() {
    let test = "foreign::a_required_server_that_cannot_come_up_is_named_whatever_the_go_program_does";
    let Some(handed) = need(test, &["mcp-proxy"]) else { return };
    // It dies with the question in its hands: one that dies before it is asked is told apart by the Go program, sometimes.
    let dies = json!({ "command": "/bin/sh", "args": ["-c", "read question"] });
    let absent = json!({ "command": "/no/such/program" });
    for (broken, code, kind, says) in [
        (dies, 31, "idle", "initialize of server broken answered 404"),
        (absent, 30, "exited-before-ready", "/no/such/program"),
    ] {
        let stack = Stack::new(&handed, "mcp-proxy", &json!({ "broken": broken }));
        let ended = stack.attached().wait();
        let failure = failure(&ended);
        assert_eq!((ended.code, failure["kind"].as_str()), (code, Some(kind)), "{failure:#}");
        assert!(failure.to_string().contains(says), "{failure:#}");
        stack.nothing_is_left();
    }
}

#[test]
fn a_server_that_is_not_required_does_not_keep_the_go_program_from_its_work() {
    let test = "foreign::a_server_that_is_not_required_does_not_keep_the_go_program_from_its_work";
    let Some(handed) = need(test, &["mcp-proxy"]) else { return };
    let broken = json!({ "broken": { "command": "/bin/false", "required": false } });
    let stack = Stack::new(&handed, "mcp-proxy", &broken);
    let run = stack.attached();
    until("the stack", || {
        assert!(!run.stdout().contains(r#""kind":"failed""#), "{}", run.stdout());
        run.stdout().contains(r#""kind":"ready""#)
    });
    assert!(run.stdout().contains("a server that is not required is left out"), "{}", run.stdout());
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code, 143);
    stack.nothing_is_left();
}

#[test]
fn a_run_over_the_go_program_is_green_as_far_as_it_can_be() {
    let test = "foreign::a_run_over_the_go_program_is_green_as_far_as_it_can_be";
    let Some(handed) = need(test, &["mcp-proxy"]) else { return };
    let source = Source::of_working_tree();
    let args = ["--format", "json", "smoke", "--gateway", "mcp-proxy", "--until", "stage:bundle-tools"];
    let run = Xtask::new(source.path(), &args).args(&["--keep", "never"]);
    let ended = run.env("STELAE_CACHE_HOME", handed.cache_of("mcp-proxy").as_str()).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
    let folder = source.run_folder(&ended.run_id());
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let environment: Value = serde_json::from_str(&read("environment.json")).unwrap();
    let processes = environment["processes"].as_array().unwrap().iter();
    let seen: BTreeSet<_> = processes.map(|one| one["process"].as_str().unwrap().to_owned()).collect();
    assert_eq!(seen, ["gateway", "server:stelae", "xtask"].map(str::to_owned).into());
    assert_eq!(environment["differences"], json!([]));
    assert!(environment.to_string().contains("bin/mcp-proxy --config"), "{environment:#}");
    assert_eq!(read("transcripts/bundle-tools.jsonl").matches("item.completed").count(), 5);
}

#[test]
fn an_agent_cli_works_over_the_go_program() {
    let test = "foreign::an_agent_cli_works_over_the_go_program";
    let Some(handed) = need(test, &["mcp-proxy", "codex"]) else { return };
    let source = Source::of_working_tree();
    let args = ["--format", "json", "smoke", "--gateway", "mcp-proxy", "--until", "stage:bundle-tools"];
    let run =
        Xtask::new(source.path(), &args).args(&["--agent", "codex", "--locked-agents", "--keep", "never"]);
    let ended = run.env("STELAE_CACHE_HOME", handed.cache_of("mcp-proxy").as_str()).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
    // It knows each server by that one's own name, and so does its model.
    let folder = source.run_folder(&ended.run_id());
    let text = fs::read_to_string(folder.join("transcripts/bundle-tools.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let calls =
        lines.filter(|line| line["type"] == "item.completed" && line["item"]["type"] == "mcp_tool_call");
    let servers: Vec<_> = calls.map(|line| line["item"]["server"].clone()).collect();
    assert_eq!(servers, ["stelae"; 4].map(Value::from));
}
