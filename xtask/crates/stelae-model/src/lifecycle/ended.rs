//! How a process ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// By itself, with this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It is gone, and who waited for it was not us.
    Unseen,
}

impl Ended {
    /// Whether it ended by itself with status 0.
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(number) => match signal_name(number) {
                Some(name) => write!(f, "signal {number} ({name})"),
                None => write!(f, "signal {number}"),
            },
            Self::Unseen => f.write_str("unknown status"),
        }
    }
}

/// The names of the signals that have the same number on every platform we know.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_0_is_success() {
        assert!(Ended::Status(0).is_success());
        assert!(![Ended::Status(1), Ended::Signal(0), Ended::Unseen].into_iter().any(Ended::is_success));
    }

    #[test]
    fn it_reads_as_the_end_of_a_sentence() {
        assert_eq!(Ended::Status(3).to_string(), "exit status 3");
        assert_eq!(Ended::Signal(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(Ended::Signal(40).to_string(), "signal 40");
    }
}
