//! Removes folders that others have filled. Nothing outside of them is touched: no symlink is followed, no mount point is
//! crossed (a bind mount of the same device included), and what is swapped meanwhile is not entered.
//!
//! A removal works from one open folder to the next, and never with a whole path: so no length of a path is too long, and a
//! folder that is renamed is still the same. It has four descriptors open, however deep the tree is: the way back up is `..`,
//! and is taken only when that is the very folder that it came down from.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use camino::Utf8Path;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::about::{About, FileId, about, in_proc};
use super::beneath::open_beneath;
use super::remains::{Remains, Why};
use crate::deadline::Deadline;

/// A folder that is not empty, and in which nothing is found, is tried again so often. (A network file system keeps a file that
/// is open; another process fills it just then.)
const MOST_IDLE: usize = 1_000;
/// A removal of what the harness made itself takes moments; this is for a disk that does not answer.
const DISCARDED_WITHIN: Duration = Duration::from_secs(60);
/// What an owner needs to empty a folder.
const ALL_OF_OWNER: u32 = 0o700;
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes what is at a path: a folder with all that is below it, or a file. Nothing is there: nothing happens.
///
/// # Errors
/// What is left, and why.
pub fn remove_tree(path: &Utf8Path, deadline: Deadline) -> Result<(), Remains> {
    let fail = |error: io::Error| Remains::one(path.to_string(), Why::System(error));
    let (parent, name) = match split(path) {
        Ok(split) => split,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    let folder = match enter(parent.as_fd(), &name) {
        Ok(folder) => folder,
        Err(Entering::Gone) => return Ok(()),
        Err(Entering::NoFolder) => return unlink(parent.as_fd(), &name, path.as_str()),
        Err(Entering::Refused(why)) => return Err(Remains::one(path.to_string(), why)),
    };
    let id = folder.about.id;
    empty_tree(folder.file.as_fd(), path.as_str(), &[], deadline)?;
    drop(folder);
    remove_empty(parent.as_fd(), &name, id, path.as_str())
}

/// The same of what the harness has made itself, and of which nothing large is expected: a stage, a home, a record.
///
/// # Errors
/// What is left, and why.
pub fn discard(path: &Utf8Path) -> io::Result<()> {
    Ok(remove_tree(path, Deadline::after(DISCARDED_WITHIN))?)
}

/// Removes all that is in an open folder, but what is named in `spared` at its top. `shown` is its path in messages.
///
/// # Errors
/// What is left, and why.
pub(crate) fn empty_tree(
    folder: BorrowedFd<'_>,
    shown: &str,
    spared: &[&str],
    deadline: Deadline,
) -> Result<(), Remains> {
    let fail = |error: io::Error| Remains::one(shown.to_owned(), Why::System(error));
    // Opened anew: what was handed in may not be readable, and its position is its owner's.
    let root = match enter(folder, c".") {
        Ok(root) => root,
        Err(Entering::Refused(why)) => return Err(Remains::one(shown.to_owned(), why)),
        Err(Entering::Gone | Entering::NoFolder) => return Err(fail(io::ErrorKind::NotFound.into())),
    };
    let spared = spared.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let top = Frame { stuck: spared, ..Frame::new(CString::default(), root.about.id) };
    let walk = Walk {
        mount: root.about.mount,
        root: folder,
        current: root.file,
        frames: vec![top],
        shown,
        remains: Remains::default(),
        deadline,
        idle: 0,
    };
    walk.run().or_nothing()
}

/// Removes the empty folder `name`, if it is still the one with this id.
///
/// # Errors
/// What is left, and why.
pub(crate) fn remove_empty(
    parent: BorrowedFd<'_>,
    name: &CStr,
    id: FileId,
    shown: &str,
) -> Result<(), Remains> {
    let left = |why: Why| Err(Remains::one(shown.to_owned(), why));
    let found = rustix::fs::openat(parent, name, OFlags::PATH | FOLDER, Mode::empty());
    match found.and_then(about) {
        Ok(found) if found.id == id => {}
        Ok(_) | Err(Errno::NOENT) => return left(Why::Moved),
        Err(error) => return left(Why::System(error.into())),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(()),
        Err(Errno::NOTEMPTY) => left(Why::Deadline),
        Err(Errno::BUSY) => left(Why::MountPoint),
        Err(error) => left(Why::System(error.into())),
    }
}

/// The open folder that a path is in, and its name there. The path to that folder is its user's: symlinks are followed.
///
/// # Errors
/// What the system says; it names no file.
pub(crate) fn split(path: &Utf8Path) -> io::Result<(OwnedFd, CString)> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let parent = path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::openat(CWD, parent.as_str(), flags, Mode::empty())?, CString::new(name)?))
}

