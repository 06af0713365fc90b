//! `xtask`, run as a user runs it, in an environment that is known.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{private_folder, private_home, programs};

/// Nothing in these tests takes as long; a cold build of a clone takes longest.
const HANGS_AFTER: Duration = Duration::from_secs(900);

/// A command line to be run, with a home and temporary files of its own.
#[derive(Debug)]
pub struct Xtask {
    sandbox: TempDir,
    root: Utf8PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

/// A command that was started. It is killed when it is dropped.
#[derive(Debug)]
pub struct Run {
    child: Child,
    sandbox: TempDir,
    places: Places,
}

/// Where the runs of a command leave their traces.
#[derive(Clone, Debug)]
struct Places {
    root: Utf8PathBuf,
    cache: Utf8PathBuf,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, or 128 and the signal.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// Its home and its temporary files, for a look at what is left.
    pub sandbox: TempDir,
    places: Places,
}

/// The cache home of all runs, unless a test says otherwise: clones of all tests are built in one folder, the one that
/// `ci` uses.
pub fn cache() -> Utf8PathBuf {
    std::env::var("STELAE_CACHE_HOME").map_or_else(|_| private_home("target/xtask/cache"), Utf8PathBuf::from)
}

impl Xtask {
    /// In this root, with these arguments.
    ///
    /// # Panics
    /// When there are no temporary folders.
    pub fn new(root_of_stack: &Utf8Path, args: &[&str]) -> Self {
        let sandbox = private_folder();
        let path = |name: &str| {
            let path = sandbox.path().join(name);
            fs::create_dir_all(&path).expect("a folder");
            path.to_str().expect("a UTF-8 path").to_owned()
        };
        let host = |name: &str| std::env::var(name).ok();
        let home = host("HOME").unwrap_or_else(|| "/".to_owned());
        let mut env = BTreeMap::from([
            ("HOME".to_owned(), path("home")),
            ("TMPDIR".to_owned(), path("tmp")),
            ("CARGO_HOME".to_owned(), host("CARGO_HOME").unwrap_or_else(|| format!("{home}/.cargo"))),
            ("RUSTUP_HOME".to_owned(), host("RUSTUP_HOME").unwrap_or_else(|| format!("{home}/.rustup"))),
            ("STELAE_CACHE_HOME".to_owned(), cache().to_string()),
        ]);
        for name in
            ["PATH", "RUSTUP_TOOLCHAIN", "SSL_CERT_FILE", "CARGO_HTTP_CAINFO", "HTTPS_PROXY", "NO_PROXY"]
        {
            env.extend(host(name).map(|value| (name.to_owned(), value)));
        }
        Self {
            sandbox,
            root: root_of_stack.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env,
        }
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The folder that its temporary files go to.
    ///
    /// # Panics
    /// When temporary folders are not UTF-8.
    pub fn tmp(&self) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.sandbox.path().join("tmp")).expect("a UTF-8 path")
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(self) -> Run {
        let program = programs().xtask.clone();
        self.start_program(program.as_str(), &[])
    }

    /// Starts it under another program: `timeout 3 xtask …`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_under(self, words: &[&str]) -> Run {
        let xtask = programs().xtask.to_string();
        let mut before: Vec<&str> = words.to_vec();
        before.push(&xtask);
        self.start_program(before[0], &before[1..])
    }

    fn start_program(self, program: &str, before: &[&str]) -> Run {
        let file = |name: &str| File::create(self.sandbox.path().join(name)).expect("a file");
        let child = Command::new(program)
            .args(before)
            .args(&self.args)
            .current_dir(&self.root)
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("the program starts");
        let places = Places { root: self.root, cache: self.env["STELAE_CACHE_HOME"].as_str().into() };
        Run { child, sandbox: self.sandbox, places }
    }

