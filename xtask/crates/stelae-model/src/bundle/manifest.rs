//! A bundle as a value: its `bundle.toml` and its servers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Descriptor;
use crate::env::nearest;
use crate::proxy::is_plain_name;
use crate::render::{Source, one_line};
use crate::{ExitCode, Failure};

/// `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The bundle's name: that of its folder in the config home.
    pub name: String,
    /// What it is for, in one line.
    pub description: String,
    /// Its version; recorded when it is installed, and compared with nothing but itself.
    pub version: String,
}

/// A whole bundle, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its `bundle.toml`.
    pub manifest: Manifest,
    /// Its servers by name.
    pub servers: BTreeMap<String, ServerFile>,
}

/// The file of one server: what is installed are these bytes, comments included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFile {
    /// Path and text of the descriptor.
    pub source: Source,
    /// The same, typed.
    pub descriptor: Descriptor,
}

impl Manifest {
    /// Reads a `bundle.toml`.
    ///
    /// # Errors
    /// `bad-bundle` (exit 22), with the place of what is wrong.
    pub fn parse(source: &Source) -> Result<Self, Failure> {
        let fault = |at: usize, cause: String| {
            Failure::new(ExitCode::Bundle, "bad-bundle", "a bundle is badly described")
                .on(source.place(at).to_string())
                .because(cause)
        };
        let manifest: Self = toml::from_str(&source.text)
            .map_err(|error| fault(error.span().map_or(0, |span| span.start), one_line(error.message())))?;
        check_name("bundle", &manifest.name).map_err(|cause| fault(0, cause))?;
        Ok(manifest)
    }
}

impl Bundle {
    /// The servers that a person asked for; all of them if none was named.
    ///
    /// # Errors
    /// `unknown-server` (exit 22) with the nearest name there is.
    pub(super) fn select(&self, asked: &[String]) -> Result<Vec<String>, Failure> {
        select(&self.manifest.name, self.servers.keys(), asked)
    }
}

/// The names asked for, if all of them exist; all that exist if none was asked for. Sorted, each once.
pub(super) fn select<'k>(
    bundle: &str,
    known: impl Iterator<Item = &'k String> + Clone,
    asked: &[String],
) -> Result<Vec<String>, Failure> {
    if asked.is_empty() {
        return Ok(known.cloned().collect());
    }
    if let Some(unknown) = asked.iter().find(|name| !known.clone().any(|known| known == *name)) {
        let hint = nearest(unknown, known.clone().map(String::as_str)).map_or_else(
            || format!("its servers: {}", known.clone().cloned().collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean {near}?"),
        );
        let what = format!("bundle {bundle:?} has no server {unknown:?}");
        return Err(Failure::new(ExitCode::Bundle, "unknown-server", what).hint(hint));
    }
    let asked: std::collections::BTreeSet<&String> = asked.iter().collect();
    Ok(asked.into_iter().cloned().collect())
}

/// Checks the name of a bundle, a tool, or an installed server, which is the name of a folder or file. A server that is to be
/// installed has a stricter rule: [`server_name`](crate::server_name).
///
/// # Errors
/// Why it cannot be one. The rule of `is_plain_name` leaves out dots and slashes, so no name leads anywhere; a
/// leading `-` would be taken for a flag by the commands that hints tell people to type.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    if is_plain_name(name) && !name.starts_with('-') {
        return Ok(());
    }
    Err(format!("{what} name {name:?} is not [A-Za-z0-9_-]{{1,64}}, or starts with a dash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere() {
        for bad in
            ["", "..", ".", "a/b", "/a", "a\\b", "a.b", "-f", "a b", "ä", "a\0", "a\n", &"a".repeat(65)]
        {
            assert!(check_name("bundle", bad).is_err(), "{bad:?}");
        }
        for good in ["core", "A-1_b", &"a".repeat(64)] {
            assert!(check_name("bundle", good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn manifests_are_strict() {
        let failure =
            |text: &str| Manifest::parse(&Source::new("bundle.toml", text)).unwrap_err().to_string();
        assert_eq!(
            failure("name = 'x'\nversion = '1'\n"),
            "a bundle is badly described\n   on: bundle.toml:1:1\n  why: missing field `description`"
        );
        assert_eq!(
            failure("name = '../x'\nversion = '1'\ndescription = ''\n"),
            "a bundle is badly described\n   on: bundle.toml:1:1\n  why: bundle name \"../x\" is not [A-Za-z0-9_-]{1,64}, or starts with a dash"
        );
        assert!(failure("name = 'x'\nsize = 1\n").contains("bundle.toml:2:1\n  why: unknown field `size`"));
    }
}
