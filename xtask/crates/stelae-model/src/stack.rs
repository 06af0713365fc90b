//! `config/stack.toml`: which services there are, and when the stack is ready.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ExitCode, Failure};

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Version of this schema: 1.
    pub version: u32,
    /// The gateway: the service that has the endpoint.
    pub gateway: Service,
    /// When the stack is ready.
    pub readiness: ReadinessRules,
}

/// A service: one process, for as long as the stack is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its program; `<<NAME>>` stands for a variable.
    pub command: String,
    /// Its arguments; `<<NAME>>` stands for a variable.
    #[serde(default)]
    pub args: Vec<String>,
    /// How it gets its port.
    #[serde(default)]
    pub socket: Socket,
    /// An env file whose variables are put on top of the declared ones. It is for variables of the program's own;
    /// one that overrides a declared variable is found by the attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<String>,
    /// Milliseconds between the polite signal and the kill.
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
}

fn default_grace_ms() -> u64 {
    3_000
}

/// How a service gets its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Socket {
    /// The listening socket is made first and handed over (`LISTEN_FDS`): no race.
    #[default]
    Passed,
    /// It binds the port itself; a placeholder keeps the port for it.
    Own,
}

/// When the stack is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadinessRules {
    /// Milliseconds without any output after which a start is given up.
    pub idle_ms: u64,
    /// Milliseconds after which it is given up whatever it says.
    pub ceiling_ms: u64,
    /// The same under continuous integration.
    pub ceiling_ci_ms: u64,
    /// Path of the MCP endpoint.
    pub mcp_path: String,
    /// Path that answers 200 as soon as the process serves; absent: that rung is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    /// Path that says which server is ready and which is not; only for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_path: Option<String>,
    /// Tools that must be listed.
    pub required_tools: Vec<String>,
    /// A call that must succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// A call whose success shows that the stack works.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
}

/// Reads a `stack.toml`.
///
/// # Errors
/// Exit 20, `stack-config`, with line and column.
pub fn parse_stack(path: &str, text: &str) -> Result<Stack, Failure> {
    let stack: Stack = parse_toml("stack-config", path, text)?;
    let rules = &stack.readiness;
    if rules.idle_ms == 0 || rules.idle_ms > rules.ceiling_ms || rules.ceiling_ms > rules.ceiling_ci_ms {
        return Err(Failure::new(ExitCode::Environment, "stack-config", "the readiness limits do not nest")
            .on(path.to_owned())
            .because(format!(
                "idle_ms {} <= ceiling_ms {} <= ceiling_ci_ms {} does not hold",
                rules.idle_ms, rules.ceiling_ms, rules.ceiling_ci_ms
            )));
    }
    Ok(stack)
}

/// Reads a TOML file of ours whose first key is `version = 1`.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(
    kind: &str,
    path: &str,
    text: &str,
) -> Result<T, Failure> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
            format!("{path}:{line}:{column}")
        });
        Failure::new(ExitCode::Environment, kind, "a configuration file cannot be read")
            .on(place.unwrap_or_else(|| path.to_owned()))
            .because(error.message().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version = 1\n[gateway]\ncommand = \"g\"\n[readiness]\nidle_ms = 1\nceiling_ms = 2\n\
                        ceiling_ci_ms = 3\nmcp_path = \"/mcp\"\nrequired_tools = []\n";

    #[test]
    fn a_stack_reads_and_an_unknown_key_has_its_place() {
        assert_eq!(parse_stack("stack.toml", GOOD).unwrap().gateway.grace_ms, 3_000);
        let failure = parse_stack("stack.toml", &GOOD.replace("idle_ms", "idel_ms")).unwrap_err();
        assert_eq!(failure.on, ["stack.toml:5:1"]);
        assert!(failure.why[0].contains("idel_ms"), "{failure}");
    }

    #[test]
    fn limits_must_nest() {
        let failure = parse_stack("stack.toml", &GOOD.replace("idle_ms = 1", "idle_ms = 9")).unwrap_err();
        assert!(failure.what.contains("nest"));
    }
}
