//! The official Python client: what it is asked, and what it answers.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use stelae_tests::root;

use crate::handed::Handed;
use crate::run::run;

/// What it saw.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    /// The tools of each server, spoken to without a gateway.
    pub(crate) alone: BTreeMap<String, Vec<String>>,
    /// How the gateway calls itself.
    pub(crate) server: String,
    /// The tools that the gateway lists.
    pub(crate) tools: Vec<String>,
    /// What each call was answered, in order.
    pub(crate) answers: Vec<Answered>,
}

/// The answer of a tool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answered {
    pub(crate) is_error: bool,
    pub(crate) text: String,
}

/// Has the client do what `task` says: see `client.py`.
pub(crate) fn ask(handed: &Handed, task: &Value) -> Seen {
    let folder = stelae_tests::private_folder();
    let path = folder.path().join("task.json");
    fs::write(&path, task.to_string()).unwrap();
    let mut python = Command::new(handed.path("mcp"));
    python.arg(root().join("tests/peers/client.py")).arg(path).env("NO_PROXY", "127.0.0.1");
    let ran = run(&mut python);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}
