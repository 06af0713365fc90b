//! What every verb works with: the root, the environment, the printer.

use std::env;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::Environment;
use stelae_model::{ExitCode, Failure};
use stelae_run::environment::{self, Sources};

use crate::cli::Global;
use crate::print::Printer;

/// The file that makes a folder the root of a stack's repository.
const MARKER: &str = "config/stack.toml";

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where values of variables come from.
    pub(crate) sources: Sources,
    /// The one place that prints.
    pub(crate) printer: Printer,
}

impl Context {
    /// Finds the root and the folder of the binaries; reads nothing else yet.
    pub(crate) fn new(global: &Global, printer: Printer) -> Result<Self, Failure> {
        let root = root(global.root.as_deref())?;
        let exe =
            env::current_exe().map_err(|error| machine("the path of this program is unknown", &error))?;
        let exe = utf8(exe)?;
        let bin_dir = exe.parent().map_or_else(|| Utf8PathBuf::from("/"), Utf8Path::to_owned);
        let env_file = global.env_file.as_deref().map(absolute).transpose()?;
        Ok(Self { sources: Sources { root, bin_dir, env_file, command_line: global.set.clone() }, printer })
    }

    /// Root of the repository.
    pub(crate) fn root(&self) -> &Utf8Path {
        &self.sources.root
    }

    /// Reads all layers.
    pub(crate) fn environment(&self) -> Result<Environment, Failure> {
        environment::load(&self.sources)
    }
}

/// Makes a path of the command line absolute, without looking at the disk.
pub(crate) fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    let path =
        std::path::absolute(path).map_err(|error| machine("a path cannot be made absolute", &error))?;
    utf8(path)
}

fn root(given: Option<&Utf8Path>) -> Result<Utf8PathBuf, Failure> {
    let named = match given {
        Some(path) => Some(absolute(path)?),
        None => env::var("STELAE_ROOT").ok().map(Utf8PathBuf::from),
    };
    let no_root = |on: &Utf8Path, what: &str| {
        Failure::new(ExitCode::PrerequisiteMissing, "no-root", what)
            .on(on.to_string())
            .because(format!("there is no {MARKER}"))
            .hint("go to the repository's folder, or say --root PATH")
    };
    if let Some(path) = named {
        let found = path.join(MARKER).is_file();
        return if found {
            Ok(path)
        } else {
            Err(no_root(&path, "that folder is not the root of a stack's repository"))
        };
    }
    let here = env::current_dir().map_err(|error| machine("there is no current folder", &error))?;
    let here = utf8(here)?;
    let root = here.ancestors().find(|folder| folder.join(MARKER).is_file());
    root.map(Utf8Path::to_owned)
        .ok_or_else(|| no_root(&here, "neither this folder nor one above it is a stack's repository"))
}

fn utf8(path: std::path::PathBuf) -> Result<Utf8PathBuf, Failure> {
    Utf8PathBuf::from_path_buf(path).map_err(|path| {
        Failure::new(ExitCode::PrerequisiteMissing, "not-utf8", "a path is not UTF-8")
            .on(path.display().to_string())
    })
}

fn machine(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "machine", what).because(error.to_string())
}
