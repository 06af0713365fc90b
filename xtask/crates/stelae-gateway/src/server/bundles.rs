//! The seam to the bundle library: the same functions that the verbs use, on the home that we were handed.

use std::env;

use stelae_model::bundle::Descriptor;
use stelae_model::env::Variable;
use stelae_model::env::declared::{STELAE_BIN_DIR, STELAE_ROOT, STELAE_RUN_ID};
use stelae_model::{ExitCode, Failure};
use stelae_run::bundle::{Report, install_discovered, list_discovered, remove_installed};
use stelae_run::environment::{Sources, load};
use stelae_run::render::Home;

/// A wish to edit.
#[derive(Debug)]
pub(super) struct Edit {
    /// The discovered server; for a removal the same as `target`.
    pub(super) name: String,
    /// The name under which it is installed.
    pub(super) target: String,
    /// Only say what would be done.
    pub(super) dry_run: bool,
    /// Also overwrite or remove what a person changed.
    pub(super) force: bool,
}

/// All servers that could be installed.
pub(super) fn discovered() -> Result<Vec<Descriptor>, Failure> {
    list_discovered(&home()?)
}

/// Installs a discovered server and renders proxy.json.
pub(super) fn install(edit: &Edit) -> Result<Report, Failure> {
    install_discovered(&home()?, &edit.name, Some(&edit.target), edit.dry_run, edit.force)
}

/// Removes an installed server and renders proxy.json.
pub(super) fn remove(edit: &Edit) -> Result<Report, Failure> {
    remove_installed(&home()?, &edit.target, edit.dry_run, edit.force)
}

/// Resolved anew for each call, from the same layers as a verb would: what it renders is what the verbs render.
fn home() -> Result<Home, Failure> {
    let handed = |name: &'static str| {
        env::var(name).map_err(|_| {
            Failure::new(ExitCode::Environment, "missing-variable", format!("{name} is not set"))
                .hint("start this server through the gateway, which hands it over")
        })
    };
    let sources = Sources {
        root: handed(STELAE_ROOT::DECLARED.name)?.into(),
        bin_dir: handed(STELAE_BIN_DIR::DECLARED.name)?.into(),
        run: env::var(STELAE_RUN_ID::DECLARED.name).ok(),
        env_file: None,
        command_line: Vec::new(),
    };
    Home::from_environment(&load(&sources)?)
}
