//! `config/tools.toml`: programs of others that tests, benchmarks and stages use, each pinned to one version whose content
//! is known.

mod content;
mod pin;
mod toolchain;
mod unreachable;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use content::{crate_checksum, module_sum, package_integrity};
pub use pin::{Installed, Kind, Pin};
pub use toolchain::{Version, reported};
pub use unreachable::is_unreachable;

use crate::bundle::check_name;
use crate::env::nearest;
use crate::stack::parse_toml;
use crate::{ExitCode, Failure};

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// Version of this schema: 1.
    pub version: u32,
    /// What is pinned, by the name that the verbs know it by.
    pub tools: BTreeMap<String, Pin>,
}

impl Tools {
    /// The pin of a name.
    ///
    /// # Errors
    /// Exit 2, `unknown-tool`, with the nearest name.
    pub fn pin(&self, name: &str) -> Result<&Pin, Failure> {
        self.tools.get(name).ok_or_else(|| {
            let failure =
                Failure::new(ExitCode::Usage, "unknown-tool", format!("no tool is called {name:?}"));
            match nearest(name, self.tools.keys().map(String::as_str)) {
                Some(near) => failure.hint(format!("did you mean {near}? see: cargo xtask tools list")),
                None => failure.hint("cargo xtask tools list"),
            }
        })
    }
}

/// Reads a `tools.toml`.
///
/// # Errors
/// Exit 20, `tools-config`, with line and column, or with the key of what a pin must not say.
pub fn parse_tools(path: &str, text: &str) -> Result<Tools, Failure> {
    let tools: Tools = parse_toml("tools-config", path, text)?;
    for (name, pin) in &tools.tools {
        let checked = check_name("tool", name).map_err(|why| (String::new(), why));
        checked.and_then(|()| pin.check().map_err(|(key, why)| (format!(".{key}"), why))).map_err(
            |(key, why)| {
                Failure::new(ExitCode::Environment, "tools-config", "a tool is badly pinned")
                    .on(format!("{path}: tools.{name}{key}"))
                    .because(why)
            },
        )?;
    }
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version = 1\n[tools.judge]\nabout = \"it judges\"\nkind = \"npm\"\npackage = \"@a/judge\"\n\
        version = \"0.1.13\"\nintegrity = \"sha512-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\"\n\
        programs = [\"judge\"]\nat_least = \"18\"\n";

    #[test]
    fn pins_read_and_an_unknown_key_has_its_place() {
        assert_eq!(parse_tools("tools.toml", GOOD).unwrap().pin("judge").unwrap().version, "0.1.13");
        let failure = parse_tools("tools.toml", &GOOD.replace("at_least", "at_laest")).unwrap_err();
        assert_eq!((failure.kind.as_str(), failure.on[0].as_str()), ("tools-config", "tools.toml:9:1"));
    }

    #[test]
    fn what_is_not_exact_is_no_pin() {
        for (old, new, key) in [
            ("0.1.13", "^0.1.13", ".version"),
            ("0.1.13", "latest", ".version"),
            ("0.1.13", "../1", ".version"),
            ("sha512-A", "sha256-A", ".integrity"),
            ("AA==", "==", ".integrity"),
            ("@a/judge", "--global", ".package"),
            ("@a/judge", "a b", ".package"),
            ("[\"judge\"]", "[]", ".programs"),
            ("[\"judge\"]", "[\"../judge\"]", ".programs"),
            ("at_least = \"18\"", "at_least = \"new\"", ".at_least"),
            ("kind = \"npm\"", "kind = \"npm\"\nprofile = \"dev\"", ".profile"),
            ("tools.judge", "tools.\"..\"", ""),
            ("kind = \"npm\"", "kind = \"npm\"\nparts = { \"@a/b\" = \"sha512-A==\" }", ".parts"),
            ("kind = \"npm\"", "kind = \"npm\"\nparts = { \"a b\" = INTEGRITY }", ".parts"),
            ("kind = \"npm\"", "kind = \"npm\"\nparts = { \"-a\" = INTEGRITY }", ".parts"),
            ("kind = \"npm\"", "kind = \"npm\"\nparts = { \"@a/judge\" = INTEGRITY }", ".parts"),
        ] {
            let text =
                GOOD.replace(old, new).replace("INTEGRITY", &format!("\"sha512-{}==\"", "A".repeat(86)));
            let failure = parse_tools("tools.toml", &text).unwrap_err();
            assert_eq!(failure.exit_code, ExitCode::Environment);
            assert!(
                failure.on[0].starts_with("tools.toml: tools.") && failure.on[0].ends_with(key),
                "{failure}"
            );
        }
    }

    #[test]
    fn only_npm_has_parts() {
        let digest = "a".repeat(64);
        let other = format!(
            "version = 1\n[tools.judge]\nabout = \"it judges\"\nkind = \"cargo\"\npackage = \"judge\"\nversion = \"0.1.13\"\n\
             integrity = \"sha256:{digest}\"\nprograms = [\"judge\"]\nat_least = \"1.80\"\n"
        );
        assert!(parse_tools("tools.toml", &other).is_ok());
        let parts = format!("[tools.judge.parts]\nb = \"sha256:{digest}\"\n");
        let failure = parse_tools("tools.toml", &(other + &parts)).unwrap_err();
        assert_eq!(
            (failure.on[0].as_str(), failure.why[0].as_str()),
            ("tools.toml: tools.judge.parts", "is for npm only")
        );
    }

    #[test]
    fn a_name_that_is_not_there_is_answered_with_the_nearest() {
        let failure = parse_tools("tools.toml", GOOD).unwrap().pin("juge").unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Usage, "unknown-tool"));
        assert!(failure.hint.unwrap().starts_with("did you mean judge?"));
    }
}
