//! `config/stack.toml`: which services there are, and when the stack is ready.

mod check;
mod foreign;
mod order;
mod roster;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use foreign::{BUILTIN, Chosen, ForeignGateway, McpPaths, SERVER_IN_PATH};
pub use order::{GATEWAY, Planned, plan_start};
pub use roster::{Dependant, Roster, Stands};

use crate::expect::Expected;
use crate::render::Source;
use crate::{ExitCode, Failure};

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Version of this schema: 1.
    pub version: u32,
    /// The gateway: the process that has the endpoint.
    pub gateway: Gateway,
    /// Programs that can be put in its place (`--gateway NAME`), by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gateways: BTreeMap<String, ForeignGateway>,
    /// What runs beside it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// When the stack is ready.
    pub readiness: ReadinessRules,
}

impl Stack {
    /// Milliseconds between the polite signal and the kill, when everything is stopped at once: the longest that
    /// anybody asks for.
    pub fn grace_ms(&self) -> u64 {
        let services = self.services.values().map(|service| service.grace_ms);
        services.fold(self.gateway.grace_ms, u64::max)
    }
}

/// The gateway: one process, for as long as the stack is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
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
    /// Names of the services that have to be ready before it is started; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<String>>,
    /// How often it is started again after it ended by itself, in the life of one stack; at most 10. This declares such ends: each
    /// is a warning in a run's verdict.
    #[serde(default)]
    pub restarts: u32,
}

/// A service beside the gateway: one process, for as long as the stack is up. With neither `port` nor `ready_line`, it
/// is ready as soon as it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its program; `<<NAME>>` stands for a variable.
    pub command: String,
    /// Its arguments; `<<NAME>>` stands for a variable.
    #[serde(default)]
    pub args: Vec<String>,
    /// As the gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<String>,
    /// Milliseconds between the polite signal and the kill.
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
    /// The port that it binds itself, on `PROXY_HOST`; a placeholder keeps the port for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// It is ready only when a line of its log contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_line: Option<String>,
    /// Path on its port that answers 2xx as soon as it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    /// Names of the services that have to be ready before it is started.
    #[serde(default)]
    pub needs: Vec<String>,
    /// How often it is started again after it ended by itself, in the life of one stack; at most 10.
    #[serde(default)]
    pub restarts: u32,
    /// As in [`ReadinessRules`], for this service; absent: the stack's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// As in [`ReadinessRules`], for this service, restarts included; absent: the stack's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling_ms: Option<u64>,
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
    /// A call that must succeed, and be answered as it should. A stack without one is refused.
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
    /// What its answer must be; never empty.
    #[serde(default)]
    pub result: Vec<Expected>,
}

/// Reads a `stack.toml`.
///
/// # Errors
/// Exit 20, `stack-config`, with line and column; another version than 1, a time of more than a day, limits that do not
/// nest, and what [`Service`]s must not say; `unknown-service`, `needs-cycle`.
pub fn parse_stack(path: &str, text: &str) -> Result<Stack, Failure> {
    let stack: Stack = parse_toml("stack-config", path, text)?;
    let rules = &stack.readiness;
    let grace = [("gateway.grace_ms", stack.gateway.grace_ms)];
    check_times("stack-config", path, 0, 1000, &grace)?;
    let limits = [
        ("readiness.idle_ms", rules.idle_ms),
        ("readiness.ceiling_ms", rules.ceiling_ms),
        ("readiness.ceiling_ci_ms", rules.ceiling_ci_ms),
    ];
    check_times("stack-config", path, 1, 1000, &limits)?;
    if rules.idle_ms > rules.ceiling_ms || rules.ceiling_ms > rules.ceiling_ci_ms {
        return Err(Failure::new(ExitCode::Environment, "stack-config", "the readiness limits do not nest")
            .on(path.to_owned())
            .because(format!(
                "idle_ms {} <= ceiling_ms {} <= ceiling_ci_ms {} does not hold",
                rules.idle_ms, rules.ceiling_ms, rules.ceiling_ci_ms
            )));
    }
    check::proof(path, rules)?;
    check::services(path, &stack)?;
    check::gateways(path, &stack)?;
    plan_start(&stack).map_err(|failure| in_file(path, failure))?;
    order::check_foreign_needs(&stack).map_err(|failure| in_file(path, failure))?;
    Ok(stack)
}

