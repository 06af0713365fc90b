//! What every verb works with: the root, the environment, the printer.

use std::env;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use stelae_model::env::declared::NO_COLOR;
use stelae_model::env::{Environment, Variable as _};
use stelae_model::{ExitCode, Failure};
use stelae_run::environment::{self, Sources};
use stelae_run::guardian::guarded;
use stelae_run::signals::Interrupt;

use crate::cli::Global;
use crate::guard::IsolationFlag;
use crate::print::Printer;

/// The file that makes a folder the root of a stack's repository.
pub(crate) const MARKER: &str = "config/stack.toml";

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where values of variables come from.
    pub(crate) sources: Sources,
    /// The one place that prints.
    pub(crate) printer: Printer,
    /// What the user wants the processes to be kept together by.
    pub(crate) isolation: IsolationFlag,
}

impl Context {
    /// Finds the root and the folder of the binaries; reads nothing else yet.
    pub(crate) fn new(global: &Global, printer: Printer) -> Result<Self, Failure> {
        let root = root(global.root.as_deref().map(absolute).transpose()?)?;
        let exe =
            env::current_exe().map_err(|error| machine("the path of this program is unknown", &error))?;
        let exe = utf8(exe)?;
        let own = exe.parent().map_or_else(|| Utf8PathBuf::from("/"), Utf8Path::to_owned);
        let bin_dir = global.bin_dir.as_deref().map(absolute).transpose()?.unwrap_or(own);
        let env_file = global.env_file.as_deref().map(absolute).transpose()?;
        let (command_line, run) = (global.set.clone(), global.of_run.clone());
        let sources = Sources { root, bin_dir, run, env_file, command_line };
        Ok(Self { sources, printer, isolation: global.isolation })
    }

    /// Root of the repository.
    pub(crate) fn root(&self) -> &Utf8Path {
        &self.sources.root
    }

    /// This program.
    pub(crate) fn program(&self) -> Result<Utf8PathBuf, Failure> {
        utf8(env::current_exe().map_err(|error| machine("the path of this program is unknown", &error))?)
    }

    /// Ctrl-C and its kin, as the guardian passes them on; where there is none, as they come.
    pub(crate) fn interrupt(&self) -> Result<Interrupt, Failure> {
        guarded().map_or_else(Interrupt::install, |guarded| Ok(guarded.interrupt().clone()))
    }

    /// Reads all layers.
    pub(crate) fn environment(&self) -> Result<Environment, Failure> {
        environment::load(&self.sources)
    }
}

/// Makes a path of the command line absolute. It need not exist. A `..` goes back from where a symlink leads, as it does for the
/// kernel.
///
/// # Errors
/// Exit 2, `empty-path`; 40, `not-utf8`, `machine`.
pub(crate) fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    if path.as_str().is_empty() {
        let what = "an option that names a file or a folder is given an empty text";
        return Err(Failure::new(ExitCode::Usage, "empty-path", what)
            .hint("does it come from a variable, or from a command that failed?"));
    }
    let whole =
        std::path::absolute(path).map_err(|error| machine("a path cannot be made absolute", &error))?;
    let whole = utf8(whole)?;
    Ok(whole.components().fold(Utf8PathBuf::new(), |before, part| match part {
        Utf8Component::ParentDir => {
            let real = before.canonicalize_utf8().unwrap_or(before);
            real.parent().map_or_else(|| real.clone(), Utf8Path::to_owned)
        }
        part => before.join(part),
    }))
}

/// Whether a terminal may be coloured, by the layers that a verb's output needs before anything is read: the command
/// line, then the process. (A file cannot set `NO_COLOR`: it is the host's.)
pub(crate) fn colour(global: &Global) -> bool {
    last_set(global, NO_COLOR::DECLARED.name)
        .map_or_else(|| env::var_os("NO_COLOR").is_none_or(|text| text.is_empty()), str::is_empty)
}

/// What `--set` says about a variable: the last one counts.
fn last_set<'a>(global: &'a Global, name: &str) -> Option<&'a str> {
    global.set.iter().rev().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
}

/// The root: `--root`, or the nearest folder above the current one that is one. No variable names it: a process that a stack
/// has started inherits that stack's, and would work on it from wherever it is.
fn root(named: Option<Utf8PathBuf>) -> Result<Utf8PathBuf, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_back_from_where_a_symlink_leads_and_need_not_exist() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().canonicalize().unwrap()).unwrap();
        std::fs::create_dir_all(root.join("real/deep")).unwrap();
        std::os::unix::fs::symlink(root.join("real/deep"), root.join("link")).unwrap();
        let of = |path: &str| absolute(&root.join(path));
        assert_eq!(of("real/new/file").unwrap(), root.join("real/new/file"));
        assert_eq!(of("real/../new/./file").unwrap(), root.join("new/file"));
        assert_eq!(of("link/../new").unwrap(), root.join("real/new"));
        assert_eq!(absolute(Utf8Path::new("/..")).unwrap(), "/");
        assert_eq!(of("missing/../new").unwrap(), root.join("new"));
        assert_eq!(absolute(Utf8Path::new("")).unwrap_err().kind, "empty-path");
    }
}
