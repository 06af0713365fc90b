//! The end of a log, for the failure of whatever wrote it.

use std::io::{self, Read as _, Seek as _, SeekFrom};

use camino::Utf8Path;

use crate::files::open_untrusted;

/// How many lines a failure quotes.
const LINES: usize = 20;
/// No more is read: a line can be very long.
const BYTES: u64 = 64 * 1024;

/// The last 20 lines; none when the log cannot be read, because then there is a worse failure to tell.
pub(crate) fn tail(path: &Utf8Path) -> Vec<String> {
    tail_from(path, 0)
}

/// The same of what was written from the byte `start` on: by one start of a process, and not by an earlier one.
pub(crate) fn tail_from(path: &Utf8Path, start: u64) -> Vec<String> {
    last_lines(&end_from(path, start).unwrap_or_default().bytes)
}

/// The last 20 lines of a text.
pub(crate) fn last_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|&line| line.to_owned()).collect()
}

/// The end of what was written into a log.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// How many bytes were written in all.
    pub(crate) written: u64,
    /// The last 64 KiB of them.
    pub(crate) bytes: Vec<u8>,
}

/// The end of what was written from the byte `start` on.
///
/// # Errors
/// What the system says; that it is no file.
pub(crate) fn end_from(path: &Utf8Path, start: u64) -> io::Result<End> {
    let mut file = open_untrusted(path)?;
    let length = file.metadata()?.len();
    // One that is shorter was truncated meanwhile: all of it is newer.
    let start = if start > length { 0 } else { start };
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(BYTES))))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    Ok(End { written: length - start, bytes })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_lines_come_however_long_the_log_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("log");
        let text: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        fs::write(&path, text).unwrap();
        let lines = tail(&path);
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "line 99980", "line 99999"));
        let start = fs::metadata(&path).unwrap().len();
        let mut log = fs::OpenOptions::new().append(true).open(&path).unwrap();
        io::Write::write_all(&mut log, b"one more\n").unwrap();
        assert_eq!(tail_from(&path, start), ["one more"]);
        assert_eq!(tail_from(&path, u64::MAX)[19], "one more");
        for unreadable in ["/no/such/log", "/dev/zero"] {
            assert_eq!(tail(Utf8Path::new(unreadable)), Vec::<String>::new());
        }
    }
}
