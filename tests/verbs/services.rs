//! Services beside the gateway: order, what the end of one means for the others, and starting again.
//!
//! Gateway and services are the fixture, each with a script of its own, in a root that has nothing else. Every test looks
//! for survivors.

use std::fs;
use std::net::TcpListener;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use serde_json::{Value, json};
use stelae_run::ports::Placeholder;
use stelae_tests::{Ended, Run, Xtask, alive, await_line, programs, until};
use tempfile::TempDir;

/// A gateway that is ready as soon as it is started.
const GATEWAY: &str = "steps = [{ say-attempt = {} }, { listen = 'passed' }]";
/// As long as nobody waits in a test that passes.
const NEVER_MS: u64 = 3_600_000;

/// A root with a stack of fixtures.
struct Bench {
    folder: TempDir,
    stack: String,
    /// Two tests must not be given the same one.
    port: Placeholder,
}

impl Bench {
    /// With a gateway that plays `script`; `keys` are more keys of `[gateway]`.
    fn new(script: &str, keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let placeholder = free_port();
        let port = placeholder.address().port();
        let mut bench = Self { folder, stack: String::new(), port: placeholder };
        fs::create_dir_all(bench.path("config")).unwrap();
        fs::create_dir_all(bench.path("logs")).unwrap();
        bench.stack = format!(
            "version = 1\n[readiness]\nidle_ms = {NEVER_MS}\nceiling_ms = {NEVER_MS}\nceiling_ci_ms = {NEVER_MS}\n\
             mcp_path = '/mcp'\nhealth_path = '/healthz'\nrequired_tools = []\n"
        );
        bench.describe("gateway", "gateway", script, keys);
        let base_url = format!("http://127.0.0.1:{port}");
        let section = json!({ "name": "fixture", "addr": format!("127.0.0.1:{port}"), "baseURL": base_url });
        fs::write(bench.path("proxy.json"), json!({ "mcpProxy": section, "mcpServers": {} }).to_string())
            .unwrap();
        bench
    }

    /// With a service more.
    fn service(mut self, name: &str, script: &str, keys: &str) -> Self {
        self.describe(&format!("services.{name}"), name, script, keys);
        self
    }

    fn describe(&mut self, table: &str, name: &str, script: &str, keys: &str) {
        let path = self.path(&format!("{name}.toml"));
        fs::write(&path, script).unwrap();
        let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
        self.stack += &format!("[{table}]\ncommand = '{fixture}'\nargs = ['--script', '{path}']\n{keys}\n");
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("logs/{name}"))).unwrap_or_default()
    }

    fn start(&self) -> Held<'_> {
        fs::write(self.path("config/stack.toml"), &self.stack).unwrap();
        assert!(programs().xtask.exists());
        let set = |name: &str, value: &str| ["--set".to_owned(), format!("{name}={value}")];
        let root = self.path("");
        let mut args = vec!["--format".to_owned(), "json".to_owned()];
        args.extend(set("STELAE_CONFIG_HOME", root.as_str()));
        args.extend(set("STELAE_STATE_HOME", self.path("state").as_str()));
        args.extend(set("PROXY_PORT", &self.port.address().port().to_string()));
        args.extend(["restart", "--attached", "--budget-s", "600", "--log"].map(str::to_owned));
        args.push(self.path("logs/gateway.log").to_string());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Held { bench: self, run: Xtask::new(&root, &args).start() }
    }

    /// Starts it, and gives what it fails of.
    fn fails(&self) -> Failed {
        self.start().fails()
    }
}

/// A stack that is being started, or is up.
struct Held<'a> {
    bench: &'a Bench,
    run: Run,
}