    /// Has a shell run it: the arguments are the shell's, and `$0` is `xtask`.
    ///
    /// # Panics
    /// When it hangs.
    pub fn run_in_shell(mut self) -> Ended {
        self.args.push(programs().xtask.to_string());
        self.start_program("/bin/sh", &[]).wait()
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it hangs.
    pub fn run(self) -> Ended {
        self.start().wait()
    }
}

impl Run {
    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// Pid of the half of it that does the work; in a namespace that is below `unshare`.
    ///
    /// # Panics
    /// When it is not guarded, or has not begun.
    pub fn inner(&self) -> i32 {
        let is_inner = |pid: &i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            command.contains("--guarded") && !command.contains("unshare")
        };
        let mut inner = None;
        crate::until("the inner half", || {
            let below = crate::children(self.pid());
            let further = below.iter().flat_map(|&pid| crate::children(pid)).collect::<Vec<_>>();
            inner = below.into_iter().chain(further).find(is_inner);
            inner.is_some()
        });
        inner.expect("it was found")
    }

    /// Sends it a signal, and nobody else.
    ///
    /// # Panics
    /// When it is not there any more.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).expect("a pid"), signal).expect("it is there");
    }

    /// What it has written to stdout until now.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.sandbox.path().join("stdout")).unwrap_or_default()
    }

    /// What it has written to stderr until now.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.sandbox.path().join("stderr")).unwrap_or_default()
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it hangs.
    pub fn wait(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(begun.elapsed() < HANGS_AFTER, "it hangs: {}", self.stderr());
            thread::sleep(Duration::from_millis(5));
        };
        let read = |name: &str| fs::read_to_string(self.sandbox.path().join(name)).unwrap_or_default();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let (stdout, stderr) = (read("stdout"), read("stderr"));
        let sandbox = std::mem::replace(&mut self.sandbox, private_folder());
        Ended { code, stdout, stderr, sandbox, places: self.places.clone() }
    }

    /// As [`Ended::alive`], while it runs.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    pub fn alive(&self) -> Vec<String> {
        self.places.alive(&self.sandbox)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        if !self.has_ended() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

impl Ended {
    /// stdout as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// The code, and the failure's kind; for one assertion on both. Needs `--format json`.
    ///
    /// # Panics
    /// When stdout is no JSON.
    pub fn verdict(&self) -> (i32, String) {
        let json = if self.stdout.is_empty() { Value::Null } else { self.json() };
        (self.code, json["failure"]["kind"].as_str().unwrap_or_default().to_owned())
    }

    /// The id of the run that it was. Needs `--format json`.
    ///
    /// # Panics
    /// When it says none.
    pub fn run_id(&self) -> String {
        self.json()["run"].as_str().unwrap_or_else(|| panic!("no run: {}", self.stdout)).to_owned()
    }

    /// Live processes that know its own folders or a run of its root, which has its workspace in the cache home: `pid command`.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    pub fn alive(&self) -> Vec<String> {
        self.places.alive(&self.sandbox)
    }

    /// What is left: live processes, temporary files, and workspaces of runs of its root.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    pub fn left(&self) -> Vec<String> {
        let tmp = fs::read_dir(self.sandbox.path().join("tmp")).expect("the folder is there").flatten();
        let tmp = tmp.map(|entry| entry.path().display().to_string());
        self.alive().into_iter().chain(tmp).chain(self.places.workspaces()).collect()
    }
}

impl Places {
    fn alive(&self, sandbox: &TempDir) -> Vec<String> {
        let mut marks = crate::runs(&self.root);
        marks.push(sandbox.path().to_str().expect("a UTF-8 path").to_owned());
        crate::alive_of(&marks)
    }

    fn workspaces(&self) -> Vec<String> {
        let runs = crate::runs(&self.root);
        let folders = self.cache.join("workspaces").read_dir_utf8().into_iter().flatten().flatten();
        let of_its_runs = folders.filter(|folder| runs.iter().any(|run| folder.file_name().contains(run)));
        of_its_runs.map(|folder| folder.path().to_string()).collect()
    }
}
