//! One look at a folder, entry by entry: bounded, and without opening anything that could make it wait.
//!
//! Each folder is opened below the open folder that it is in, and never by a path: what is renamed meanwhile leads nowhere else.
//! At most [`OPEN`] folders are open at once, however deep it goes; further up, the way back is `..`, and has to lead to the folder
//! that the look came from.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camino::Utf8Path;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use stelae_model::Failure;
use stelae_model::manifest::{
    Content, Declared, Digest, Entry, INDEX, Manifest, What, escaped, place_in, read_index, root_place,
};

use super::stat::{Stat, stat, stat_open};
use crate::deadline::Deadline;
use crate::files::bounded;
use crate::signals::Interrupt;

/// So many folders are open at once.
const OPEN: usize = 64;
/// So many entries may have come since: more are a flood, and a difference for certain.
const MOST_NEW: usize = 10_000;
/// So many bytes may the names of all entries have together.
const MOST_NAMES: usize = 256 << 20;
/// A larger index of git is not read.
const MOST_INDEX: u64 = 256 << 20;
/// A larger file is not read where it is declared that it may come; a file that was there is read whatever its size.
const MOST_DECLARED: u64 = 1 << 30;
/// What is read between two looks at the deadline.
const CHUNK: usize = 1 << 20;
/// Two changes within one tick of the kernel's clock (at most 10 ms) leave the same time. What is younger is read again.
const TICK: Duration = Duration::from_millis(12);

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

const OBJECTS: &str = "repo:.git/objects";
const OBJECTS_INFO: &str = "repo:.git/objects/info";

/// Contents that were read, by their places.
pub(super) type Seen = HashMap<String, Read>;

/// A content, and what the file was when it was read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    stat: Stat,
    content: Content,
    /// What git's index says.
    tracked: Arc<BTreeMap<String, String>>,
    /// By the first look: nothing of the run had been started then.
    first: bool,
}

#[cfg(test)]
impl Read {
    /// As if this had been read of it.
    pub(super) fn of(stat: Stat, first: bool) -> Self {
        Self { stat, content: Content::Sha256(Digest([0; 32])), tracked: Arc::default(), first }
    }
}

/// Why a look did not come to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Another process moved what was being looked at.
    Unstable(String),
    /// More has come than anything that a run leaves.
    Flooded(String),
    /// The deadline passed.
    Late,
    /// A signal came.
    Interrupted(Failure),
    /// The system's own reason.
    Failed(String, io::Error),
}

/// What a look needs to know.
pub(super) struct Look<'a> {
    /// What was there the last time; `None`: this is the first look, and everything is read.
    pub(super) known: Option<&'a Manifest>,
    /// What may have changed.
    pub(super) declared: &'a Declared,
    /// Whether a file is read again that has been written since the first look, whatever its times say now. A memory into which a
    /// file is mapped can be written without a new time, but only after a first write, which has left one.
    pub(super) anew: bool,
    pub(super) deadline: Deadline,
    pub(super) interrupt: &'a Interrupt,
}

/// Looks at a folder.
///
/// # Errors
/// [`Stopped`].
pub(super) fn look(
    root: &str,
    path: &Utf8Path,
    look: &Look<'_>,
    seen: &mut Seen,
) -> Result<Manifest, Stopped> {
    let mut walk = Walk { look, seen, manifest: Manifest::default(), new: 0, names: 0 };
    walk.root(root, path)?;
    Ok(walk.manifest)
}

struct Walk<'a, 'b> {
    look: &'a Look<'b>,
    seen: &'a mut Seen,
    manifest: Manifest,
    new: usize,
    names: usize,
}

/// A folder that is to be looked into: its name, and its device and inode.
type Folder = (Vec<u8>, (u64, u64));

/// A folder on the way down.
struct Frame {
    place: String,
    identity: (u64, u64),
    /// Open, unless it is far up.
    folder: Option<OwnedFd>,
    /// The folders in it that are still to be looked into.
    todo: Vec<Folder>,
}

impl Walk<'_, '_> {
    fn root(&mut self, root: &str, path: &Utf8Path) -> Result<(), Stopped> {
        let place = root_place(root);
        let failed = |error: Errno| Stopped::Failed(root_place(root), error.into());
        let found = match stat(CWD, path.as_str()) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if found.kind() != FileType::Directory {
            // A link, say, to where the folder is now. It is another kind of entry than it was.
            let what = What::Link("…".to_owned());
            self.put(place, Entry { what, mode: 0, owner: found.owner });
            return Ok(());
        }
        let what = if found.mount { What::Mount } else { What::Folder };
        self.put(place.clone(), entry(&found, what));
        let folder = rustix::fs::openat(CWD, path.as_str(), FOLDER, Mode::empty()).map_err(failed)?;
        self.below(place, folder)
    }