/// Opens a folder as a place to work from; its last name may not be a symlink.
///
/// # Errors
/// What the system says; there is something else.
pub fn open_folder(path: &Utf8Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path.as_str(), OFlags::PATH | FOLDER, Mode::empty())?)
}

fn unlink(parent: BorrowedFd<'_>, name: &CStr, shown: &str) -> Result<(), Remains> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(Remains::one(shown.to_owned(), of(error))),
    }
}

/// Why a file or folder does not go.
fn of(error: Errno) -> Why {
    // Only a mount point in this process's own view is busy: one of another mount namespace is detached.
    if error == Errno::BUSY { Why::MountPoint } else { Why::System(error.into()) }
}

/// A folder that was entered.
struct Entered {
    file: OwnedFd,
    about: About,
}

/// Why a folder was not entered.
enum Entering {
    /// It is not there any more.
    Gone,
    /// It is a file or a symlink by now.
    NoFolder,
    Refused(Why),
}

impl From<Errno> for Entering {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Gone,
            Errno::NOTDIR | Errno::LOOP => Self::NoFolder,
            Errno::XDEV => Self::Refused(Why::MountPoint),
            _ => Self::Refused(Why::System(error.into())),
        }
    }
}

/// Opens a folder so that it can be emptied. One that denies its owner that is changed, by its descriptor, if this user owns it.
fn enter(parent: BorrowedFd<'_>, name: &CStr) -> Result<Entered, Entering> {
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let open = |flags: OFlags| open_beneath(parent, path, flags | FOLDER);
    let file = match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            permit(&open(OFlags::PATH)?)?;
            open(OFlags::RDONLY)?
        }
        opened => opened?,
    };
    let about = about(&file)?;
    if about.is_fixed {
        return Err(Entering::Refused(Why::Fixed));
    }
    if about.mode & ALL_OF_OWNER != ALL_OF_OWNER && about.owner == rustix::process::geteuid().as_raw() {
        // One that cannot be changed says so when it is emptied.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(about.mode | ALL_OF_OWNER)).ok();
    }
    Ok(Entered { file, about })
}

/// Lets the owner into a folder that is open as a place only.
fn permit(place: &OwnedFd) -> Result<(), Entering> {
    let about = about(place)?;
    if about.owner != rustix::process::geteuid().as_raw() {
        return Err(Entering::Refused(Why::System(io::ErrorKind::PermissionDenied.into())));
    }
    // Not by its name, which may be another folder's by now; and `fchmod` refuses such a descriptor.
    let mode = Mode::from_raw_mode(about.mode | ALL_OF_OWNER);
    let permitted = rustix::fs::chmod(in_proc(place), mode);
    permitted.map_err(|error| Entering::Refused(Why::System(error.into())))
}

/// A folder on the way from the root to the one that is emptied.
struct Frame {
    /// Its name in the folder above.
    name: CString,
    id: FileId,
    /// Folders in it that are still to be removed.
    waiting: Vec<CString>,
    /// What does not go, or is not to go.
    stuck: BTreeSet<CString>,
    /// Whether there may be more in it than what is waiting.
    unread: bool,
}

impl Frame {
    fn new(name: CString, id: FileId) -> Self {
        Self { name, id, waiting: Vec::new(), stuck: BTreeSet::new(), unread: true }
    }
}

/// A removal under way.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// The folder that is emptied, open for reading: that of the last frame.
    current: OwnedFd,
    frames: Vec<Frame>,
    mount: u64,
    shown: &'a str,
    remains: Remains,
    deadline: Deadline,
    /// How often in a row nothing could be removed.
    idle: usize,
}

