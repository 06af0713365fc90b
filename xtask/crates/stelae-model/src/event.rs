//! The one record of what happened in a run. Terminal, JSON and every later report are its readers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;
use crate::{Failure, Isolation};

/// Version of the schema of `events.jsonl`. A field may be added within a version; nothing is renamed or removed.
pub const SCHEMA: u32 = 1;

/// One line of `events.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Counted from 0, without gaps.
    pub seq: u64,
    /// Milliseconds since the run started.
    pub at_ms: u64,
    /// What happened.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// First record.
    RunStarted {
        /// Id of the run.
        run: String,
        /// The verb (`smoke`, `restart`).
        verb: String,
        /// What it runs on.
        source: String,
        /// What keeps its processes together. Pids are those of the namespace, where there is one.
        #[serde(default)]
        isolation: Isolation,
    },
    /// A step begins.
    StepStarted {
        /// Its name.
        step: String,
        /// Milliseconds until its deadline, after everything that shrinks it.
        budget_ms: u64,
    },
    /// A step ended.
    StepFinished {
        /// Its name.
        step: String,
        /// How.
        outcome: StepOutcome,
        /// Milliseconds it took.
        elapsed_ms: u64,
    },
    /// A line that a process wrote.
    Line {
        /// Label of the process: `cargo`, `gateway`, `server:stelae`.
        source: String,
        /// The line, without its end.
        text: String,
    },
    /// The readiness ladder moved, or the rung it stands on says something new.
    Rung {
        /// The service.
        process: String,
        /// The rung.
        rung: String,
        /// Its status.
        status: String,
    },
    /// The stack is ready. `restart --attached` says so with this.
    Ready {
        /// URL of the endpoint; where each server has its own, what all of their URLs begin with.
        url: String,
        /// URL of each server's endpoint, by its name; empty where one endpoint has them all.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        servers: BTreeMap<String, String>,
        /// Pid of the service that has it.
        pid: u32,
        /// Tools that it lists.
        tools: Vec<String>,
        /// Milliseconds from the start of the first service.
        elapsed_ms: u64,
    },
    /// A call that an agent made.
    Call {
        /// The stage.
        stage: String,
        /// The tool.
        tool: String,
        /// `completed` or `failed`.
        status: String,
    },
    /// Something worth knowing.
    Note {
        /// What.
        text: String,
    },
    /// Something that is not as it should be, and does not change the verdict.
    Warning {
        /// What.
        text: String,
    },
    /// The live processes' environments were compared with what was declared.
    Attested {
        /// How many processes were read.
        processes: usize,
        /// How many differences there are.
        differences: usize,
    },
    /// A step's failure; the run goes on to its teardown.
    Failed {
        /// The step.
        step: String,
        /// What it found.
        failure: Failure,
    },
    /// The teardown is over.
    TornDown {
        /// How many processes were signalled.
        signalled: usize,
        /// Who is still there, if anybody is.
        survivors: Vec<String>,
        /// Milliseconds it took.
        elapsed_ms: u64,
    },
    /// Last record.
    Verdict {
        /// The verdict.
        verdict: Box<Verdict>,
    },
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It gave what it gives.
    Passed,
    /// It failed.
    Failed,
    /// It passed in an earlier session of this run; what it gave then was read back.
    Resumed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_and_reads_back() {
        let event = Event::Line { source: "gateway".into(), text: "a\nb".into() };
        let line = serde_json::to_string(&Record { schema: SCHEMA, seq: 1, at_ms: 2, event }).unwrap();
        assert_eq!(
            line,
            r#"{"schema":1,"seq":1,"at_ms":2,"event":{"kind":"line","source":"gateway","text":"a\nb"}}"#
        );
        assert!(serde_json::from_str::<Record>(&line).is_ok());
    }
}
