//! The target folder that builds of clones share.
//!
//! A fresh clone has new file times, and cargo would build every crate of the workspace again. So the folder remembers what
//! it last built (the *stamp*), and the entries of a new clone get the times at which they came to be what they are
//! ([`freshness`]). The stamp is written before the build: a build that was cut short has built some packages since their
//! times, and the others not.
//!
//! A build that writes into the sources ([`written`]) is none that can be warm: the next clone lacks what it wrote. The next
//! build then takes every package of the repository for changed; what it depends on from elsewhere was built without them.

mod freshness;
mod written;

pub(crate) use written::WorkTree;

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde::{Deserialize, Serialize};
use stelae_model::{ExitCode, Failure};

use crate::deadline::Deadline;
use crate::files::{
    create_private_dirs, discard, limits, open_lock, read_below, read_untrusted_json, replace_json,
};
use crate::git::TreeEntry;
use crate::signals::Interrupt;
use freshness::{Freshness, Stamp};

/// Its name in the shared folder.
const STAMP: &str = "stamp.json";
/// The version of the stamp. One of another version is not read, and everything is built.
const SCHEMA: u32 = 2;
/// More than any manifest has.
const MANIFEST_BYTES: u64 = 1024 * 1024;

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
        let fail = |error: &io::Error| unusable(folder).because(error.to_string());
        create_private_dirs(folder).map_err(|error| fail(&error))?;
        let file = open_lock(folder.join("lock")).map_err(|error| fail(&error))?;
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

    /// Gives every entry of a clone its time, and takes away what must not be seen by what is built now.
    ///
    /// # Errors
    /// What the system says, and on which file.
    pub(crate) fn prepare(
        &self,
        repo: &Utf8Path,
        commit: &str,
        tree: &[TreeEntry],
    ) -> anyhow::Result<Prepared> {
        let mut remembered = self.remembered();
        // Whatever is known of no package is built anew, with what it depends on in the repository.
        let is_warm = !remembered.built.is_empty();
        if remembered.writes_sources {
            let mut empty = Stamp::default();
            empty.reach(remembered.built.latest_ns());
            remembered.built = empty;
        }
        let manifest = |path: &Path| {
            let bytes = read_below(repo, path, MANIFEST_BYTES).ok()?;
            String::from_utf8(bytes).ok()
        };
        // Whether a build that was killed wrote into its sources was never looked at.
        let cut_short = remembered.under_way;
        let freshness = Freshness::decide(&remembered.built, commit, tree, &manifest, now_ns(), cut_short);
        // First on disk: a build that is killed finds its packages by it, and those that it did not get to.
        self.remember(&Remembered {
            schema: SCHEMA,
            under_way: true,
            writes_sources: false,
            built: freshness.stamp,
        })?;
        self.remove_leavings(&freshness.run_anew)?;
        for (path, &time_ns) in &freshness.times {
            set_time(&repo.as_std_path().join(path), time_ns)
                .with_context(|| format!("the time of {} cannot be set", path.display()))?;
        }
        let changed = freshness.changed.iter().map(|folder| shown(folder)).collect();
        Ok(Prepared { is_warm, packages: freshness.packages, changed })
    }

    /// Says that the build is over, and whether it wrote into its sources.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn conclude(&self, writes_sources: bool) -> anyhow::Result<()> {
        let mut remembered = self.remembered();
        remembered.built.reach(now_ns());
        self.remember(&Remembered { under_way: false, writes_sources, ..remembered })
    }

    /// What build scripts have left behind, and could find again.
    fn remove_leavings(&self, names: &BTreeSet<String>) -> anyhow::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        // target/debug/build, or target/TRIPLE/debug/build.
        let mut below = vec![self.target()];
        for _ in 0..3 {
            below = below.iter().flat_map(|folder| folders_of(folder)).collect();
            for build in below.iter().filter(|folder| folder.file_name() == Some("build")) {
                for leavings in folders_of(build).iter().filter(|folder| is_of(folder, names)) {
                    remove_all(leavings)?;
                }
            }
        }
        Ok(())
    }

    fn remember(&self, remembered: &Remembered) -> anyhow::Result<()> {
        let path = self.folder.join(STAMP);
        replace_json(&path, remembered).with_context(|| path.to_string())
    }

    /// What was built last; nothing, when that is not known.
    fn remembered(&self) -> Remembered {
        let read = read_untrusted_json::<Remembered>(self.folder.join(STAMP), limits::RECORD);
        read.ok().filter(|remembered| remembered.schema == SCHEMA).unwrap_or_default()
    }
}

/// What the next build has to know.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    schema: u32,
    /// A build was begun, and has not said how it ended.
    under_way: bool,
    /// The last build wrote into its sources.
    writes_sources: bool,
    built: Stamp,
}

/// What is about to be built.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Whether something is known of an earlier build.
    pub(crate) is_warm: bool,
    /// How many packages there are.
    pub(crate) packages: usize,
    /// The folders of those that differ from the build before.
    pub(crate) changed: Vec<String>,
}

impl std::fmt::Display for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MOST_NAMED: usize = 8;
        if !self.is_warm {
            return f.write_str("building from scratch: nothing is cached yet");
        }
        write!(f, "{} of {} packages differ from the last build", self.changed.len(), self.packages)?;
        let named = self.changed.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.changed.len().saturating_sub(MOST_NAMED) {
            0 if named.is_empty() => Ok(()),
            0 => write!(f, ": {named}"),
            more => write!(f, ": {named} and {more} more"),
        }
    }
}

fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() { ".".to_owned() } else { folder.display().to_string() }
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Sets the time of an entry itself, and not of what a link names.
fn set_time(path: &Path, time_ns: u64) -> io::Result<()> {
    let (seconds, nanoseconds) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let time = Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Whether a folder below `build` is one of these packages: `NAME-` and the hash that cargo gives.
fn is_of(folder: &Utf8Path, names: &BTreeSet<String>) -> bool {
    let name = folder.file_name().and_then(|name| name.rsplit_once('-'));
    name.is_some_and(|(name, _)| names.contains(name))
}

/// The folders in a folder; none, if it is not there.
fn folders_of(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = folder.read_dir_utf8().into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(camino::Utf8DirEntry::into_path).collect()
}

fn remove_all(folder: &Utf8Path) -> anyhow::Result<()> {
    discard(folder).with_context(|| folder.to_string())
}

/// The failure of everything that goes wrong with the folder itself.
pub(crate) fn unusable(folder: &Utf8Path) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "build-cache", "the folder that builds share cannot be used")
        .on(folder.to_string())
        .hint("make it writable, name another (STELAE_CACHE_HOME=PATH), or build without it: --cold")
}

#[cfg(test)]
mod cargo_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::await_unlocked;

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
