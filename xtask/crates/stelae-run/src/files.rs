//! Reading and writing files so that nothing hangs, nothing is half-written, and nothing leaves its folder.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use stelae_model::{ExitCode, Failure};

/// Reads a text file. `what` is how messages call it, `kind` the start of the failure's kind.
///
/// # Errors
/// With the given exit code: `<kind>-missing`, `<kind>-unreadable` (also for folders and pipes: opening a pipe would
/// wait for ever), `<kind>-not-utf8`.
pub fn read_text(path: &Utf8Path, code: ExitCode, kind: &str, what: &str) -> Result<String, Failure> {
    let fail = |suffix: &str, sentence: String, cause: String| {
        Failure::new(code, &format!("{kind}-{suffix}"), sentence).on(path.as_str()).because(cause)
    };
    let bytes = match read_regular(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(fail("missing", format!("{what} does not exist"), error.to_string()));
        }
        Err(error) => return Err(fail("unreadable", format!("{what} cannot be read"), error.to_string())),
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        fail(
            "not-utf8",
            format!("{what} is not UTF-8"),
            format!("byte {at}, on line {line}, is no character"),
        )
    })
}

/// The bytes of a regular file, symlinks followed.
pub(crate) fn read_regular(path: &Utf8Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    fs::read(path)
}

/// The text of a regular file, symlinks followed. Opening a pipe would wait for whoever writes.
///
/// # Errors
/// What the system says; it is no regular file, or not UTF-8.
pub fn read_regular_text(path: &Utf8Path) -> io::Result<String> {
    String::from_utf8(read_regular(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Removes a file that may be there, because what it holds must not be taken for what comes next.
///
/// # Errors
/// Exit 10, `stale-file`: it is there and does not go.
pub fn remove_stale(path: &Utf8Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(ExitCode::StepFailed, "stale-file", "a file of an earlier session does not go")
                .on(path.to_string())
                .because(error.to_string())
                .hint(format!("rm -r {path}")))
        }
        _ => Ok(()),
    }
}