/// The failure of a key, with the file that has it.
fn in_file(path: &str, failure: Failure) -> Failure {
    Failure { on: failure.on.iter().map(|key| format!("{path}: {key}")).collect(), ..failure }
}

/// The version of `stack.toml` and `smoke.toml` that this program reads.
const VERSION: i64 = 1;

/// What is read of a file before anything else: another version may have other keys.
#[derive(Deserialize)]
struct Versioned {
    version: toml::Spanned<i64>,
}

/// Reads a TOML file of ours that says `version = 1`.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(
    kind: &str,
    path: &str,
    text: &str,
) -> Result<T, Failure> {
    let source = Source::new(path, text);
    if let Ok(Versioned { version }) = toml::from_str(text)
        && *version.get_ref() != VERSION
    {
        return Err(Failure::new(ExitCode::Environment, kind, "a configuration file is of another version")
            .on(source.place(version.span().start).to_string())
            .because(format!("its version is {}, and this program reads {VERSION}", version.get_ref()))
            .hint("use the xtask that lies beside the file"));
    }
    toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| source.place(span.start).to_string());
        Failure::new(ExitCode::Environment, kind, "a configuration file cannot be read")
            .on(place.unwrap_or_else(|| path.to_owned()))
            .because(error.message().to_owned())
    })
}

/// The longest time that a file of ours may ask for, in seconds: a day. Longer ones are slips of a finger, and near the
/// end of their type they would overflow a clock.
const LONGEST_S: u64 = 86_400;

/// Checks times by their keys: each is at least `least`, and at most a day of `per_second` units.
pub(crate) fn check_times(
    kind: &str,
    path: &str,
    least: u64,
    per_second: u64,
    times: &[(&str, u64)],
) -> Result<(), Failure> {
    let most = LONGEST_S * per_second;
    match times.iter().find(|(_, time)| !(least..=most).contains(time)) {
        None => Ok(()),
        Some((key, time)) => Err(Failure::new(ExitCode::Environment, kind, "a time is out of range")
            .on(format!("{path}: {key}"))
            .because(format!("it is {time}, and must be {least} to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const GOOD: &str = "version = 1\n[gateway]\ncommand = \"g\"\n[readiness]\nidle_ms = 1\nceiling_ms = 2\n\
                        ceiling_ci_ms = 3\nmcp_path = \"/mcp\"\nrequired_tools = [\"t\"]\n\
                        canary = { tool = \"t\", arguments = {}, result = [{ contains = \"x\" }] }\n";

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

    #[test]
    fn another_version_is_said_before_its_keys_are_unknown() {
        let text = GOOD.replace("version = 1", "version = 2").replace("mcp_path", "new_key");
        let failure = parse_stack("stack.toml", &text).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "stack-config"));
        assert_eq!(failure.on, ["stack.toml:1:11"]);
        assert_eq!(failure.why, ["its version is 2, and this program reads 1"]);
        assert!(parse_stack("stack.toml", &GOOD.replace("version = 1\n", "")).is_err());
    }

    #[test]
    fn times_are_at_most_a_day() {
        for (old, new, place) in [
            ("ceiling_ci_ms = 3", "ceiling_ci_ms = 9000000000000000000", "readiness.ceiling_ci_ms"),
            ("idle_ms = 1", "idle_ms = 0", "readiness.idle_ms"),
            ("command = \"g\"", "command = \"g\"\ngrace_ms = 86400001", "gateway.grace_ms"),
        ] {
            let failure = parse_stack("stack.toml", &GOOD.replace(old, new)).unwrap_err();
            assert_eq!(failure.on, [format!("stack.toml: {place}")]);
        }
    }
}
