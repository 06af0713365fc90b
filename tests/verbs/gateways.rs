//! A foreign gateway in the builtin one's place, over one endpoint for each server or one for all of them.
//!
//! The fixture plays the gateway: it serves what its script says, whatever was rendered for it. Every test looks for
//! survivors. Real programs are in `tests/peers`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use serde_json::{Value, json};
use stelae_run::ports::Placeholder;
use stelae_tests::{Ended, Run, Source, Xtask, alive, await_line, held_port, programs, until};
use tempfile::TempDir;

/// A root with a stack whose foreign gateway `other` is the fixture.
struct Bench {
    folder: TempDir,
    address: SocketAddr,
    /// Two tests must not be given the same port.
    kept: Option<Placeholder>,
    readiness: String,
    services: String,
    paths: &'static str,
    /// Small only where a test waits for it.
    idle_ms: u32,
}

/// Servers `a` and `b` have to answer, `c` need not.
const SERVERS: &str = "[answers.servers]\na = ['grep', 'read']\nb = ['read', 'write']\n";

/// The keys of `[readiness]` that say what is proved.
fn readiness(required: &str, canary: &str) -> String {
    let result = "[{ contains = 'was called at' }]";
    format!(
        "required_tools = {required}\ncanary = {{ tool = '{canary}', arguments = {{}}, result = {result} }}\n"
    )
}

