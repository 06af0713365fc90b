//! The folder that a stack's evidence is kept in.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::{AT_MOST, LogFile, take};
use crate::deadline::Deadline;
use crate::files;
use crate::process::Present;
use crate::record::Recorder;

/// What was seen before the first signal.
const SNAPSHOT: &str = "snapshot.json";
/// What the teardown found.
const TEARDOWN: &str = "teardown.json";

/// Where the evidence of one start is kept: a snapshot and a proof, in place of those of the start before.
///
/// Nothing here fails: a stack that comes down without its evidence is better than one that stays. What could not be
/// kept is told to the recorder.
#[derive(Debug)]
pub struct Evidence {
    folder: Utf8PathBuf,
    logs: Vec<LogFile>,
}

impl Evidence {
    /// Makes the folder; what an earlier start left there goes, because nobody could tell whose it is.
    pub fn begin(folder: Utf8PathBuf, recorder: &Recorder) -> Self {
        if let Err(error) = files::create_private_dirs(&folder) {
            recorder.evidence_failed(folder.as_str(), &error);
        }
        for name in [SNAPSHOT, TEARDOWN] {
            if let Err(failure) = files::remove_stale(&folder.join(name)) {
                recorder.warn(failure.to_string().replace('\n', "; "));
            }
        }
        Self { folder, logs: Vec::new() }
    }

    /// From now on the end of this log belongs to the snapshot.
    pub fn follow(&mut self, process: &str, log: &Utf8Path) {
        self.logs.push(LogFile::from_now_on(process, log.to_owned()));
    }

    /// Takes a snapshot of everyone who is present, and keeps it.
    pub fn keep_snapshot(&self, present: &Present<'_>, recorder: &Recorder) {
        let snapshot = take(present, &self.logs, recorder, Deadline::after(AT_MOST));
        self.keep(SNAPSHOT, &snapshot, recorder);
    }

    /// Keeps what the teardown found.
    pub fn keep_teardown(&self, proof: &impl Serialize, recorder: &Recorder) {
        self.keep(TEARDOWN, proof, recorder);
    }

    fn keep(&self, name: &str, value: &impl Serialize, recorder: &Recorder) {
        let path = self.folder.join(name);
        if let Err(error) = files::replace_json(&path, value) {
            recorder.evidence_failed(path.as_str(), &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_starts_evidence_goes_and_nothing_else_does() {
        let guard = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        for name in [SNAPSHOT, TEARDOWN, "somebody's"] {
            std::fs::write(folder.join(name), "old").unwrap();
        }
        let recorder = Recorder::to_listeners(Vec::new());
        let evidence = Evidence::begin(folder.clone(), &recorder);
        let names = || folder.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned());
        assert_eq!(names().collect::<Vec<_>>(), ["somebody's"]);
        evidence.keep_teardown(&"proof", &recorder);
        assert_eq!(std::fs::read_to_string(folder.join(TEARDOWN)).unwrap(), "\"proof\"\n");
        assert!(recorder.is_complete());
    }

    #[test]
    fn evidence_that_cannot_be_kept_is_said() {
        let recorder = Recorder::to_listeners(Vec::new());
        let evidence = Evidence::begin("/dev/null/evidence".into(), &recorder);
        evidence.keep_snapshot(&Present { rows: &[], unreadable: None }, &recorder);
        assert!(!recorder.is_complete());
        assert!(recorder.warnings()[0].contains("/dev/null/evidence"), "{:?}", recorder.warnings());
    }
}
