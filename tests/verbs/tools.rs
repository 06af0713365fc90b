//! `tools`: what is pinned, what is installed, and what is left of an installation that was killed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use serde_json::Value;
use stelae_tests::{Xtask, alive, root, until};
use tempfile::TempDir;

/// A cache of its own, and an installer that is a script.
struct Machine {
    _guard: TempDir,
    folder: Utf8PathBuf,
}

impl Machine {
    fn new() -> Self {
        let guard = stelae_tests::private_folder();
        let folder = Utf8Path::from_path(guard.path()).unwrap().canonicalize_utf8().unwrap();
        fs::create_dir(folder.join("bin")).unwrap();
        let machine = Self { _guard: guard, folder };
        machine.program("node", "echo v99.0.0");
        machine
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.folder.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn xtask(&self, args: &[&str]) -> Xtask {
        let path = format!("{}:{}", self.folder.join("bin"), std::env::var("PATH").unwrap());
        let args: Vec<&str> = ["--format", "json", "tools"].iter().chain(args).copied().collect();
        Xtask::new(&root(), &args)
            .env("PATH", &path)
            .env("STELAE_CACHE_HOME", self.folder.join("cache").as_str())
    }

    fn tool(&self, name: &str) -> Value {
        let listed = self.xtask(&["list"]).run().json();
        let tools = listed["tools"].as_array().unwrap();
        tools.iter().find(|tool| tool["name"] == name).unwrap().clone()
    }
}

/// An npm that installs the pinned conformance suite, in all that is looked at.
fn npm() -> String {
    let pins = fs::read_to_string(root().join("config/tools.toml")).unwrap();
    let pins: toml::Table = toml::from_str(&pins).unwrap();
    let integrity = pins["tools"]["conformance"]["integrity"].as_str().unwrap();
    format!(
        "mkdir -p node_modules/.bin && cp /bin/true node_modules/.bin/conformance\n\
         echo '{{\"packages\": {{\"node_modules/@modelcontextprotocol/conformance\": {{\"integrity\": \"{integrity}\"}}}}}}' \
         > package-lock.json; echo 'npm said this'"
    )
}

#[test]
fn what_is_not_installed_is_said_with_the_one_command() {
    let machine = Machine::new();
    assert_eq!(machine.tool("conformance")["installed"], false);
    let ended = machine.xtask(&["path", "conformance"]).run();
    assert_eq!(ended.verdict(), (40, "tool-not-installed".to_owned()));
    assert_eq!(ended.json()["failure"]["hint"], "cargo xtask tools install conformance");
    let ended = machine.xtask(&["install", "conformance", "confromance"]).run();
    assert_eq!(ended.verdict(), (2, "unknown-tool".to_owned()));
    assert!(!machine.folder.join("cache/tools").exists());
    assert_eq!(machine.xtask(&["install"]).run().verdict(), (2, "usage".to_owned()));
}

#[test]
fn an_installation_is_told_line_by_line_and_then_there() {
    let machine = Machine::new();
    machine.program("npm", &npm());
    let ended = machine.xtask(&["install", "conformance"]).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.json()["tools"][0]["outcome"], "installed");
    assert!(ended.stderr.contains("over the network") && ended.stderr.contains("[npm] npm said this"));
    assert_eq!(ended.left(), Vec::<String>::new());
    let path = machine.xtask(&["path", "conformance"]).run().json()["tool"]["path"].clone();
    assert!(path.as_str().unwrap().starts_with(machine.folder.as_str()), "{path}");
    assert!(fs::exists(path.as_str().unwrap()).unwrap());
    let again = machine.xtask(&["install", "conformance"]).run();
    assert_eq!(again.json()["tools"][0]["outcome"], "was-there");
    assert!(!again.stderr.contains("over the network"));
}

#[test]
fn one_tool_that_fails_does_not_keep_the_others_from_being_installed() {
    let machine = Machine::new();
    machine.program("npm", &format!("grep -q memory package.json && exit 3\n{}", npm()));
    let ended = machine.xtask(&["install", "server-memory", "conformance"]).run();
    assert_eq!(ended.verdict(), (10, "command-failed".to_owned()), "{}", ended.stderr);
    let outcomes: Vec<_> =
        ended.json()["tools"].as_array().unwrap().iter().map(|tool| tool["outcome"].clone()).collect();
    assert_eq!(outcomes, ["failed", "installed"]);
}

#[test]
fn a_killed_installation_is_none_and_leaves_nobody() {
    let machine = Machine::new();
    let began = machine.folder.join("began");
    machine.program("npm", &format!("mkdir -p node_modules; touch {began}; sleep 600; : {began}"));
    let run = machine.xtask(&["install", "conformance"]).start();
    until("npm", || began.exists());
    run.signal(Signal::KILL);
    run.wait();
    // Whoever was killed took all of it with it; the kernel may still be at it.
    until("the end of npm", || alive(began.as_str()).is_empty());
    assert_eq!(machine.xtask(&["path", "conformance"]).run().verdict().0, 40);
    machine.program("npm", &npm());
    let ended = machine.xtask(&["install", "conformance"]).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let entries = machine.folder.join("cache/tools/conformance").read_dir_utf8().unwrap();
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_owned()).collect();
    entries.sort();
    assert_eq!(entries, [".content-0.1.13", ".lock", "0.1.13"]);
}
