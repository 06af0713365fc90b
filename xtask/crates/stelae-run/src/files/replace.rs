//! Writes files whole: a reader sees the old content or the new, never a half.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use camino::{Utf8Path, Utf8PathBuf};

use super::random;
use super::untrusted::too_large;

/// Creates a file that is not there yet, readable by its owner only, and waits until the disk has it.
pub(crate) fn create_private(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates a file that is not there yet, complete from its first moment and readable by its owner only.
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
    /// Those whom the umask lets.
    ByAnyone,
    /// Its owner, who may execute it, too: mode 0700.
    Program,
}

/// Puts a file in the place of what was there: a reader sees the old content or the new, and an error leaves the old.
/// Does not wait for the disk: meant for what is made again, or was worth nothing without the rest.
///
/// # Errors
/// What the system says.
pub fn replace(path: &Utf8Path, bytes: &[u8], readable: Readable) -> io::Result<()> {
    replace_with(path, readable, |file| file.write_all(bytes))
}

/// The same with the content of another file, of `limit` bytes at most, which the kernel copies: a program of 100 MB is never in
/// memory here.
///
/// # Errors
/// What the system says; `FileTooLarge`.
pub(crate) fn replace_by_copy(
    path: &Utf8Path,
    from: &File,
    limit: u64,
    readable: Readable,
) -> io::Result<()> {
    replace_with(path, readable, |file| {
        let copied = io::copy(&mut from.take(limit.saturating_add(1)), file)?;
        if copied > limit { Err(too_large(limit)) } else { Ok(()) }
    })
}

fn replace_with(
    path: &Utf8Path,
    readable: Readable,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut pending = Pending::named(path)?;
    let mode = match readable {
        Readable::ByOwner => 0o600,
        Readable::ByAnyone => 0o666,
        Readable::Program => 0o700,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(pending.path())?;
    fill(&mut file)?;
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

    /// A name beside the target that no other process uses.
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::files::test_folder as folder;

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
        // A process that had the old one open still reads all of it: it was never truncated.
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
}
