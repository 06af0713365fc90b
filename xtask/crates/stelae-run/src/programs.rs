//! Finds programs on the host: one of the few things that a sandbox borrows.

use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::{ExitCode, Failure};

/// The first executable file called `name` in the folders of `path` (a `PATH`).
///
/// # Errors
/// Exit 40, `program-missing`.
pub fn find(name: &str, path: &str) -> Result<Utf8PathBuf, Failure> {
    let mut candidates =
        path.split(':').filter(|folder| !folder.is_empty()).map(|folder| Utf8Path::new(folder).join(name));
    candidates.find(|candidate| is_executable(candidate)).ok_or_else(|| {
        Failure::new(ExitCode::PrerequisiteMissing, "program-missing", format!("{name} is not installed"))
            .because("no folder of PATH has it")
            .hint(format!("install {name}, or add its folder to PATH"))
    })
}

/// Whether a file is there, and may be executed by anyone.
pub(crate) fn is_executable(path: &Utf8Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_missing_ones_are_named() {
        assert!(find("sh", "/nowhere:/usr/bin:/bin").is_ok());
        let failure = find("no-such-program", "/usr/bin").unwrap_err();
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::PrerequisiteMissing, "program-missing")
        );
    }
}
