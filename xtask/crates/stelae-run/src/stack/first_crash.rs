//! The log of the first crash, kept: what comes after may be only its consequence, and there may be a lot of it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::files::{Readable, replace};
use crate::tail::{End, end_from, last_lines};

/// The file beside a process's log that has the end of the log of its first crash.
#[derive(Debug)]
pub(super) struct FirstCrash {
    path: Utf8PathBuf,
    tail: Vec<String>,
}

impl FirstCrash {
    /// Of the process that writes `log`. What an earlier start of the stack left there is removed: it would be taken for
    /// this one's.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn beside(log: &Utf8Path) -> io::Result<Self> {
        let path = log.with_extension("first-crash.log");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Self { path, tail: Vec::new() }),
        }
    }

    /// Keeps what `log` has from `start` on.
    ///
    /// # Errors
    /// What the system says; the lines to quote are kept all the same, as far as they could be read.
    pub(super) fn keep(&mut self, log: &Utf8Path, start: u64) -> io::Result<()> {
        let End { bytes, .. } = end_from(log, start)?;
        self.tail = last_lines(&bytes);
        replace(&self.path, &bytes, Readable::ByOwner)
    }

    /// Where it is, or would be.
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Its last lines.
    pub(super) fn tail(&self) -> Vec<String> {
        self.tail.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_attempt_is_kept_and_no_more_of_it_than_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let log = Utf8Path::from_path(folder.path()).unwrap().join("service-a.log");
        std::fs::write(&log, "an earlier start\nthe reason\n").unwrap();
        let mut first = FirstCrash::beside(&log).unwrap();
        first.keep(&log, 17).unwrap();
        assert_eq!(first.path().file_name(), Some("service-a.first-crash.log"));
        assert_eq!(std::fs::read_to_string(first.path()).unwrap(), "the reason\n");
        assert_eq!(first.tail(), ["the reason"]);
        std::fs::write(&log, "x".repeat(100_000) + "\nthe end\n").unwrap();
        first.keep(&log, 17).unwrap();
        assert_eq!(std::fs::metadata(first.path()).unwrap().len(), 64 * 1024);
        assert_eq!(first.tail()[1], "the end");
    }

    #[test]
    fn what_an_earlier_start_left_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let log = Utf8Path::from_path(folder.path()).unwrap().join("a.log");
        std::fs::write(log.with_extension("first-crash.log"), "old").unwrap();
        let first = FirstCrash::beside(&log).unwrap();
        assert!(!first.path().exists());
    }
}