    fn below(&mut self, place: String, folder: OwnedFd) -> Result<(), Stopped> {
        let identity = stat_open(folder.as_fd()).map_err(|error| failed(&place, error))?.identity();
        let todo = self.list(&place, folder.as_fd())?;
        let mut stack = vec![Frame { place, identity, folder: Some(folder), todo }];
        while let Some(frame) = stack.last_mut() {
            let next = frame.todo.pop();
            let Some((name, identity)) = next else {
                let done = stack.pop();
                if let (Some(done), Some(parent)) = (done, stack.last_mut()) {
                    go_back(&done, parent)?;
                }
                continue;
            };
            let place = place_in(&frame.place, &name);
            let Some(parent) = &frame.folder else { return Err(Stopped::Unstable(place)) };
            let folder = match rustix::fs::openat(parent, &name[..], FOLDER, Mode::empty()) {
                Ok(folder) => folder,
                Err(error @ (Errno::ACCESS | Errno::PERM)) => {
                    self.unlisted(&place, error);
                    continue;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Stopped::Unstable(place)),
                Err(error) => return Err(failed(&place, error)),
            };
            if stat_open(folder.as_fd()).map_err(|error| failed(&place, error))?.identity() != identity {
                return Err(Stopped::Unstable(place));
            }
            let todo = self.list(&place, folder.as_fd())?;
            if let Some(far) = stack.len().checked_sub(OPEN).and_then(|far| stack.get_mut(far)) {
                far.folder = None;
            }
            stack.push(Frame { place, identity, folder: Some(folder), todo });
        }
        Ok(())
    }

    /// Records the entries of a folder. Gives the folders in it that are to be looked into.
    fn list(&mut self, place: &str, folder: BorrowedFd<'_>) -> Result<Vec<Folder>, Stopped> {
        let mut todo = Vec::new();
        let entries = match Dir::read_from(folder) {
            Ok(entries) => entries,
            Err(error @ (Errno::ACCESS | Errno::PERM)) => {
                self.unlisted(place, error);
                return Ok(todo);
            }
            Err(error) => return Err(failed(place, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed(place, error))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || is_left_out(place, name) {
                continue;
            }
            let below = place_in(place, name);
            self.bounds(&below)?;
            let found = match stat(folder, name) {
                Ok(found) => found,
                // It went meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    let what = What::Unlisted(io::Error::from(error).to_string());
                    self.put(below, Entry { what, mode: 0, owner: (0, 0) });
                    continue;
                }
            };
            let what = self.what(folder, name, &below, &found)?;
            if what == What::Folder && self.leads_on(&below) {
                todo.push((name.to_vec(), found.identity()));
            }
            self.put(below, entry_of(&found, what));
        }
        Ok(todo)
    }

