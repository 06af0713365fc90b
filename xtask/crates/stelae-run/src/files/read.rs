//! Reads files of the user: symlinks are followed, as dotfile managers make them.

use std::fs::File;
use std::io;
use std::path::Path;

use camino::Utf8Path;
use rustix::fs::{CWD, Mode, OFlags};
use stelae_model::{ExitCode, Failure};

use super::limits;
use super::open::{refused, regular};
use super::untrusted::{bounded, read_untrusted, text};

/// Reads a text file. `what` is how messages call it, `kind` the start of the failure's kind.
///
/// # Errors
/// With the given exit code: `<kind>-missing`, `<kind>-unreadable` (also for folders and pipes: opening a pipe would
/// wait for ever), `<kind>-not-utf8`.
pub fn read_text(path: &Utf8Path, code: ExitCode, kind: &str, what: &str) -> Result<String, Failure> {
    told(read_regular(path), path, code, kind, what)
}

/// The same of a text that others can write: no symlink is followed, see [`read_untrusted`].
///
/// # Errors
/// As [`read_text`].
pub(crate) fn read_untrusted_text_as(
    path: &Utf8Path,
    limit: u64,
    code: ExitCode,
    kind: &str,
    what: &str,
) -> Result<String, Failure> {
    told(read_untrusted(path, limit), path, code, kind, what)
}

fn told(
    read: io::Result<Vec<u8>>,
    path: &Utf8Path,
    code: ExitCode,
    kind: &str,
    what: &str,
) -> Result<String, Failure> {
    let fail = |suffix: &str, sentence: String, cause: String| {
        Failure::new(code, &format!("{kind}-{suffix}"), sentence).on(path.as_str()).because(cause)
    };
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(fail("missing", format!("{what} does not exist"), error.to_string()));
        }
        Err(error) => return Err(fail("unreadable", format!("{what} cannot be read"), error.to_string())),
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        fail(
            "not-utf8",
            format!("{what} is not UTF-8"),
            format!("byte {at}, on line {line}, is no character"),
        )
    })
}

/// The bytes of a regular file of at most `limit` bytes, symlinks followed.
///
/// # Errors
/// What the system says; it is not a regular file; `FileTooLarge`.
pub fn read_config(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    bounded(&open_config(path)?, limit)
}

/// Opens a regular file, symlinks followed.
///
/// # Errors
/// What the system says; it is not a regular file.
pub fn open_config(path: impl AsRef<Path>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    regular(rustix::fs::openat(CWD, path.as_ref(), flags, Mode::empty()).map_err(refused)?)
}

/// A log that is still written, as text: what is no UTF-8 in it is replaced.
///
/// # Errors
/// As [`read_untrusted`].
pub(crate) fn read_log(path: &Utf8Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read_untrusted(path, limits::LOG)?).into_owned())
}

/// What the kernel tells in a file of `/proc`, whose way is its own: `self` is a symlink.
///
/// # Errors
/// What the system says.
pub fn kernel_bytes(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_config(path, limits::KERNEL)
}

/// The same as a text.
///
/// # Errors
/// As [`kernel_bytes`]; `InvalidData`: it is not UTF-8.
pub fn kernel_text(path: impl AsRef<Path>) -> io::Result<String> {
    text(kernel_bytes(path)?)
}

/// The bytes of a regular file, symlinks followed.
pub(crate) fn read_regular(path: &Utf8Path) -> io::Result<Vec<u8>> {
    read_config(path, limits::CONFIG)
}

/// The text of a regular file, symlinks followed.
///
/// # Errors
/// What the system says; it is not a regular file, too large, or not UTF-8.
pub fn read_regular_text(path: &Utf8Path) -> io::Result<String> {
    text(read_regular(path)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::files::test_folder as folder;

    #[test]
    fn what_cannot_be_read_is_named() {
        let (_guard, dir) = folder();
        let text = |name: &str| {
            read_text(&dir.join(name), ExitCode::Render, "template", "the template").unwrap_err()
        };
        let missing = text("none");
        assert_eq!((missing.kind.as_str(), missing.exit_code), ("template-missing", ExitCode::Render));
        assert_eq!(
            missing.to_string(),
            format!(
                "the template does not exist\n   on: {dir}/none\n  why: No such file or directory (os error 2)"
            )
        );
        assert_eq!(text(".").kind, "template-unreadable");
        symlink(dir.join("none"), dir.join("dangling")).unwrap();
        assert_eq!(text("dangling").kind, "template-missing");
        fs::write(dir.join("latin"), b"a\n\xe4").unwrap();
        assert_eq!(text("latin").why, ["byte 2, on line 2, is no character"]);
        assert_eq!(text("latin").kind, "template-not-utf8");
    }
}
