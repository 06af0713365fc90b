//! Reads files that others can write: servers, agents, an earlier run, another user. Such a file can be a pipe, a device, a
//! symlink, a folder, larger than the memory, or be swapped while it is read. Each is refused with the reason; none can make
//! the harness wait.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::beneath::open_beneath;
use super::open::{CAREFULLY, open_untrusted, refused, regular};

/// The bytes of a file, at most `limit` of them; see [`limits`](super::limits).
///
/// # Errors
/// What the system says; it is a symlink, or not a regular file; `FileTooLarge`.
pub fn read_untrusted(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    bounded(&open_untrusted(path)?, limit)
}

/// The same of a text.
///
/// # Errors
/// As [`read_untrusted`]; `InvalidData`: it is not UTF-8.
pub fn read_untrusted_text(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    text(read_untrusted(path, limit)?)
}

/// The same of a JSON value.
///
/// # Errors
/// As [`read_untrusted`]; `InvalidData`: it is not the JSON that was expected.
pub fn read_untrusted_json<T: serde::de::DeserializeOwned>(
    path: impl AsRef<Path>,
    limit: u64,
) -> io::Result<T> {
    Ok(serde_json::from_slice(&read_untrusted(path, limit)?)?)
}

/// The bytes of the file `path` below the folder `root`, which is trusted with its own path: no symlink is followed below it,
/// and no mount point crossed.
///
/// # Errors
/// As [`read_untrusted`]; `CrossesDevices`.
pub fn read_below(root: impl AsRef<Path>, path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root.as_ref(), way, Mode::empty())?;
    read_in(root, path, limit)
}

/// The same below an open folder.
///
/// # Errors
/// As [`read_below`].
pub(crate) fn read_in(root: impl AsFd, path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    let file = open_beneath(root.as_fd(), path.as_ref(), OFlags::RDONLY | CAREFULLY).map_err(refused)?;
    bounded(&regular(file)?, limit)
}

/// What is in an open file, from where it stands; it may grow meanwhile.
///
/// # Errors
/// What the system says; `FileTooLarge`.
pub fn bounded(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_large(limit));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

/// The error of a file that has more than `limit` bytes.
pub(super) fn too_large(limit: u64) -> io::Error {
    let why = format!("it has more than {limit} bytes, which no file of its kind has");
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

/// Bytes as a text.
pub(super) fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use camino::Utf8Path;
    use rustix::fs::mkfifoat;

    use super::*;
    use crate::files::{open_append, open_existing, open_lock, test_folder};

    /// One of each kind that is not a plain file, with the reason why it is refused.
    fn hostile(folder: &Utf8Path) -> Vec<(&'static str, &'static str)> {
        fs::write(folder.join("plain"), "secret").unwrap();
        symlink(folder.join("plain"), folder.join("link")).unwrap();
        symlink("/dev/zero", folder.join("device-link")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        mkfifoat(CWD, folder.join("pipe").as_str(), Mode::RUSR | Mode::WUSR).unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        drop(UnixListener::bind(folder.join("socket")).unwrap());
        vec![
            ("link", "it is a symlink"),
            ("device-link", "it is a symlink"),
            ("loop", "it is a symlink"),
            ("pipe", "it is not a regular file"),
            ("folder", "it is not a regular file"),
            ("socket", "it is not a regular file"),
        ]
    }

    #[test]
    fn only_a_regular_file_is_read_and_nothing_waits() {
        let (_guard, folder) = test_folder();
        for (name, why) in hostile(&folder) {
            let path = folder.join(name);
            assert_eq!(read_untrusted(&path, 10).unwrap_err().to_string(), why, "{name}");
            assert_eq!(read_below(&folder, name, 10).unwrap_err().to_string(), why, "{name}");
        }
        assert_eq!(read_untrusted("/dev/zero", 10).unwrap_err().to_string(), "it is not a regular file");
        assert_eq!(read_untrusted(folder.join("plain"), 6).unwrap(), b"secret");
        assert_eq!(read_untrusted(folder.join("none"), 6).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_written_is_never_written_elsewhere() {
        let (_guard, folder) = test_folder();
        for (name, _) in hostile(&folder) {
            let path = folder.join(name);
            for opened in [open_append(&path), open_lock(&path), open_existing(&path)] {
                // A pipe that is opened for both directions opens; it is refused all the same.
                assert!(opened.is_err(), "{name}");
            }
        }
        fs::hard_link(folder.join("plain"), folder.join("second-name")).unwrap();
        let why = open_append(folder.join("second-name")).unwrap_err().to_string();
        assert_eq!(why, "it is a hard link to a file with another name");
        assert_eq!(fs::read(folder.join("plain")).unwrap(), b"secret");
        assert!(open_append(folder.join("new")).is_ok() && open_lock(folder.join("newer")).is_ok());
        assert_eq!(open_existing(folder.join("newest")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let (_guard, folder) = test_folder();
        let path = folder.join("f");
        fs::write(&path, "123456").unwrap();
        assert_eq!(read_untrusted_text(&path, 6).unwrap(), "123456");
        assert_eq!(read_untrusted_json::<u32>(&path, 6).unwrap(), 123_456);
        assert_eq!(read_untrusted(&path, 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        // Six gigabytes that take no room: refused by their length, before a byte is read.
        File::create(&path).unwrap().set_len(6 << 30).unwrap();
        assert_eq!(
            read_untrusted(&path, u64::from(u32::MAX)).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        // A length of nought says nothing: this one is made while it is read.
        let status = open_untrusted("/proc/self/status").unwrap();
        assert_eq!(bounded(&status, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_untrusted_text(&path, 6).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let (_guard, folder) = test_folder();
        let root = folder.join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(folder.join("secret"), "x").unwrap();
        fs::write(root.join("sub/f"), "inside").unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink(&folder, root.join("away")).unwrap();
        symlink("sub", root.join("within")).unwrap();
        let secret = folder.join("secret");
        for path in
            ["../secret", "up/up/secret", "away/secret", "within/f", "sub/../../secret", secret.as_str()]
        {
            assert!(read_below(&root, path, 10).is_err(), "{path}");
        }
        assert_eq!(read_below(&root, "sub/f", 10).unwrap(), b"inside");
        // A trusted root may itself be reached through a symlink.
        symlink(&root, folder.join("root-link")).unwrap();
        assert_eq!(read_below(folder.join("root-link"), "sub/f", 10).unwrap(), b"inside");
        // Another file system.
        assert_eq!(read_below("/", "proc/version", 10).unwrap_err().kind(), io::ErrorKind::CrossesDevices);
    }
}
