//! An installed bundle as a value: everything that its folder in the config home holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// `installed.json`: what was installed, so that a later install can tell a person's edits from old versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this file's shape.
    pub schema: u32,
    /// The bundle.
    pub bundle: String,
    /// The version that was installed last.
    pub version: String,
    /// The SHA-256 of `servers/<name>.toml` as it was installed, in hexadecimal digits, by server.
    pub servers: BTreeMap<String, String>,
}

impl Record {
    /// The shape that this code reads and writes.
    pub const SCHEMA: u32 = 1;
}

/// The content of an installed bundle's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// Its `installed.json`; absent where nothing is installed.
    pub record: Option<Record>,
    /// The bytes of each `servers/<name>.toml`, whoever put it there.
    pub servers: BTreeMap<String, Vec<u8>>,
    /// Files that are none of ours, by relative path: kept as they are.
    pub foreign: BTreeMap<String, Vec<u8>>,
}

impl Folder {
    /// Whether nothing is left that anybody could miss.
    pub fn is_empty(&self) -> bool {
        self.record.is_none() && self.servers.is_empty() && self.foreign.is_empty()
    }

    /// The digest that was recorded for a server.
    pub(super) fn recorded(&self, server: &str) -> Option<&str> {
        self.record.as_ref()?.servers.get(server).map(String::as_str)
    }

    /// Names of the installed servers.
    pub fn installed(&self) -> impl Iterator<Item = &String> + Clone {
        self.record.iter().flat_map(|record| record.servers.keys())
    }
}

/// The SHA-256 of a file, in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing into a string cannot fail.
        write!(hex, "{byte:02x}").ok();
        hex
    })
}
