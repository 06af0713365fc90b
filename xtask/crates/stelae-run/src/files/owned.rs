//! Whether a folder is its user's alone, with all folders above it.
//!
//! cargo, rustup and git look for settings in every parent of the folder that they work in: `.cargo/config.toml`,
//! `rust-toolchain.toml`, `.git`, `Cargo.toml`. Who can add a file to one of them has programs of its choice run as this user. That a
//! folder is sticky, as the shared one for temporary files is, keeps others from removing what is there, and from nothing else.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use camino::Utf8Path;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};
use stelae_model::{ExitCode, Failure};

use super::about::{About, about};
use super::accounts::Accounts;
use super::read::read_config;

/// A path with more symlinks than the kernel follows leads nowhere.
const MOST_SYMLINKS: usize = 40;
/// Who owns files of users that a user namespace does not know.
const OVERFLOW: &str = "/proc/sys/kernel/overflowuid";
/// The bits of a mode that let others than the owner add and remove files.
const BY_GROUP: u32 = 0o020;
const BY_OTHERS: u32 = 0o002;

/// A folder on the way to a path into which another user can put files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    folder: String,
    why: String,
}

impl Shared {
    /// As the failure of something that must be private. `instead` is what its user can type to have it elsewhere.
    pub fn failure(&self, path: &Utf8Path, instead: &str) -> Failure {
        let what = "a folder that must be yours alone can be changed by other users";
        Failure::new(ExitCode::PrerequisiteMissing, "folder-not-private", what)
            .on(path.to_string())
            .because(format!("{}: {}", self.folder, self.why))
            .because("cargo, rustup and git read settings in every folder above the one that they work in")
            // Never `chmod`: other users may need the folder as it is.
            .hint(instead)
    }
}

/// The first folder on the way to `path` that is not private; the path and its end need not exist. Every symlink on the way counts
/// with the folders that it is in, and those that it leads through.
///
/// # Errors
/// What the system says of a folder that cannot be looked at.
pub fn find_shared(path: &Utf8Path) -> io::Result<Option<Shared>> {
    let accounts = Accounts::read();
    let unknown = unknown_owner();
    walk(path, &mut |folder, about| {
        accusation(folder, about, &accounts, unknown).map(|why| shared(folder, why))
    })
}

fn shared(folder: &Path, why: String) -> Shared {
    Shared { folder: folder.to_string_lossy().into_owned(), why }
}

/// Calls `check` for every folder from the root on, until it gives something.
fn walk(
    path: &Utf8Path,
    check: &mut dyn FnMut(&Path, &About) -> Option<Shared>,
) -> io::Result<Option<Shared>> {
    let whole = std::path::absolute(path)?;
    let mut waiting: VecDeque<OsString> = names(&whole);
    let (mut at, mut symlinks) = (PathBuf::from("/"), 0);
    loop {
        // A folder that may be passed and not read is opened all the same, as a place.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened: OwnedFd = match rustix::fs::openat(CWD, &at, flags, Mode::empty()) {
            Ok(opened) => opened,
            // What is not there yet is made by this user, for this user.
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = about(&opened)?;
        if let Ok(target) = std::fs::read_link(&at) {
            symlinks += 1;
            if symlinks > MOST_SYMLINKS {
                return Err(io::Error::other("its path has too many symlinks"));
            }
            at = if target.is_absolute() { PathBuf::from("/") } else { parent(&at) };
            for name in names(&target).into_iter().rev() {
                waiting.push_front(name);
            }
        } else if let Some(shared) = check(&at, &found).filter(|_| found.is_folder) {
            return Ok(Some(shared));
        }
        match waiting.pop_front() {
            None => return Ok(None),
            Some(name) if name == ".." => at = parent(&at),
            Some(name) => at.push(name),
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// Why others can put files into a folder.
fn accusation(folder: &Path, about: &About, accounts: &Accounts, unknown: Option<u32>) -> Option<String> {
    let mode = about.mode & 0o7777;
    let owner = about.owner;
    let trusted = owner == 0 || owner == geteuid().as_raw() || Some(owner) == unknown;
    if !trusted {
        return Some(format!("it belongs to {}, and its mode is {mode:04o}", accounts.user(owner)));
    }
    if mode & BY_OTHERS != 0 {
        return Some(format!("every user can write to it: its mode is {mode:04o}"));
    }
    if mode & BY_GROUP == 0 {
        return None;
    }
    // With an access list these bits are what any user or group that it names may do at the most.
    if has_access_list(folder) {
        return Some(format!("users of its access list can write to it: getfacl {}", folder.display()));
    }
    if accounts.is_private_group(about.group, getegid().as_raw(), geteuid().as_raw()) {
        return None;
    }
    let group = accounts.group(about.group);
    Some(format!("the group {group} can write to it: its mode is {mode:04o}"))
}

fn has_access_list(folder: &Path) -> bool {
    let mut nothing = [0_u8; 0];
    // Of no length: asked is only whether there is one.
    rustix::fs::getxattr(folder, c"system.posix_acl_access", &mut nothing[..]).is_ok_and(|length| length > 0)
}

/// The owner that a folder seems to have whose real one the user namespace of this process does not know: it may be root. That is no
/// accusation; outside of a user namespace there is no such owner, and the harness asks there.
fn unknown_owner() -> Option<u32> {
    let map = read_config("/proc/self/uid_map", 4096).ok()?;
    let map = String::from_utf8(map).ok()?;
    let mut fields = map.split_ascii_whitespace();
    let whole = fields.nth(2) == Some("4294967295");
    if whole {
        return None;
    }
    String::from_utf8(read_config(OVERFLOW, 64).ok()?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
