//! Following a log file that somebody else writes, truncates, rotates or deletes.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};

use crate::files::open_untrusted;

/// How much is read at one look, so that a flood does not keep the watcher from everything else.
const AT_ONE_LOOK: usize = 1024 * 1024;
/// What is read of a backlog at the end: a process that wrote faster than it was read must not keep us longer.
const AT_THE_END: u64 = 4 * 1024 * 1024;
/// A line that is longer comes in pieces: memory stays bounded whatever is written.
const LONGEST_LINE: usize = 16 * 1024;
/// No record of ours is longer: what others wrote is shortened in it.
const LONGEST_RECORD: usize = 1024 * 1024;

/// Reads a growing file line by line. Lines come without their line break and without colour codes.
#[derive(Debug)]
pub struct Follower {
    path: Utf8PathBuf,
    open: Option<Open>,
    /// Where to begin in the first file; in one that took its place, at the beginning.
    from: u64,
    partial: Vec<u8>,
    longest: usize,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: (u64, u64),
    offset: u64,
}

impl Follower {
    /// Follows `path` from the byte `from` on. The file need not be there yet.
    pub fn new(path: &Utf8Path, from: u64) -> Self {
        Self { path: path.to_owned(), open: None, from, partial: Vec::new(), longest: LONGEST_LINE }
    }

    /// The same for a file of records, a line each: half a record is none.
    pub fn of_records(path: &Utf8Path, from: u64) -> Self {
        Self { longest: LONGEST_RECORD, ..Self::new(path, from) }
    }

    /// Hands out the lines that were completed since the last look; says how many bytes were read.
    ///
    /// A file that cannot be read has nothing new in it: it may be back at the next look.
    pub fn poll(&mut self, on_line: &mut dyn FnMut(&str)) -> usize {
        let mut read = self.read_open(on_line);
        if read < AT_ONE_LOOK && self.reopen_if_replaced() {
            read += self.read_open(on_line);
        }
        read
    }

    /// Reads to the end, and hands out a last line without a line break too. Of a backlog, only the last 4 MiB come,
    /// after a line that says how much was left out.
    pub fn finish(&mut self, on_line: &mut dyn FnMut(&str)) {
        self.reopen_if_replaced();
        if let Some(open) = &mut self.open {
            let end = open.file.metadata().map_or(0, |metadata| metadata.len());
            let left_out = end.saturating_sub(AT_THE_END).saturating_sub(open.offset);
            if left_out > 0 {
                open.offset += left_out;
                self.flush(on_line);
                on_line(&format!("[{left_out} bytes left out]"));
            }
        }
        // It may still be written, so even this end has an end.
        for _look in 0..2 * AT_THE_END / AT_ONE_LOOK as u64 {
            if self.poll(on_line) == 0 {
                break;
            }
        }
        self.flush(on_line);
    }

    /// The line that is being written, as far as it is there: a prompt or a ready line may never get its line break.
    pub fn unfinished(&self) -> String {
        text(&self.partial)
    }

    /// Where in the file the first line begins that was not handed out yet: where another follower goes on.
    pub fn told_until(&self) -> u64 {
        let read = self.open.as_ref().map_or(self.from, |open| open.offset);
        read.saturating_sub(self.partial.len() as u64)
    }

    fn read_open(&mut self, on_line: &mut dyn FnMut(&str)) -> usize {
        let Some(open) = &mut self.open else { return 0 };
        let length = open.file.metadata().map_or(open.offset, |metadata| metadata.len());
        if length < open.offset {
            // Truncated under us: what is there now was written after.
            open.offset = 0;
            self.partial.clear();
        }
        let mut read = 0;
        let mut chunk = [0; 64 * 1024];
        while read < AT_ONE_LOOK {
            let Some(open) = &mut self.open else { break };
            let at = SeekFrom::Start(open.offset);
            let count = open.file.seek(at).and_then(|_| open.file.read(&mut chunk)).unwrap_or(0);
            if count == 0 {
                break;
            }
            open.offset += count as u64;
            read += count;
            self.split(&chunk[..count], on_line);
        }
        read
    }

    fn split(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.longest - self.partial.len();
            let window = &rest[..rest.len().min(room)];
            let end = window.iter().position(|&byte| byte == b'\n').map_or(window.len(), |at| at + 1);
            let (now, later) = rest.split_at(end);
            self.partial.extend_from_slice(now);
            if now.ends_with(b"\n") || self.partial.len() == self.longest {
                self.flush(on_line);
            }
            rest = later;
        }
    }

    fn flush(&mut self, on_line: &mut dyn FnMut(&str)) {
        if !self.partial.is_empty() {
            on_line(&text(&self.partial));
            self.partial.clear();
        }
    }

    /// Opens the file that is at the path now, unless it is the one that we have. A deleted one is read on.
    fn reopen_if_replaced(&mut self) -> bool {
        let Ok(metadata) = fs::symlink_metadata(&self.path) else { return false };
        let identity = (metadata.dev(), metadata.ino());
        if self.open.as_ref().is_some_and(|open| open.identity == identity) {
            return false;
        }
        let Ok(file) = open_untrusted(&self.path) else { return false };
        // The path may have changed once more between the two lines above.
        let identity = file.metadata().map_or(identity, |metadata| (metadata.dev(), metadata.ino()));
        let offset = std::mem::take(&mut self.from);
        self.open = Some(Open { file, identity, offset });
        true
    }
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    without_colours(text.trim_end_matches(['\n', '\r']))
}

/// The text without terminal escape sequences: `ESC [ … letter`, `ESC ] … BEL` or `ESC \`, and `ESC` with one more.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('[') => {
                characters.find(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
            Some(']') => {
                let mut before = ' ';
                characters
                    .find(|&c| c == '\u{7}' || std::mem::replace(&mut before, c) == '\u{1b}' && c == '\\');
            }
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests;
