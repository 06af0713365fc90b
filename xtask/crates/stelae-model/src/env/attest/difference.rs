//! What an attestation finds wrong, and how it is said.

use serde::{Deserialize, Serialize};

use super::Attestation;
use crate::{ExitCode, Failure};

/// A difference between declared and real.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "difference", rename_all = "kebab-case")]
pub enum Difference {
    /// A declared process is not alive.
    NoProcess {
        /// Its label.
        process: String,
    },
    /// A process of the stack carries no label, or one that nobody declared.
    Undeclared {
        /// Its pid.
        pid: u32,
        /// Its command line.
        command: String,
        /// Its label, if it has one.
        process: Option<String>,
    },
    /// The environment of a process cannot be read.
    Unreadable {
        /// Label of the process, where its start is recorded.
        process: Option<String>,
        /// Its pid.
        pid: u32,
        /// Its command line.
        command: String,
        /// What the system says.
        why: String,
    },
    /// A process that is judged by what it was given is not the one that listens on its address.
    ListensElsewhere {
        /// Label of the process.
        process: String,
        /// Its pid.
        pid: u32,
        /// The address.
        address: String,
        /// The process that listens there.
        found: Option<String>,
    },
    /// A variable is not there.
    Missing {
        /// Label of the process.
        process: String,
        /// Its pid.
        pid: u32,
        /// Name of the variable.
        variable: String,
        /// What it should be, where that is known.
        declared: Option<String>,
    },
    /// A variable has another value.
    Differs {
        /// Label of the process.
        process: String,
        /// Its pid.
        pid: u32,
        /// Name of the variable.
        variable: String,
        /// What it should be.
        declared: String,
        /// What it is.
        found: String,
    },
    /// A variable is there that nobody declared for this process.
    Leaked {
        /// Label of the process.
        process: String,
        /// Its pid.
        pid: u32,
        /// Name of the variable.
        variable: String,
    },
}

impl Difference {
    /// The variable that it is about.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Self::Missing { variable, .. }
            | Self::Differs { variable, .. }
            | Self::Leaked { variable, .. } => Some(variable),
            _ => None,
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoProcess { process } => write!(f, "{process}: no live process to look at"),
            Self::Undeclared { pid, command, process } => match process {
                Some(process) => write!(f, "pid {pid} ({command}): nobody declared a process {process:?}"),
                None => write!(f, "pid {pid} ({command}): carries no STELAE_PROCESS"),
            },
            Self::Unreadable { process, pid, command, why } => {
                let process = process.as_deref().map(|process| format!("{process}: ")).unwrap_or_default();
                write!(f, "{process}pid {pid} ({command}): its environment cannot be read: {why}")
            }
            Self::ListensElsewhere { process, pid, address, found } => {
                let found = found.as_deref().unwrap_or("no process");
                write!(f, "{process} (pid {pid}): {found} listens on {address}, and not this one")
            }
            Self::Missing { process, pid, variable, declared } => {
                write!(f, "{process} (pid {pid}): {variable} is missing")?;
                declared.as_ref().map_or(Ok(()), |declared| write!(f, ", declared is {declared:?}"))
            }
            Self::Differs { process, pid, variable, declared, found } => {
                write!(f, "{process} (pid {pid}): {variable} is {found:?}, declared is {declared:?}")
            }
            Self::Leaked { process, pid, variable } => {
                write!(f, "{process} (pid {pid}): {variable} is there, and nobody declared it")
            }
        }
    }
}

impl Attestation {
    /// The verdict of the report.
    ///
    /// # Errors
    /// Exit 20, `environment-differs`, or `environment-unreadable` when that is what was found first: names process, variable and both values of the first difference, and counts
    /// the others.
    pub fn verdict(&self) -> Result<(), Failure> {
        let Some(first) = self.differences.first() else { return Ok(()) };
        let (kind, what) = match first {
            Difference::Unreadable { .. } => {
                ("environment-unreadable", "the environment of a live process cannot be read")
            }
            _ => (
                "environment-differs",
                "a live process does not have the environment that was declared for it",
            ),
        };
        let mut failure = Failure::new(ExitCode::Environment, kind, what);
        for difference in self.differences.iter().take(5) {
            failure = failure.because(difference.to_string());
        }
        if self.differences.len() > 5 {
            failure =
                failure.because(format!("and {} more, see environment.json", self.differences.len() - 5));
        }
        let hint = match first {
            Difference::Differs { variable, .. } | Difference::Missing { variable, .. } => {
                format!(
                    "cargo xtask env explain {variable}; then look for an `env` or `env_file` of that process that sets it"
                )
            }
            Difference::Leaked { variable, .. } => {
                format!("declare {variable} for that program, or find out what sets it")
            }
            Difference::NoProcess { .. } | Difference::Undeclared { .. } => {
                "cargo xtask env matrix".to_owned()
            }
            Difference::Unreadable { pid, .. } => format!(
                "a process that changes its user or protects its memory cannot be proved: grep Uid /proc/{pid}/status"
            ),
            Difference::ListensElsewhere { .. } => "cargo xtask env show PROXY_PORT".to_owned(),
        };
        Err(failure.hint(hint))
    }
}
