//! The run's nonce: a word that is another in each run, in a file of the clone that the stack's servers can read.

use camino::Utf8Path;
use stelae_model::{ExitCode, Failure};

use crate::files::{Readable, random, read_untrusted_text, replace};

/// A letter, and the digits of a number that comes from the kernel.
fn draw() -> String {
    format!("n{:016x}", random())
}

/// Whether a text is what a run writes into its file.
fn is_nonce(text: &str) -> bool {
    let digits = text.strip_prefix('n').and_then(|rest| rest.strip_suffix('\n'));
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The length of such a file.
const BYTES: u64 = 18;

/// Draws a nonce, and writes it into the clone, if it has a place there. In a clone that is there already, it replaces the one of
/// an earlier run, and nothing else.
///
/// # Errors
/// Exit 20, `nonce-file-exists`: the commit has that file; 40, `workspace`.
pub(super) fn write_nonce(repo: &Utf8Path, name: Option<&str>) -> Result<String, Failure> {
    let nonce = draw();
    let Some(name) = name else { return Ok(nonce) };
    let path = repo.join(name);
    let is_ours = || read_untrusted_text(&path, BYTES).is_ok_and(|text| is_nonce(&text));
    if path.symlink_metadata().is_ok() && !is_ours() {
        let what = "the commit has the file that the nonce goes into";
        return Err(Failure::new(ExitCode::Environment, "nonce-file-exists", what)
            .on(path.to_string())
            .because("a run writes a word of its own there, which no commit can know")
            .hint("name another in config/smoke.toml: nonce_file = \"stelae-nonce.txt\""));
    }
    // By a rename: a link that another process put there is replaced, and not followed.
    replace(&path, format!("{nonce}\n").as_bytes(), Readable::ByAnyone).map_err(|error| {
        Failure::new(ExitCode::PrerequisiteMissing, "workspace", "the nonce cannot be written")
            .on(path.to_string())
            .because(error.to_string())
    })?;
    Ok(nonce)
}

/// Removes the nonce of an earlier run from a clone that is there already: git does not know it.
pub(super) fn remove_nonce(repo: &Utf8Path, name: Option<&str>) {
    let Some(path) = name.map(|name| repo.join(name)) else { return };
    if read_untrusted_text(&path, BYTES).is_ok_and(|text| is_nonce(&text)) {
        // What does not go is told by git.
        std::fs::remove_file(path).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::files::test_folder;

    #[test]
    fn each_run_has_a_nonce_of_its_own_in_its_file() {
        let (_guard, repo) = test_folder();
        let one = write_nonce(&repo, Some("f")).unwrap();
        assert_eq!(std::fs::read_to_string(repo.join("f")).unwrap(), format!("{one}\n"));
        assert!(is_nonce(&format!("{one}\n")));
        let other = write_nonce(&repo, Some("f")).unwrap();
        assert_ne!(one, other);
        assert_eq!(std::fs::read_to_string(repo.join("f")).unwrap(), format!("{other}\n"));
        assert_ne!(write_nonce(&repo, None).unwrap(), other);
        remove_nonce(&repo, Some("f"));
        assert!(!repo.join("f").exists());
    }

    #[test]
    fn what_the_commit_has_is_not_overwritten() {
        let (_guard, repo) = test_folder();
        std::fs::write(repo.join("f"), "n123\n").unwrap();
        std::fs::write(repo.join("target"), format!("{}\n", draw())).unwrap();
        symlink("target", repo.join("link")).unwrap();
        symlink("nowhere", repo.join("dangling")).unwrap();
        for name in ["f", "link", "dangling"] {
            let failure = write_nonce(&repo, Some(name)).unwrap_err();
            assert_eq!(
                (failure.exit_code, failure.kind.as_str()),
                (ExitCode::Environment, "nonce-file-exists")
            );
            remove_nonce(&repo, Some(name));
            assert!(repo.join(name).symlink_metadata().is_ok(), "{name}");
        }
    }
}
