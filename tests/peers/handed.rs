//! What was handed over, and the report of what was done with it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use serde_json::json;

/// The file that says which tools there are: `ci` writes it.
const TOOLS: &str = "PEERS_TOOLS";
/// The file that says which tests ran: `ci` reads it.
const REPORT: &str = "PEERS_REPORT";

/// One tool: its program, or why it is not there; `ci` says more of it.
#[derive(Debug, Deserialize)]
struct Tool {
    name: String,
    path: Option<Utf8PathBuf>,
    why: Option<String>,
}

/// The programs that a test needs, by name.
#[derive(Debug)]
pub(crate) struct Handed(BTreeMap<String, Utf8PathBuf>);

impl Handed {
    /// The path of a program.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.0[name].as_str()
    }

    /// The cache home whose `tools` have the program.
    pub(crate) fn cache_of(&self, name: &str) -> Utf8PathBuf {
        let program: &Utf8Path = &self.0[name];
        let tools = program.ancestors().find(|folder| folder.file_name() == Some("tools")).unwrap();
        tools.parent().unwrap().to_owned()
    }
}

/// All of the tools that a test needs; or nothing, which has been said and reported then.
pub(crate) fn need(test: &str, names: &[&str]) -> Option<Handed> {
    need_also(test, names, || None)
}

/// The same for a test that needs something else besides: `lacks` says why it is not there.
pub(crate) fn need_also(
    test: &str,
    names: &[&str],
    lacks: impl FnOnce() -> Option<String>,
) -> Option<Handed> {
    let found = find(names).and_then(|handed| lacks().map_or(Ok(handed), |why| Err(vec![why])));
    match found {
        Ok(handed) => {
            report(test, "ran", &[]);
            Some(handed)
        }
        Err(why) => {
            eprintln!("skipped: {test}: {}", why.join("; "));
            report(test, "skipped", &why);
            None
        }
    }
}

fn find(names: &[&str]) -> Result<Handed, Vec<String>> {
    let Some(path) = std::env::var_os(TOOLS) else {
        return Err(vec!["no tools were handed over; type: cargo xtask ci --only peers".to_owned()]);
    };
    let tools: Vec<Tool> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut handed = BTreeMap::new();
    let mut lacking = Vec::new();
    for &name in names {
        // What `ci` has not even tried to install is a fault of ours, and no reason to skip.
        let tool =
            tools.iter().find(|tool| tool.name == name).unwrap_or_else(|| panic!("no {name}: ci/peers.rs"));
        match (&tool.path, &tool.why) {
            (Some(path), _) => drop(handed.insert(name.to_owned(), path.clone())),
            (None, why) => lacking.push(format!("{name}: {}", why.as_deref().unwrap_or("it is not there"))),
        }
    }
    if lacking.is_empty() { Ok(Handed(handed)) } else { Err(lacking) }
}

fn report(test: &str, outcome: &str, why: &[String]) {
    let Some(path) = std::env::var_os(REPORT) else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    // In one write: the tests run side by side.
    let line = format!("{}\n", json!({"test": test, "outcome": outcome, "why": why}));
    file.write_all(line.as_bytes()).unwrap();
}
