//! The system calls of the launcher, in their order: a namespace of mounts, the mounts, a lock on them, the program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, mount_remount,
    move_mount, open_tree,
};
use stelae_model::protection::{Lock, WriteProtection};

use crate::files::{kernel_bytes, kernel_text};

/// Descriptors below are the standard streams.
const FIRST_BESIDES_STREAMS: i32 = 3;

/// Takes the write access away from this process, and becomes the program.
///
/// # Errors
/// Nothing else than an error comes back.
pub(super) fn become_protected(
    protection: &WriteProtection,
    program: &str,
    arguments: &[String],
) -> anyhow::Result<()> {
    let folder = std::env::current_dir().context("the current folder has no name")?;
    own_mounts()?;
    protect(protection)?;
    if protection.lock == Lock::UserNamespace && is_root() {
        lock_for_root().context("the mounts cannot be locked for root")?;
    }
    // The descriptor of the current folder is one of the mount as it was, which can be written to.
    std::env::set_current_dir(&folder).with_context(|| format!("no way back to {}", folder.display()))?;
    close_inherited(&protection.inherited)?;
    Err(command(program).args(arguments).exec()).with_context(|| program.to_owned())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A namespace of mounts of its own. A user who is not root has to own one of users for that, with no other user in it.
fn own_mounts() -> anyhow::Result<()> {
    if is_root() {
        unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace")?;
    } else {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .context("no user and mount namespace")?;
        // Without this the kernel refuses the map of groups.
        fs::write("/proc/self/setgroups", "deny").context("/proc/self/setgroups")?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1\n")).context("/proc/self/uid_map")?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1\n")).context("/proc/self/gid_map")?;
    }
    // What is mounted here is seen by no process outside, and the other way round.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).context("the mounts cannot be made private")
}

/// Makes the folders read-only, but for what stays writable.
fn protect(protection: &WriteProtection) -> anyhow::Result<()> {
    // Copies of the mounts as they are, taken before anything of them changes.
    let copies = |paths: &mut dyn Iterator<Item = (&Utf8Path, &Utf8Path)>| {
        paths.map(|(from, to)| Ok((copy_of(from)?, to.to_owned()))).collect::<anyhow::Result<Vec<_>>>()
    };
    let replaced = protection.replaced.iter().map(|it| (it.by.as_path(), it.folder.as_path()));
    let writable = protection.writable.iter().map(|path| (path.as_path(), path.as_path()));
    let kept: Vec<(OwnedFd, Utf8PathBuf)> = copies(&mut writable.chain(replaced))?;
    for folder in &protection.read_only {
        // On top of itself, so that it is a mount, which alone can be read-only for one process and not for another.
        put(&copy_of(folder)?, folder)?;
    }
    make_read_only(&protection.read_only)?;
    for (copy, path) in kept {
        put(&copy, &path)?;
    }
    Ok(())
}

/// A copy of the mount at `path`, with every mount below it, which is nowhere yet.
fn copy_of(path: &Utf8Path) -> anyhow::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path.as_str(), flags).with_context(|| format!("the mount of {path} cannot be copied"))
}

/// Puts it there.
fn put(copy: &OwnedFd, path: &Utf8Path) -> anyhow::Result<()> {
    move_mount(copy, "", CWD, path.as_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("nothing can be mounted on {path}"))
}

/// Makes every mount in these folders read-only, and looks whether it is.
fn make_read_only(folders: &[Utf8PathBuf]) -> anyhow::Result<()> {
    let mounts = mounts().context("/proc/self/mountinfo")?;
    let inside = |path: &Path| folders.iter().any(|folder| path.starts_with(folder));
    for (path, flags) in mounts.iter().filter(|(path, _)| inside(path)) {
        let remounted = mount_remount(path, *flags | MountFlags::BIND | MountFlags::RDONLY, "");
        // One that is below another mount cannot be reached by its path: what is there then has to be read-only.
        match statvfs(path) {
            Ok(there) if there.f_flag.contains(StatVfsMountFlags::RDONLY) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            seen => {
                remounted
                    .and(seen.map(drop))
                    .with_context(|| format!("{} stays writable", path.display()))?;
                anyhow::bail!("{} stays writable", path.display());
            }
        }
    }
    Ok(())
}

/// Every mount point with its flags; of mounts on one path, those of the last.
fn mounts() -> io::Result<BTreeMap<PathBuf, MountFlags>> {
    let text = kernel_bytes("/proc/self/mountinfo")?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(mount_point).collect())
}

