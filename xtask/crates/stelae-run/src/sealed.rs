//! Files whose content was taken down, to be compared before each use.
//!
//! A digest of a program takes up to a tenth of a second. So it is taken once, together with the identity of the file
//! (inode, size, times of change), and again only when that identity is not the same. The kernel sets the time of change
//! at every write, rename, link and change of mode, and no program can set it: a file with the same identity has the
//! same content, unless the system's clock was set back. An identity counts only if the digest was begun a while after
//! the last change, as two changes within one tick of the clock have the same time.

use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stelae_model::starts::FileIdentity;
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

use crate::files::open_untrusted;
use crate::process::tree::identity_of;

/// More than a tick of the clock that files get their times from.
const TICK: Duration = Duration::from_millis(20);
/// Others than the owner can write.
const OTHERS_WRITE: u32 = 0o022;

/// A file, with its content as it was when it was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Where it is; no symbolic link.
    pub path: Utf8PathBuf,
    /// SHA-256 of its content.
    pub sha256: String,
    /// The file that has this content for certain, as long as this is its identity. None where that is not certain: then
    /// each comparison reads the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<FileIdentity>,
}

impl Sealed {
    /// Seals a regular file as it is now.
    ///
    /// # Errors
    /// What the system says; it is no regular file, or changes while it is read.
    pub fn of(path: &Utf8Path) -> io::Result<Self> {
        let (sha256, identity) = digest(path)?;
        Ok(Self { path: path.to_owned(), sha256, identity })
    }

    /// Whether the file is the same: by its identity; where that differs, by its content, whose identity counts from then on.
    ///
    /// # Errors
    /// What the system says of the file.
    pub fn is_unchanged(&mut self) -> io::Result<bool> {
        let now = identity_of(&self.path.symlink_metadata()?);
        if self.identity == Some(now) {
            return Ok(true);
        }
        let (sha256, identity) = digest(&self.path)?;
        if sha256 == self.sha256 {
            self.identity = identity;
        }
        Ok(sha256 == self.sha256)
    }

    /// That the file has the same content; `what` says what it is.
    ///
    /// # Errors
    /// Exit 50, `program-changed`.
    pub fn check_content(&mut self, what: &str) -> Result<(), Failure> {
        match self.is_unchanged() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.changed(what)),
            Err(error) => Err(changed(what, &self.path).because(error.to_string())),
        }
    }

    /// That nothing has happened to the file, which is the run's own: one that was moved away and back, or was written to and
    /// put right, was another one meanwhile.
    ///
    /// # Errors
    /// Exit 50, `program-changed`.
    pub fn check_untouched(&mut self, what: &str) -> Result<(), Failure> {
        match self.path.symlink_metadata() {
            Ok(metadata) if self.identity == Some(identity_of(&metadata)) => Ok(()),
            Ok(_) if self.identity.is_none() => self.check_content(what),
            Ok(_) => Err(self.changed(what)),
            Err(error) => Err(changed(what, &self.path).because(error.to_string())),
        }
    }

    /// The failure of a file that is not the same any more.
    fn changed(&self, what: &str) -> Failure {
        let why = match digest(&self.path) {
            Ok((sha256, _)) if sha256 == self.sha256 => format!(
                "its content is the same again (sha256 {sha256}), and it was moved, linked or written to meanwhile"
            ),
            Ok((sha256, _)) => format!("sha256 was {}, and is {sha256}", self.sha256),
            Err(error) => format!("sha256 was {}, and now it cannot be read: {error}", self.sha256),
        };
        changed(what, &self.path).because(why)
    }
}

/// The failure of a program that is not what it was.
pub(crate) fn changed(what: &str, path: &Utf8Path) -> Failure {
    Failure::new(ExitCode::Drift, "program-changed", format!("{what} was changed while the run used it"))
        .on(path.to_string())
        .hint(format!(
            "find out which process wrote there, and start a new run: ls -l --time-style=full-iso {}",
            shell_word(path.as_str())
        ))
}

/// SHA-256 of a regular file, in hexadecimal digits; and its identity, if that vouches for the digest.
///
/// # Errors
/// As for [`Sealed::of`].
pub(crate) fn digest(path: &Utf8Path) -> io::Result<(String, Option<FileIdentity>)> {
    let mut file = open_untrusted(path)?;
    let before = file.metadata()?;
    settle(&before);
    let identity = identity_of(&before);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    // A file that grows is read as far as it went: then it has changed, which is seen below.
    let mut left = before.len();
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match file.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                left -= u64::try_from(read).unwrap_or(left).min(left);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let after = file.metadata()?;
    if identity_of(&after) != identity {
        return Err(io::Error::other("it changes while it is read"));
    }
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let vouches = age(&after).is_some() && after.permissions().mode() & OTHERS_WRITE == 0;
    Ok((sha256, vouches.then_some(identity)))
}

