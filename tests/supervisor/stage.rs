//! One supervisor, one service with a script, and everything that has to be so in the end.

use std::fs;
use std::net::TcpStream;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stelae_model::Failure;
use stelae_model::evidence::{MOST_BYTES, Snapshot};
use stelae_model::lifecycle::{Proof, TeardownProof};
use stelae_run::ports::Placeholder;
use stelae_tests::{Run, Xtask, alive, until};
use tempfile::TempDir;

/// What `stack.toml` says about a service, as far as rows differ.
#[derive(Clone, Copy)]
pub(crate) struct Service {
    /// What the fixture plays. `<ADDRESS>` is its address, `<PORT>` the port of that, `<GATE>` a file
    /// that appears when it is ready.
    pub(crate) script: &'static str,
    /// `passed`, or `own`.
    pub(crate) socket: &'static str,
    pub(crate) idle_ms: u64,
    pub(crate) ceiling_ms: u64,
    pub(crate) grace_ms: u64,
    pub(crate) budget_s: &'static str,
}

/// One that has all the time that a busy machine needs, and is asked for the tool `a`.
pub(crate) const PATIENT: Service = Service {
    script: "",
    socket: "passed",
    idle_ms: 30_000,
    ceiling_ms: 60_000,
    grace_ms: 300,
    budget_s: "120",
};

/// What a snapshot says that was over before everything was looked at.
const NO_TIME: &str = "there was no time to look at everything";

/// Everything around one supervisor.
pub(crate) struct Stage {
    folder: TempDir,
    held: Placeholder,
}

impl Stage {
    /// The folder of a stack with this service.
    pub(crate) fn new(service: &Service) -> Self {
        let held = Placeholder::hold([127, 0, 0, 1].into(), 0).unwrap();
        let stage = Self { folder: stelae_tests::private_folder(), held };
        for folder in ["config", "home"] {
            fs::create_dir(stage.path(folder)).unwrap();
        }
        let address = stage.address();
        let proxy = json!({ "mcpProxy":
            { "name": "fixture", "addr": address, "baseURL": format!("http://{address}") } });
        fs::write(stage.path("home/proxy.json"), proxy.to_string()).unwrap();
        let port = stage.held.address().port().to_string();
        let script = service.script.replace("<ADDRESS>", &address).replace("<PORT>", &port);
        let script = script.replace("<GATE>", stage.gate().as_str());
        fs::write(stage.path("script.toml"), script).unwrap();
        fs::write(stage.path("config/stack.toml"), stage.stack(service)).unwrap();
        stage
    }

    fn stack(&self, service: &Service) -> String {
        let Service { socket, idle_ms, ceiling_ms, grace_ms, .. } = service;
        let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
        let script = self.path("script.toml");
        let canary = "canary = { tool = 'a', arguments = {}, result = [{ contains = '\"a\" was called' }] }";
        format!(
            "version = 1\n[gateway]\ncommand = {fixture:?}\nargs = ['--script', {script:?}]\n\
             socket = {socket:?}\nenv_file = 'own.env'\ngrace_ms = {grace_ms}\n\
             [readiness]\nidle_ms = {idle_ms}\nceiling_ms = {ceiling_ms}\nceiling_ci_ms = {ceiling_ms}\n\
             mcp_path = '/mcp'\nhealth_path = '/healthz'\nready_path = '/readyz'\nrequired_tools = ['a']\n{canary}\n"
        )
    }

