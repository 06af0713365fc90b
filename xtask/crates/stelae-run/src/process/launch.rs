//! What starting a command and starting a service have in common.

use std::fs::File;
use std::io;

use camino::Utf8Path;
use stelae_model::env::Invocation;
use stelae_model::env::programs::{GATEWAY, SERVER};
use stelae_model::{ExitCode, Failure};

use super::{reaper, tree};
use crate::files::open_append;

/// The variable that tells a process its own label.
pub(super) const PROCESS_VARIABLE: &str = "STELAE_PROCESS";

/// The whole environment of a process that is started from `invocation`.
pub(super) fn environment(invocation: &Invocation) -> impl Iterator<Item = (&str, &str)> {
    let variables = invocation.environment().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    variables.chain([(PROCESS_VARIABLE, invocation.process.as_str())])
}

/// The label that the process was started with, by us or by another harness; inherited by whatever it starts.
pub(super) fn mark_of(pid: i32) -> Option<String> {
    let environ = tree::environ(pid).ok()?;
    environ.into_iter().find_map(|(name, value)| (name == PROCESS_VARIABLE).then_some(value))
}

/// Whether the mark `mark` says that its bearer belongs to `process`. What carries `server:NAME` was started by the
/// gateway, in a group of its own, and is left to us when the gateway dies.
pub(super) fn marks(mark: &str, process: &str) -> bool {
    mark == process || process == GATEWAY.name && mark.starts_with(&SERVER.label(""))
}

/// Opens a file for the output of a process: appended to, so that two writers do not overwrite each other and a
/// truncated file does not grow holes; private, because output may quote anything.
pub(super) fn open_log(path: &Utf8Path) -> Result<File, Failure> {
    open_append(path).map_err(|error| {
        Failure::new(ExitCode::PrerequisiteMissing, "log-unwritable", "a log file cannot be opened")
            .on(path.as_str())
            .because(error.to_string())
    })
}

/// Why a process could not be started, as a failure with a hint.
pub(super) fn not_started(invocation: &Invocation, error: &io::Error) -> Failure {
    let process = &invocation.process;
    if reaper::is_closing() {
        let what = format!("{process} is not started any more");
        return Failure::new(ExitCode::StepFailed, "closing", what).because("everything is being stopped");
    }
    // For a folder that is missing, the operating system says "not found" as well, and means the program.
    if !invocation.cwd.is_dir() {
        return Failure::new(
            ExitCode::PrerequisiteMissing,
            "folder-missing",
            format!("{process} has no folder to run in"),
        )
        .on(invocation.cwd.as_str());
    }
    let (kind, what) = match error.kind() {
        io::ErrorKind::NotFound => ("program-missing", "is not there"),
        io::ErrorKind::PermissionDenied => ("program-not-executable", "may not be executed"),
        _ => ("program-not-started", "could not be started"),
    };
    Failure::new(ExitCode::PrerequisiteMissing, kind, format!("the program of {process} {what}"))
        .on(invocation.program.as_str())
        .because(error.to_string())
        .hint(format!("ls -l {}", invocation.program))
}

/// How the process is named in messages about it.
pub(super) fn described(invocation: &Invocation) -> String {
    std::iter::once(invocation.program.as_str())
        .chain(invocation.args.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_belong_to_the_gateway_and_to_nobody_else() {
        assert!(
            marks("service:a", "service:a") && marks("server:a", "gateway") && marks("gateway", "gateway")
        );
        assert!(!marks("service:a", "gateway") && !marks("server:a", "service:a") && !marks("x", "gateway"));
    }
}
