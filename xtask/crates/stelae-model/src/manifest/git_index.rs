//! git's index, as far as it says something: which files are tracked, with which content and which flags.
//!
//! git writes the file anew whenever it refreshes file times in it, which changes bytes and nothing that they say. Versions 2 to 4
//! are read, for both kinds of object names (gitformat-index).

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// What the index says of each name. Names with more than one stage (a merge under way) have a line for each.
pub type Tracked = BTreeMap<Vec<u8>, String>;

/// Before the object name: times, device, inode, mode, user, group, size.
const STAT: usize = 40;
const ASSUME_UNCHANGED: u16 = 0x8000;
const EXTENDED: u16 = 0x4000;
const STAGE: u16 = 0x3000;
const NAME_LENGTH: usize = 0x0fff;
const SKIP_WORKTREE: u16 = 0x4000;
const INTENT_TO_ADD: u16 = 0x2000;
/// Extensions that only make git faster: a tree cache, an untracked cache, a monitor's answer, tables of offsets.
const CACHES: [&[u8]; 5] = [b"TREE", b"UNTR", b"FSMN", b"EOIE", b"IEOT"];

/// Reads an index; `None`, when it is not one that this reader knows.
pub fn read_index(bytes: &[u8]) -> Option<Tracked> {
    // Which object names it has, it does not say: with the wrong length, nothing fits.
    read(bytes, 20).or_else(|| read(bytes, 32))
}

fn read(bytes: &[u8], hash: usize) -> Option<Tracked> {
    let mut rest = Bytes(bytes.get(..bytes.len().checked_sub(hash)?)?);
    if rest.take(4)? != b"DIRC" {
        return None;
    }
    let (version, count) = (rest.u32()?, rest.u32()?);
    if !(2..=4).contains(&version) {
        return None;
    }
    let mut tracked = Tracked::new();
    let mut name = Vec::new();
    for _ in 0..count {
        let says = entry(&mut rest, version, hash, &mut name)?;
        let line: &mut String = tracked.entry(name.clone()).or_default();
        if !line.is_empty() {
            line.push_str("; ");
        }
        line.push_str(&says);
    }
    while !rest.0.is_empty() {
        let kind = rest.take(4)?;
        let length = usize::try_from(rest.u32()?).ok()?;
        let content = rest.take(length)?;
        if !CACHES.contains(&kind) {
            let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
            // No path begins with `/`, so that this is no file's name.
            tracked.insert([b"/", kind].concat(), format!("extension sha256:{digest}"));
        }
    }
    Some(tracked)
}

fn entry(rest: &mut Bytes<'_>, version: u32, hash: usize, name: &mut Vec<u8>) -> Option<String> {
    let before = rest.0.len();
    let stat = rest.take(STAT)?;
    let mode = u32::from_be_bytes(stat.get(24..28)?.try_into().ok()?);
    let object: String = rest.take(hash)?.iter().map(|byte| format!("{byte:02x}")).collect();
    let flags = rest.u16()?;
    let extended = if flags & EXTENDED != 0 { rest.u16()? } else { 0 };
    if version == 4 {
        let kept = name.len().checked_sub(rest.offset()?)?;
        name.truncate(kept);
        let end = rest.0.iter().position(|&byte| byte == 0)?;
        name.extend_from_slice(rest.take(end)?);
        rest.take(1)?;
    } else {
        let length = usize::from(flags) & NAME_LENGTH;
        let end = rest.0.iter().position(|&byte| byte == 0)?;
        if length != NAME_LENGTH && end != length {
            return None;
        }
        name.clear();
        name.extend_from_slice(rest.take(end)?);
        // One to eight zeros, up to a multiple of eight.
        let used = before - rest.0.len();
        rest.take(8 - used % 8)?;
    }
    let mut says = format!("{mode:o} {object}");
    let stage = (flags & STAGE) >> 12;
    if stage != 0 {
        says += &format!(" stage {stage}");
    }
    let told = [
        (flags & ASSUME_UNCHANGED, "assume-unchanged"),
        (extended & SKIP_WORKTREE, "skip-worktree"),
        (extended & INTENT_TO_ADD, "intent-to-add"),
    ];
    for (_, word) in told.iter().filter(|(set, _)| *set != 0) {
        says = format!("{says} {word}");
    }
    Some(says)
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A number of any length, as pack files have it.
    fn offset(&mut self) -> Option<usize> {
        let mut byte = self.take(1)?[0];
        let mut value = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.take(1)?[0];
            value = value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        }
        Some(value)
    }
}
