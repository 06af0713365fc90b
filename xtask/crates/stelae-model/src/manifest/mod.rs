//! What a folder is made of, entry by entry, so that two looks at it can be compared: the run's clone and its config home.
//!
//! ```text
//! mod         what a manifest is
//! compare     what differs between two of them
//! declared    what a stage may change: patterns of places
//! digest      a SHA-256, as its 64 digits
//! git_index   what git's index says, without the file times that git refreshes in it
//! ```
//! A place is a root and a path: `repo:src/main.rs`, `config:proxy.json`. Names are bytes; what is no printable character stands
//! as `\xff` in a place, and a backslash as `\\`, so that two names are never one place.

mod compare;
mod declared;
mod digest;
mod git_index;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use compare::{Change, Difference, compare, summary};
pub use declared::{Declared, ROOTS};
pub use digest::Digest;
pub use git_index::{Tracked, read_index};

/// The entries of one or more folders, by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Every entry, the roots themselves included.
    pub entries: BTreeMap<String, Entry>,
    /// What the index of the clone's git says of each name. Shared by all looks between which git did not write it.
    #[serde(with = "shared")]
    pub tracked: Arc<BTreeMap<String, String>>,
}

/// A shared value is written like the value itself.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}

/// Entries that changed on purpose, by their places; `None`: it went.
pub type Changes = BTreeMap<String, Option<Entry>>;

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is.
    pub what: What,
    /// The lower twelve bits of its mode; 0 for a link, which has none.
    pub mode: u32,
    /// Its user and group.
    pub owner: (u32, u32),
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A regular file.
    File {
        /// Its length in bytes.
        bytes: u64,
        /// What is in it.
        content: Content,
    },
    /// A folder.
    Folder,
    /// A symbolic link, with the bytes it holds written as in a place.
    Link(String),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device, with its number.
    Device(u64),
    /// A folder whose entries cannot be listed, and why.
    Unlisted(String),
    /// Another file system, or another folder, is mounted there. It is not looked into.
    Mount,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Its SHA-256.
    Sha256(Digest),
    /// It could not be read, and why.
    Unread(String),
    /// It was not read: that the file is another one is known without.
    Skipped,
    /// It is git's index: what that says stands beside the entries ([`Manifest::tracked`]).
    Index,
}

impl What {
    /// Its name in a message.
    pub fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Folder => "folder",
            Self::Link(_) => "link",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Device(_) => "device",
            Self::Unlisted(_) => "folder that cannot be listed",
            Self::Mount => "mount",
        }
    }
}

impl Manifest {
    /// The entry at a place.
    pub fn get(&self, place: &str) -> Option<&Entry> {
        self.entries.get(place)
    }

    /// The entries of both; where both have a place, those of `other`.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        if !other.tracked.is_empty() {
            self.tracked = other.tracked;
        }
        self
    }

    /// The entries below one root.
    #[must_use]
    pub fn of_root(&self, root: &str) -> Self {
        let below = |place: &str| place.split_once(':').is_some_and(|(of, _)| of == root);
        let entries = self.entries.iter().filter(|(place, _)| below(place));
        let entries = entries.map(|(place, entry)| (place.clone(), entry.clone())).collect();
        let is_clones = root == ROOTS[0];
        Self { entries, tracked: if is_clones { Arc::clone(&self.tracked) } else { Arc::default() } }
    }

    /// What it is after these changes.
    #[must_use]
    pub fn changed_by(mut self, changes: &Changes) -> Self {
        for (place, entry) in changes {
            match entry {
                Some(entry) => drop(self.entries.insert(place.clone(), entry.clone())),
                None => drop(self.entries.remove(place)),
            }
        }
        self
    }
}

/// The place of a root itself.
pub fn root_place(root: &str) -> String {
    format!("{root}:")
}

/// The place of an entry with this name in the folder at `parent`.
pub fn place_in(parent: &str, name: &[u8]) -> String {
    let mut place = String::with_capacity(parent.len() + name.len() + 1);
    place.push_str(parent);
    if !parent.ends_with(':') {
        place.push('/');
    }
    escape(&mut place, name);
    place
}

/// Where the index of the clone's git is.
pub const INDEX: &str = "repo:.git/index";

/// Bytes as they stand in a place and in a message: printable, and never two for one.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    escape(&mut text, bytes);
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    // Nearly every name is plain.
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'[' | b']'..=b'~'))
        && let Ok(plain) = std::str::from_utf8(bytes)
    {
        text.push_str(plain);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                // Controls, and what reorders or hides text on a terminal.
                _ if character.is_control() || is_format(character) => {
                    let mut utf8 = [0; 4];
                    character.encode_utf8(&mut utf8).bytes().for_each(|byte| hex(text, byte));
                }
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|&byte| hex(text, byte));
    }
}

fn hex(text: &mut String, byte: u8) {
    // Writing to a `String` cannot fail.
    write!(text, "\\x{byte:02x}").ok();
}

/// Characters without a width, by which one name can look like another.
fn is_format(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests;
