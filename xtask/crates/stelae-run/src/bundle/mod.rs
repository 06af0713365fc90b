//! Installs bundles of server descriptors into the config home: planned, shown, and then all or nothing.
//!
//! ```text
//! <config home>/bundles/
//!   .lock             held by whoever changes anything here
//!   .stage-core/      the next content of core/, complete before it is swapped in
//!   .old-core/        the last content, while it is exchanged where that takes two renames
//!   .gone-core/       what is being deleted
//!   core/             what is installed: installed.json, servers/*.toml
//! ```
//! At every moment `core/` is the old folder or the new one. What a crash leaves behind has a name that starts with a
//! dot, and is put right by the next change, which holds the lock. Readers share the lock, so that they do not read a
//! folder while it is exchanged.

mod available;
mod commit;
mod discovered;
mod install;
mod installed;
mod lock;

pub use available::{find_bundle, load_bundle};
pub use discovered::{Report, install_discovered, list_discovered, remove_installed, seed_discovery};
pub use install::{Apply, Event, Outcome, Request, install, remove};
pub use installed::{list, status};

pub(crate) use installed::{InstalledServer, installed_servers, lock_installed, read_installed, read_locked};

use camino::Utf8Path;
use stelae_model::{ExitCode, Failure};

/// A failure of bundles on a path, with the operating system's reason.
fn io_failure(kind: &str, what: &str, path: &Utf8Path, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::Bundle, kind, what).on(path.as_str()).because(error.to_string())
}

#[cfg(test)]
mod tests;