impl Bench {
    /// With a gateway that binds the port, and then goes on as `answers` says.
    fn new(answers: &str) -> Self {
        let kept = held_port();
        let address = kept.address();
        let bench = Self {
            folder: stelae_tests::private_folder(),
            address,
            kept: Some(kept),
            readiness: readiness("['grep', 'write']", "grep"),
            services: String::new(),
            paths: "server_mcp_path = '/{server}/mcp'",
            idle_ms: 60_000,
        };
        for folder in ["config", "home"] {
            fs::create_dir(bench.path(folder)).unwrap();
        }
        bench.script("gateway", &format!("steps = [{{ listen = '{address}' }}]\n{answers}"));
        let server = json!({ "command": "/bin/false", "env": { "OWN": "$HOME" } });
        let optional = json!({ "command": "/bin/false", "required": false });
        let section = json!({ "name": "bench", "addr": address, "baseURL": format!("http://{address}") });
        let proxy = json!({ "mcpProxy": section, "mcpServers": { "a": server, "b": server, "c": optional } });
        fs::write(bench.path("home/proxy.json"), proxy.to_string()).unwrap();
        bench
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    fn script(&self, name: &str, script: &str) {
        fs::write(self.path(&format!("{name}.toml")), script).unwrap();
    }

    /// A fixture that plays the script of this name, as two keys of a table.
    fn command(&self, name: &str) -> String {
        let (fixture, script) = (env!("CARGO_BIN_EXE_stelae-fixture"), self.path(&format!("{name}.toml")));
        format!("command = '{fixture}'\nargs = ['--script', '{script}']\n")
    }

    fn start(&self, gateway: &str) -> Run {
        let limits = format!("idle_ms = {}\nceiling_ms = 120000\nceiling_ci_ms = 120000\n", self.idle_ms);
        let stack = format!(
            "version = 1\n[gateway]\ncommand = '/bin/false'\n\
             [gateways.other]\n{}dialect = 'mcp-proxy-go'\n{}\n\
             [gateways.absent]\ncommand = '<<TOOLS>>/mcp-proxy/v1/bin/mcp-proxy'\ntool = 'mcp-proxy'\n\
             dialect = 'mcp-proxy-go'\nmcp_path = '/mcp'\n\
             {}[readiness]\n{limits}mcp_path = '/builtin'\nhealth_path = '/no-such'\n{}",
            self.command("gateway"),
            self.paths,
            self.services,
            self.readiness
        );
        fs::write(self.path("config/stack.toml"), stack).unwrap();
        assert!(programs().xtask.exists());
        let set = |name: &str, value: &str| format!("--set={name}={value}");
        let args = [
            "--format=json",
            &set("STELAE_CONFIG_HOME", self.path("home").as_str()),
            &set("STELAE_STATE_HOME", self.path("state").as_str()),
            &set("STELAE_CACHE_HOME", self.path("cache").as_str()),
            &set("PROXY_PORT", &self.address.port().to_string()),
            "restart",
            "--attached",
            "--budget-s=600",
            &format!("--log={}", self.path("gateway.log")),
            &format!("--calls={}", self.path("calls.jsonl")),
            &format!("--gateway={gateway}"),
        ];
        Xtask::new(&self.path(""), &args).start()
    }

    /// Starts it, ends it when it is ready, and gives its events.
    fn comes_up(&self) -> Vec<Value> {
        let run = self.start("other");
        until("the stack", || {
            let said = run.stdout();
            assert!(!said.contains(r#""kind":"failed""#), "{said}");
            said.contains(r#""kind":"ready""#)
        });
        run.signal(Signal::TERM);
        let ended = run.wait();
        assert_eq!(ended.code, 143, "{}\n{}", ended.stdout, ended.stderr);
        self.nothing_is_left(&ended);
        events(&ended)
    }

    /// Gives the failure of a start that has this exit code.
    fn fails(&self, code: i32, kind: &str) -> String {
        self.failed(&self.start("other").wait(), code, kind)
    }

    fn failed(&self, ended: &Ended, code: i32, kind: &str) -> String {
        self.nothing_is_left(ended);
        let events = events(ended);
        let failure = events.iter().find_map(|event| event.get("failure")).cloned().unwrap_or_default();
        assert_eq!(
            (ended.code, failure["kind"].as_str()),
            (code, Some(kind)),
            "{}{}",
            ended.stdout,
            ended.stderr
        );
        failure.to_string()
    }

    fn nothing_is_left(&self, ended: &Ended) {
        assert_eq!(alive(self.path("").as_str()), Vec::<String>::new());
        assert_eq!(ended.left(), Vec::<String>::new());
    }
}

fn events(ended: &Ended) -> Vec<Value> {
    let records = ended.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.map(|mut record| record["event"].take()).collect()
}

#[test]
fn tools_are_found_by_listing_every_server() {
    let bench = Bench::new(SERVERS);
    let events = bench.comes_up();
    let base = format!("http://{}", bench.address);
    let ready = events.iter().find(|event| event["kind"] == "ready").unwrap();
    assert_eq!(ready["url"], base);
    assert_eq!(ready["servers"], json!({ "a": format!("{base}/a/mcp"), "b": format!("{base}/b/mcp") }));
    assert_eq!(ready["tools"], json!(["grep", "a__read", "b__read", "write"]));
    // Who need not answer is left out, and that is said.
    let warnings: Vec<_> = events.iter().filter(|event| event["kind"] == "warning").collect();
    let left_out =
        "a server that is not required is left out: initialize of server c answered 404: not found";
    assert!(warnings.iter().any(|warning| warning["text"] == left_out), "{warnings:#?}");
}

#[test]
fn that_its_calls_are_not_told_of_is_said() {
    let bench = Bench::new(SERVERS);
    let events = bench.comes_up();
    let calls = bench.path("calls.jsonl");
    let warning = format!("the gateway other does not tell of its calls: there is no {calls}");
    assert!(events.iter().any(|event| event["kind"] == "warning" && event["text"] == warning), "{events:#?}");
    assert!(!calls.exists());
}

#[test]
fn what_is_rendered_for_it_is_in_its_dialect_and_for_its_owner_only() {
    let bench = Bench::new(SERVERS);
    bench.comes_up();
    let path = bench.path("state/gateways/other/proxy.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let said: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let a = &said["mcpServers"]["a"];
    assert_eq!(
        (&said["mcpProxy"]["type"], &a["transportType"]),
        (&json!("streamable-http"), &json!("stdio"))
    );
    assert_eq!(said["mcpProxy"]["addr"], bench.address.to_string());
    // All of it: nobody else gives a server behind a foreign gateway its environment.
    let environment = &a["env"];
    assert_eq!((&environment["STELAE_PROCESS"], &environment["OWN"]), (&json!("server:a"), &json!("$HOME")));
    assert!(environment["PATH"].is_string() && environment["PROXY_PORT"].is_string(), "{environment}");
    assert_eq!(environment.get("STELAE_CONTROL_TOKEN"), None);
}

#[test]
fn one_endpoint_for_all_is_reached_like_the_builtin_one() {
    let mut bench = Bench::new("[answers]\ntools = ['grep', 'write']\n");
    bench.paths = "mcp_path = '/mcp'";
    let events = bench.comes_up();
    let ready = events.iter().find(|event| event["kind"] == "ready").unwrap();
    assert_eq!(ready["url"], format!("http://{}/mcp", bench.address));
    assert_eq!((ready.get("servers"), &ready["tools"]), (None, &json!(["grep", "write"])));
}

#[test]
fn a_required_tool_of_two_servers_is_an_error_that_names_both() {
    let mut bench = Bench::new(SERVERS);
    bench.readiness = readiness("['read']", "grep");
    let failure = bench.fails(32, "tools-missing");
    assert!(failure.contains(r#"tool \"read\" is ambiguous: write a__read or b__read"#), "{failure}");
    // Written with its server, it is one.
    bench.readiness = readiness("['b__read']", "b__read");
    bench.comes_up();
}

#[test]
fn a_canary_call_goes_to_the_server_that_is_meant() {
    let mut bench = Bench::new(&format!("[answers]\nfailing-calls = true\n{SERVERS}"));
    bench.idle_ms = 5_000;
    for (tool, path) in [("b__read", "/b/mcp"), ("grep", "/a/mcp")] {
        bench.readiness = readiness("['grep']", tool);
        let failure = bench.fails(32, "canary-failed");
        assert!(failure.contains(&format!("was called at {path}")), "{failure}");
    }
}

#[test]
fn a_required_server_that_does_not_answer_is_waited_for_and_named() {
    let mut bench = Bench::new("[answers.servers]\na = ['grep', 'write']\n");
    bench.idle_ms = 5_000;
    let failure = bench.fails(31, "idle");
    assert!(failure.contains("initialize of server b answered 404"), "{failure}");
}

#[test]
fn the_port_is_kept_until_the_gateway_takes_it() {
    let mut bench = Bench::new(SERVERS);
    let (address, gate) = (bench.address, bench.path("gate"));
    let script = format!(
        "steps = [{{ say = 'started' }}, {{ await-file = '{gate}' }}, {{ listen = '{address}' }}]\n{SERVERS}"
    );
    bench.script("gateway", &script);
    let run = bench.start("other");
    await_line(&bench.path("gateway.log"), "started");
    // From here on, it is the stack that keeps it.
    bench.kept = None;
    assert_eq!(bind_plainly(address), Err(rustix::io::Errno::ADDRINUSE));
    fs::write(gate, "").unwrap();
    until("the stack", || run.stdout().contains(r#""kind":"ready""#));
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code, 143);
}

/// Binds as a program does that does not know `SO_REUSEADDR`.
fn bind_plainly(address: SocketAddr) -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &address)
}

#[test]
fn a_stranger_who_is_quicker_than_the_gateway_is_33_and_named() {
    let mut bench = Bench::new(SERVERS);
    let gate = bench.path("gate");
    // The port was looked at when the stack began; the gateway starts only when this is ready.
    bench.script(
        "first",
        &format!("steps = [{{ say = 'waiting' }}, {{ await-file = '{gate}' }}, {{ say = 'up' }}]"),
    );
    bench.services = format!("[services.first]\n{}ready_line = 'up'\n", bench.command("first"));
    let run = bench.start("other");
    await_line(&bench.path("service-first.log"), "waiting");
    let _stranger = TcpListener::bind(bench.address).unwrap();
    fs::write(gate, "").unwrap();
    let failure = bench.failed(&run.wait(), 33, "port-taken");
    let us = std::process::id();
    assert!(failure.contains(&format!("pid {us}")), "{failure}");
    assert!(failure.contains(&std::env::args().next().unwrap()), "{failure}");
}

#[test]
fn one_that_is_not_installed_is_40_with_the_command_that_installs_it() {
    let bench = Bench::new(SERVERS);
    let ended = bench.start("absent").wait();
    assert!(ended.stdout.contains(r#""hint":"cargo xtask tools install mcp-proxy""#), "{}", ended.stdout);
    let failure = bench.failed(&ended, 40, "gateway-missing");
    assert!(failure.contains("cache/tools/mcp-proxy/v1/bin/mcp-proxy"), "{failure}");
}

#[test]
fn one_that_nobody_has_described_is_bad_usage() {
    let bench = Bench::new(SERVERS);
    let ended = bench.start("othe").wait();
    let failure = bench.failed(&ended, 2, "unknown-gateway");
    assert!(failure.contains("did you mean other?"), "{failure}");
}

#[test]
fn a_run_says_beforehand_what_a_foreign_gateway_cannot_do() {
    let source = Source::of_working_tree();
    let cache = stelae_tests::private_folder();
    let smoke = |more: &[&str]| {
        let run =
            Xtask::new(source.path(), &["--format", "json", "smoke", "--gateway", "mcp-proxy"]).args(more);
        run.env("STELAE_CACHE_HOME", cache.path().to_str().unwrap()).run()
    };
    for more in [&[][..], &["--until", "stage:install"], &["--plan"]] {
        let ended = smoke(more);
        assert_eq!(ended.verdict(), (2, "gateway-cannot-reload".to_owned()), "{}", ended.stderr);
        let hint = "hint: cargo xtask smoke --gateway mcp-proxy --until stage:bundle-tools";
        assert!(ended.stderr.contains(hint), "{}", ended.stderr);
    }
    // What it can do needs the program, which is missed before anything is cloned.
    let ended = smoke(&["--until", "stage:bundle-tools"]);
    assert_eq!(ended.verdict(), (40, "gateway-missing".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: cargo xtask tools install mcp-proxy"), "{}", ended.stderr);
    assert_eq!(stelae_tests::runs(source.path()), Vec::<String>::new());
}
