//! Reading and writing files so that nothing hangs, nothing is half-written, and nothing leaves its folder.

mod about;
mod accounts;
mod beneath;
mod confine;
pub mod limits;
mod open;
mod owned;
mod read;
mod remains;
mod remove;
mod replace;
mod spread;
mod untrusted;

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

use camino::Utf8Path;
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

pub use about::LastingId;
pub(crate) use about::{about, path_of};
pub(crate) use confine::{confine, follow};
pub(crate) use open::open_lock_in;
pub use open::{open_append, open_existing, open_lock, open_null, open_untrusted};
pub use owned::{Shared, find_shared};
pub use read::{kernel_bytes, kernel_text, open_config, read_config, read_regular_text, read_text};
pub(crate) use read::{read_log, read_regular, read_untrusted_text_as};
pub use remains::Remains;
pub use remove::{discard, open_folder, remove_tree};
pub(crate) use remove::{empty_tree, remove_empty, split};
pub(crate) use replace::{Pending, create_private, replace_by_copy, replace_json, sync_dir};
pub use replace::{Readable, create_whole, replace};
pub use spread::spread;
pub(crate) use untrusted::read_in;
pub use untrusted::{bounded, read_below, read_untrusted, read_untrusted_json, read_untrusted_text};

/// Removes a file that may be there, because what it holds must not be taken for what comes next.
///
/// # Errors
/// Exit 10, `stale-file`: it is there and does not go.
pub fn remove_stale(path: &Utf8Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(ExitCode::StepFailed, "stale-file", "a file of an earlier session does not go")
                .on(path.to_string())
                .because(error.to_string())
                .hint(format!("mv {0} {0}.old", shell_word(path.as_str()))))
        }
        _ => Ok(()),
    }
}

/// Creates a folder and its parents, readable by its owner only.
///
/// # Errors
/// What the system says.
pub fn create_private_dirs(path: &Utf8Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A number that no other process has: what std seeds its hash maps with, which comes from the kernel.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Waits until no process holds a lock on the file. A lock that was dropped lives on for an instant, in a child that another
/// thread is just forking: until that executes its program, it has a copy of every descriptor.
#[cfg(test)]
pub(crate) fn await_unlocked(path: &Utf8Path) {
    let deadline = crate::deadline::Deadline::after(std::time::Duration::from_secs(30));
    // Ours is let go of by its name, and not by dropping it: the next child may be forked in between.
    while fs::File::open(path).is_ok_and(|file| file.try_lock().map(|()| file.unlock()).is_err()) {
        assert!(!deadline.passed(), "{path} stays locked");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// A temporary folder, with the symlinks of its path followed.
#[cfg(test)]
pub(crate) fn test_folder() -> (tempfile::TempDir, camino::Utf8PathBuf) {
    let guard = tempfile::tempdir().unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(guard.path().canonicalize().unwrap()).unwrap();
    (guard, path)
}
