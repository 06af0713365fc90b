//! Folders of the tests' own, with no folder above that other users can write to: the harness refuses to work below such a one.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;

use camino::Utf8PathBuf;
use stelae_run::files::{find_shared, spread};
use tempfile::TempDir;

use crate::root;

/// A new folder, removed when it is dropped. Its path is short: a socket's may have 108 bytes.
///
/// # Panics
/// When there is no place for it.
pub fn private_folder() -> TempDir {
    let home = private_home("target/tmp");
    tempfile::Builder::new().prefix("t").rand_bytes(6).tempdir_in(home).expect("a folder")
}

/// A folder of the checkout, which is there afterwards; or one below its user's own cache, where the checkout lies among files of
/// others (a clone below `/tmp`).
///
/// # Panics
/// When it cannot be made.
pub fn private_home(name: &str) -> Utf8PathBuf {
    let in_checkout = root().join(name);
    let path = match find_shared(&in_checkout).expect("folders that can be looked at") {
        None => in_checkout,
        Some(_) => {
            Utf8PathBuf::from(std::env::var("HOME").expect("a home")).join(".cache/stelae-tests").join(name)
        }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).expect("a folder");
    spread(&path);
    path
}
