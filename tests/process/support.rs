//! Isolation: each test is run by this same test program in a process of its own, because a teardown stops
//! *everything* below the process that asks for it. The outer half looks for survivors with code of its own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use rustix::process::{Pid, Signal, kill_process};
use stelae_model::env::Invocation;
use stelae_model::lifecycle::{Patience, StopLimits};
use stelae_run::process::{Service, Session, Stdin};
use stelae_run::watch::{McpEndpoint, McpWanted, Wanted};

const INNER: &str = "STELAE_TEST_INNER";
const FOLDER: &str = "STELAE_TEST_FOLDER";
/// Nothing in these tests takes as long.
const HANGS_AFTER: Duration = Duration::from_secs(600);

/// How the inner half has to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Success,
    Panic,
}

/// Runs `body` in a process of its own; fails if it fails, or if anything that knows the sandbox survives it.
pub(crate) fn isolated(test: &str, body: impl FnOnce(&Sandbox)) {
    isolated_expecting(Expect::Success, test, body);
}

pub(crate) fn isolated_expecting(expect: Expect, test: &str, body: impl FnOnce(&Sandbox)) {
    if std::env::var(INNER).is_ok_and(|inner| inner == test) {
        let folder = Utf8PathBuf::from(std::env::var(FOLDER).unwrap());
        return body(&Sandbox { folder });
    }
    let folder = stelae_tests::private_folder();
    let output = folder.path().join("output of the inner half");
    let file = File::create(&output).unwrap();
    let mut inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INNER, test)
        .env(FOLDER, folder.path())
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = inner.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > HANGS_AFTER {
            inner.kill().unwrap();
            inner.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let survivors = survivors(folder.path());
    for (pid, _) in &survivors {
        // It may have gone by itself since.
        let _gone = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
    }
    let text = fs::read_to_string(&output).unwrap();
    let status = status.unwrap_or_else(|| panic!("hangs: {text}\nalive: {survivors:?}"));
    assert!(text.contains("running 1 test"), "the name of the test is not {test:?}: {text}");
    assert_eq!(status.success(), expect == Expect::Success, "{text}");
    assert_eq!(survivors, [], "survivors; the inner half said: {text}");
    pass_on_measurements(&text);
}

/// What a test measured is seen with --nocapture; nothing is asserted about it.
#[allow(clippy::print_stdout, reason = "it is for people")]
fn pass_on_measurements(text: &str) {
    text.lines().filter(|line| line.starts_with("measured: ")).for_each(|line| println!("{line}"));
}

/// Every live process whose command line or environment names the sandbox. Zombies have neither.
pub(crate) fn survivors(folder: &Path) -> Vec<(i32, String)> {
    let folder = folder.to_str().unwrap().as_bytes();
    let names_it = |bytes: &[u8]| bytes.windows(folder.len()).any(|window| window == folder);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_str().unwrap().parse::<i32>() else { continue };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let command = read("cmdline");
        if names_it(&command) || names_it(&read("environ")) {
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

/// A folder of one test, and what is started in it.
pub(crate) struct Sandbox {
    pub(crate) folder: Utf8PathBuf,
}

impl Sandbox {
    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        self.folder.join(name)
    }

    /// The fixture with this script.
    pub(crate) fn fixture(&self, name: &str, script: &str) -> Invocation {
        let path = self.path(&format!("{name}.toml"));
        fs::write(&path, script).unwrap();
        let program = Utf8PathBuf::from(env!("CARGO_BIN_EXE_stelae-fixture"));
        let env = [(FOLDER, self.folder.as_str())];
        Invocation::for_test(name, program, self.folder.clone(), &env).args(["--script", path.as_str()])
    }

    /// A shell script.
    pub(crate) fn shell(&self, script: &str) -> Invocation {
        let env = [(FOLDER, self.folder.as_str()), ("PATH", "/usr/bin:/bin")];
        Invocation::for_test("shell", "/bin/sh".into(), self.folder.clone(), &env).args(["-c", script])
    }

    pub(crate) fn start(&self, name: &str, script: &str) -> Service {
        self.start_with(name, script, Stdin::Null)
    }

    pub(crate) fn start_with(&self, name: &str, script: &str, stdin: Stdin) -> Service {
        let log = self.path(&format!("{name}.log"));
        Service::start(&self.fixture(name, script), &log, stdin, Session::Ours).unwrap()
    }

    /// Waits until that many children of the fixture are where they wanted to be.
    pub(crate) fn await_children(&self, name: &str, count: usize) {
        let path = self.path(&format!("{name}.children"));
        until("children", || fs::read_to_string(&path).is_ok_and(|text| text.lines().count() >= count));
    }

    pub(crate) fn await_log(&self, name: &str, text: &str) {
        let path = self.path(&format!("{name}.log"));
        until(text, || fs::read_to_string(&path).is_ok_and(|log| log.contains(text)));
    }
}

pub(crate) fn until(what: &str, reached: impl FnMut() -> bool) {
    until_within(Duration::from_secs(30), what, reached);
}

/// For what is much work on a machine that has other work: only a hang takes as long as `limit`.
pub(crate) fn until_within(limit: Duration, what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < limit, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process runs: neither gone nor a zombie.
pub(crate) fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn free_listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub(crate) const GRACE: StopLimits =
    StopLimits { grace: Duration::from_millis(300), ceiling: Duration::from_secs(20) };

/// A service on `address`, with nothing else asked.
pub(crate) fn wanted(address: std::net::SocketAddr) -> Wanted {
    Wanted {
        ready_line: None,
        address: Some(address),
        health_path: None,
        readiness_path: None,
        mcp: None,
        patience: Patience { idle: Duration::from_secs(20), ceiling: Duration::from_secs(40) },
        port_variable: "PROXY_PORT".to_owned(),
    }
}

/// The same, with an MCP side that has these tools.
pub(crate) fn wanted_mcp(address: std::net::SocketAddr, tools: &[&str]) -> Wanted {
    let mcp = McpWanted {
        endpoints: vec![McpEndpoint::of_all("/mcp")],
        headers: Vec::new(),
        required_tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
        canary: None,
    };
    Wanted {
        health_path: Some("/healthz".to_owned()),
        readiness_path: Some("/readyz".to_owned()),
        mcp: Some(mcp),
        ..wanted(address)
    }
}