/// How long ago the file was changed; none if that is in the future.
fn age(metadata: &std::fs::Metadata) -> Option<Duration> {
    let changed =
        Duration::new(u64::try_from(metadata.ctime()).ok()?, u32::try_from(metadata.ctime_nsec()).ok()?);
    SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(changed)
}

/// Waits until a change that comes from now on has another time than the last one. That is one tick at the most.
fn settle(metadata: &std::fs::Metadata) {
    if let Some(age) = age(metadata) {
        thread::sleep(TICK.saturating_sub(age));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sealed() -> (tempfile::TempDir, Sealed) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(guard.path()).unwrap().join("program");
        fs::write(&path, "content").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let sealed = Sealed::of(&path).unwrap();
        (guard, sealed)
    }

    #[test]
    fn a_digest_is_that_of_the_content() {
        let (_guard, sealed) = sealed();
        assert_eq!(sealed.sha256, "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73");
        assert!(sealed.identity.is_some());
    }

    #[test]
    fn other_content_of_the_same_size_and_time_is_found() {
        // Again and again: at the first try it might be luck.
        for _ in 0..20 {
            let (_guard, mut sealed) = sealed();
            let modified = fs::metadata(&sealed.path).unwrap().modified().unwrap();
            fs::write(&sealed.path, "CONTENT").unwrap();
            fs::File::options().write(true).open(&sealed.path).unwrap().set_modified(modified).unwrap();
            assert!(!sealed.is_unchanged().unwrap());
            let failure = sealed.check_content("the gateway").unwrap_err();
            assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Drift, "program-changed"));
            assert!(failure.why[0].contains(&sealed.sha256), "{failure}");
        }
    }

    #[test]
    fn another_file_in_its_place_is_compared_by_content() {
        let (_guard, mut sealed) = sealed();
        let (path, other) = (sealed.path.clone(), sealed.path.with_extension("other"));
        fs::write(&other, "content").unwrap();
        fs::rename(&other, &path).unwrap();
        let before = sealed.identity;
        assert!(sealed.is_unchanged().unwrap());
        assert_ne!(sealed.identity, before);
        fs::write(&other, "CONTENT").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!sealed.is_unchanged().unwrap());
    }

    #[test]
    fn what_was_away_for_a_moment_is_not_untouched() {
        let (_guard, mut sealed) = sealed();
        assert_eq!(sealed.check_untouched("the gateway"), Ok(()));
        let away = sealed.path.with_extension("away");
        fs::rename(&sealed.path, &away).unwrap();
        assert!(sealed.check_untouched("the gateway").unwrap_err().why[0].contains("No such file"));
        fs::rename(&away, &sealed.path).unwrap();
        let failure = sealed.check_untouched("the gateway").unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Drift, "program-changed"));
        assert!(failure.why[0].starts_with("its content is the same again"), "{failure}");
        assert_eq!(sealed.check_content("the agent"), Ok(()));
    }

    #[test]
    fn what_is_no_regular_file_is_none_of_ours() {
        let (guard, mut sealed) = sealed();
        let target = Utf8Path::from_path(guard.path()).unwrap().join("target");
        fs::rename(&sealed.path, &target).unwrap();
        assert!(sealed.is_unchanged().is_err(), "gone");
        std::os::unix::fs::symlink(&target, &sealed.path).unwrap();
        assert!(sealed.is_unchanged().is_err(), "a link, whatever it leads to");
        fs::remove_file(&sealed.path).unwrap();
        fs::create_dir(&sealed.path).unwrap();
        assert!(sealed.is_unchanged().is_err(), "a folder");
        fs::remove_dir(&sealed.path).unwrap();
        let pipe = rustix::fs::mknodat(
            rustix::fs::CWD,
            sealed.path.as_str(),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        );
        pipe.unwrap();
        assert!(sealed.is_unchanged().is_err(), "a pipe, which is not waited for");
    }

    #[test]
    fn what_others_can_write_is_read_each_time() {
        let (_guard, mut sealed) = sealed();
        fs::set_permissions(&sealed.path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(sealed.is_unchanged().unwrap());
        assert_eq!(sealed.identity, None);
    }
}
