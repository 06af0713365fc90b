//! What the memory of a process says of its environment, and whether it says anything at all.

use std::collections::BTreeMap;

use crate::starts::StartRecord;

/// What the memory of a process says of its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// This environment.
    Environment(BTreeMap<String, String>),
    /// Nothing any more: the process itself has overwritten or moved it, and this is how that shows.
    Rewritten(String),
    /// It may not be read, for this reason.
    Unreadable(String),
}

impl Memory {
    /// What bytes of a process's memory say, when `start` is its recorded start and `image` identifies what it executes now.
    ///
    /// A program that was started anew with another environment has other content *and* another image; one that only
    /// wrote over its own memory has the same image, or at least as many bytes as it was given, with holes in them.
    pub fn of(bytes: &[u8], start: Option<&StartRecord>, image: Option<&str>) -> Self {
        let environment: BTreeMap<String, String> = entries(bytes).collect();
        let pairs = || environment.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let Some(start) = start.filter(|start| !start.is_given(pairs())) else {
            return Self::Environment(environment);
        };
        if start.image.is_some() && start.image.as_deref() == image {
            return Self::Rewritten(
                "it is not what it was right after the start, in the same process image".to_owned(),
            );
        }
        if !is_whole(bytes) && bytes.len() == start.environment_bytes {
            let why = format!("its {} bytes were overwritten in place", bytes.len());
            return Self::Rewritten(why);
        }
        Self::Environment(environment)
    }
}

/// The entries of an environment, as it lies in memory.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = (String, String)> {
    bytes.split(|&byte| byte == 0).filter(|entry| !entry.is_empty()).map(|entry| {
        let entry = String::from_utf8_lossy(entry);
        let (name, text) = entry.split_once('=').unwrap_or((&entry, ""));
        (name.to_owned(), text.to_owned())
    })
}

/// Whether these bytes are an environment as the kernel puts one there: `NAME=value` and a NUL, again and again.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(entries) = bytes.strip_suffix(&[0]) else { return false };
    entries
        .split(|&byte| byte == 0)
        .all(|entry| entry.iter().position(|&byte| byte == b'=').is_some_and(|at| at > 0))
}
