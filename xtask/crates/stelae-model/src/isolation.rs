//! What keeps the processes of a verb together.

use serde::{Deserialize, Serialize};

/// What keeps the processes of a verb together. Decided once, before the first of them is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// The mutual guardian: two processes, each of which ends everything when the other dies. Both killed in one instant
    /// leave what they started, until the next start sweeps it.
    #[default]
    Guard,
    /// The same, with the inner half as the first process of a PID namespace: when it dies, the kernel kills everything in
    /// there, whatever it did to get away. Pids in the evidence are then those of the namespace.
    Pidns,
}

impl Isolation {
    /// As the command line and the evidence say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Pidns => "pidns",
        }
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
