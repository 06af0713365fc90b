//! Writes down what this process starts: the record that the attestation reads (`stelae_model::starts`).

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::starts::StartRecord;

use super::tree;
use crate::files::open_append;

/// The thread that writes. A disk that hangs holds up this one thread, and not those that start something.
static WRITER: OnceLock<Sender<StartRecord>> = OnceLock::new();

/// The record of starts lies beside the log of calls: a process that is told of one knows of the other.
pub fn beside_calls(calls: &Utf8Path) -> Utf8PathBuf {
    calls.with_file_name("starts.jsonl")
}

/// From now on each start of a service or a server is appended to this file, which only its owner can read. Only the first
/// call counts.
///
/// # Errors
/// What the system says.
pub fn record_starts(path: &Utf8Path) -> io::Result<()> {
    if WRITER.get().is_some() {
        return Ok(());
    }
    let file = open_append(path)?;
    let (sender, starts) = channel();
    thread::spawn(move || starts.into_iter().for_each(|start| append(&file, &start)));
    WRITER.get_or_init(|| sender);
    Ok(())
}

/// One line in one write: two processes write into this file. A line that is lost is a start that no record vouches for, which
/// the attestation sees.
fn append(mut file: &File, start: &StartRecord) {
    let Ok(mut line) = serde_json::to_string(start) else { return };
    line.push('\n');
    file.write_all(line.as_bytes()).ok();
}

/// Whether a process executes its program from the first moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executes {
    /// It does.
    AtOnce,
    /// Another program comes before it, in the same process: `setsid`, a launcher.
    AfterAnother,
}

/// Records a start, which has just happened: this process has not yet waited for `pid`. Does nothing where no record is kept.
pub fn record_start<'a>(
    process: &str,
    program: &str,
    executes: Executes,
    pid: i32,
    environment: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let Some(writer) = WRITER.get() else { return };
    if let Some(start) = started(process, program, pid, environment) {
        let executed = start.executed.filter(|_| executes == Executes::AtOnce);
        writer.send(StartRecord { executed, ..start }).ok();
    }
}

/// What is to be recorded of a start; nothing where the platform does not tell.
pub(crate) fn started<'a>(
    process: &str,
    program: &str,
    pid: i32,
    environment: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<StartRecord> {
    let by = std::process::id().cast_signed();
    let start = StartRecord {
        process: process.to_owned(),
        pid,
        started: tree::started_ticks(pid)?,
        by,
        by_started: tree::started_ticks(by)?,
        program: program.to_owned(),
        executed: tree::executed(pid).map(|(_, identity)| identity),
        image: None,
        environment: std::collections::BTreeMap::new(),
        environment_bytes: 0,
    };
    let start = start.with_environment(environment);
    // It may have executed something else by now. The image counts only if it is the one that has this environment.
    let image = tree::image(pid);
    let has = tree::environ(pid).unwrap_or_default();
    let is_given = start.is_given(has.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let image = image.filter(|image| is_given && tree::image(pid).as_ref() == Some(image));
    Some(StartRecord { image, ..start })
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "a test starts the process that it looks at")]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_start_is_recorded_with_the_image_that_has_its_environment() {
        let mut command = Command::new("cat");
        command.env_clear().env("A", "1").stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = child.id().cast_signed();
        let right = started("x", "/bin/cat", pid, [("A", "1")].into_iter()).unwrap();
        assert_eq!((right.process.as_str(), right.pid, &right.image), ("x", pid, &tree::image(pid)));
        assert!(right.image.is_some() && right.executed.is_some());
        // Not what it has: then nothing is known of its image.
        let wrong = started("x", "/bin/cat", pid, [("A", "2")].into_iter()).unwrap();
        assert_eq!(wrong.image, None);
        assert_eq!(started("x", "/bin/cat", i32::MAX, std::iter::empty()), None);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
