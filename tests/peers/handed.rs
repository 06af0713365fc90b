//! What was handed over: the programs of others, by name.

use std::collections::BTreeMap;
use std::fs;

use camino::Utf8PathBuf;
use serde::Deserialize;

/// The file that says which tools there are.
const TOOLS: &str = "PEERS_TOOLS";

/// One tool: its program, or why it is not there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
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
}

/// All of the tools that a test needs; or nothing, which has been said then. What a test is asked for that is no tool, and
/// is not there, it says with `lacks`.
pub(crate) fn need(test: &str, names: &[&str], lacks: Option<&str>) -> Option<Handed> {
    let found = find(names).and_then(|handed| lacks.map_or(Ok(handed), |why| Err(why.to_owned())));
    found.map_err(|why| eprintln!("skipped: {test}: {why}")).ok()
}

fn find(names: &[&str]) -> Result<Handed, String> {
    let Some(path) = std::env::var_os(TOOLS) else { return Err("no tools were handed over".to_owned()) };
    let tools: Vec<Tool> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let path = |name: &str| {
        let tool = tools.iter().find(|tool| tool.name == name).unwrap_or_else(|| panic!("no {name}"));
        let why = || tool.why.clone().unwrap_or_else(|| "it is not there".to_owned());
        Ok((name.to_owned(), tool.path.clone().ok_or_else(|| format!("{name}: {}", why()))?))
    };
    names.iter().map(|name| path(name)).collect::<Result<_, String>>().map(Handed)
}
