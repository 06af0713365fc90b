//! Attestation: what live processes really have in their environment, compared with what was declared for them.
//!
//! The compiler has seen that every program was *given* its variables; this sees what each process *has*, whatever
//! an env file, a wrapper or a process manager did in between. A process whose memory does not tell that any more is judged
//! by what it was given, as the process that started it recorded it.

mod difference;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use difference::Difference;
pub use memory::{Memory, entries};

use super::ProgramEnv;
use super::programs::declared;
use crate::starts::{Origin, StartRecord};
use crate::value::{digest, full_digest};

/// What one process label (`gateway`, `server:stelae`) was declared to have.
#[derive(Clone, Debug, Default)]
pub struct Declaration {
    /// Variables that must be there with just this value.
    pub must_have: BTreeMap<String, String>,
    /// Variables that must be there, with a value that no process outside can know: tokens made at the start.
    pub must_be_set: BTreeSet<String>,
    /// Variables that may be there besides: what passes a socket.
    pub may_have: BTreeSet<String>,
    /// It need not be alive: a server that is not required.
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

    fn expects(&self, name: &str) -> bool {
        self.must_have.contains_key(name) || self.must_be_set.contains(name) || self.may_have.contains(name)
    }
}

/// A live process, as it was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its pid.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What its memory says.
    pub memory: Memory,
}

/// What a process was judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgedBy {
    /// The environment in its memory; and what it was given, where that is recorded.
    Memory,
    /// The environment that it was given, alone.
    Start,
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
    /// What it was judged by.
    pub judged_by: JudgedBy,
    /// Why not by its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Its environment; secrets, and whatever nobody declared, as digests; of one that is judged by its start, all values.
    pub environment: BTreeMap<String, String>,
}

/// A process that a server or service has started, or left behind. Its environment is not compared with anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCompared {
    /// Its pid.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// The label of the server or service, where it is known.
    pub started_by: Option<String>,
}

/// The environment report of the evidence.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attestation {
    /// Every process that was judged.
    pub processes: Vec<AttestedProcess>,
    /// What servers and services have started themselves.
    #[serde(default)]
    pub not_compared: Vec<NotCompared>,
    /// Every difference.
    pub differences: Vec<Difference>,
}

/// Compares.
pub fn attest(declarations: &BTreeMap<String, Declaration>, observed: &[Observed]) -> Attestation {
    let mut attestation = Attestation::default();
    let mut seen = BTreeSet::new();
    for process in observed {
        match &process.origin {
            Origin::Descendant(of) => attestation.not_compared.push(NotCompared {
                pid: process.pid,
                command: process.command.clone(),
                started_by: of.clone(),
            }),
            Origin::Recorded(start) => {
                seen.extend(attestation.judge(declarations, process, &start.process, Some(start)));
            }
            Origin::Unrecorded => {
                let label = match &process.memory {
                    Memory::Environment(environment) => environment.get("STELAE_PROCESS").cloned(),
                    _ => None,
                };
                seen.extend(attestation.judge(declarations, process, &label.unwrap_or_default(), None));
            }
        }
    }
    let absent = declarations
        .iter()
        .filter(|(label, declaration)| !declaration.may_be_absent && !seen.contains(*label));
    let absent = absent.map(|(label, _)| label);
    attestation.differences.extend(absent.map(|label| Difference::NoProcess { process: label.clone() }));
    attestation
}