    fn what(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        place: &str,
        found: &Stat,
    ) -> Result<What, Stopped> {
        if found.mount {
            return Ok(What::Mount);
        }
        Ok(match found.kind() {
            FileType::RegularFile => {
                What::File { bytes: found.bytes, content: self.content(folder, name, place, found)? }
            }
            FileType::Directory => What::Folder,
            FileType::Symlink => match rustix::fs::readlinkat(folder, name, Vec::new()) {
                Ok(target) => What::Link(escaped(target.as_bytes())),
                Err(_) => return Err(Stopped::Unstable(place.to_owned())),
            },
            FileType::Fifo => What::Fifo,
            FileType::Socket => What::Socket,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                What::Device(found.device)
            }
        })
    }

    fn content(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        place: &str,
        found: &Stat,
    ) -> Result<Content, Stopped> {
        if let Some(known) = self.look.known {
            let as_long = match known.get(place).map(|entry| &entry.what) {
                Some(What::File { content: Content::Index, .. }) => true,
                Some(What::File { bytes, .. }) => *bytes == found.bytes,
                _ => false,
            };
            let declared = self.look.declared.covers(place);
            if !as_long && !declared {
                return Ok(Content::Skipped);
            }
            if !as_long && found.bytes > MOST_DECLARED {
                return Ok(Content::Unread(format!(
                    "it has more than {MOST_DECLARED} bytes, and was not read"
                )));
            }
        }
        // Device, inode, length and both times: a process without the right to set the clock can set one of the times back, and not
        // the other (ctime).
        let is_known = |read: &&Read| read.stat == *found && (read.first || !self.look.anew);
        if let Some(read) = self.seen.get(place).filter(is_known) {
            if place == INDEX {
                self.manifest.tracked = Arc::clone(&read.tracked);
            }
            return Ok(read.content.clone());
        }
        let is_old = found.is_older_than(TICK);
        let read = self.read(folder, name, place, found)?;
        if place == INDEX {
            self.manifest.tracked = Arc::clone(&read.tracked);
        }
        let content = read.content.clone();
        if is_old {
            self.seen.insert(place.to_owned(), read);
        } else {
            self.seen.remove(place);
        }
        Ok(content)
    }

    fn read(&self, folder: BorrowedFd<'_>, name: &[u8], place: &str, found: &Stat) -> Result<Read, Stopped> {
        let first = self.look.known.is_none();
        let read = |content, tracked| Read { stat: found.clone(), content, tracked, first };
        let unread = |why: &dyn std::fmt::Display| read(Content::Unread(why.to_string()), Arc::default());
        let opened = rustix::fs::openat(folder, name, FILE, Mode::empty());
        let file = match opened.and_then(|file| Ok((stat_open(file.as_fd())?, file))) {
            Ok((now, file)) if now.identity() == found.identity() && now.kind() == FileType::RegularFile => {
                std::fs::File::from(file)
            }
            Ok(_) => return Ok(unread(&"it was exchanged while it was looked at")),
            Err(error) => return Ok(unread(&io::Error::from(error))),
        };
        if place == INDEX
            && let Ok(bytes) = bounded(&file, MOST_INDEX)
            && let Some(tracked) = read_index(&bytes)
        {
            let tracked = tracked.into_iter().map(|(name, says)| (escaped(&name), says)).collect();
            return Ok(read(Content::Index, Arc::new(tracked)));
        }
        match self.digest(&file, found.bytes) {
            Ok(digest) => Ok(read(Content::Sha256(digest), Arc::default())),
            Err(Stopped::Failed(_, error)) => Ok(unread(&error)),
            Err(stopped) => Err(stopped),
        }
    }

    /// The digest of a file, of no more than one byte beyond its length: it may be growing.
    fn digest(&self, file: &std::fs::File, bytes: u64) -> Result<Digest, Stopped> {
        let mut hasher = Sha256::new();
        let mut rest = file.take(bytes.saturating_add(1));
        let most = usize::try_from(bytes.saturating_add(1)).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; most];
        loop {
            match rest.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => hasher.update(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stopped::Failed(String::new(), error)),
            }
            self.goes_on()?;
        }
        Ok(Digest(hasher.finalize().into()))
    }

    /// Whether a folder is looked into: one that was not there is a difference already, unless something below it may be.
    fn leads_on(&self, place: &str) -> bool {
        let Some(known) = self.look.known else { return true };
        let was = known.get(place).is_some_and(|entry| entry.what == What::Folder);
        was || self.look.declared.reaches_below(place)
    }

    fn bounds(&mut self, place: &str) -> Result<(), Stopped> {
        self.names = self.names.saturating_add(place.len());
        if self.look.known.is_some_and(|known| known.get(place).is_none()) {
            self.new += 1;
        }
        if self.new > MOST_NEW || self.names > MOST_NAMES {
            return Err(Stopped::Flooded(place.to_owned()));
        }
        if self.manifest.entries.len().is_multiple_of(64) { self.goes_on() } else { Ok(()) }
    }

    fn goes_on(&self) -> Result<(), Stopped> {
        self.look.interrupt.bail("the comparison of the clone").map_err(Stopped::Interrupted)?;
        if self.look.deadline.passed() { Err(Stopped::Late) } else { Ok(()) }
    }

    fn unlisted(&mut self, place: &str, error: Errno) {
        if let Some(entry) = self.manifest.entries.get_mut(place) {
            entry.what = What::Unlisted(io::Error::from(error).to_string());
        }
    }

    fn put(&mut self, place: String, entry: Entry) {
        self.manifest.entries.insert(place, entry);
    }
}

/// Makes the parent the open folder again, if it was closed.
fn go_back(done: &Frame, parent: &mut Frame) -> Result<(), Stopped> {
    if parent.folder.is_some() {
        return Ok(());
    }
    let unstable = || Stopped::Unstable(done.place.clone());
    let folder = done.folder.as_ref().ok_or_else(unstable)?;
    let up = rustix::fs::openat(folder, "..", FOLDER, Mode::empty()).map_err(|_| unstable())?;
    let is_it = stat_open(up.as_fd()).is_ok_and(|stat| stat.identity() == parent.identity);
    parent.folder = Some(if is_it { up } else { return Err(unstable()) });
    Ok(())
}

fn failed(place: &str, error: Errno) -> Stopped {
    Stopped::Failed(place.to_owned(), error.into())
}

/// git's objects are not looked at: a run may make some. Where git would look for more of them is.
fn is_left_out(folder: &str, name: &[u8]) -> bool {
    match folder {
        OBJECTS => name != b"info",
        OBJECTS_INFO => !matches!(name, b"alternates" | b"http-alternates"),
        _ => false,
    }
}

fn entry(found: &Stat, what: What) -> Entry {
    Entry { what, mode: found.mode & 0o7777, owner: found.owner }
}

/// The same, where a link has no mode of its own.
fn entry_of(found: &Stat, what: What) -> Entry {
    let mode = if matches!(what, What::Link(_)) { 0 } else { found.mode & 0o7777 };
    Entry { what, mode, owner: found.owner }
}

/// Now, as file times are told.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
