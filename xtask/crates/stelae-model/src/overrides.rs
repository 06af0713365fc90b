//! The overrides file: which tools of which server clients see, under which names and with which descriptions.
//!
//! ```json
//! {"version": 1, "servers": {"files": {"tools": {"write_file": {"enabled": false}, "read": {"name": "read_text"}}}}}
//! ```
//! Servers and tools are named as they name themselves. What is not mentioned stays as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::proxy::{is_yes, yes};
use crate::{ExitCode, Failure};

/// The version of this file that this program reads.
const VERSION: u32 = 1;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// 1.
    pub version: u32,
    /// By the server's name in `proxy.json`.
    #[serde(default)]
    pub servers: BTreeMap<String, ServerOverrides>,
}

/// What is told of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerOverrides {
    /// By the name that the server itself gives the tool.
    #[serde(default)]
    pub tools: BTreeMap<String, ToolOverride>,
}

/// What is told of one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolOverride {
    /// Whether clients see it at all.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub enabled: bool,
    /// The name that clients see. A name that two servers have is prefixed all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The description that clients see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Reads an overrides file.
///
/// # Errors
/// Exit 21, `overrides`: no JSON, an unknown key, another version than 1, an empty name, or one name for two tools.
pub fn parse_overrides(path: &str, text: &str) -> Result<Overrides, Failure> {
    let wrong = |why: String| {
        Failure::new(ExitCode::Render, "overrides", "the overrides file cannot be used")
            .on(path.to_owned())
            .because(why)
    };
    let overrides: Overrides = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if overrides.version != VERSION {
        return Err(wrong(format!("version is {}, and this program reads {VERSION}", overrides.version)));
    }
    for (server, told) in &overrides.servers {
        let mut names = BTreeMap::new();
        for (tool, told) in &told.tools {
            let Some(name) = &told.name else { continue };
            if name.is_empty() {
                return Err(wrong(format!("servers.{server}.tools.{tool}.name is empty")));
            }
            if let Some(other) = names.insert(name, tool) {
                return Err(wrong(format!(
                    "servers.{server}: {other} and {tool} are both to be called {name:?}"
                )));
            }
        }
    }
    Ok(overrides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        parse_overrides("o.json", text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_said_stays() {
        let text = r#"{"version": 1, "servers": {"a": {"tools": {"t": {"description": "better"}}}}}"#;
        let told = &parse_overrides("o.json", text).unwrap().servers["a"].tools["t"];
        assert_eq!((told.enabled, told.name.as_deref()), (true, None));
        assert_eq!(parse_overrides("o.json", r#"{"version": 1}"#).unwrap().servers.len(), 0);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let of = |tools: &str| format!(r#"{{"version": 1, "servers": {{"a": {{"tools": {tools}}}}}}}"#);
        assert!(why("{}").contains("version"));
        assert!(why(r#"{"version": 2}"#).contains("version is 2"));
        assert!(why(&of(r#"{"t": {"rename": "x"}}"#)).contains("unknown field `rename`"));
        assert!(why(&of(r#"{"t": {"name": ""}}"#)).contains("tools.t.name is empty"));
        let twice = why(&of(r#"{"t": {"name": "x"}, "u": {"name": "x"}}"#));
        assert!(twice.contains("t and u are both to be called \"x\""), "{twice}");
    }
}