impl Walk<'_> {
    fn run(mut self) -> Remains {
        loop {
            if self.deadline.passed() {
                self.give_up_here(Why::Deadline);
                return self.remains;
            }
            let is_root = self.frames.len() == 1;
            let top = self.top();
            if let Some(name) = top.waiting.pop() {
                self.descend(&name);
            } else if std::mem::take(&mut top.unread) {
                let worked = self.list();
                // Whether another folder is empty by now is seen when it is removed.
                self.top().unread |= worked && is_root;
            } else if is_root {
                return self.remains;
            } else {
                self.go_up();
            }
        }
    }

    fn top(&mut self) -> &mut Frame {
        // There is always the root's frame: `go_up` is not called for it.
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    /// Removes the files of the current folder, and notes its folders. Gives whether there was anything to do.
    fn list(&mut self) -> bool {
        let entries = match Dir::read_from(&self.current) {
            Ok(entries) => entries,
            Err(error) => {
                self.give_up_here(Why::System(error.into()));
                return false;
            }
        };
        let mut worked = false;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.give_up_here(Why::System(error.into()));
                    return false;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." || self.top().stuck.contains(name) {
                continue;
            }
            worked = true;
            if entry.file_type() == FileType::Directory {
                self.top().waiting.push(name.to_owned());
            } else {
                self.remove_file(name);
            }
            // A folder may have more entries than there is time for.
            if self.deadline.passed() {
                return true;
            }
        }
        worked
    }

    fn remove_file(&mut self, name: &CStr) {
        match rustix::fs::unlinkat(&self.current, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.idle = 0,
            // It is a folder by now; or the file system did not tell that it is one.
            Err(Errno::ISDIR) => self.top().waiting.push(name.to_owned()),
            Err(Errno::PERM) if self.is_fixed(name) => self.leave(name, Why::Fixed),
            Err(error) => self.leave(name, of(error)),
        }
    }

    fn is_fixed(&self, name: &CStr) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.current, name, flags, Mode::empty());
        file.and_then(about).is_ok_and(|about| about.is_fixed)
    }

    /// Enters a folder of the current one.
    fn descend(&mut self, name: &CStr) {
        match enter(self.current.as_fd(), name) {
            Ok(entered) => {
                self.current = entered.file;
                self.frames.push(Frame::new(name.to_owned(), entered.about.id));
            }
            Err(Entering::Gone) => {}
            Err(Entering::NoFolder) => self.remove_file(name),
            Err(Entering::Refused(why)) => self.leave(name, why),
        }
    }

    /// Leaves the current folder for the one that it is in, and removes it there.
    fn go_up(&mut self) {
        let Some(done) = self.frames.pop() else { return };
        if !self.open_top() {
            return;
        }
        if !done.stuck.is_empty() {
            self.top().stuck.insert(done.name);
            return;
        }
        match rustix::fs::unlinkat(&self.current, &done.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => self.idle = 0,
            // Something was put into it meanwhile; or it is a file by now.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) if self.idle < MOST_IDLE => {
                self.idle += 1;
                self.top().waiting.push(done.name);
            }
            Err(error) => self.leave(&done.name, of(error)),
        }
    }

    /// Makes the folder of the last frame the current one: by `..`, or, if another process has moved something, by the names from
    /// the root on. What is not found there any more is not gone on with.
    fn open_top(&mut self) -> bool {
        let wanted = self.top().id;
        let up = rustix::fs::openat(&self.current, c"..", OFlags::RDONLY | FOLDER, Mode::empty());
        if let Ok(up) = up
            && about(&up).is_ok_and(|about| about.id == wanted && about.mount == self.mount)
        {
            self.current = up;
            return true;
        }
        self.open_from_root();
        self.top().unread = true;
        false
    }

    fn open_from_root(&mut self) {
        let mut reached = 0;
        if let Ok(root) = enter(self.root, c".") {
            self.current = root.file;
            for frame in &self.frames[1..] {
                match enter(self.current.as_fd(), &frame.name) {
                    Ok(next) if next.about.id == frame.id => self.current = next.file,
                    _ => break,
                }
                reached += 1;
            }
        }
        self.frames.truncate(1 + reached);
    }

    fn leave(&mut self, name: &CStr, why: Why) {
        let path = self.path(Some(name));
        self.remains.add(path, why);
        self.top().stuck.insert(name.to_owned());
    }

    /// The current folder stays as it is.
    fn give_up_here(&mut self, why: Why) {
        let path = self.path(None);
        self.remains.add(path, why);
        // A name that no file has: the folder counts as not empty.
        self.top().stuck.insert(CString::default());
    }

    fn path(&self, name: Option<&CStr>) -> String {
        let names = self.frames[1..].iter().map(|frame| frame.name.as_c_str()).chain(name);
        names.fold(self.shown.to_owned(), |path, name| path + "/" + &name.to_string_lossy())
    }
}

#[cfg(test)]
mod tests;
