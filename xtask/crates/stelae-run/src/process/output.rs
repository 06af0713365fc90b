//! The output of a command: into files, followed while it grows, read back when it is over.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::{ExitCode, Failure};

use super::command::Stream;
use super::launch;
use crate::files::open_untrusted;
use crate::watch::Follower;

/// More than this is no output that a program reads whole.
const MOST_WHOLE: u64 = 64 * 1024 * 1024;
/// How many lines of the log a failure quotes.
const TAIL_LINES: usize = 20;

/// The files that the command writes, and what was read of them.
pub(super) struct Output {
    pub(super) stdout: Source,
    /// None when both go into one file.
    pub(super) stderr: Option<Source>,
    /// The last lines of both, as they came.
    pub(super) tail: VecDeque<String>,
}

/// One of them.
pub(super) struct Source {
    file: File,
    path: Utf8PathBuf,
    from: u64,
    follower: Follower,
}

impl Output {
    pub(super) fn open(stdout: &Utf8Path, stderr: &Utf8Path) -> Result<Self, Failure> {
        let stderr = if stderr == stdout { None } else { Some(Source::open(stderr)?) };
        Ok(Self { stdout: Source::open(stdout)?, stderr, tail: VecDeque::new() })
    }

    /// Hands out what is new.
    pub(super) fn drain(&mut self, to_the_end: bool, on_line: &mut dyn FnMut(Stream, &str)) {
        let tail = &mut self.tail;
        let sources = [(Stream::Stdout, Some(&mut self.stdout)), (Stream::Stderr, self.stderr.as_mut())];
        for (stream, source) in sources {
            let Some(source) = source else { continue };
            let mut each = |line: &str| {
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(line.to_owned());
                on_line(stream, line);
            };
            if to_the_end {
                source.follower.finish(&mut each);
            } else {
                source.follower.poll(&mut each);
            }
        }
    }
}

impl Source {
    fn open(path: &Utf8Path) -> Result<Self, Failure> {
        let file = launch::open_log(path)?;
        let from = file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Self { file, path: path.to_owned(), from, follower: Follower::new(path, from) })
    }

    /// What the process gets.
    pub(super) fn writer(&self) -> Result<File, Failure> {
        self.file.try_clone().map_err(|error| {
            Failure::unexpected("a log file cannot be handed to a process")
                .on(self.path.as_str())
                .because(error.to_string())
        })
    }

    /// Where what this command wrote is to be read again, whole.
    pub(super) fn written(&self) -> Written {
        let end = self.file.metadata().map_or(self.from, |metadata| metadata.len());
        Written { path: self.path.clone(), from: self.from, length: end.saturating_sub(self.from) }
    }

    /// What this command wrote: all, or the first and the last half MiB. An output that cannot be read back reads as
    /// the reason why.
    pub(super) fn text(&self) -> String {
        bounded(&self.path, self.from).unwrap_or_else(|error| format!("[{}: {error}]", self.path))
    }
}

/// The part of a log that one command wrote.
#[derive(Clone, Debug)]
pub(super) struct Written {
    path: Utf8PathBuf,
    from: u64,
    length: u64,
}

impl Written {
    /// All of it, or a failure: output that is read by a program must not have a hole in the middle.
    pub(super) fn whole(&self) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// The same for output that need not be text.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        self.bytes_within(MOST_WHOLE)
    }

    fn bytes_within(&self, most: u64) -> Result<Vec<u8>, Failure> {
        let fail = |kind: &str, what: &str, why: String| {
            Failure::new(ExitCode::StepFailed, kind, what).on(self.path.as_str()).because(why)
        };
        if self.length > most {
            let why = format!("it has {} bytes, and at most {most} are read", self.length);
            return Err(fail("output-too-large", "a command's output is too large to be read", why));
        }
        self.read().map_err(|error| {
            fail("output-unreadable", "a command's output cannot be read back", error.to_string())
        })
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = open_untrusted(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut bytes = Vec::new();
        file.take(self.length).read_to_end(&mut bytes)?;
        // Somebody truncated it: what is there is not what the command wrote.
        if (bytes.len() as u64) < self.length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }
}

fn bounded(path: &Utf8Path, from: u64) -> io::Result<String> {
    const HALF: u64 = 512 * 1024;
    let mut file = open_untrusted(path)?;
    let length = file.metadata()?.len().saturating_sub(from);
    let mut piece = |at: u64, length: u64| {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        (&mut file).take(length).read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    if length <= 2 * HALF {
        return piece(from, length);
    }
    let (head, tail) = (piece(from, HALF)?, piece(from + length - HALF, HALF)?);
    Ok(format!("{head}\n[{} bytes left out]\n{tail}", length - 2 * HALF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_output_is_whole_or_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("log");
        std::fs::write(&path, "earlier\nall of it\n").unwrap();
        let written = Written { path: path.clone(), from: 8, length: 10 };
        assert_eq!(written.bytes_within(10).unwrap(), b"all of it\n");
        let failure = written.bytes_within(9).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "output-too-large"));
        std::fs::write(&path, "earlier\nall").unwrap();
        assert_eq!(written.whole().unwrap_err().kind, "output-unreadable");
    }
}
