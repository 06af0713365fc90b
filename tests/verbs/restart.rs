//! `restart` and `down`: a developer's own stack.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use camino::Utf8Path;
use serde_json::{Value, json};
use stelae_model::calls::{CallOutcome, GatewayCall, read_calls};
use stelae_run::ports::Placeholder;
use stelae_tests::{Ended, Home, Source, Xtask, alive, held_port, programs};

struct Stack {
    home: Home,
    port: u16,
    _held: Placeholder,
}

impl Stack {
    fn installed() -> Self {
        let held = held_port();
        let stack = Self { home: Home::new(), port: held.address().port(), _held: held };
        // `restart` starts the programs that lie beside `xtask` itself: the ones that the tests built.
        assert!(programs().gateway.exists());
        for args in [&["env", "init"][..], &["bundle", "install", "core"], &["render-proxy"]] {
            let ended = stack.run(args);
            assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
        }
        stack
    }

    fn run(&self, args: &[&str]) -> Ended {
        let port = format!("PROXY_PORT={}", self.port);
        let args: Vec<&str> = ["--set", &port].iter().chain(args).copied().collect();
        self.home.run(&args)
    }

    /// What the builtin agent says of these calls, line by line.
    fn play(&self, calls: &Value) -> String {
        let script = self.home.path().join("script.json");
        fs::write(&script, json!({ "calls": calls }).to_string()).unwrap();
        let url = format!("http://127.0.0.1:{}/mcp", self.port);
        let mut agent = Command::new(&programs().gateway);
        let played = agent.args(["agent", "--url", &url, "--script", script.as_str()]).output().unwrap();
        String::from_utf8(played.stdout).unwrap()
    }

    fn processes(&self) -> Vec<String> {
        alive(self.home.path().as_str())
    }

    fn gateways(&self) -> Vec<String> {
        self.processes().into_iter().filter(|process| process.contains("serve --config")).collect()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // Also when the test failed: a stack that is up outlives everything else.
        self.run(&["down"]);
    }
}

