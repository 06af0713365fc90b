//! What the agent is to do.

use std::path::Path;

use rmcp::model::JsonObject;
use serde::Deserialize;
use stelae_model::{ExitCode, Failure, value};
use stelae_run::files::{limits, read_config};

/// A script: calls in order, then something to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Steps {
    calls: Vec<Call>,
    #[serde(default = "done")]
    message: String,
}

fn done() -> String {
    "done".to_owned()
}

/// One call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    /// Name of the tool.
    pub(super) tool: String,
    /// Its arguments.
    #[serde(default)]
    pub(super) arguments: JsonObject,
}

/// A script that was read.
#[derive(Debug)]
pub(super) struct Script {
    steps: Steps,
    text: String,
}

impl Script {
    /// Reads the script at `path`.
    ///
    /// # Errors
    /// Exit code 2: it cannot be read, or is not a script.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let unusable = |why: String| {
            Failure::new(ExitCode::Usage, "script", "the script cannot be used")
                .on(path.display().to_string())
                .because(why)
                .hint(r#"a script is {"calls":[{"tool":"…","arguments":{…}}],"message":"done"}"#)
        };
        let bytes = read_config(path, limits::CONFIG).map_err(|error| unusable(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|error| unusable(error.to_string()))?;
        let steps = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { steps, text })
    }

    /// The calls, in order.
    pub(super) fn calls(&self) -> &[Call] {
        &self.steps.calls
    }

    /// What the agent says at the end.
    pub(super) fn message(&self) -> &str {
        &self.steps.message
    }

    /// Twelve hexadecimal digits that are the same for the same script.
    pub(super) fn digest(&self) -> String {
        value::digest(&self.text).trim_start_matches("sha256:").to_owned()
    }
}
