//! What a teardown leaves behind as evidence.

use serde::{Deserialize, Serialize};

use super::Ended;
use crate::{ExitCode, Failure};

/// What shows that nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// The kernel says that we have no child any more. As every orphan falls to us, nothing of ours lives.
    NoChildLeft,
    /// Children are left, and all of them are processes that were released on purpose.
    OnlyReleased,
    /// Nothing of the one service that was stopped is left in the process table; other services live on.
    TreeGone,
    /// No proof: see the survivors.
    None,
}

/// One process that was signalled, and is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedProcess {
    /// Its pid.
    pub pid: i32,
    /// Its command line, shortened.
    pub command: String,
    /// The last signal that it was sent: `SIGTERM` or `SIGKILL`.
    pub signal: String,
    /// How it ended, if it was ours to wait for (a grandchild is waited for by its own parent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// One process that outlived the teardown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Its pid.
    pub pid: i32,
    /// Its command line, shortened.
    pub command: String,
    /// Why it is still there, as far as we know: `not permitted to signal it`.
    pub why: String,
}

/// The record of one teardown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeardownProof {
    /// What shows that nothing is left.
    pub proof: Proof,
    /// Everyone who was signalled and is gone, in the order in which they were found.
    pub stopped: Vec<StoppedProcess>,
    /// Everyone who is still there.
    pub survivors: Vec<Survivor>,
    /// How often the process table was read.
    pub rounds: u32,
    /// From the first signal to the proof.
    pub elapsed_ms: u64,
}

impl TeardownProof {
    /// The failure to report, if something survived.
    ///
    /// # Errors
    /// `survivor`, exit code 34, naming each process.
    pub fn check(&self) -> Result<(), Failure> {
        if self.proof != Proof::None {
            return Ok(());
        }
        let count = self.survivors.len();
        let mut failure =
            Failure::new(ExitCode::Survivor, "survivor", format!("{count} processes survived the teardown"));
        for survivor in &self.survivors {
            failure =
                failure.on(format!("pid {}: {}", survivor.pid, survivor.command)).because(&survivor.why);
        }
        let pids: Vec<_> = self.survivors.iter().map(|survivor| survivor.pid.to_string()).collect();
        Err(failure.hint(format!("kill -KILL {}", pids.join(" "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_is_exit_34_and_names_itself() {
        let survivor =
            Survivor { pid: 7, command: "sleep 9".into(), why: "not permitted to signal it".into() };
        let proof = TeardownProof {
            proof: Proof::None,
            stopped: Vec::new(),
            survivors: vec![survivor],
            rounds: 1,
            elapsed_ms: 1,
        };
        let failure = proof.check().unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Survivor, "survivor"));
        assert!(failure.to_string().contains("pid 7: sleep 9"));
        assert_eq!(TeardownProof { proof: Proof::NoChildLeft, ..proof }.check(), Ok(()));
    }
}
