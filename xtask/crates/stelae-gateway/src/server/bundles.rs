//! The seam to the bundle library: what `manage_stelae` edits, and nothing of how.

use serde::Serialize;
use stelae_model::{ExitCode, Failure};

/// A server that could be installed.
#[derive(Debug, Serialize)]
pub(super) struct Discovered {
    /// Its name.
    pub(super) name: String,
    /// What it is for.
    pub(super) description: String,
}

/// A wish to edit.
#[derive(Debug)]
pub(super) struct Edit {
    /// The discovered server; for a removal the same as `target`.
    pub(super) name: String,
    /// The name under which it is installed.
    pub(super) target: String,
    /// Only say what would be done.
    pub(super) dry_run: bool,
    /// Also overwrite what a person changed.
    pub(super) force: bool,
}

/// What was done, or would be.
#[derive(Debug)]
pub(super) struct Done {
    /// A line per change.
    pub(super) lines: Vec<String>,
}

/// All servers that could be installed.
pub(super) fn discovered() -> Result<Vec<Discovered>, Failure> {
    Err(not_wired("list"))
}

/// Installs a discovered server and renders proxy.json.
pub(super) fn install(edit: &Edit) -> Result<Done, Failure> {
    Err(not_wired(&wish("install", edit)))
}

/// Removes an installed server and renders proxy.json.
pub(super) fn remove(edit: &Edit) -> Result<Done, Failure> {
    Err(not_wired(&wish("remove", edit)))
}

fn not_wired(wish: &str) -> Failure {
    Failure::new(ExitCode::Bundle, "not-wired", "manage_stelae is not wired to the bundle library yet")
        .on(wish)
}

fn wish(verb: &str, edit: &Edit) -> String {
    let Edit { name, target, dry_run, force } = edit;
    format!("{verb} {name} as {target}, dry_run {dry_run}, force {force}")
}
