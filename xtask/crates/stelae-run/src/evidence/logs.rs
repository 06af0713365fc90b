//! The end of each log.

use std::fs;
use std::io;
use std::sync::mpsc::Sender;

use camino::Utf8PathBuf;
use stelae_model::evidence::LogTail;

use super::Piece;
use crate::tail::{End, end_from};

/// Lines that are kept of a log.
const MOST_LINES: usize = 200;

/// A log, from where on it belongs to this start.
#[derive(Clone, Debug)]
pub struct LogFile {
    process: String,
    path: Utf8PathBuf,
    from: u64,
}

impl LogFile {
    /// The log of `process`, all of it.
    pub fn whole(process: &str, path: Utf8PathBuf) -> Self {
        Self { process: process.to_owned(), path, from: 0 }
    }

    /// The same, without what is in it already: an earlier start's.
    pub fn from_now_on(process: &str, path: Utf8PathBuf) -> Self {
        // One that is not there yet has nothing in it.
        let from = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self { from, ..Self::whole(process, path) }
    }
}

/// Reads the end of each log; one that was never written is passed over.
pub(super) fn read(logs: &[LogFile], tell: &Sender<Piece>) -> Option<()> {
    for log in logs {
        let tail = LogTail { process: log.process.clone(), path: log.path.to_string(), ..LogTail::default() };
        let piece = match end_from(&log.path, log.from) {
            Ok(end) => Piece::Log(shaped(tail, &end)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Piece::Log(LogTail { unreadable: Some(error.to_string()), ..tail }),
        };
        tell.send(piece).ok()?;
    }
    tell.send(Piece::Done).ok()
}

fn shaped(tail: LogTail, end: &End) -> LogTail {
    let lines: Vec<&[u8]> = end.bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let kept = &lines[lines.len().saturating_sub(MOST_LINES)..];
    let kept_bytes: u64 = kept.iter().map(|line| line.len() as u64).sum();
    let text = |line: &&[u8]| String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned();
    LogTail {
        bytes: end.written,
        lines: kept.iter().map(text).collect(),
        left_out_bytes: end.written.saturating_sub(kept_bytes),
        ..tail
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use camino::Utf8Path;

    use super::*;

    fn tails(logs: &[LogFile]) -> Vec<LogTail> {
        let (tell, told) = channel();
        read(logs, &tell).unwrap();
        drop(tell);
        told.into_iter()
            .filter_map(|piece| if let Piece::Log(tail) = piece { Some(tail) } else { None })
            .collect()
    }

    #[test]
    fn the_end_of_what_this_start_wrote_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("log");
        fs::write(&path, "earlier\n").unwrap();
        let log = LogFile::from_now_on("gateway", path.clone());
        fs::write(&path, "earlier\nnow\r\nand la").unwrap();
        let tail = tails(std::slice::from_ref(&log)).remove(0);
        assert_eq!(
            (tail.lines, tail.bytes, tail.left_out_bytes),
            (vec!["now".into(), "and la".into()], 11, 0)
        );
        let many: String = (0..100_000).map(|number| format!("line {number:05}\n")).collect();
        fs::write(&path, format!("earlier\n{many}")).unwrap();
        let tail = tails(std::slice::from_ref(&log)).remove(0);
        assert_eq!((tail.lines.len(), tail.lines[MOST_LINES - 1].as_str()), (MOST_LINES, "line 99999"));
        assert_eq!((tail.bytes, tail.left_out_bytes), (1_100_000, 1_100_000 - 200 * 11));
        fs::write(&path, "new\n").unwrap();
        assert_eq!(tails(&[log]).remove(0).lines, ["new"]);
    }

    #[test]
    fn what_is_no_log_is_said_and_what_is_not_there_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let logs = [LogFile::whole("none", path.join("none")), LogFile::whole("folder", path)];
        let tails = tails(&logs);
        assert_eq!((tails.len(), tails[0].process.as_str()), (1, "folder"));
        assert_eq!(tails[0].unreadable.as_deref(), Some("it is not a regular file"));
    }
}
