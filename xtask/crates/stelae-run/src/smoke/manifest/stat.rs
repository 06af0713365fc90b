//! What the system says of an entry.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use rustix::path::Arg;

use super::walk::now;

/// What the system says of an entry. Two that are the same are of the same file with the same content, for all that the system says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) bytes: u64,
    /// The device that it is on, and its number there.
    on: (u64, u64),
    /// The device that it is.
    pub(super) device: u64,
    modified: (i64, u64),
    changed: (i64, u64),
    /// Whether something is mounted there.
    pub(super) mount: bool,
}

impl Stat {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(super) fn identity(&self) -> (u64, u64) {
        self.on
    }

    /// Whether its last change is longer ago than that.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        let Ok(seconds) = u64::try_from(self.changed.0) else { return true };
        let changed = Duration::from_secs(seconds) + Duration::from_nanos(self.changed.1);
        changed + age < now()
    }
}

/// Asks about an entry of a folder; a symlink is not followed.
#[cfg(target_os = "linux")]
pub(super) fn stat(folder: impl AsFd, name: impl Arg) -> Result<Stat, Errno> {
    told(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// Asks about what is open.
#[cfg(target_os = "linux")]
pub(super) fn stat_open(file: BorrowedFd<'_>) -> Result<Stat, Errno> {
    told(file, c"", AtFlags::EMPTY_PATH)
}

#[cfg(target_os = "linux")]
fn told(folder: impl AsFd, name: impl Arg, flags: AtFlags) -> Result<Stat, Errno> {
    use rustix::fs::{StatxAttributes, StatxFlags, StatxTimestamp, makedev, statx};
    let told = statx(folder, name, flags, StatxFlags::BASIC_STATS)?;
    let time = |time: StatxTimestamp| (time.tv_sec, u64::from(time.tv_nsec));
    Ok(Stat {
        mode: u32::from(told.stx_mode),
        owner: (told.stx_uid, told.stx_gid),
        bytes: told.stx_size,
        on: (makedev(told.stx_dev_major, told.stx_dev_minor), told.stx_ino),
        device: makedev(told.stx_rdev_major, told.stx_rdev_minor),
        modified: time(told.stx_mtime),
        changed: time(told.stx_ctime),
        // Kernels before 5.8 do not tell; then a mount is seen by what is in it.
        mount: told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    })
}

/// Elsewhere a mount is seen by what is in it.
#[cfg(not(target_os = "linux"))]
pub(super) fn stat(folder: impl AsFd, name: impl Arg) -> Result<Stat, Errno> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|told| of(&told))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn stat_open(file: BorrowedFd<'_>) -> Result<Stat, Errno> {
    rustix::fs::fstat(file).map(|told| of(&told))
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "the types differ between systems")]
fn of(told: &rustix::fs::Stat) -> Stat {
    Stat {
        mode: told.st_mode as u32,
        owner: (told.st_uid, told.st_gid),
        bytes: told.st_size as u64,
        on: (told.st_dev as u64, told.st_ino as u64),
        device: told.st_rdev as u64,
        modified: (told.st_mtime as i64, told.st_mtime_nsec as u64),
        changed: (told.st_ctime as i64, told.st_ctime_nsec as u64),
        mount: false,
    }
}
