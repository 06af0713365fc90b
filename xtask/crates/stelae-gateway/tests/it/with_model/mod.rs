//! A program with a model around it: what it reaches, what is said about it, and that nothing of it stays.

mod ends;
mod walls;

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::thread;

use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stelae_model::model_record::{ModelRequest, read_model_requests};
use stelae_model::room::{RoomReport, Walls};
use stelae_run::process::tree;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{GATEWAY, PATIENCE, eventually, gone, held_port, kill};
use crate::watched::{NOBODY, mark, marked, nobody, running};

/// With which walls a program is run here.
const BOTH: [&[&str]; 2] = [&[], &["--no-route"]];

/// What the shell does to ask an HTTP server on this machine for `$2`, and to say what it answers.
const GET: &str = r#"
get() {
    exec 3<>"/dev/tcp/$1" || return 9
    printf 'GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' "$2" >&3
    cat <&3
}
"#;

/// A folder for one run, and the socket of its model.
struct Bench {
    folder: TempDir,
    address: SocketAddr,
    listener: Option<TcpListener>,
    /// What with-model is started by.
    before: Vec<String>,
    program: PathBuf,
}

/// What was said, and how it ended.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Self {
        Self::playing(&json!({"calls": []}))
    }

    fn playing(script: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, folder) = (listener.local_addr().unwrap(), tempfile::tempdir().unwrap());
        fs::write(folder.path().join("script.json"), script.to_string()).unwrap();
        Self { folder, address, listener: Some(listener), before: Vec::new(), program: GATEWAY.into() }
    }

    /// `with-model` around a script of bash.
    fn command(&mut self, walls: &[&str], script: &str) -> Command {
        let program = ["bash", "-c", &format!("{GET}\n{script}")].map(str::to_owned);
        self.around(walls, &program)
    }

    /// `with-model` around a program. It gets its socket once.
    fn around(&mut self, walls: &[&str], program: &[String]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$@" 3<&0 </dev/null"#, "sh"]).args(&self.before);
        command.arg(&self.program).args(["with-model", "--listen", &self.address.to_string()]);
        let file = |name| self.folder.path().join(name);
        command.arg("--script").arg(file("script.json")).arg("--record").arg(file("record.jsonl"));
        command.arg("--report").arg(file("report.json")).args(walls).arg("--").args(program);
        command.stdin(OwnedFd::from(self.listener.take().unwrap())).env("LISTEN_FDS", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&mut self, walls: &[&str], script: &str) -> Ended {
        ended(self.command(walls, script).spawn().unwrap()).await
    }

    fn report(&self) -> RoomReport {
        let path = self.folder.path().join("report.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    fn record(&self) -> Vec<ModelRequest> {
        let path = self.folder.path().join("record.jsonl");
        let path = Utf8Path::from_path(&path).unwrap();
        read_model_requests(path, &fs::read_to_string(path).unwrap()).unwrap()
    }

    fn model(&self) -> String {
        slashed(self.address)
    }
}

async fn ended(child: Child) -> Ended {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("an end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// As bash names an address.
fn slashed(address: SocketAddr) -> String {
    format!("{}/{}", address.ip(), address.port())
}

/// Somebody who answers every connection with a word, for as long as the test runs.
fn answering(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 64];
            let length = stream.read(&mut asked).unwrap_or(0);
            stream.write_all(&[b"you said ", &asked[..length]].concat()).ok();
        }
    });
    address
}

/// Whether this machine lets us make network namespaces. Where it does not, that is what the other tests see.
fn namespaces() -> bool {
    let mut unshare = std::process::Command::new("/usr/bin/unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-current-user"]);
    }
    let allowed = unshare.args(["--net", "--", "/bin/true"]).stderr(Stdio::null()).status();
    let allowed = allowed.is_ok_and(|status| status.success());
    if !allowed {
        skipped("no network namespaces on this machine");
    }
    allowed
}

/// Says it where `cargo xtask ci` sees it: what a passing test prints is captured, what is written to stderr directly is not.
fn skipped(why: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this process has become the program.
fn is_sleep(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
}

/// The process that runs the program.
fn inside(with_model: i32) -> i32 {
    let below = tree::descendants(with_model);
    let children: Vec<i32> = below.iter().filter(|row| row.parent == with_model).map(|row| row.pid).collect();
    assert_eq!(children.len(), 1, "{below:?}");
    children[0]
}

fn pid(child: &Child) -> i32 {
    child.id().unwrap().try_into().unwrap()
}
