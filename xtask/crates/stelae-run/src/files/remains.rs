//! What a removal has left, and why: each by its path, so that its user can decide about it.

use std::fmt;
use std::io;

use stelae_model::Failure;
use stelae_model::terminal::shell_word;

/// So many are named; of more there is a number.
const MOST_NAMED: usize = 10;
/// A longer path is cut in the middle: a tree can be thousands of folders deep.
const LONGEST_PATH: usize = 1_000;

/// What is left of a folder that was to be removed.
#[derive(Debug, Default)]
pub struct Remains {
    named: Vec<Left>,
    others: usize,
}

/// One thing that was left.
#[derive(Debug)]
struct Left {
    path: String,
    why: Why,
}

/// Why it was left.
#[derive(Debug)]
pub(super) enum Why {
    /// Something is mounted there: what is in it is elsewhere, too.
    MountPoint,
    /// It is set to be changed by no process: `chattr +i` or `+a`.
    Fixed,
    /// The deadline passed before it was empty.
    Deadline,
    /// It was moved while it was emptied.
    Moved,
    /// What the system says.
    System(io::Error),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MountPoint => f.write_str("something is mounted there, and what is in it was not touched"),
            Self::Fixed => f.write_str("it is marked as unchangeable (chattr +i or +a)"),
            Self::Deadline => f.write_str("there was no time left, or it was filled faster than emptied"),
            Self::Moved => f.write_str("it was moved while it was emptied"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl Remains {
    /// Remains of one thing.
    pub(super) fn one(path: String, why: Why) -> Self {
        let mut remains = Self::default();
        remains.add(path, why);
        remains
    }

    /// Remains of a path, for what the system says.
    pub(crate) fn of_path(path: &camino::Utf8Path, error: io::Error) -> Self {
        Self::one(path.to_string(), Why::System(error))
    }

    pub(super) fn add(&mut self, path: String, why: Why) {
        if self.named.len() < MOST_NAMED {
            self.named.push(Left { path, why });
        } else {
            self.others += 1;
        }
    }

    /// Nothing is left, or this.
    pub(super) fn or_nothing(self) -> Result<(), Self> {
        if self.named.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Adds to a failure what is left, and a hint for what is in the way. What to type after that is `then`; nothing that is
    /// ever proposed here removes anything by itself.
    #[must_use]
    pub fn tell(&self, mut failure: Failure, then: &str) -> Failure {
        for left in &self.named {
            failure = failure.on(shown(&left.path)).because(format!("{}: {}", shown(&left.path), left.why));
        }
        if self.others > 0 {
            failure = failure.because(format!("and {} more", self.others));
        }
        let first = self.named.iter().find_map(|left| match left.why {
            Why::MountPoint => Some(format!("umount {}", shell_word(&left.path))),
            Why::Fixed => Some(format!("chattr -ia {}", shell_word(&left.path))),
            _ => None,
        });
        failure.hint(match first {
            Some(first) => format!("{first}; then: {then}"),
            None => format!("when what is in the way is gone: {then}"),
        })
    }
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, left) in self.named.iter().enumerate() {
            let between = if number == 0 { "" } else { "; " };
            write!(f, "{between}{}: {}", shown(&left.path), left.why)?;
        }
        if self.others > 0 { write!(f, "; and {} more", self.others) } else { Ok(()) }
    }
}

impl std::error::Error for Remains {}

impl From<Remains> for io::Error {
    fn from(remains: Remains) -> Self {
        Self::other(remains)
    }
}

/// A path for a reader.
fn shown(path: &str) -> String {
    let length = path.chars().count();
    if length <= LONGEST_PATH {
        return path.to_owned();
    }
    let head: String = path.chars().take(LONGEST_PATH / 2).collect();
    let tail: String = path.chars().skip(length - LONGEST_PATH / 2).collect();
    format!("{head}…{tail}")
}