impl Attestation {
    /// Judges one process, and gives its label if that is a declared one.
    fn judge(
        &mut self,
        declarations: &BTreeMap<String, Declaration>,
        process: &Observed,
        label: &str,
        start: Option<&StartRecord>,
    ) -> Option<String> {
        let pid = process.pid;
        let (judged_by, why, environment) = match &process.memory {
            Memory::Environment(environment) => {
                let shown = environment.iter().map(|(name, text)| (name.clone(), shown(name, text)));
                (JudgedBy::Memory, None, shown.collect())
            }
            Memory::Rewritten(why) | Memory::Unreadable(why) => {
                let given = start.iter().flat_map(|start| &start.environment);
                let given = given.map(|(name, sha256)| (name.clone(), short(sha256)));
                (JudgedBy::Start, Some(why.clone()), given.collect())
            }
        };
        if let Memory::Unreadable(why) = &process.memory {
            self.differences.push(Difference::Unreadable {
                process: start.map(|start| start.process.clone()),
                pid,
                command: process.command.clone(),
                why: why.clone(),
            });
        }
        let declared = declarations.get_key_value(label);
        if let Some((label, declaration)) = declared {
            self.differences.extend(compare(label, declaration, process, start));
        } else if !matches!(process.memory, Memory::Unreadable(_)) {
            self.differences.push(Difference::Undeclared {
                pid,
                command: process.command.clone(),
                process: Some(label.to_owned()).filter(|label| !label.is_empty()),
            });
        }
        self.processes.push(AttestedProcess {
            process: label.to_owned(),
            pid,
            command: process.command.clone(),
            judged_by,
            why,
            environment,
        });
        declared.map(|(label, _)| label.clone())
    }
}

/// What differs in the memory of a process, and in what it was given.
fn compare(
    label: &str,
    declaration: &Declaration,
    process: &Observed,
    start: Option<&StartRecord>,
) -> Vec<Difference> {
    let mut differences = match &process.memory {
        Memory::Environment(environment) => {
            Values { of: environment, is: |found, declared| found == declared, shown }.compared(
                label,
                declaration,
                process.pid,
            )
        }
        Memory::Rewritten(_) | Memory::Unreadable(_) => Vec::new(),
    };
    if let Some(start) = start {
        let given = Values {
            of: &start.environment,
            is: |found, declared| found == full_digest(declared),
            shown: |_, found| short(found),
        };
        let given = given.compared(label, declaration, process.pid);
        // Of the same variable the memory tells more: its value.
        let told = |given: &Difference| differences.iter().any(|one| one.variable() == given.variable());
        let more: Vec<_> = given.into_iter().filter(|given| !told(given)).collect();
        differences.extend(more);
    }
    differences
}

/// Variables of a process: their values, or digests of them.
struct Values<'a> {
    of: &'a BTreeMap<String, String>,
    /// Whether what was found is what was declared.
    is: fn(&str, &str) -> bool,
    /// What was found, by name, as it may be printed.
    shown: fn(&str, &str) -> String,
}

impl Values<'_> {
    fn compared(&self, label: &str, declaration: &Declaration, pid: u32) -> Vec<Difference> {
        let label = || label.to_owned();
        let mut differences = Vec::new();
        for (name, declared) in &declaration.must_have {
            let variable = name.clone();
            match self.of.get(name) {
                None => differences.push(Difference::Missing {
                    process: label(),
                    pid,
                    variable,
                    declared: Some(shown(name, declared)),
                }),
                Some(found) if !(self.is)(found, declared) => differences.push(Difference::Differs {
                    process: label(),
                    pid,
                    variable,
                    declared: shown(name, declared),
                    found: (self.shown)(name, found),
                }),
                Some(_) => {}
            }
        }
        let unset = |name: &&String| self.of.get(*name).is_none_or(|found| (self.is)(found, ""));
        for name in declaration.must_be_set.iter().filter(unset) {
            let variable = name.clone();
            differences.push(Difference::Missing { process: label(), pid, variable, declared: None });
        }
        // The base is no exception: what of it has no value here was not declared for this process.
        for name in self.of.keys().filter(|name| !declaration.expects(name)) {
            differences.push(Difference::Leaked { process: label(), pid, variable: name.clone() });
        }
        differences
    }
}

/// A digest of 64 digits, as [`digest`] writes it.
fn short(sha256: &str) -> String {
    format!("sha256:{}", sha256.get(..12).unwrap_or(sha256))
}

/// A value as it may be printed: what nobody declared is not ours to show, whatever it is called.
pub fn shown(name: &str, text: &str) -> String {
    match declared(name) {
        Some(declared) if !declared.secret => text.to_owned(),
        _ => digest(text),
    }
}
