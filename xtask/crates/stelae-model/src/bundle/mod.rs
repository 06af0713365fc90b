//! Bundles: folders of server descriptors that are installed into the stack's config home. Decisions only; the folders
//! themselves are read and written by `stelae-run::bundle`.
//!
//! ```text
//! config/bundles/core/                 <config home>/bundles/core/
//!   bundle.toml           install        installed.json     what was installed, with digests
//!   servers/stelae.toml  -------->       servers/stelae.toml  the same bytes, until somebody edits them
//! ```
//! A file that differs from its recorded digest is a person's edit, and is kept unless told otherwise.

mod descriptor;
mod discovery;
mod folder;
mod manifest;
mod plan;
mod status;

pub use descriptor::{Descriptor, Transport, server_entry};
pub use discovery::{DISCOVERED, Discovery};
pub use folder::{Folder, Record};
pub use manifest::{Bundle, Manifest, ServerFile, check_name};
pub use plan::{Action, Edits, Plan, ServerPlan, plan_install, plan_remove};
pub use status::{BundleStatus, ServerState, ServerStatus, status};
