//! Attestation: what live processes really have in their environment, compared with what was declared for them.
//!
//! The compiler has seen that every program was *given* its variables; this sees what each process *has*, whatever
//! an env file, a wrapper or a process manager did in between.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ProgramEnv;
use super::programs::declared;
use crate::value::digest;
use crate::{ExitCode, Failure};

/// What one process label (`gateway`, `server:stelae`) was declared to have.
#[derive(Clone, Debug, Default)]
pub struct Declaration {
    /// Variables that must be there with just this value.
    pub must_have: BTreeMap<String, String>,
    /// Variables that must be there, with a value that nobody outside can know: tokens made at the start.
    pub must_be_set: BTreeSet<String>,
    /// Variables that may be there besides: what passes a socket.
    pub may_have: BTreeSet<String>,
    /// It need not be alive: a server that nobody requires.
    pub may_be_absent: bool,
}

impl Declaration {
    /// What a process given `env` must have, its label included.
    pub fn of(label: &str, env: &impl ProgramEnv) -> Self {
        let mut must_have: BTreeMap<String, String> =
            env.pairs().into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        must_have.insert("STELAE_PROCESS".to_owned(), label.to_owned());
        Self { must_have, ..Self::default() }
    }
}

/// A live process, as it was read.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its pid.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
}

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

/// One process in the report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttestedProcess {
    /// Its label.
    pub process: String,
    /// Its pid.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Its environment; secrets, and whatever nobody declared, as digests.
    pub environment: BTreeMap<String, String>,
}

/// The environment report of the evidence.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attestation {
    /// Every process that was read.
    pub processes: Vec<AttestedProcess>,
    /// Every difference.
    pub differences: Vec<Difference>,
}

/// Compares.
pub fn attest(declarations: &BTreeMap<String, Declaration>, observed: &[Observed]) -> Attestation {
    let mut attestation = Attestation::default();
    let mut seen = BTreeSet::new();
    for process in observed {
        let label = process.environment.get("STELAE_PROCESS").cloned();
        if let Some((label, declaration)) = label.as_ref().and_then(|label| declarations.get_key_value(label))
        {
            seen.insert(label.clone());
            attestation.differences.extend(compare(label, declaration, process));
        } else {
            attestation.differences.push(Difference::Undeclared {
                pid: process.pid,
                command: process.command.clone(),
                process: label.clone(),
            });
        }
        attestation.processes.push(AttestedProcess {
            process: label.unwrap_or_default(),
            pid: process.pid,
            command: process.command.clone(),
            environment: process
                .environment
                .iter()
                .map(|(name, text)| (name.clone(), shown(name, text)))
                .collect(),
        });
    }
    let absent = declarations
        .iter()
        .filter(|(label, declaration)| !declaration.may_be_absent && !seen.contains(*label));
    let absent = absent.map(|(label, _)| label);
    attestation.differences.extend(absent.map(|label| Difference::NoProcess { process: label.clone() }));
    attestation
}

fn compare(label: &str, declaration: &Declaration, process: &Observed) -> Vec<Difference> {
    let pid = process.pid;
    let label = || label.to_owned();
    let mut differences = Vec::new();
    for (name, declared) in &declaration.must_have {
        let variable = name.clone();
        match process.environment.get(name) {
            None => differences.push(Difference::Missing {
                process: label(),
                pid,
                variable,
                declared: Some(shown(name, declared)),
            }),
            Some(found) if found != declared => differences.push(Difference::Differs {
                process: label(),
                pid,
                variable,
                declared: shown(name, declared),
                found: shown(name, found),
            }),
            Some(_) => {}
        }
    }
    let unset = |name: &&String| process.environment.get(*name).is_none_or(String::is_empty);
    for name in declaration.must_be_set.iter().filter(unset) {
        let variable = name.clone();
        differences.push(Difference::Missing { process: label(), pid, variable, declared: None });
    }
    // The base is no exception: what of it has no value here was not declared for this process.
    for name in process.environment.keys() {
        let expected = declaration.must_have.contains_key(name)
            || declaration.must_be_set.contains(name)
            || declaration.may_have.contains(name);
        if !expected {
            differences.push(Difference::Leaked { process: label(), pid, variable: name.clone() });
        }
    }
    differences
}

