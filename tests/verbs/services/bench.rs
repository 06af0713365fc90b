//! A stack of fixtures, each with a script of its own, in a root that has nothing else.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use serde_json::{Value, json};
use stelae_run::ports::Placeholder;
use stelae_tests::{Ended, Run, Xtask, alive, held_port, programs, until};
use tempfile::TempDir;

/// A gateway that is ready as soon as it is started.
pub(super) const GATEWAY: &str = "steps = [{ say-attempt = {} }, { listen = 'passed' }]";
/// As long as nobody waits in a test that passes.
const NEVER_MS: u64 = 3_600_000;

/// A root with a stack of fixtures.
pub(super) struct Bench {
    folder: TempDir,
    stack: String,
    /// Two tests must not be given the same one.
    port: Placeholder,
}

impl Bench {
    /// With a gateway that plays `script`; `keys` are more keys of `[gateway]`.
    pub(super) fn new(script: &str, keys: &str) -> Self {
        let folder = stelae_tests::private_folder();
        let placeholder = held_port();
        let port = placeholder.address().port();
        let mut bench = Self { folder, stack: String::new(), port: placeholder };
        fs::create_dir_all(bench.path("config")).unwrap();
        fs::create_dir_all(bench.path("logs")).unwrap();
        bench.stack = format!(
            "version = 1\n[readiness]\nidle_ms = {NEVER_MS}\nceiling_ms = {NEVER_MS}\nceiling_ci_ms = {NEVER_MS}\n\
             mcp_path = '/mcp'\nhealth_path = '/healthz'\nrequired_tools = ['a']\n\
             canary = {{ tool = 'a', arguments = {{}}, result = [{{ contains = 'was called' }}] }}\n"
        );
        bench.describe("gateway", "gateway", &format!("{script}\n[answers]\ntools = ['a']\n"), keys);
        let base_url = format!("http://127.0.0.1:{port}");
        let section = json!({ "name": "fixture", "addr": format!("127.0.0.1:{port}"), "baseURL": base_url });
        fs::write(bench.path("proxy.json"), json!({ "mcpProxy": section, "mcpServers": {} }).to_string())
            .unwrap();
        bench
    }

    /// With a service more.
    pub(super) fn service(mut self, name: &str, script: &str, keys: &str) -> Self {
        self.describe(&format!("services.{name}"), name, script, keys);
        self
    }

    fn describe(&mut self, table: &str, name: &str, script: &str, keys: &str) {
        let path = self.path(&format!("{name}.toml"));
        fs::write(&path, script).unwrap();
        let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
        self.stack += &format!("[{table}]\ncommand = '{fixture}'\nargs = ['--script', '{path}']\n{keys}\n");
    }

    pub(super) fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    pub(super) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("logs/{name}"))).unwrap_or_default()
    }

    pub(super) fn start(&self) -> Held<'_> {
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
    pub(super) fn fails(&self) -> Failed {
        self.start().fails()
    }
}

/// A stack that is being started, or is up.
pub(super) struct Held<'a> {
    bench: &'a Bench,
    pub(super) run: Run,
}

impl Held<'_> {
    pub(super) fn await_ready(&self) {
        self.await_said(r#""kind":"ready""#);
    }

    pub(super) fn await_said(&self, text: &str) {
        until(text, || {
            let said = self.run.stdout();
            assert!(text == r#""kind":"failed""# || !said.contains(r#""kind":"failed""#), "{said}");
            said.contains(text)
        });
    }

    /// Ends it as a person does. Gives its events.
    pub(super) fn ends(self) -> Vec<Value> {
        self.run.signal(Signal::TERM);
        let ended = self.run.wait();
        assert_eq!(ended.code, 143, "{}\n{}", ended.stdout, ended.stderr);
        nothing_is_left(self.bench, &ended);
        events(&ended)
    }

    pub(super) fn fails(self) -> Failed {
        let ended = self.run.wait();
        nothing_is_left(self.bench, &ended);
        let events = events(&ended);
        let failure = events.iter().find_map(|event| event.get("failure")).cloned();
        let failure = failure.unwrap_or_else(|| panic!("no failure: {}{}", ended.stdout, ended.stderr));
        Failed { code: ended.code, failure, events }
    }
}

/// What a stack failed of.
pub(super) struct Failed {
    pub(super) code: i32,
    pub(super) failure: Value,
    pub(super) events: Vec<Value>,
}

impl Failed {
    pub(super) fn is(&self, code: i32, kind: &str) -> &Self {
        assert_eq!((self.code, self.failure["kind"].as_str()), (code, Some(kind)), "{}", self.failure);
        self
    }

    pub(super) fn says(&self, text: &str) -> &Self {
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
