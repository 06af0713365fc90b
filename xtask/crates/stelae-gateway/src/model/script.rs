//! What the model plays.

use std::collections::BTreeSet;

use camino::Utf8Path;
use serde::Deserialize;
use serde_json::{Map, Value};
use stelae_model::misbehaviour::{Misbehaviour, Wrong};
use stelae_model::{ExitCode, Failure};
use stelae_run::files::read_regular_text;

/// A script: calls in order, one a turn, then something to say.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    /// The name under which the agent knows the MCP server whose tools are called.
    #[serde(default = "stelae")]
    pub(super) server: String,
    /// The calls.
    pub(super) calls: Vec<Call>,
    /// What is said at the end.
    #[serde(default = "done")]
    pub(super) message: String,
    /// What goes wrong, and when.
    #[serde(default)]
    pub(super) misbehave: Option<Misbehaviour>,
}

/// One call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    /// Its server, where the agent knows more than one; else the script's.
    #[serde(default)]
    server: Option<String>,
    /// Name of the tool, as its server gives it.
    pub(super) tool: String,
    /// Its arguments.
    #[serde(default)]
    pub(super) arguments: Map<String, Value>,
}

fn stelae() -> String {
    "stelae".to_owned()
}

fn done() -> String {
    "done".to_owned()
}

impl Script {
    /// The server of a call.
    pub(super) fn server_of<'a>(&'a self, call: &'a Call) -> &'a str {
        call.server.as_deref().unwrap_or(&self.server)
    }

    /// Every server whose tools are called.
    pub(super) fn servers(&self) -> BTreeSet<&str> {
        self.calls.iter().map(|call| self.server_of(call)).chain([self.server.as_str()]).collect()
    }

    /// Reads the script at `path`.
    ///
    /// # Errors
    /// Exit code 2: it cannot be read, or is not a script.
    pub(crate) fn read(path: &Utf8Path) -> Result<Self, Failure> {
        let unusable = |why: String| {
            Failure::new(ExitCode::Usage, "script", "the script cannot be used")
                .on(path.as_str())
                .because(why)
                .hint(r#"a script is {"server":"stelae","calls":[{"tool":"…","arguments":{…}}],"message":"done"}"#)
        };
        let text = read_regular_text(path).map_err(|error| unusable(error.to_string()))?;
        let script: Self = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        script.misbehave.map_or(Ok(()), Misbehaviour::check).map_err(unusable)?;
        Ok(script)
    }

    /// Whether there is to be no model at all.
    pub(crate) fn is_dead(&self) -> bool {
        self.misbehave.is_some_and(|misbehaviour| misbehaviour.how == Wrong::Dead)
    }
}
