//! The agent CLIs themselves, as their makers ship them: whole runs of `smoke`, offline, without a key, in front of a model
//! that plays the stages. Each run clones a source of its own, in which a test puts its fault and commits it.

mod endpoint;
mod golden;
mod green;
mod manual;
mod model;
mod unseen;

use std::fs;

use camino::Utf8PathBuf;
use serde_json::Value;
use stelae_tests::{Ended, Source, Xtask};

use crate::handed::need;

/// The expectations of the stages.
const SMOKE: &str = "config/smoke.toml";
/// The settings of the agents.
const AGENTS: &str = "config/agents.toml";
/// The stage that most of what goes wrong here goes wrong in.
const FIRST: &str = "bundle-tools";

/// An agent CLI that is there.
#[derive(Debug)]
struct Cli {
    name: &'static str,
    /// Where the run finds it: what `ci` has installed, and nothing that is on PATH by chance.
    cache: Utf8PathBuf,
}

impl Cli {
    /// The CLI, for a test; or nothing, which has been said and reported then.
    fn need(test: &str, name: &'static str) -> Option<Self> {
        let handed = need(&format!("agents::{test}"), &[name])?;
        Some(Self { name, cache: handed.cache_of(name) })
    }

    /// A run with it.
    fn smoke(&self, source: &Source, args: &[&str]) -> Xtask {
        let smoke = ["--format", "json", "smoke", "--locked-agents", "--agent", self.name];
        self.xtask(source, &smoke).args(args)
    }

    /// Another verb.
    fn xtask(&self, source: &Source, args: &[&str]) -> Xtask {
        Xtask::new(source.path(), args).env("STELAE_CACHE_HOME", self.cache.as_str())
    }

    /// A run up to the first stage, which has to fail.
    fn fails(&self, source: &Source) -> Failed {
        let until = format!("stage:{FIRST}");
        Failed::new(source, self.smoke(source, &["--until", &until, "--keep", "never"]).run())
    }
}

/// A run that failed in the first stage, and has left nothing.
#[derive(Debug)]
struct Failed {
    kind: String,
    /// The failure, as a person reads it.
    text: String,
    folder: Utf8PathBuf,
}

impl Failed {
    fn new(source: &Source, ended: Ended) -> Self {
        let (code, kind) = ended.verdict();
        assert_eq!(ended.json()["failed_step"], format!("stage:{FIRST}"), "{kind}: {}", ended.stderr);
        assert_eq!(code, 11, "{kind}: {}", ended.stderr);
        assert_eq!(ended.left(), Vec::<String>::new());
        let folder = source.run_folder(&ended.run_id());
        Self { kind, text: ended.stderr, folder }
    }

    /// That it is named, and told with all of these parts.
    fn is(&self, case: &str, kind: &str, parts: &[&str]) {
        assert_eq!(self.kind, kind, "{case}: {}", self.text);
        for part in parts {
            assert!(self.text.contains(part), "{case}: no {part:?} in: {}", self.text);
        }
    }

    /// The code with which the agent itself ended.
    fn exit_code_of_agent(&self) -> Value {
        json(&self.folder, &format!("transcripts/{FIRST}.network.json"))["exit_code"].clone()
    }
}

/// A file of a run's folder.
fn text(folder: &Utf8PathBuf, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(folder: &Utf8PathBuf, name: &str) -> Value {
    serde_json::from_str(&text(folder, name)).unwrap()
}

fn lines(folder: &Utf8PathBuf, name: &str) -> Vec<Value> {
    text(folder, name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The nonce of the run with this folder.
fn nonce(folder: &Utf8PathBuf) -> String {
    json(folder, "steps/clone.json")["nonce"].as_str().unwrap().to_owned()
}

/// Has the model of the first stage go wrong.
fn misbehave(source: &Source, how: &str) {
    let first = format!("name = \"{FIRST}\"\n");
    source.edit(SMOKE, &first, &format!("{first}misbehave = {how}\n"));
}