impl Held<'_> {
    fn await_ready(&self) {
        self.await_said(r#""kind":"ready""#);
    }

    fn await_said(&self, text: &str) {
        until(text, || {
            let said = self.run.stdout();
            assert!(text == r#""kind":"failed""# || !said.contains(r#""kind":"failed""#), "{said}");
            said.contains(text)
        });
    }

    /// Ends it as a person does. Gives its events.
    fn ends(self) -> Vec<Value> {
        self.run.signal(Signal::TERM);
        let ended = self.run.wait();
        assert_eq!(ended.code, 143, "{}\n{}", ended.stdout, ended.stderr);
        nothing_is_left(self.bench, &ended);
        events(&ended)
    }

    fn fails(self) -> Failed {
        let ended = self.run.wait();
        nothing_is_left(self.bench, &ended);
        let events = events(&ended);
        let failure = events.iter().find_map(|event| event.get("failure")).cloned();
        let failure = failure.unwrap_or_else(|| panic!("no failure: {}{}", ended.stdout, ended.stderr));
        Failed { code: ended.code, failure, events }
    }
}

/// What a stack failed of.
struct Failed {
    code: i32,
    failure: Value,
    events: Vec<Value>,
}

impl Failed {
    fn is(&self, code: i32, kind: &str) -> &Self {
        assert_eq!((self.code, self.failure["kind"].as_str()), (code, Some(kind)), "{}", self.failure);
        self
    }

    fn says(&self, text: &str) -> &Self {
        assert!(self.failure.to_string().contains(text), "no {text:?} in {:#}", self.failure);
        self
    }
}

fn events(ended: &Ended) -> Vec<Value> {
    let records = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.map(|mut record| record["event"].take()).collect()
}

fn nothing_is_left(bench: &Bench, ended: &Ended) {
    assert_eq!(alive(bench.path("").as_str()), Vec::<String>::new());
    assert_eq!(ended.left(), Vec::<String>::new());
}

fn free_port() -> Placeholder {
    Placeholder::hold([127, 0, 0, 1].into(), 0).unwrap()
}

#[test]
fn each_starts_when_what_it_needs_is_ready_and_the_gateway_last() {
    let bench = Bench::new(GATEWAY, "");
    let (kept, other) = (free_port(), bench.path("other.attempts"));
    let port = kept.address().port();
    // It becomes ready only when the one that nobody asked to wait for it is started beside it.
    let first = format!("steps = [{{ await-file = '{other}' }}, {{ listen = '127.0.0.1:{port}' }}]");
    let bench = bench
        .service("first", &first, &format!("port = {port}\nhealth_path = '/healthz'"))
        .service("other", "steps = [{ say-attempt = {} }]", "ready_line = 'attempt 1'")
        .service(
            "second",
            "steps = [{ say-variable = 'STELAE_PROCESS' }]",
            "ready_line = 'service:second'\nneeds = ['first']",
        );
    let held = bench.start();
    held.await_ready();
    let events = held.ends();
    let at = |process: &str, rung: &str| {
        let reached = |event: &Value| {
            event["process"] == process && event["rung"] == rung && event["status"] == "ready"
        };
        events.iter().position(reached).unwrap_or_else(|| panic!("{process} never reached {rung}"))
    };
    let order = [
        at("service:other", "announced"),
        at("service:first", "http"),
        at("service:second", "spawned"),
        at("service:second", "announced"),
        at("gateway", "spawned"),
        at("gateway", "tools"),
        events.iter().position(|event| event["kind"] == "ready").unwrap(),
    ];
    assert!(order.is_sorted(), "{order:?}");
    let line = json!({ "kind": "line", "source": "service:second", "text": "STELAE_PROCESS=service:second" });
    assert!(events.contains(&line), "{events:#?}");
    assert_eq!(bench.log("service-second.log"), "STELAE_PROCESS=service:second\n");
}

#[test]
fn a_gateway_that_needs_nobody_does_not_wait() {
    let bench = Bench::new(GATEWAY, "needs = []");
    let gateway = bench.path("gateway.attempts");
    let script = format!("steps = [{{ await-file = '{gateway}' }}, {{ say = 'up' }}]");
    let bench = bench.service("late", &script, "ready_line = 'up'");
    let held = bench.start();
    held.await_ready();
    let events = held.ends();
    let announced = |event: &Value| event["rung"] == "announced" && event["status"] == "ready";
    let ready = events.iter().position(|event| event["kind"] == "ready").unwrap();
    assert!(events.iter().position(announced).unwrap() < ready, "a stack is ready when all of it is");
}

#[test]
fn a_dead_service_fails_whoever_needs_it_and_cuts_the_others_short() {
    for status in [1, 0] {
        let failed = Bench::new(GATEWAY, "")
            .service(
                "a",
                &format!("steps = [{{ say = 'the reason' }}, {{ exit = {status} }}]"),
                "ready_line = 'up'",
            )
            .service("b", "", "needs = ['a']")
            .service("c", "", "needs = ['b']")
            .service("slow", "lifetime-s = 20", "ready_line = 'never'")
            .fails();
        failed
            .is(30, "exited-before-ready")
            .says(&format!("service:a ended with exit status {status} before it was ready"))
            .says(&format!(
                "b was not started: it needs a, which ended with exit status {status} before it was ready"
            ))
            .says("c was not started: it needs b, which cannot do without a")
            .says("gateway was not started: it needs a, which ended")
            .says("the reason");
        // It was alive when everything was ended: nobody had waited until it had gone by itself.
        let torn_down = failed.events.iter().find(|event| event["kind"] == "torn-down").unwrap();
        assert_eq!(torn_down["signalled"], 1, "{torn_down}");
    }
}

#[test]
fn who_dies_while_the_others_start_is_the_cause_and_not_they() {
    let bench = Bench::new("steps = [{ complain = 'starting' }]", "");
    let log = bench.path("logs/gateway.log");
    let failed = bench
        .service(
            "a",
            &format!("steps = [{{ say = 'up' }}, {{ await-file = '{log}' }}, {{ exit = 4 }}]"),
            "ready_line = 'up'",
        )
        .fails();
    failed
        .is(30, "exited-before-ready")
        .says("service:a died after it was ready, before the stack was: exit status 4")
        .says("gateway was given up while it started: it needs a, which died after it was ready");
}

#[test]
fn a_crash_loop_counts_and_quotes_the_first_crash() {
    let script = "steps = [{ say-attempt = {} }, { exit-before-attempt = 2 }, { exit = 9 }]";
    let bench = Bench::new(GATEWAY, "").service("a", script, "ready_line = 'up'\nrestarts = 2");
    let failed = bench.fails();
    failed
        .is(30, "crash-loop")
        .says("service:a ended 3 times, and was started again 2 times")
        .says("the first time, it ended with exit status 3")
        .says("the last time: service:a ended with exit status 9")
        .says("gateway was not started: it needs a");
    assert_eq!(failed.failure["log_tail"], json!(["attempt 1"]));
    assert_eq!(bench.log("service-a.first-crash.log"), "attempt 1\n");
    assert_eq!(bench.log("service-a.log"), "attempt 1\nattempt 2\nattempt 3\n");
}

#[test]
fn one_that_comes_up_at_the_second_start_is_ready_and_alone() {
    let bench = Bench::new(GATEWAY, "");
    let children = bench.path("a.children");
    let script = format!(
        "steps = [{{ say-attempt = {{}} }}, {{ fork = 'setsid' }}, {{ await-file = '{children}' }}, \
         {{ exit-before-attempt = 2 }}, {{ say = 'up' }}]"
    );
    let bench = bench.service("a", &script, "ready_line = 'up'\nrestarts = 1");
    let held = bench.start();
    held.await_ready();
    // What the first start left behind went before the second one came.
    await_lines(&children, 2);
    let sessions = alive(bench.path("a.toml").as_str());
    let sessions = sessions.iter().filter(|process| process.contains("--role session")).count();
    assert_eq!(sessions, 1);
    let events = held.ends();
    let warning = "service:a ended with exit status 3 before it was ready, and is started again (1 of 1)";
    assert!(events.contains(&json!({ "kind": "warning", "text": warning })), "{events:#?}");
}

#[test]
fn a_service_that_dies_under_a_stack_that_is_up_ends_it() {
    let bench = Bench::new(GATEWAY, "");
    let die = bench.path("die");
    let script = format!("steps = [{{ say = 'up' }}, {{ await-file = '{die}' }}, {{ exit = 5 }}]");
    let bench = bench.service("a", &script, "ready_line = 'up'").service("b", "", "needs = ['a']");
    let held = bench.start();
    held.await_ready();
    fs::write(&die, "").unwrap();
    let failed = held.fails();
    failed
        .is(10, "service-died")
        .says("service:a died while the stack was up: exit status 5")
        .says("b needs a")
        .says("gateway needs a");
    assert_eq!(failed.failure["log_tail"], json!(["up"]));
}

#[test]
fn a_service_that_may_be_started_again_comes_back() {
    let bench = Bench::new(GATEWAY, "");
    let (die, again) = (bench.path("die"), bench.path("again"));
    let script = format!(
        "steps = [{{ say-attempt = {{}} }}, {{ await-file = '{die}' }}, {{ exit-before-attempt = 2 }}, \
         {{ say = 'back' }}, {{ await-file = '{again}' }}, {{ exit = 6 }}]"
    );
    let bench = bench.service("a", &script, "ready_line = 'attempt'\nrestarts = 1");
    let held = bench.start();
    held.await_ready();
    fs::write(&die, "").unwrap();
    held.await_said("service:a is ready again");
    await_line(&bench.path("logs/service-a.log"), "back");
    // It had its one chance.
    fs::write(&again, "").unwrap();
    let failed = held.fails();
    failed
        .is(10, "service-died")
        .says("service:a died while the stack was up: exit status 6, and it did not come back")
        .says("service:a ended 2 times, and was started again once")
        .says("the first time, it ended with exit status 3")
        .says("gateway needs a");
    assert_eq!(bench.log("service-a.first-crash.log"), "attempt 1\n");
}

#[test]
fn a_gateway_that_may_be_started_again_listens_again() {
    let bench = Bench::new("", "restarts = 1");
    let die = bench.path("die");
    let script = format!(
        "steps = [{{ say-attempt = {{}} }}, {{ listen = 'passed' }}, {{ await-file = '{die}' }}, {{ exit-before-attempt = 2 }}]"
    );
    fs::write(bench.path("gateway.toml"), script).unwrap();
    let held = bench.start();
    held.await_ready();
    fs::write(&die, "").unwrap();
    held.await_said("gateway is ready again");
    held.ends();
    assert_eq!(bench.log("gateway.log"), "attempt 1\nattempt 2\n");
}

#[test]
fn a_signal_ends_a_start_that_pauses_or_waits() {
    let bench = Bench::new(GATEWAY, "").service("waits", "", "ready_line = 'never'").service(
        "crashes",
        "steps = [{ exit = 1 }]",
        "ready_line = 'never'\nrestarts = 10",
    );
    let held = bench.start();
    held.await_said("(3 of 10)");
    held.run.signal(Signal::INT);
    held.fails().is(130, "interrupted");
}

#[test]
fn the_ceiling_holds_for_all_restarts_together() {
    let script = "steps = [{ say-attempt = {} }, { sleep-ms = 400 }, { exit = 3 }]";
    let limits = "restarts = 10\nceiling_ms = 1500\nidle_ms = 1500";
    let bench = Bench::new(GATEWAY, "").service("a", script, &format!("ready_line = 'never'\n{limits}"));
    // Which end it comes to is a matter of the machine's speed.
    let failed = bench.fails();
    assert!([30, 31].contains(&failed.code), "{}", failed.failure);
    // Each of eleven starts had its own ceiling otherwise, and time enough.
    let attempts = bench.log("service-a.log").lines().count();
    assert!(attempts < 11, "{attempts} attempts");
}

#[test]
fn a_ceiling_that_passes_after_a_crash_says_so() {
    let script = "steps = [{ say-attempt = {} }, { exit-before-attempt = 2 }, { chatter-every-ms = 5 }]";
    let failed = Bench::new(GATEWAY, "")
        .service("a", script, "ready_line = 'never'\nrestarts = 10\nceiling_ms = 6000\nidle_ms = 6000")
        .fails();
    failed.is(31, "ceiling").says("the first time, it ended with exit status 3").says("first-crash.log");
}

#[test]
fn the_port_of_a_service_is_kept_until_it_takes_it() {
    let bench = Bench::new(GATEWAY, "");
    let (kept, gate) = (free_port(), bench.path("gate"));
    let port = kept.address().port();
    let script = format!(
        "steps = [{{ say = 'started' }}, {{ await-file = '{gate}' }}, {{ listen = '127.0.0.1:{port}' }}]"
    );
    let bench = bench.service("a", &script, &format!("port = {port}"));
    let held = bench.start();
    held.await_said(r#""text":"started""#);
    // From here on, it is the stack that keeps it.
    drop(kept);
    assert_eq!(bind_plainly(port), Err(rustix::io::Errno::ADDRINUSE));
    fs::write(&gate, "").unwrap();
    held.await_ready();
    held.ends();
    // And no longer.
    assert_eq!(bind_plainly(port), Ok(()));
}

/// Binds as a program does that does not know `SO_REUSEADDR`.
fn bind_plainly(port: u16) -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

#[test]
fn the_port_of_a_service_that_a_stranger_has_is_33_before_anything_starts() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let bench = Bench::new(GATEWAY, "").service("a", "", &format!("port = {port}")).service("b", "", "");
    bench
        .fails()
        .is(33, "port-taken")
        .says(&format!("pid {}", std::process::id()))
        .says("give services.a another `port`");
    assert!(!bench.path("logs/service-b.log").exists());
}

#[test]
fn a_circle_of_needs_starts_nothing() {
    let bench = Bench::new(GATEWAY, "").service("a", "", "needs = ['b']").service("b", "", "needs = ['a']");
    bench
        .fails()
        .is(20, "needs-cycle")
        .says("a -> b -> a: each needs the next")
        .says("stack.toml: services.a.needs");
    assert_eq!(fs::read_dir(bench.path("logs")).unwrap().count(), 0);
}

/// The first start wrote its child's line, and so did the second.
fn await_lines(path: &Utf8Path, count: usize) {
    until("lines", || fs::read_to_string(path).is_ok_and(|text| text.lines().count() >= count));
}
