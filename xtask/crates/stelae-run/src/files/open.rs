//! Opens files in folders that others can write to: servers, agents, an earlier run, another user. Opening never waits,
//! never follows a symlink in the last place, and what is not a regular file is refused.
//!
//! The kind is asked of the open descriptor and not of the path: between a look at a path and its opening, another process
//! can put another file there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// For every file of others. `NONBLOCK`: a pipe would wait for its other end, a lease for its holder.
pub(super) const CAREFULLY: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens a file for reading.
///
/// # Errors
/// What the system says; it is a symlink, or not a regular file.
pub fn open_untrusted(path: impl AsRef<Path>) -> io::Result<File> {
    regular(open(path.as_ref(), OFlags::RDONLY | CAREFULLY)?)
}

/// Opens a file for its lock, for reading and writing; makes it, mode 0600, where it is missing.
///
/// # Errors
/// What the system says; it is a symlink, or not a regular file.
pub fn open_lock(path: impl AsRef<Path>) -> io::Result<File> {
    regular(open(path.as_ref(), OFlags::RDWR | OFlags::CREATE | CAREFULLY)?)
}

/// The same of a file in an open folder.
///
/// # Errors
/// As [`open_lock`].
pub(crate) fn open_lock_in(folder: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | CAREFULLY;
    regular(rustix::fs::openat(folder, name, flags, PRIVATE).map_err(refused)?)
}

/// Opens a file that is there already for reading and writing.
///
/// # Errors
/// What the system says; it is a symlink, or not a regular file.
pub fn open_existing(path: impl AsRef<Path>) -> io::Result<File> {
    regular(open(path.as_ref(), OFlags::RDWR | CAREFULLY)?)
}

/// Opens a file for reading and appending; makes it, mode 0600, where it is missing.
///
/// # Errors
/// What the system says; it is a symlink, not a regular file, or has a second name, under which it may be another's.
pub fn open_append(path: impl AsRef<Path>) -> io::Result<File> {
    let file = regular(open(path.as_ref(), OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | CAREFULLY)?)?;
    if rustix::fs::fstat(&file)?.st_nlink > 1 {
        return Err(io::Error::other("it is a hard link to a file with another name"));
    }
    Ok(file)
}

/// The device that is always empty, for reading.
///
/// # Errors
/// What the system says.
pub fn open_null() -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(CWD, c"/dev/null", flags, Mode::empty())?))
}

fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, flags, PRIVATE).map_err(refused)
}

/// The reason in words where the system's own would mislead.
pub(super) fn refused(errno: Errno) -> io::Error {
    match errno {
        Errno::LOOP => io::Error::other("it is a symlink"),
        // Of a pipe without a reader, of a socket, of a device without a driver; of a folder that is opened for writing.
        Errno::NXIO | Errno::NODEV | Errno::ISDIR => io::Error::other(NOT_REGULAR),
        errno => errno.into(),
    }
}

/// The open file, if it is a regular one.
pub(super) fn regular(file: impl AsFd + Into<OwnedFd>) -> io::Result<File> {
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file.into())),
        _ => Err(io::Error::other(NOT_REGULAR)),
    }
}

const NOT_REGULAR: &str = "it is not a regular file";
