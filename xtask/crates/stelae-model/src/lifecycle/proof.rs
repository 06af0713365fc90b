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
    /// Its pid, as the process that tears down sees it.
    pub pid: i32,
    /// Its pid outside of the PID namespace in which it is seen; none where there is no such namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_pid: Option<i32>,
    /// Its command line, shortened.
    pub command: String,
    /// Why it is still there, as far as we know: `not permitted to signal it`.
    pub why: String,
    /// Where in the kernel it waits, if it is in uninterruptible sleep (state D), from which no signal wakes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_channel: Option<String>,
}

impl Survivor {
    /// The pid by which the user finds it.
    fn users_pid(&self) -> i32 {
        self.host_pid.unwrap_or(self.pid)
    }

    fn named(&self) -> String {
        format!("pid {}: {}", self.users_pid(), self.command)
    }

    fn reason(&self) -> String {
        match &self.wait_channel {
            Some(channel) => format!("{}: it is in uninterruptible sleep (state D) in {channel}", self.why),
            None => self.why.clone(),
        }
    }
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
    /// Everyone who is left, a sentence each; empty if, and only if, it is shown that nobody is. `waitpid` may know of a child
    /// that no process table shows, because somebody has hidden it from us.
    pub fn left(&self) -> Vec<String> {
        if self.proof != Proof::None {
            return Vec::new();
        }
        if self.survivors.is_empty() {
            return vec!["a child that waitpid knows of, and the process table does not show".to_owned()];
        }
        self.survivors.iter().map(|one| format!("{} ({})", one.named(), one.reason())).collect()
    }

    /// The failure to report, if something survived.
    ///
    /// # Errors
    /// `survivor`, exit code 34, naming each process, as far as it can be seen.
    pub fn check(&self) -> Result<(), Failure> {
        if self.proof != Proof::None {
            return Ok(());
        }
        if self.survivors.is_empty() {
            let failure = Failure::new(
                ExitCode::Survivor,
                "survivor",
                "nothing shows that nobody survived the teardown",
            );
            let failure = self.left().into_iter().fold(failure, Failure::because);
            return Err(failure.hint("look for it as root: ps -ef --forest"));
        }
        let count = self.survivors.len();
        let mut failure =
            Failure::new(ExitCode::Survivor, "survivor", format!("{count} processes survived the teardown"));
        for survivor in &self.survivors {
            failure = failure.on(survivor.named()).because(survivor.reason());
        }
        Err(failure.hint(self.hint()))
    }

    /// A look, and no signal: these have been sent SIGKILL already, and a pid may be another process's by the time at which
    /// the hint is read.
    fn hint(&self) -> String {
        let pids: Vec<_> = self.survivors.iter().map(|survivor| survivor.users_pid().to_string()).collect();
        format!("ps -o pid,ppid,user,stat,wchan:32,args -p {}", pids.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_is_exit_34_and_names_itself() {
        let survivor = Survivor {
            pid: 7,
            host_pid: None,
            command: "sleep 9".into(),
            why: "not permitted to signal it".into(),
            wait_channel: None,
        };
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
        assert_eq!(proof.left(), ["pid 7: sleep 9 (not permitted to signal it)"]);
        let asleep = Survivor {
            host_pid: Some(4711),
            wait_channel: Some("fuse_wait".into()),
            ..proof.survivors[0].clone()
        };
        let asleep = TeardownProof { survivors: vec![asleep], ..proof.clone() };
        let text = asleep.check().unwrap_err().to_string();
        assert!(text.contains("pid 4711: sleep 9") && text.contains("(state D) in fuse_wait"), "{text}");
        assert!(text.contains("hint: ps ") && text.contains(" -p 4711"), "{text}");
        let hidden = TeardownProof { survivors: Vec::new(), ..proof.clone() };
        let failure = hidden.check().unwrap_err();
        assert_eq!((failure.exit_code, hidden.left().len()), (ExitCode::Survivor, 1));
        assert!(!failure.to_string().contains("kill"), "{failure}");
        let gone = TeardownProof { proof: Proof::NoChildLeft, ..proof };
        assert_eq!((gone.check(), gone.left()), (Ok(()), Vec::new()));
    }
}