#[test]
fn a_stack_goes_up_is_replaced_and_goes_down() {
    let stack = Stack::installed();
    let up = stack.run(&["restart"]);
    assert_eq!(up.code, 0, "{}", up.stderr);
    assert_eq!(up.json()["url"], format!("http://127.0.0.1:{}/mcp", stack.port));
    let first = stack.gateways();
    assert_eq!(first.len(), 1);
    let again = stack.run(&["restart"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let second = stack.gateways();
    assert!(second.len() == 1 && second != first, "{second:?}");
    let down = stack.run(&["down"]);
    assert_eq!(down.code, 0, "{}", down.stderr);
    assert_eq!(stack.gateways(), Vec::<String>::new());
    assert_eq!(stack.processes(), Vec::<String>::new());
    assert_eq!(stack.run(&["down"]).json()["ended"], Value::Null);
}

/// The calls of the builtin agent. The readiness ladder has called the canary.
fn of_the_agent(path: &Utf8Path) -> Vec<GatewayCall> {
    let calls = read_calls(path.as_str(), &fs::read_to_string(path).unwrap()).unwrap();
    let of_agent =
        |call: &GatewayCall| call.client.as_ref().is_some_and(|name| name.starts_with("stelae-agent "));
    calls.into_iter().filter(of_agent).collect()
}

#[test]
fn what_the_gateway_was_called_for_is_in_the_file_that_a_restart_names() {
    let stack = Stack::installed();
    let path = stack.home.path().join("calls.jsonl");
    let arguments = json!({ "pattern": "cargo xtask smoke", "path": "README.md" });
    for round in 1..=2 {
        let up = stack.run(&["restart", "--calls", path.as_str()]);
        assert_eq!(up.code, 0, "{}", up.stderr);
        let said = stack.play(&json!([
            { "tool": "grep", "arguments": arguments },
            { "tool": "grep", "arguments": { "pattern": "(" } },
        ]));
        let calls = of_the_agent(&path);
        assert_eq!(calls.len(), 2 * round, "the one before it is kept: {calls:#?}");
        let [.., good, bad] = calls.as_slice() else { panic!("{said}") };
        let told = (good.server.as_deref(), good.tool.as_str(), &good.arguments, good.outcome);
        assert_eq!(told, (Some("stelae"), "grep", &arguments, CallOutcome::Answered));
        assert_eq!((&bad.arguments["pattern"], bad.outcome), (&json!("("), CallOutcome::ToolError));
    }
}

#[test]
fn a_lifetime_ends_a_stack_by_itself() {
    let stack = Stack::installed();
    assert_eq!(stack.run(&["restart", "--lifetime-s", "1"]).code, 0);
    stelae_tests::until("the end of the lifetime", || stack.processes().is_empty());
}

#[test]
fn a_taken_port_is_named_with_its_owner() {
    let stack = Stack::installed();
    let _stranger = TcpListener::bind(("127.0.0.1", stack.port)).unwrap();
    let ended = stack.run(&["restart"]);
    assert_eq!(ended.verdict(), (33, "port-taken".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains(&std::process::id().to_string()), "{}", ended.stderr);
    assert_eq!(stack.gateways(), Vec::<String>::new());
}

#[test]
fn what_was_not_rendered_is_not_started() {
    let source = Source::of_working_tree();
    let ended = Xtask::new(source.path(), &["--format", "json", "restart"]).run();
    assert_eq!(ended.verdict(), (40, "not-rendered".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: cargo xtask render-proxy"), "{}", ended.stderr);
}

#[test]
fn an_option_that_is_given_nothing_is_a_usage_error() {
    let source = Source::of_working_tree();
    let ended = Xtask::new(source.path(), &["--format", "json", "restart", "--stack", ""]).run();
    assert_eq!(ended.verdict(), (2, "empty-path".to_owned()), "{}", ended.stderr);
}

#[test]
fn restarts_at_once_queue_up_and_leave_one_stack_that_down_knows() {
    let stack = Stack::installed();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..3).map(|_| scope.spawn(|| stack.run(&["restart"]))).collect();
        for one in all {
            let ended = one.join().unwrap();
            assert_eq!(ended.code, 0, "{}", ended.stderr);
        }
    });
    assert_eq!(stack.gateways().len(), 1);
    let down = stack.run(&["down"]);
    assert!(down.json()["ended"].is_string(), "{}", down.stdout);
    assert_eq!(stack.processes(), Vec::<String>::new());
}

#[test]
fn a_restart_waits_for_a_stack_that_is_on_its_way_out() {
    let stack = Stack::installed();
    let port = format!("PROXY_PORT={}", stack.port);
    let set = |name: &str, folder: &str| format!("{name}={}", stack.home.path().join(folder));
    let homes = [set("STELAE_CONFIG_HOME", "config"), set("STELAE_STATE_HOME", "state")];
    let args = ["--set", &port, "--set", &homes[0], "--set", &homes[1], "restart", "--attached"];
    // It is waited for no longer than a stranger is told of. A machine that is starved gets more than one try.
    for attempt in 1.. {
        let mut attached = Xtask::new(stack.home.source.path(), &args).start();
        stelae_tests::until("the stack", || {
            assert!(!attached.has_ended(), "{}", attached.stderr());
            attached.stderr().contains("ready after")
        });
        attached.signal(rustix::process::Signal::KILL);
        let next = stack.run(&["restart"]);
        attached.wait();
        if next.code == 0 {
            break;
        }
        assert!(attempt < 5 && next.code == 33, "{}", next.stderr);
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let stack = Stack::installed();
    let supervisor = stack.home.path().join("state/supervisor");
    fs::create_dir_all(&supervisor).unwrap();
    let record = supervisor.join("stack.json");
    mkfifoat(CWD, record.as_str(), Mode::RUSR | Mode::WUSR).unwrap();
    for verb in ["down", "restart"] {
        let ended = stack.run(&[verb]);
        assert_eq!(ended.verdict(), (40, "stack-record".to_owned()), "{}", ended.stderr);
    }
    fs::remove_file(&record).unwrap();
    mkfifoat(CWD, supervisor.join("gateway.log").as_str(), Mode::RUSR | Mode::WUSR).unwrap();
    let ended = stack.run(&["restart"]);
    assert_eq!(ended.verdict(), (40, "log-unwritable".to_owned()), "{}", ended.stderr);
}

#[test]
fn the_env_file_that_is_named_is_the_one_that_the_stack_is_started_with() {
    let stack = Stack::installed();
    let file = stack.home.path().join("named.env");
    fs::write(&file, "").unwrap();
    fs::write(stack.home.source.path().join(".env"), "STELAE_NO_SUCH_VARIABLE=1\n").unwrap();
    assert_eq!(stack.run(&["restart"]).code, 20, "the one in the root is no good");
    let started = stack.run(&["--env-file", file.as_str(), "restart"]);
    assert_eq!(started.code, 0, "{}", started.stderr);
    let down = stack.run(&["--env-file", file.as_str(), "down"]);
    assert_eq!((down.code, stack.processes()), (0, Vec::new()), "{}", down.stderr);
}