/// A value as it may be printed: what nobody declared is not ours to show, whatever it is called.
pub fn shown(name: &str, text: &str) -> String {
    match declared(name) {
        Some(declared) if !declared.secret => text.to_owned(),
        _ => digest(text),
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
    /// Exit 20, `environment-differs`: names process, variable and both values of the first difference, and counts
    /// the others.
    pub fn verdict(&self) -> Result<(), Failure> {
        let Some(first) = self.differences.first() else { return Ok(()) };
        let mut failure = Failure::new(
            ExitCode::Environment,
            "environment-differs",
            "a live process does not have the environment that was declared for it",
        );
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
        };
        Err(failure.hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    fn observed(pairs: &[(&str, &str)]) -> Observed {
        Observed { pid: 7, command: "gateway serve".into(), environment: map(pairs) }
    }

    fn declarations() -> BTreeMap<String, Declaration> {
        let must_have = map(&[
            ("STELAE_PROCESS", "gateway"),
            ("PROXY_PORT", "1"),
            ("HTTPS_PROXY", "hunter2"),
            ("OWN_KEY", "hunter2"),
        ]);
        let must_be_set = ["STELAE_CONTROL_TOKEN".to_owned()].into();
        let may_have = ["LISTEN_FDS".to_owned()].into();
        BTreeMap::from([(
            "gateway".to_owned(),
            Declaration { must_have, must_be_set, may_have, may_be_absent: false },
        )])
    }

    const GOOD: [(&str, &str); 5] = [
        ("STELAE_PROCESS", "gateway"),
        ("PROXY_PORT", "1"),
        ("HTTPS_PROXY", "hunter2"),
        ("STELAE_CONTROL_TOKEN", "hunter2"),
        ("OWN_KEY", "hunter2"),
    ];

    fn one_difference(pairs: &[(&str, &str)]) -> Difference {
        let attestation = attest(&declarations(), &[observed(pairs)]);
        assert_eq!(attestation.differences.len(), 1, "{:?}", attestation.differences);
        assert!(!format!("{attestation:?}").contains("hunter2"));
        attestation.differences[0].clone()
    }

    #[test]
    fn only_what_need_not_be_alive_may_be_absent() {
        let mut declarations = declarations();
        assert_eq!(attest(&declarations, &[]).differences.len(), 1);
        declarations.get_mut("gateway").unwrap().may_be_absent = true;
        assert_eq!(attest(&declarations, &[]).differences, []);
    }

    #[test]
    fn agreement_is_silent() {
        let attestation = attest(&declarations(), &[observed(&GOOD)]);
        assert_eq!(attestation.verdict(), Ok(()));
        assert_eq!(attestation.processes[0].environment["STELAE_CONTROL_TOKEN"], "sha256:f52fbd32b2b3");
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        let with = |name, value| {
            let mut pairs = GOOD.to_vec();
            pairs.retain(|&(other, _)| other != name);
            pairs.push((name, value));
            pairs
        };
        let text = one_difference(&with("PROXY_PORT", "2")).to_string();
        assert_eq!(text, "gateway (pid 7): PROXY_PORT is \"2\", declared is \"1\"");
        assert!(
            matches!(one_difference(&with("CARGO", "x")), Difference::Leaked { variable, .. } if variable == "CARGO")
        );
        let without = |name| GOOD.iter().copied().filter(|&(other, _)| other != name).collect::<Vec<_>>();
        assert_eq!(
            one_difference(&without("PROXY_PORT")).to_string(),
            "gateway (pid 7): PROXY_PORT is missing, declared is \"1\""
        );
        assert!(matches!(one_difference(&with("HTTPS_PROXY", "other")), Difference::Differs { .. }));
        assert!(attest(&declarations(), &[observed(&with("LISTEN_FDS", "1"))]).differences.is_empty());
        assert!(
            attest(&declarations(), &[observed(&with("STELAE_CONTROL_TOKEN", "x"))]).differences.is_empty()
        );
        for token in [&without("STELAE_CONTROL_TOKEN"), &with("STELAE_CONTROL_TOKEN", "")] {
            let text = one_difference(token).to_string();
            assert_eq!(text, "gateway (pid 7): STELAE_CONTROL_TOKEN is missing");
        }
    }

    #[test]
    fn a_variable_of_the_base_that_was_not_declared_here_is_a_leak() {
        let mut pairs = GOOD.to_vec();
        pairs.push(("LC_ALL", "C"));
        assert!(
            matches!(one_difference(&pairs), Difference::Leaked { variable, .. } if variable == "LC_ALL")
        );
    }

    #[test]
    fn what_nobody_declared_is_shown_as_a_digest_whatever_it_is_called() {
        let mut pairs = GOOD.to_vec();
        pairs[4].1 = "hunter3";
        let text = one_difference(&pairs).to_string();
        assert!(text.contains("OWN_KEY is \"sha256:") && !text.contains("hunter3"), "{text}");
        pairs.push(("AWS_ACCESS_KEY_ID", "hunter3"));
        let attestation = attest(&declarations(), &[observed(&pairs)]);
        let text = serde_json::to_string(&attestation).unwrap();
        assert!(!text.contains("hunter") && text.contains("\"PROXY_PORT\":\"1\""), "{text}");
    }

    #[test]
    fn a_stack_of_which_nothing_was_seen_is_no_agreement() {
        let failure = attest(&declarations(), &[]).verdict().unwrap_err();
        assert!(failure.why[0].contains("no live process"), "{failure}");
        let unlabelled = attest(&declarations(), &[observed(&GOOD), observed(&[("PATH", "/bin")])]);
        assert!(matches!(unlabelled.differences[..], [Difference::Undeclared { process: None, .. }]));
    }
}
