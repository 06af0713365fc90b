//! What a template may say: the names it knows and how tokens are written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

    /// All known names, sorted.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value of a name: `None` if the name is unknown, `Some(None)` if it is known and has no value.
    pub fn value(&self, name: &str) -> Option<Option<&str>> {
        self.values.get(name).map(Option::as_deref)
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
