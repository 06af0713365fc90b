//! Installs other people's programs, as `config/tools.toml` pins them, into the cache folder and nowhere else.
//!
//! ```text
//! <cache home>/tools/
//!   .caches/              what npm, pip and go keep of their downloads
//!   conformance/
//!     .lock               held by whoever installs it
//!     .content-0.1.13     what is in the installation, file by file, as it was found to be right
//!     .stage-0.1.13       the installation, until it is whole
//!     .gone-0.1.13        one that was replaced, while it is deleted
//!     0.1.13/             the installation: installed.json says what it was made from
//! ```
//! A version's folder appears in one rename, whole. What a killed installation leaves has a name that starts with a dot,
//! is used by nobody, and is removed by the next one, which holds the lock.
//!
//! [`install`] is the one way in: toolchain, lock, stage, fill (by [`npm`], [`pypi`], [`go`] or [`cargo`]), compare with the
//! pin, take down its content, rename. [`Shelf::program`] compares that before each use. Of what comes from a registry nothing is executed before its content was compared.

mod cargo;
mod content;
mod go;
mod install;
mod job;
mod lock;
mod npm;
mod pypi;
mod shelf;
mod stage;

pub use install::{Outcome, install};
pub use job::Job;
pub use shelf::{Shelf, Standing};

#[cfg(test)]
mod tests;
