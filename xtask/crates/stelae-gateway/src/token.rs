//! The token that clients have to show, if there is one. It comes from a file or a variable: arguments are everybody's to
//! read.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8Path;
use stelae_model::env::Variable as _;
use stelae_model::env::declared::STELAE_MCP_TOKEN;
use stelae_model::terminal::shell_word;
use stelae_model::value::{BearerToken, EnvValue as _, Secret};
use stelae_model::{ExitCode, Failure};
use stelae_run::files::{bounded, open_config};

/// What clients have to show to be let to `/mcp`.
pub(crate) const CLIENT_TOKEN: &str = STELAE_MCP_TOKEN::DECLARED.name;
/// A longer file holds no token.
const MOST_BYTES: u64 = 4 * 1024;

/// The clients' token, of `file` or of the variable's `value`.
///
/// # Errors
/// Exit 2, `contradictory`: both are there. 40, `no-token`: the file cannot be read. 20, `token`: others can read it, or
/// there is no token in it.
pub(crate) fn of_clients(
    file: Option<&Utf8Path>,
    value: Option<OsString>,
) -> Result<Option<Secret<BearerToken>>, Failure> {
    match (file, value) {
        (None, None) => Ok(None),
        (None, Some(value)) => of_variable(&value).map(Some),
        (Some(_), Some(_)) => {
            let what = "two tokens for clients are given, and only one can be meant";
            Err(Failure::new(ExitCode::Usage, "contradictory", what)
                .because(format!("there are --token-file and {CLIENT_TOKEN}")))
        }
        (Some(file), None) => read(file).map(Some),
    }
}

/// The token of this process's environment, for a client. One that is empty is shown to nobody.
///
/// # Errors
/// Exit 20, `token`.
pub(crate) fn of_this_client() -> Result<Option<Secret<BearerToken>>, Failure> {
    of_clients(None, std::env::var_os(CLIENT_TOKEN).filter(|value| !value.is_empty()))
}

/// Whoever sets it means that there is one: nothing that is set and cannot be used may let everybody in.
fn of_variable(value: &OsStr) -> Result<Secret<BearerToken>, Failure> {
    let text = value.to_str().ok_or_else(|| "is not UTF-8".to_owned());
    text.and_then(Secret::<BearerToken>::parse).map_err(|why| {
        Failure::new(ExitCode::Environment, "token", "the clients' token cannot be used")
            .on(CLIENT_TOKEN)
            .because(format!("its value {why}"))
            .hint(format!("unset {CLIENT_TOKEN}, if clients need none"))
    })
}

fn read(file: &Utf8Path) -> Result<Secret<BearerToken>, Failure> {
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
    let opened = open_config(file).map_err(|error| match error.kind() {
        io::ErrorKind::Other => wrong(&error.to_string()),
        _ => unreadable(error),
    })?;
    let about = opened.metadata().map_err(unreadable)?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(wrong("others than its owner may read it")
            .hint(format!("chmod 600 {}", shell_word(file.as_str()))));
    }
    if about.len() > MOST_BYTES {
        return Err(wrong("it is too long for a token"));
    }
    let text = String::from_utf8(bounded(&opened, MOST_BYTES).map_err(unreadable)?);
    match text.map_err(|_| wrong("it is not UTF-8"))?.trim() {
        "" => Err(wrong("it is empty")),
        token => Secret::<BearerToken>::parse(token).map_err(|why| wrong(&format!("what it holds {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            of_clients(file, value.map(OsString::from)).map(|token| token.and_then(|token| token.to_env()))
        };
        assert_eq!(token(Some(&path), None).unwrap().as_deref(), Some("from-file"));
        assert_eq!(token(None, Some("from-variable")).unwrap().as_deref(), Some("from-variable"));
        assert_eq!(token(None, None).unwrap(), None);
        for unusable in ["hunter2 hunter3", ""] {
            let failure = token(None, Some(unusable)).unwrap_err();
            assert_eq!(failure.exit_code, ExitCode::Environment);
            assert!(!failure.to_string().contains("hunter"), "{failure}");
        }
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
