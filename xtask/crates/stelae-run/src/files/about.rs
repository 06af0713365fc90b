//! What identifies an open file or folder, whatever it is called by now.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A file or folder, told apart from every other one of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    /// The device that it is on. It can be another number after the machine was started anew.
    pub(super) device: (u32, u32),
    /// Its number there.
    inode: u64,
}

/// The same, as it is written down: what outlives a restart of the machine: the inode's number, and when it was made, which is another moment when the number is
/// given to another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastingId {
    inode: u64,
    /// Seconds and nanoseconds; absent where the file system does not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<(i64, u32)>,
}

/// What the kernel tells of an open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) id: FileId,
    pub(crate) lasting: LastingId,
    /// The mount that it was reached through; nought where the kernel does not tell.
    pub(crate) mount: u64,
    pub(crate) owner: u32,
    pub(crate) group: u32,
    /// The permission bits.
    pub(crate) mode: u32,
    pub(crate) is_folder: bool,
    /// Nothing in it can be changed: `chattr +i` or `+a`.
    pub(crate) is_fixed: bool,
}

/// Asks the kernel.
///
/// # Errors
/// What the system says.
pub(crate) fn about(file: impl AsFd) -> rustix::io::Result<About> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(&file, c"", flags, wanted) {
        Ok(told) => Ok(About {
            id: FileId { device: (told.stx_dev_major, told.stx_dev_minor), inode: told.stx_ino },
            lasting: LastingId {
                inode: told.stx_ino,
                born: has(told.stx_mask, StatxFlags::BTIME)
                    .then_some((told.stx_btime.tv_sec, told.stx_btime.tv_nsec)),
            },
            mount: if has(told.stx_mask, StatxFlags::MNT_ID) { told.stx_mnt_id } else { 0 },
            owner: told.stx_uid,
            group: told.stx_gid,
            mode: u32::from(told.stx_mode) & 0o7777,
            is_folder: FileType::from_raw_mode(told.stx_mode.into()).is_dir(),
            is_fixed: told.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
        }),
        Err(Errno::NOSYS) => without_statx(file),
        Err(error) => Err(error),
    }
}

fn has(mask: u32, flag: StatxFlags) -> bool {
    StatxFlags::from_bits_retain(mask).contains(flag)
}

fn without_statx(file: impl AsFd) -> rustix::io::Result<About> {
    let told = rustix::fs::fstat(file)?;
    Ok(About {
        id: FileId {
            device: (rustix::fs::major(told.st_dev), rustix::fs::minor(told.st_dev)),
            inode: told.st_ino,
        },
        lasting: LastingId { inode: told.st_ino, born: None },
        mount: 0,
        owner: told.st_uid,
        group: told.st_gid,
        mode: told.st_mode & 0o7777,
        is_folder: FileType::from_raw_mode(told.st_mode).is_dir(),
        is_fixed: false,
    })
}

/// Where an open file is now, as far as the kernel can name a path to it.
///
/// # Errors
/// What the system says, where there is no `/proc`.
pub(crate) fn path_of(file: impl AsFd) -> io::Result<PathBuf> {
    std::fs::read_link(in_proc(file))
}

/// A path that leads to exactly this open file, whatever its own path leads to by now.
pub(crate) fn in_proc(file: impl AsFd) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}
