//! The token that clients have to show, if there is one. It comes from a file or a variable: arguments are everybody's to
//! read.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8Path;
use stelae_model::value::Secret;
use stelae_model::{ExitCode, Failure};

/// What clients have to show to be let to `/mcp`.
pub(super) const CLIENT_TOKEN: &str = "STELAE_MCP_TOKEN";
/// A longer file holds no token.
const MOST_BYTES: u64 = 4 * 1024;

/// The clients' token, of `file` or of the variable's `value`.
///
/// # Errors
/// Exit 2, `contradictory`: both are there. 40, `no-token`: the file cannot be read. 20, `token`: others can read it, or
/// there is no token in it.
pub(super) fn of_clients(
    file: Option<&Utf8Path>,
    value: Option<String>,
) -> Result<Option<Secret<String>>, Failure> {
    let value = value.filter(|value| !value.is_empty());
    match (file, value) {
        (None, value) => Ok(value.map(Secret::new)),
        (Some(_), Some(_)) => {
            let what = "two tokens for clients are given, and only one can be meant";
            Err(Failure::new(ExitCode::Usage, "contradictory", what)
                .because(format!("there are --token-file and {CLIENT_TOKEN}")))
        }
        (Some(file), None) => read(file).map(|token| Some(Secret::new(token))),
    }
}

fn read(file: &Utf8Path) -> Result<String, Failure> {
    let unreadable = |error: io::Error| {
        Failure::new(ExitCode::PrerequisiteMissing, "no-token", "the clients' token cannot be read")
            .on(file.as_str())
            .because(error.to_string())
    };
    let wrong = |why: &str| {
        Failure::new(ExitCode::Environment, "token", "the file of the clients' token cannot be used")
            .on(file.as_str())
            .because(why)
    };
    let about = fs::metadata(file).map_err(unreadable)?;
    // Opening a pipe would wait for whoever writes.
    if !about.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    if about.permissions().mode() & 0o077 != 0 {
        return Err(wrong("others than its owner may read it").hint(format!("chmod 600 {file}")));
    }
    if about.len() > MOST_BYTES {
        return Err(wrong("it is too long for a token"));
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    match text.trim() {
        "" => Err(wrong("it is empty")),
        token if token.chars().all(|character| character.is_ascii_graphic()) => Ok(token.to_owned()),
        _ => Err(wrong("a token is one word of printable ASCII")),
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("token")).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn why(text: &str, mode: u32) -> (ExitCode, String) {
        let (_folder, path) = file(text, mode);
        let failure = of_clients(Some(&path), None).unwrap_err();
        (failure.exit_code, failure.to_string())
    }

    #[test]
    fn a_token_comes_from_a_file_or_a_variable_and_not_from_both() {
        let (_folder, path) = file("from-file\n", 0o600);
        let token = |file: Option<&Utf8Path>, value: Option<&str>| {
            of_clients(file, value.map(str::to_owned)).map(|token| token.map(|token| token.expose().clone()))
        };
        assert_eq!(token(Some(&path), Some("")).unwrap().as_deref(), Some("from-file"));
        assert_eq!(token(None, Some("from-variable")).unwrap().as_deref(), Some("from-variable"));
        assert_eq!(token(None, None).unwrap(), None);
        assert_eq!(token(Some(&path), Some("x")).unwrap_err().exit_code, ExitCode::Usage);
        assert_eq!(
            token(Some("/nonexistent".into()), None).unwrap_err().exit_code,
            ExitCode::PrerequisiteMissing
        );
    }

    #[test]
    fn a_file_that_others_read_or_that_has_no_token_is_refused_without_quoting_it() {
        for (text, mode, says) in [
            ("hunter2", 0o644, "chmod 600"),
            ("hunter2", 0o620, "chmod 600"),
            (" \n", 0o600, "it is empty"),
            ("hunter2 hunter3", 0o600, "one word"),
        ] {
            let (code, text) = why(text, mode);
            assert!(
                code == ExitCode::Environment && text.contains(says) && !text.contains("hunter"),
                "{text}"
            );
        }
    }
}
