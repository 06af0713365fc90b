//! One installation: toolchain, lock, stage, fill, compare, rename.

use stelae_model::tools::{Kind, Pin};
use stelae_model::{ExitCode, Failure};

use super::lock::{Lock, unusable};
use super::shelf::missing;
use super::stage::Stage;
use super::{Job, Shelf, cargo, go, npm, pypi};
use crate::files::create_private_dirs;

/// How an installation came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there now.
    Installed,
    /// It was there before as it was installed, or another process has just installed it.
    WasThere,
}

/// Installs a tool as it is pinned, unless it is there.
///
/// # Errors
/// Exit 2, `unknown-tool`; 40, `toolchain-missing`, `toolchain-too-old`, `registry-unreachable`, `tools-folder`; 10,
/// `integrity-mismatch`, `program-not-there`, `tool-busy`, and what the installer says; 129, 130, 143. There is no
/// installation then, and nothing of it has been executed if its content was wrong.
pub fn install(shelf: &Shelf, name: &str, job: &Job<'_>) -> Result<Outcome, Failure> {
    let pin = shelf.pins.pin(name)?;
    if let Some(runtime) = pin.kind.runtime() {
        job.host(runtime, pin)?;
    }
    let is_there = || shelf.has(name, pin) && shelf.compare(name, pin).is_ok();
    if is_there() {
        return Ok(Outcome::WasThere);
    }
    for program in pin.kind.toolchain() {
        job.host(program, pin)?;
    }
    let folder = shelf.of(name);
    create_private_dirs(&folder).map_err(|error| unusable(&folder, &error))?;
    let _lock = Lock::take(&folder, name, job)?;
    if is_there() {
        return Ok(Outcome::WasThere);
    }
    let stage = Stage::begin(&folder, &pin.version)?;
    job.recorder.note(format!("{name}: gets {} from {}, over the network", pin.what(), pin.kind.registry()));
    fill(shelf, pin, &stage, job)?;
    if let Some(path) = missing(stage.path(), pin) {
        let what = format!("{} has not the program that it is pinned for", pin.what());
        return Err(Failure::new(ExitCode::StepFailed, "program-not-there", what)
            .on(path.to_string())
            .hint("put its programs right in config/tools.toml"));
    }
    stage.commit(pin, &shelf.content_of(name, pin))?;
    Ok(Outcome::Installed)
}

fn fill(shelf: &Shelf, pin: &Pin, stage: &Stage, job: &Job<'_>) -> Result<(), Failure> {
    match pin.kind {
        Kind::Npm => npm::fill(shelf, pin, stage, job),
        Kind::Pypi => pypi::fill(shelf, pin, stage, job),
        Kind::Go => go::fill(shelf, pin, stage, job),
        Kind::Cargo => cargo::fill(pin, stage, job),
    }
}
