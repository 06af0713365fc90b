//! The closed list of exit codes. A number, once given, is never given again: scripts and dispatchers key off it.

use serde::{Deserialize, Serialize};

macro_rules! exit_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+) => {
        /// Every code that a program of this workspace exits with.
        ///
        /// Serialises as its number, because that is what a reader of the evidence compares with `$?`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "u8", try_from = "u8")]
        pub enum ExitCode {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl ExitCode {
            /// All of them, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What the code means, as `docs/EXIT_CODES.md` prints it.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// The name used in JSON verdicts and in the documentation.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }

        impl TryFrom<u8> for ExitCode {
            type Error = String;

            fn try_from(number: u8) -> Result<Self, String> {
                match number {
                    $($number => Ok(Self::$name),)+
                    other => Err(format!("{other} is not in the closed list of exit codes")),
                }
            }
        }
    };
}

exit_codes! {
    /// everything that was asked for was shown to hold
    Pass = 0,
    /// a bug of ours: please report it
    Unexpected = 1,
    /// the command line was not understood
    Usage = 2,
    /// a step failed for a reason that has no code of its own (a build, a git command)
    StepFailed = 10,
    /// an expectation of a stage was not met
    ExpectationNotMet = 11,
    /// passed only on repetition
    Flaky = 12,
    /// an expected failure passed, changed or expired
    LedgerViolated = 13,
    /// a variable is unknown, malformed, missing, or did not reach a process
    Environment = 20,
    /// a template or overlay could not be rendered
    Render = 21,
    /// a bundle could not be installed or removed
    Bundle = 22,
    /// a service exited before it was ready
    ExitedBeforeReady = 30,
    /// a service was not ready in time
    NotReadyInTime = 31,
    /// ready, but tools are missing
    ReadyButIncomplete = 32,
    /// the port is taken, by a stranger or by another process or stack of ours
    PortTaken = 33,
    /// something survived the teardown
    Survivor = 34,
    /// a program, file or permission that must be there is not
    PrerequisiteMissing = 40,
    /// git or a rendered file differs from what it should be
    Drift = 50,
    /// slot probe: the agent CLI is broken, unknown or not named
    ProbeCliBroken = 64,
    /// slot probe: credentials are missing
    ProbeCredentialsMissing = 65,
    /// slot probe: credentials are invalid or unreadable
    ProbeCredentialsInvalid = 66,
    /// the budget of the run is exhausted
    BudgetExhausted = 124,
    /// ended by SIGHUP
    Hangup = 129,
    /// ended by SIGINT (Ctrl-C)
    Interrupted = 130,
    /// ended by SIGTERM
    Terminated = 143,
}

impl ExitCode {
    /// The number given to the operating system.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The feature that is going to end with this code and does not exist yet: until it does, no program ends so, and
    /// nobody can have seen it.
    ///
    /// This is the one list of such codes. `selftest` has a witness for every other one; a test holds both, and that the
    /// sources say the same.
    pub fn awaits(self) -> Option<&'static str> {
        match self {
            Self::Flaky => Some("repetition of a run"),
            Self::LedgerViolated => Some("the ledger of expected failures"),
            Self::ProbeCliBroken | Self::ProbeCredentialsMissing | Self::ProbeCredentialsInvalid => {
                Some("the slot probe")
            }
            _ => None,
        }
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ascending_and_read_back() {
        assert!(ExitCode::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        for &code in ExitCode::ALL {
            assert_eq!(ExitCode::try_from(code.number()), Ok(code));
        }
        assert!(ExitCode::try_from(3).is_err());
    }
}
