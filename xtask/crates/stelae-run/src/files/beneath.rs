//! Opens what lies below an open folder, and never leaves it: no symlink is followed on the way, no `..`, and no mount
//! point is crossed, a bind mount of the same device included.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::about::about;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
/// The kernel cannot always tell, while another process renames folders, whether a path leads outside: it is asked so often.
const MOST_ATTEMPTS: u32 = 100;

/// Opens a path below `folder`.
///
/// # Errors
/// What the system says; `XDEV`: it leads outside, or a mount point is on the way or at its end.
pub(super) fn open_beneath(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    for _ in 0..MOST_ATTEMPTS {
        match rustix::fs::openat2(folder, path, flags, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN) => {}
            // An old kernel, or a filter of system calls that does not know it.
            Err(Errno::NOSYS | Errno::PERM) => return walk(folder, path, flags),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// The same, one component at a time.
fn walk(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mount = mount_of(folder)?;
    let mut names = path.components().peekable();
    let mut opened: Option<OwnedFd> = None;
    while let Some(part) = names.next() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir => OsStr::new("."),
            _ => return Err(Errno::XDEV),
        };
        let last = names.peek().is_none();
        let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = opened.as_ref().map_or(folder, OwnedFd::as_fd);
        let next = rustix::fs::openat(at, name, if last { flags } else { way }, Mode::empty())?;
        if mount_of(next.as_fd())? != mount {
            return Err(Errno::XDEV);
        }
        opened = Some(next);
    }
    opened.ok_or(Errno::NOENT)
}

/// What must stay the same on the way: the mount, and the device where the kernel does not tell the mount.
fn mount_of(file: BorrowedFd<'_>) -> rustix::io::Result<(u64, (u32, u32))> {
    about(file).map(|about| (about.mount, about.id.device))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::files::test_folder;

    #[test]
    fn a_kernel_without_openat2_leads_no_further() {
        let (_guard, folder) = test_folder();
        fs::create_dir_all(folder.join("root/sub")).unwrap();
        fs::write(folder.join("root/sub/f"), "inside").unwrap();
        fs::write(folder.join("secret"), "").unwrap();
        symlink("sub", folder.join("root/within")).unwrap();
        symlink("..", folder.join("root/up")).unwrap();
        symlink("sub/f", folder.join("root/link")).unwrap();
        let root = File::open(folder.join("root")).unwrap();
        let secret = folder.join("secret");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for open in [open_beneath, walk] {
            for path in ["../secret", "up/secret", "within/f", "link", "sub/../../secret", secret.as_str()] {
                assert!(open(root.as_fd(), path.as_ref(), flags).is_err(), "{path}");
            }
            let inside = File::from(open(root.as_fd(), "sub/f".as_ref(), flags).unwrap());
            assert_eq!(std::io::read_to_string(inside).unwrap(), "inside");
            let top = File::open("/").unwrap();
            assert_eq!(open(top.as_fd(), "proc/version".as_ref(), flags).unwrap_err(), Errno::XDEV);
            assert!(open(root.as_fd(), ".".as_ref(), OFlags::PATH).is_ok());
        }
    }
}