/// `id parent device root PATH OPTIONS …`
fn mount_point(line: &[u8]) -> Option<(PathBuf, MountFlags)> {
    let mut fields = line.split(|&byte| byte == b' ').skip(4);
    let (path, options) = (fields.next()?, fields.next()?);
    Some((OsStr::from_bytes(&unescaped(path)).into(), flags(std::str::from_utf8(options).ok()?)))
}

/// The flags have to be given again with every change; a namespace of a user may not take one away.
fn flags(options: &str) -> MountFlags {
    let options: Vec<&str> = options.split(',').collect();
    let named = [
        ("nosuid", MountFlags::NOSUID),
        ("nodev", MountFlags::NODEV),
        ("noexec", MountFlags::NOEXEC),
        ("noatime", MountFlags::NOATIME),
        ("nodiratime", MountFlags::NODIRATIME),
        ("relatime", MountFlags::RELATIME),
        // `MS_NOSYMFOLLOW`, which rustix does not name.
        ("nosymfollow", MountFlags::from_bits_retain(256)),
    ];
    let flags = named.into_iter().filter(|(name, _)| options.contains(name));
    let flags = flags.fold(MountFlags::empty(), |all, (_, flag)| all | flag);
    // The kernel takes the lack of both for `relatime`.
    if flags.intersects(MountFlags::NOATIME | MountFlags::RELATIME) {
        flags
    } else {
        flags | MountFlags::STRICTATIME
    }
}

/// A path with its octal escapes (`\040`) undone.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let code =
            after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

/// Root owns the namespace of the mounts, and could undo them. In a user namespace below, with all users in it as they are, the
/// same mounts are locked: the kernel refuses, and refuses the way into the mounts of processes outside. What root cannot do in
/// there is what concerns the machine: ports below 1024, devices, file systems.
fn lock_for_root() -> anyhow::Result<()> {
    let users = kernel_text("/proc/self/uid_map").context("/proc/self/uid_map")?;
    let groups = kernel_text("/proc/self/gid_map").context("/proc/self/gid_map")?;
    // Only a process outside of the namespace may map more than itself.
    let mapper = start_mapper(&identity(&users), &identity(&groups))?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).context("no user namespace")?;
    map(mapper).context("the users of the namespace cannot be mapped")
}

/// Every user that there is, as itself. `INSIDE OUTSIDE COUNT` a line.
fn identity(map: &str) -> String {
    let lines = map.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        Some(format!("{} {} {}\n", fields.first()?, fields.first()?, fields.get(2)?))
    });
    lines.collect()
}

/// A shell that waits for a line, and then maps the users of its parent.
fn start_mapper(users: &str, groups: &str) -> anyhow::Result<Child> {
    const SCRIPT: &str =
        r#"read -r go && printf %s "$1" >/proc/$PPID/uid_map && printf %s "$2" >/proc/$PPID/gid_map"#;
    command("/bin/sh")
        .args(["-c", SCRIPT, "sh", users, groups])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("/bin/sh")
}

fn map(mut mapper: Child) -> anyhow::Result<()> {
    let told = mapper.stdin.take().map(|mut stdin| io::Write::write_all(&mut stdin, b"go\n"));
    let status = mapper.wait()?;
    told.transpose()?;
    anyhow::ensure!(status.success(), "the mapper ended with {status}");
    Ok(())
}

/// Closes every descriptor besides the standard streams that is not a file in one of the folders: through a folder or a file of
/// the mounts as they were, those could be written to. For the last moment of this process: no value in it may own one.
fn close_inherited(kept: &[Utf8PathBuf]) -> anyhow::Result<()> {
    let open = fs::read_dir("/proc/self/fd").context("/proc/self/fd")?;
    let numbers: Vec<i32> =
        open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|&number| number >= FIRST_BESIDES_STREAMS) {
        let file = fs::read_link(format!("/proc/self/fd/{number}"));
        if !file.is_ok_and(|file| kept.iter().any(|folder| file.starts_with(folder))) {
            match nix::unistd::close(number) {
                // The one by which this list was read is closed already.
                Ok(()) | Err(nix::errno::Errno::EBADF) => {}
                Err(error) => return Err(error).with_context(|| format!("descriptor {number} stays open")),
            }
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "this module is one of those that start processes")]
fn command(program: &str) -> Command {
    Command::new(program)
}