/// Creates a folder and its parents, readable by nobody else.
///
/// # Errors
/// What the system says.
pub fn create_private_dirs(path: &Utf8Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates a file that is not there yet, readable by nobody else, and waits until the disk has it.
pub(crate) fn create_private(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates a file that is not there yet, complete from its first moment and readable by nobody else.
///
/// # Errors
/// `AlreadyExists`: there is one, of whatever content; and what the system says.
pub fn create_whole(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let mut pending = Pending::create(path, bytes)?;
    // A rename would replace what appeared meanwhile; a link refuses.
    fs::hard_link(pending.path(), path)?;
    pending.remove();
    path.parent().map_or(Ok(()), sync_dir)
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// Its owner: mode 0600.
    ByOwner,
    /// Whoever the umask lets.
    ByAnyone,
}

/// Puts a file in the place of what was there: a reader sees the old content or the new, and an error leaves the old.
/// Does not wait for the disk: meant for what is made again, or was worth nothing without the rest.
///
/// # Errors
/// What the system says.
pub fn replace(path: &Utf8Path, bytes: &[u8], readable: Readable) -> io::Result<()> {
    let mut pending = Pending::named(path)?;
    let mode = if readable == Readable::ByOwner { 0o600 } else { 0o666 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(pending.path())?;
    file.write_all(bytes)?;
    pending.rename()
}

/// The same for a value, as pretty JSON that only its owner reads.
///
/// # Errors
/// What the system says.
pub(crate) fn replace_json(path: &Utf8Path, value: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    replace(path, &text, Readable::ByOwner)
}

/// A number that no other process has: what std seeds its hash maps with, which comes from the kernel.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Waits until the disk has a folder's entries: without this a crash can forget a rename.
pub(crate) fn sync_dir(path: &Utf8Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A file's next content, complete on disk beside it. Committing is one rename; dropping removes it.
#[derive(Debug)]
pub(crate) struct Pending {
    temporary: Utf8PathBuf,
    target: Utf8PathBuf,
    is_there: bool,
}

impl Pending {
    /// Writes the content, mode 0600, into the target's folder.
    pub(crate) fn create(target: &Utf8Path, bytes: &[u8]) -> io::Result<Self> {
        let pending = Self::named(target)?;
        create_private(pending.path(), bytes)?;
        Ok(pending)
    }

    /// A name beside the target that nobody else uses.
    fn named(target: &Utf8Path) -> io::Result<Self> {
        // Neither two threads of one process may share a name, nor two processes that have the same pid, each in a
        // namespace of its own.
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        static PROCESS: LazyLock<u64> = LazyLock::new(random);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = target.file_name().ok_or_else(|| io::Error::other("it has no file name"))?;
        let temporary = target.with_file_name(format!(".{name}.{:x}-{number}.tmp", *PROCESS));
        Ok(Self { temporary, target: target.to_owned(), is_there: true })
    }

    fn path(&self) -> &Utf8Path {
        &self.temporary
    }

    /// Puts the content in the target's place, and waits until the disk has that.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        self.rename()?;
        self.target.parent().map_or(Ok(()), sync_dir)
    }

    fn rename(&mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.is_there = false;
        Ok(())
    }

    fn remove(&mut self) {
        if std::mem::take(&mut self.is_there) {
            // It may never have been created.
            fs::remove_file(&self.temporary).ok();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Whether a file in one of these folders is meant, after every symlink on the way is followed. Nothing has to exist.
///
/// # Errors
/// Why it cannot be told, or where the path leads instead.
pub(crate) fn confine(path: &Utf8Path, folders: &[&Utf8Path]) -> Result<(), String> {
    let parent = path.parent().ok_or("it names no file")?;
    let leads_to = follow(parent)?;
    for folder in folders {
        if leads_to.starts_with(follow(folder)?) {
            return Ok(());
        }
    }
    Err(format!("it leads into {leads_to}"))
}

/// The path with the symlinks of its existing part followed.
pub(crate) fn follow(path: &Utf8Path) -> Result<Utf8PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("{path} is not absolute"));
    }
    if path.components().any(|part| part == Utf8Component::ParentDir) {
        return Err(format!("{path} contains `..`"));
    }
    let mut existing = path;
    loop {
        match existing.canonicalize_utf8() {
            Ok(real) => {
                let rest = path.strip_prefix(existing).map_err(|error| error.to_string())?;
                return Ok(if rest.as_str().is_empty() { real } else { real.join(rest) });
            }
            // A symlink to nowhere may lead anywhere by the time it is used.
            Err(error) if fs::symlink_metadata(existing).is_ok() => {
                return Err(format!("{existing}: {error}"));
            }
            Err(error) => existing = existing.parent().ok_or_else(|| error.to_string())?,
        }
    }
}

/// Waits until nobody holds a lock on the file. A lock that was dropped lives on for an instant, in a child that another
/// thread is just forking: until that executes its program, it has a copy of every descriptor.
#[cfg(test)]
pub(crate) fn await_unlocked(path: &Utf8Path) {
    let deadline = crate::deadline::Deadline::after(std::time::Duration::from_secs(30));
    // Ours is let go of by its name, and not by dropping it: the next child may be forked in between.
    while File::open(path).is_ok_and(|file| file.try_lock().map(|()| file.unlock()).is_err()) {
        assert!(!deadline.passed(), "{path} stays locked");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().canonicalize().unwrap()).unwrap();
        (guard, path)
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let (_guard, dir) = folder();
        let text = |name: &str| {
            read_text(&dir.join(name), ExitCode::Render, "template", "the template").unwrap_err()
        };
        let missing = text("none");
        assert_eq!((missing.kind.as_str(), missing.exit_code), ("template-missing", ExitCode::Render));
        assert_eq!(
            missing.to_string(),
            format!(
                "the template does not exist\n   on: {dir}/none\n  why: No such file or directory (os error 2)"
            )
        );
        assert_eq!(text(".").kind, "template-unreadable");
        symlink(dir.join("none"), dir.join("dangling")).unwrap();
        assert_eq!(text("dangling").kind, "template-missing");
        fs::write(dir.join("latin"), b"a\n\xe4").unwrap();
        assert_eq!(text("latin").why, ["byte 2, on line 2, is no character"]);
        assert_eq!(text("latin").kind, "template-not-utf8");
    }

    #[test]
    fn pending_content_replaces_or_vanishes() {
        let (_guard, dir) = folder();
        let target = dir.join("f");
        drop(Pending::create(&target, b"1").unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        Pending::create(&target, b"2").unwrap().commit().unwrap();
        Pending::create(&target, b"3").unwrap().commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"3");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_replaced_stays_as_it_was() {
        let (_guard, dir) = folder();
        let target = dir.join("f");
        replace(&target, b"old", Readable::ByOwner).unwrap();
        let kept = File::open(&target).unwrap();
        replace(&target, b"new and longer", Readable::ByOwner).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        // Whoever had the old one open still reads all of it: it was never truncated.
        assert_eq!(io::read_to_string(kept).unwrap(), "old");
        fs::create_dir(dir.join("folder")).unwrap();
        assert!(replace(&dir.join("folder"), b"x", Readable::ByAnyone).is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    }

    #[test]
    fn what_is_there_is_not_created_again() {
        let (_guard, dir) = folder();
        let target = dir.join("f");
        create_whole(&target, b"first").unwrap();
        assert_eq!(create_whole(&target, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"first");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn paths_stay_in_their_folder() {
        let (_guard, dir) = folder();
        let home = dir.join("home");
        let inside = |path: &str| confine(&dir.join(path), &[&home]);
        // Neither has to exist.
        assert_eq!(inside("home/a/b.json"), Ok(()));
        assert_eq!(inside("b.json"), Err(format!("it leads into {dir}")));
        assert_eq!(inside("homely/b.json"), Err(format!("it leads into {dir}/homely")));
        fs::create_dir_all(home.join("sub")).unwrap();
        fs::create_dir(dir.join("other")).unwrap();
        symlink(dir.join("other"), home.join("out")).unwrap();
        symlink(home.join("sub"), dir.join("in")).unwrap();
        symlink(dir.join("nowhere"), home.join("dangling")).unwrap();
        assert_eq!(inside("home/sub/b.json"), Ok(()));
        assert_eq!(inside("in/b.json"), Ok(()));
        assert_eq!(inside("home/out/b.json"), Err(format!("it leads into {dir}/other")));
        assert_eq!(inside("home/out/deeper/b.json"), Err(format!("it leads into {dir}/other/deeper")));
        assert!(inside("home/dangling/b.json").unwrap_err().starts_with(&format!("{home}/dangling: ")));
        assert!(inside("home/../b.json").unwrap_err().ends_with("contains `..`"));
        assert!(confine("b.json".into(), &[&home]).is_err());
    }
}