    /// The address of the service; nobody else gets it.
    pub(crate) fn address(&self) -> String {
        self.held.address().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    fn gate(&self) -> Utf8PathBuf {
        self.path("gate")
    }

    /// Lets a service go on that waits for its gate.
    pub(crate) fn open_gate(&self) {
        fs::write(self.gate(), "").unwrap();
    }

    pub(crate) fn log(&self) -> Utf8PathBuf {
        self.path("gateway.log")
    }

    /// Starts the supervisor.
    pub(crate) fn start(&self, service: &Service) -> Run {
        fs::write(self.path("own.env"), "OWN_KEY=hunter2-of-a-service\n").unwrap();
        let set = |name: &str, value: &str| format!("--set={name}={value}");
        let folder = self.folder.path().to_str().unwrap();
        let args = [
            "--format=json",
            &set("STELAE_CONFIG_HOME", self.path("home").as_str()),
            &set("STELAE_STATE_HOME", self.path("state").as_str()),
            &set("PROXY_PORT", &self.held.address().port().to_string()),
            "restart",
            "--attached",
            "--budget-s",
            service.budget_s,
            &format!("--stack={folder}/config/stack.toml"),
            &format!("--log={folder}/gateway.log"),
            &format!("--evidence={folder}/evidence"),
        ];
        Xtask::new(folder.into(), &args).start()
    }

    /// Waits until the supervisor says that the stack is ready.
    pub(crate) fn await_ready(run: &mut Run) {
        until("the stack to be ready", || {
            let ready = run.stdout().contains("\"kind\":\"ready\"");
            assert!(ready || !run.has_ended(), "it ended: {}{}", run.stdout(), run.stderr());
            ready
        });
    }

    /// Waits for the end, and looks at everything that has to be so whatever the service did.
    pub(crate) fn end(&self, run: Run) -> Ending {
        let ending = self.end_beside_a_stranger(run);
        assert!(TcpStream::connect(self.held.address()).is_err(), "somebody listens still");
        ending
    }

    /// The same, with somebody else on the address of the service.
    pub(crate) fn end_beside_a_stranger(&self, run: Run) -> Ending {
        let ended = run.wait();
        let left = alive(self.folder.path().to_str().unwrap());
        assert_eq!(left, Vec::<String>::new(), "alive; the supervisor said: {}", ended.stdout);
        let text = fs::read_to_string(self.path("evidence/snapshot.json")).unwrap();
        assert!(text.len() <= MOST_BYTES, "{} bytes", text.len());
        let ending = Ending {
            code: ended.code,
            events: ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            snapshot: read(&self.path("evidence/snapshot.json")),
        };
        let proof: TeardownProof = read(&self.path("evidence/teardown.json"));
        assert_eq!(proof.proof, Proof::NoChildLeft, "{proof:?}");
        assert_eq!(ending.event("torn-down")["survivors"], json!([]));
        // On a machine that is starved it may have had no time, and then it says so; nothing else may be wrong with it.
        let problems: Vec<_> =
            ending.snapshot.problems.iter().filter(|problem| *problem != NO_TIME).collect();
        assert_eq!(problems, Vec::<&String>::new());
        assert_eq!(ending.snapshot.left_out.processes, 0);
        ending
    }

    /// The same, after the supervisor was told to end a stack that is ready.
    pub(crate) fn end_by_term(&self, run: Run) -> Ending {
        run.signal(Signal::TERM);
        let ending = self.end(run);
        assert_eq!(ending.code, 143, "{:?}", ending.events);
        let rungs = &ending.snapshot.probes.history;
        assert!(rungs.iter().any(|probe| probe.rung == "tools" && probe.status == "ready"), "{rungs:?}");
        ending
    }
}

fn read<T: DeserializeOwned>(path: &Utf8Path) -> T {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A supervisor that has ended.
pub(crate) struct Ending {
    pub(crate) code: i32,
    pub(crate) events: Vec<Value>,
    pub(crate) snapshot: Snapshot,
}

impl Ending {
    /// Whether there was time to look at everything before the teardown.
    pub(crate) fn is_looked_at(&self) -> bool {
        self.snapshot.problems.is_empty()
    }

    /// The one event of this kind.
    pub(crate) fn event(&self, kind: &str) -> &Value {
        let mut events =
            self.events.iter().map(|record| &record["event"]).filter(|event| event["kind"] == kind);
        let event = events.next().unwrap_or_else(|| panic!("no event {kind}: {:?}", self.events));
        assert!(events.next().is_none(), "two events {kind}: {:?}", self.events);
        event
    }

    /// Why it failed.
    pub(crate) fn failure(&self) -> Failure {
        serde_json::from_value(self.event("failed")["failure"].clone()).unwrap()
    }
}
