//! The readiness ladder: the rungs in their order, and how one stands on them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One rung. A service is ready on a rung only when it is ready on every rung below; rungs that nobody asked for are
/// left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// The process exists.
    Spawned,
    /// It printed the line that says it is ready.
    Announced,
    /// Somebody listens on its address, and it is this service.
    Listening,
    /// Its health path answers 2xx.
    Http,
    /// MCP `initialize` was answered.
    Initialize,
    /// `tools/list` has every required tool.
    Tools,
    /// One real call came back without an error.
    Canary,
}

impl Rung {
    /// The name in events and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spawned => "spawned",
            Self::Announced => "announced",
            Self::Listening => "listening",
            Self::Http => "http",
            Self::Initialize => "initialize",
            Self::Tools => "tools",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the service stands on a rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Ready,
    /// It does not hold yet; asking again makes sense.
    NotYet {
        /// What was seen last: a timeout prints it.
        status: String,
        /// Set when the service answers well, and only something that must be there is not.
        lacking: Option<Lacking>,
    },
    /// It cannot hold any more, however long one waits.
    Failed {
        /// Why.
        why: String,
        /// As in `NotYet`.
        lacking: Option<Lacking>,
    },
}

impl Standing {
    /// Not yet, and this is what was seen.
    pub fn not_yet(status: impl Into<String>) -> Self {
        Self::NotYet { status: status.into(), lacking: None }
    }
}

/// What a service that answers does not offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Required names that are not there.
    pub missing: Vec<String>,
    /// Names that are there.
    pub present: Vec<String>,
    /// Why, as far as the service says so: one line per server behind it.
    pub reasons: Vec<String>,
}
