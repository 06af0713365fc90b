//! Our gateway, in front of whatever servers.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stelae_run::deadline::Deadline;
use stelae_run::http::Http;
use stelae_tests::{alive, root};
use tempfile::TempDir;

use crate::run::PATIENCE;

/// The programs of the gateway's package, built once, by name.
pub(crate) fn built(name: &str) -> Option<Utf8PathBuf> {
    static BUILT: OnceLock<Vec<Value>> = OnceLock::new();
    let messages = BUILT.get_or_init(|| {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--locked", "--package", "stelae-gateway", "--bins"]);
        cargo.args(["--message-format", "json-render-diagnostics"]).current_dir(root());
        let output = cargo.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "the gateway does not build");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    });
    let mut of_it = messages.iter().filter(|message| message["target"]["name"] == name);
    of_it.find_map(|message| message["executable"].as_str()).map(Utf8PathBuf::from)
}

/// A running gateway. Dropped, it is killed, and its servers end with their pipes; [`Gateway::stop`] is how it should go.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    folder: TempDir,
    address: String,
}

impl Gateway {
    /// Starts one on a port that is free, and waits until every server is ready.
    pub(crate) fn start(servers: &Value) -> Self {
        let folder = stelae_tests::private_folder();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let proxy = json!({"name": "peers", "addr": address, "baseURL": format!("http://{address}")});
        let config = json!({"mcpProxy": proxy, "mcpServers": servers});
        fs::write(folder.path().join("proxy.json"), config.to_string()).unwrap();
        let child = Command::new(built("stelae-gateway").expect("the gateway"))
            .args(["serve", "--config"])
            .arg(folder.path().join("proxy.json"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            // Also what its servers are recognised by.
            .env("HOME", folder.path())
            .envs([("LISTEN_FDS", "1"), ("LISTEN_FDS_FIRST_FD", "0")])
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut gateway = Self { child, folder, address };
        gateway.await_ready();
        gateway
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// A SIGTERM ends it, and every server with it.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "the gateway does not end\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}\n{}", self.log());
        assert_eq!(alive(self.folder().as_str()), Vec::<String>::new());
    }

    fn await_ready(&mut self) {
        let (http, begun) = (Http::new(), Instant::now());
        let url = format!("http://{}/readyz", self.address);
        loop {
            let answer = http.get(&url, Deadline::after(Duration::from_secs(5)));
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the gateway ended\n{}", self.log());
            assert!(begun.elapsed() < PATIENCE, "not ready: {answer:?}\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn folder(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
