//! The output of a command: into files, followed while it grows, read back when it is over.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Failure;

use super::command::Stream;
use super::launch;
use crate::watch::Follower;

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

    /// What this command wrote: all, or the first and the last half MiB. An output that cannot be read back reads as
    /// the reason why.
    pub(super) fn text(&self) -> String {
        bounded(&self.path, self.from).unwrap_or_else(|error| format!("[{}: {error}]", self.path))
    }
}

fn bounded(path: &Utf8Path, from: u64) -> io::Result<String> {
    const HALF: u64 = 512 * 1024;
    let mut file = File::open(path)?;
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
