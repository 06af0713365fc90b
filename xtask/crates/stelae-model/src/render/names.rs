//! What a template may say: the names it knows and how tokens are written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::env::declared::HOME;
use crate::env::{Environment, ProgramEnv as _, ServerEnv, Variable as _};

/// The names that templates know, each with its value if it has one.
///
/// Plain data, so that it can be kept and sent. Whoever fills it leaves secrets out: what is rendered is kept in the
/// evidence, and a template that names a secret gets the error of an unknown name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Names {
    values: BTreeMap<String, Option<String>>,
}

impl Names {
    /// A table of names.
    pub fn new<N: Into<String>, V: Into<String>>(names: impl IntoIterator<Item = (N, Option<V>)>) -> Self {
        let values = names.into_iter().map(|(name, value)| (name.into(), value.map(Into::into))).collect();
        Self { values }
    }

    /// The same, with a name more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.values.insert(name.to_owned(), Some(value.into()));
        self
    }

    /// All known names, sorted.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value of a name: `None` if the name is unknown, `Some(None)` if it is known and has no value.
    pub fn value(&self, name: &str) -> Option<Option<&str>> {
        self.values.get(name).map(Option::as_deref)
    }
}

/// The names are what the stack's own server has in its environment, and `HOME`: it renders the same file as the verb
/// does, and must come to the same bytes. Secrets are left out.
impl From<&Environment> for Names {
    fn from(environment: &Environment) -> Self {
        let declared = ServerEnv::VARIABLES.iter().copied().chain([HOME::DECLARED]);
        let public = declared.filter(|declared| !declared.secret);
        public.map(|declared| (declared.name, environment.text(declared.name))).collect()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, Option<V>)> for Names {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(names: I) -> Self {
        Self::new(names)
    }
}

/// How a token is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Syntax {
    /// `<<NAME>>`: ours.
    #[default]
    Angles,
    /// `{{NAME}}`: templates of the old stack, so that they can be moved over.
    Braces,
}

impl Syntax {
    /// What opens a token.
    pub const fn open(self) -> &'static str {
        match self {
            Self::Angles => "<<",
            Self::Braces => "{{",
        }
    }

    /// What closes a token.
    pub const fn close(self) -> &'static str {
        match self {
            Self::Angles => ">>",
            Self::Braces => "}}",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Layers;

    #[test]
    fn templates_know_what_a_server_knows_and_no_secrets() {
        let pairs =
            [("HOME", "/home/u"), ("PROXY_PORT", "22831"), ("STELAE_ROOT", "/r"), ("STELAE_BIN_DIR", "/b")];
        let process = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let environment = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let names = Names::from(&environment);
        assert_eq!(
            names.known().collect::<Vec<_>>(),
            [
                "HOME",
                "PROXY_HOST",
                "PROXY_PORT",
                "PUBLIC_BASE_URL",
                "STELAE_BIN_DIR",
                "STELAE_CONFIG_HOME",
                "STELAE_ROOT",
                "STELAE_RUN_ID",
                "STELAE_STATE_HOME",
                "STELAE_WORKSPACE_ROOT",
            ]
        );
        assert_eq!(names.value("PUBLIC_BASE_URL"), Some(Some("http://127.0.0.1:22831")));
        assert_eq!(names.value("STELAE_RUN_ID"), Some(None));
        assert_eq!(names.value("STELAE_CONTROL_TOKEN"), None);
    }
}
