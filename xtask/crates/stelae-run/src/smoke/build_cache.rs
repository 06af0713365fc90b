//! The target folder that builds of clones share.
//!
//! A fresh clone has new file times, and cargo would build every crate of the workspace again. So the folder remembers
//! which content of which file it last built (the *stamp*), and a file of a new clone whose content is the same gets
//! an old file time back; what differs gets the newest, and is built. While a build is under way the stamp holds only
//! what the build has in common with the one before: a build that was cut short promises nothing about the rest.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::{ExitCode, Failure};

use crate::deadline::Deadline;
use crate::files::create_private_dirs;
use crate::signals::Interrupt;

/// How often a held lock is tried again.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// The shared folder, locked for one build.
#[derive(Debug)]
pub(crate) struct BuildCache {
    folder: Utf8PathBuf,
    // Held for its lock; the kernel frees it however we end.
    _lock: File,
}

impl BuildCache {
    /// Locks the folder, waiting for another run's build if there is one.
    ///
    /// # Errors
    /// Exit 40, `build-cache`, when the folder cannot be used; the deadline's code when it passes while waiting;
    /// 129, 130, 143 on a signal.
    pub(crate) fn lock(
        folder: &Utf8Path,
        deadline: Deadline,
        interrupt: &Interrupt,
        on_wait: &mut dyn FnMut(),
    ) -> Result<Self, Failure> {
        let fail = |error: &std::io::Error| unusable(folder).because(error.to_string());
        create_private_dirs(folder).map_err(|error| fail(&error))?;
        let options =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
        let file = options.map_err(|error| fail(&error))?;
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { folder: folder.to_owned(), _lock: file }),
                Err(TryLockError::Error(error)) => return Err(fail(&error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !std::mem::replace(&mut said, true) {
                on_wait();
            }
            interrupt.bail("waiting for another run's build")?;
            if deadline.passed() {
                let code = deadline.exit_code(ExitCode::StepFailed);
                return Err(Failure::new(
                    code,
                    "build-cache-busy",
                    "another run's build did not end in time",
                )
                .on(folder.join("lock").to_string())
                .hint("wait for it, or build apart from it: --cold"));
            }
            std::thread::sleep(TRY_EVERY.min(deadline.remaining()));
        }
    }

    /// The target folder.
    pub(crate) fn target(&self) -> Utf8PathBuf {
        self.folder.join("target")
    }

    /// Gives old times to all files of the clone that were built as they are, and takes the others out of the stamp.
    /// Returns how many files were built as they are.
    ///
    /// # Errors
    /// What the system says, and on which file.
    pub(crate) fn set_times_back(&self, repo: &Utf8Path, tree: &[(String, String)]) -> anyhow::Result<usize> {
        let built = self.stamp();
        let same: Vec<_> = tree.iter().filter(|(path, id)| built.get(path) == Some(id)).cloned().collect();
        self.stamp_as(&same)?;
        // Older than anything that cargo can have written, and the same in every clone. What differs becomes newer than
        // anything: while this run waited for the lock, another's build may have written results newer than the clone.
        let (old, now) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000), SystemTime::now());
        let mut count = 0;
        // Mode 120000 is a symbolic link, 160000 another repository: neither has a time of its own to set.
        for (path, id) in tree.iter().filter(|(_, id)| id.starts_with("100")) {
            let same = built.get(path) == Some(id);
            let set =
                File::open(repo.join(path)).and_then(|file| file.set_modified(if same { old } else { now }));
            set.with_context(|| format!("the time of {path} cannot be set"))?;
            count += usize::from(same);
        }
        Ok(count)
    }

    /// Remembers that this is what was built.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn stamp_as(&self, tree: &[(String, String)]) -> anyhow::Result<()> {
        let tree: BTreeMap<_, _> = tree.iter().cloned().collect();
        let (stamp, draft) = (self.folder.join("stamp.json"), self.folder.join("stamp.json.new"));
        fs::write(&draft, serde_json::to_vec(&tree)?).with_context(|| draft.to_string())?;
        fs::rename(draft, &stamp).with_context(|| stamp.to_string())
    }

    /// What was built last; nothing, when that is not known.
    fn stamp(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.folder.join("stamp.json")).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}

/// The failure of everything that goes wrong with the folder itself.
pub(crate) fn unusable(folder: &Utf8Path) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "build-cache", "the folder that builds share cannot be used")
        .on(folder.to_string())
        .hint("make it writable, name another (STELAE_CACHE_HOME=PATH), or build without it: --cold")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::files::await_unlocked;

    fn tree(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(path, id)| (path.to_owned(), format!("100644 blob {id}"))).collect()
    }

    #[test]
    fn only_what_was_built_as_it_is_gets_its_old_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (cache, repo) = (folder.join("cache"), folder.join("repo"));
        fs::create_dir(&repo).unwrap();
        let year = Duration::from_secs(365 * 24 * 3600);
        for file in ["same", "changed", "new"] {
            fs::write(repo.join(file), "x").unwrap();
            // As if the clone had waited long for the lock.
            File::open(repo.join(file)).unwrap().set_modified(SystemTime::now() - 2 * year).unwrap();
        }
        let lock = || {
            BuildCache::lock(&cache, Deadline::after(Duration::from_secs(5)), &Interrupt::never(), &mut || {})
        };
        lock().unwrap().stamp_as(&tree(&[("same", "1"), ("changed", "1"), ("gone", "1")])).unwrap();
        // It holds what runs of this user start: nobody else writes into it.
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
        let now = tree(&[("same", "1"), ("changed", "2"), ("new", "1")]);
        let cache = lock().unwrap();
        assert_eq!(cache.set_times_back(&repo, &now).unwrap(), 1);
        let age = |file: &str| fs::metadata(repo.join(file)).unwrap().modified().unwrap().elapsed().unwrap();
        assert!(age("same") > year && age("changed") < year && age("new") < year);
        // The build that would have stamped it never ended: only what both have in common is promised.
        assert_eq!(cache.set_times_back(&repo, &tree(&[("same", "1"), ("changed", "1")])).unwrap(), 1);
    }

    #[test]
    fn a_held_lock_is_waited_for_until_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(folder.path()).unwrap().to_owned();
        let held = BuildCache::lock(
            &cache,
            Deadline::after(Duration::from_secs(5)),
            &Interrupt::never(),
            &mut || {},
        );
        let mut waited = 0;
        let again =
            BuildCache::lock(&cache, Deadline::after(Duration::ZERO), &Interrupt::never(), &mut || {
                waited += 1;
            });
        assert_eq!((again.unwrap_err().kind.as_str(), waited), ("build-cache-busy", 1));
        drop(held);
        await_unlocked(&cache.join("lock"));
        assert!(
            BuildCache::lock(&cache, Deadline::after(Duration::ZERO), &Interrupt::never(), &mut || {})
                .is_ok()
        );
    }
}
