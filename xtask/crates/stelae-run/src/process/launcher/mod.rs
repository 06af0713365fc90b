//! The launcher: it takes the write access away from itself, and becomes the program that is to run without it.
//!
//! It is this program, started as `xtask --write-protected PROTECTION -- PROGRAM [ARGUMENT…]` ([`words`]), so that what it does
//! is done in the process that becomes the program: same pid, same parent, same group. Whatever fails ends it, with exit status
//! 125: a program behind a protection that is not whole is not started.

use std::ffi::OsString;

use camino::Utf8Path;
use stelae_model::protection::WriteProtection;
use stelae_model::terminal::shown;

/// The first argument of a launcher.
const FLAG: &str = "--write-protected";
/// What a launcher ends with that could not become its program, as `env` and `timeout` do.
const FAILED: u8 = 125;

/// The words before a program that is started behind a protection; `launcher` is this program.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn words(launcher: &Utf8Path, protection: &WriteProtection) -> serde_json::Result<Vec<String>> {
    let protection = serde_json::to_string(protection)?;
    Ok(vec![launcher.to_string(), FLAG.to_owned(), protection, "--".to_owned()])
}

/// Becomes the program, if this process was started as a launcher; its exit status, if it was and could not; nothing if it was
/// not. For the very beginning of a program, while it has one thread.
#[expect(
    clippy::print_stderr,
    reason = "there is no printer yet, and the program that would print is not there either"
)]
pub fn launch(mut arguments: impl Iterator<Item = OsString>) -> Option<u8> {
    if arguments.nth(1)? != FLAG {
        return None;
    }
    let words: Option<Vec<String>> = arguments.map(|word| word.into_string().ok()).collect();
    let error = match words.as_deref() {
        Some([protection, end, program, arguments @ ..]) if end == "--" => serde_json::from_str(protection)
            .map_err(anyhow::Error::from)
            .and_then(|protection| os::become_protected(&protection, program, arguments)),
        _ => Err(anyhow::anyhow!("usage: {FLAG} PROTECTION -- PROGRAM [ARGUMENT…]")),
    };
    if let Err(error) = error {
        let what = "a program cannot be started without write access to the user's folders";
        eprintln!("error: {what}: {}", shown(&format!("{error:#}")));
    }
    Some(FAILED)
}

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as os;

#[cfg(not(target_os = "linux"))]
mod os {
    use super::WriteProtection;

    pub(super) fn become_protected(_: &WriteProtection, _: &str, _: &[String]) -> anyhow::Result<()> {
        anyhow::bail!("only Linux has mount namespaces")
    }
}
