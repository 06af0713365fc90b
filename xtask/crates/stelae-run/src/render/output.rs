//! The rendered file on disk: written whole or not at all, compared, and readable by its owner only.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8Path;
use serde::Serialize;
use stelae_model::render::unified_diff;
use stelae_model::{ExitCode, Failure};

use super::{Home, Rendered, as_render, render_proxy, render_with};
use crate::bundle::{lock_installed, read_locked};
use crate::files::{Pending, create_private_dirs, read_regular};

/// What writing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Written {
    /// There was none before.
    Created,
    /// It had another content.
    Replaced,
    /// It had this content already; its mode was set to 0600 if it was another.
    Unchanged,
}

/// Writes the file: atomically, mode 0600, and not at all if it has this content already.
///
/// # Errors
/// `output-unwritable` (exit 21) with the operating system's reason; the old file is still there, whole.
pub fn write(rendered: &Rendered) -> Result<Written, Failure> {
    let (pending, written) = prepare(rendered)?;
    pending.map_or(Ok(()), Pending::commit).map_err(|error| unwritable(&rendered.path, &error))?;
    Ok(written)
}

/// Renders and writes under the lock of the bundles: between the two, nobody installs what the file then misses.
///
/// # Errors
/// As [`render_proxy`](super::render_proxy) and [`write`].
pub fn render_and_write(home: &Home) -> Result<(Rendered, Written), Failure> {
    // Refusals come first, so that they leave nothing behind, not even a lock.
    render_proxy(home)?;
    let _lock = lock_installed(home).map_err(as_render)?;
    let rendered = render_with(home, &read_locked(home).map_err(as_render)?)?;
    let written = write(&rendered)?;
    Ok((rendered, written))
}

/// Everything that can go wrong before the rename: what is left then is to commit, if there is anything to.
pub(crate) fn prepare(rendered: &Rendered) -> Result<(Option<Pending>, Written), Failure> {
    let path = &rendered.path;
    let unwritable = |error: io::Error| unwritable(path, &error);
    let old = existing(path).map_err(unwritable)?;
    if old.as_deref() == Some(rendered.text.as_bytes()) {
        repair_mode(path).map_err(unwritable)?;
        return Ok((None, Written::Unchanged));
    }
    let written = if old.is_some() { Written::Replaced } else { Written::Created };
    create_private_dirs(path.parent().unwrap_or(path)).map_err(unwritable)?;
    Ok((Some(Pending::create(path, rendered.text.as_bytes()).map_err(unwritable)?), written))
}

/// The difference between the file and what it should be, as `diff -u` prints it; empty if there is none.
///
/// # Errors
/// `output-unreadable` (exit 21): there is something in its place that is no file.
pub fn diff(rendered: &Rendered) -> Result<String, Failure> {
    let old = existing(&rendered.path).map_err(|error| {
        Failure::new(ExitCode::Render, "output-unreadable", "the rendered file cannot be read")
            .on(rendered.path.as_str())
            .because(error.to_string())
    })?;
    let old_name = if old.is_some() { rendered.path.as_str() } else { "/dev/null" };
    let old = old.unwrap_or_default();
    Ok(unified_diff(old_name, &String::from_utf8_lossy(&old), "rendered", &rendered.text))
}

/// Checks that the file is what it should be.
///
/// # Errors
/// `drift` (exit 50) with the difference, `output-unreadable` (exit 21).
pub fn check(rendered: &Rendered) -> Result<(), Failure> {
    let diff = diff(rendered)?;
    if diff.is_empty() {
        return Ok(());
    }
    let what =
        if rendered.path.exists() { "differs from what would be rendered" } else { "is not rendered yet" };
    let name = rendered.path.file_name().unwrap_or("the output");
    Err(Failure::new(ExitCode::Drift, "drift", format!("{name} {what}"))
        .on(rendered.path.as_str())
        .log_tail(diff.lines().map(str::to_owned).collect())
        .hint("cargo xtask render-proxy"))
}

/// The content of the file itself; a symlink in its place counts as absent, and is replaced, never followed.
fn existing(path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(found) if found.is_symlink() => Ok(None),
        Ok(_) => read_regular(path).map(Some),
    }
}

fn repair_mode(path: &Utf8Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode == 0o600 { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(0o600)) }
}

pub(crate) fn unwritable(path: &Utf8Path, error: &io::Error) -> Failure {
    Failure::new(ExitCode::Render, "output-unwritable", "the rendered file cannot be written")
        .on(path.as_str())
        .because(error.to_string())
}
