//! The user's folders, which the stack and the agents of a run must not write to; and what the evidence says about that.
//!
//! The protection is one of namespaces, so it is there where the run has those. It is tried out before the first program that
//! needs it: one that cannot be had is said, in the evidence and in a line of the run.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::declared::STELAE_CACHE_HOME;
use stelae_model::env::{Environment, Invocation};
use stelae_model::protection::{
    Lock, ProtectionReport, Replaced, WriteProtection, home_in_passwd, outermost,
};
use stelae_model::{Failure, Isolation};

use super::context::SmokeContext;
use super::play::homes;
use crate::agents::notes_of;
use crate::files::{create_private_dirs, read_regular_text};
use crate::guardian;
use crate::process::{self, Limits, launcher_words};

/// The report among the evidence.
const REPORT: &str = "write-protection.json";
/// Making the namespaces takes milliseconds.
const TRIED_WITHIN: Duration = Duration::from_secs(20);
/// What is started to try it out: a program that does nothing.
const NOTHING: &str = "/bin/true";

/// Variables that name a folder of the user's, besides those of the run's own source and cache.
const FOLDERS: [&str; 10] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "CODEX_HOME",
    "CLAUDE_CONFIG_DIR",
    "STELAE_CONFIG_HOME",
    "STELAE_STATE_HOME",
];

/// The same program behind the run's write protection, if it has one. `lent` are files of the user's that this program may
/// write to all the same: credentials that an agent was lent, and may renew.
///
/// # Errors
/// Exit 20, when the host's variables are not what they should be; 1, `unexpected`.
pub(super) fn protected(
    cx: &SmokeContext,
    invocation: &Invocation,
    lent: Option<Utf8PathBuf>,
) -> Result<Invocation, Failure> {
    let protection = match cx.protection.get() {
        Some(protection) => protection.clone(),
        None => {
            let decided = decide(cx, invocation)?;
            cx.protection.get_or_init(|| decided).clone()
        }
    };
    // One that is not there is told as that, by the caller that starts it.
    match protection.filter(|_| invocation.program.exists()) {
        Some(mut protection) => {
            protection.writable.extend(lent.and_then(|path| path.canonicalize_utf8().ok()));
            behind(invocation, &protection)
        }
        None => Ok(invocation.clone()),
    }
}

fn behind(invocation: &Invocation, protection: &WriteProtection) -> Result<Invocation, Failure> {
    // This very program, also when cargo has put another one in its place meanwhile.
    let us = Utf8PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let words = launcher_words(&us, protection).map_err(|error| Failure::unexpected(error.to_string()))?;
    Ok(invocation.clone().launched_by(words))
}

/// Tries the protection out, and says what came of it.
fn decide(cx: &SmokeContext, invocation: &Invocation) -> Result<Option<WriteProtection>, Failure> {
    let report = match guardian::isolation() {
        Isolation::Pidns => try_out(cx, invocation)?,
        Isolation::Guard => ProtectionReport::not_prevented(
            "the run has no namespaces of its own: --isolation guard, a stack that stays up, or a machine that allows none",
        ),
    };
    cx.keep_json(REPORT, &report);
    let why = report.why.join("; ");
    if !report.prevented {
        cx.recorder.note(format!(
            "it is not prevented that the stack and the agents write to the folders of their user: {why}"
        ));
    } else if !report.why.is_empty() {
        cx.recorder.note(format!("the write protection of the user's folders has limits: {why}"));
    }
    Ok(report.protection)
}

fn try_out(cx: &SmokeContext, invocation: &Invocation) -> Result<ProtectionReport, Failure> {
    let (mut protection, not_covered) = wanted(cx)?;
    let mut why: Vec<String> =
        not_covered.iter().map(|folder| format!("{folder} cannot be protected")).collect();
    if protection.read_only.is_empty() {
        why.push("no folder of the user is known".to_owned());
        return Ok(ProtectionReport { schema: 1, prevented: false, why, protection: None });
    }
    let mut refused = attempt(cx, invocation, &protection)?;
    if let (Some(first), true) = (&refused, process::is_root()) {
        why.push(format!("the stack runs as root, which can undo it: {first}"));
        protection.lock = Lock::Nothing;
        refused = attempt(cx, invocation, &protection)?;
    }
    Ok(match refused {
        None => ProtectionReport { schema: 1, prevented: true, why, protection: Some(protection) },
        Some(refused) => ProtectionReport::not_prevented(refused),
    })
}

/// Starts a program that does nothing behind it. Gives why that is not possible.
fn attempt(
    cx: &SmokeContext,
    invocation: &Invocation,
    protection: &WriteProtection,
) -> Result<Option<String>, Failure> {
    let mut nothing = invocation.clone();
    (nothing.process, nothing.program) = ("write-protection".to_owned(), NOTHING.into());
    nothing.args.clear();
    let log = cx.log("write-protection");
    let deadline = cx.deadline.within(TRIED_WITHIN);
    let limits = Limits { deadline, interrupt: &cx.interrupt, stdout: &log, stderr: &log };
    let finished = process::run(&behind(&nothing, protection)?, &limits, &mut |_, _| ())?;
    if finished.status.is_success() {
        return Ok(None);
    }
    let said = finished.tail.last().cloned();
    Ok(Some(said.unwrap_or_else(|| format!("{NOTHING} behind it ended with {}", finished.status))))
}

/// What should be protected; and what of the user's cannot be.
fn wanted(cx: &SmokeContext) -> Result<(WriteProtection, Vec<Utf8PathBuf>), Failure> {
    let cache = cx.host.get::<STELAE_CACHE_HOME>()?;
    let live = cx.sandbox.workspace.join("live");
    let loans = notes_of(&homes(&cx.sandbox.workspace));
    for folder in [&live, &loans] {
        create_private_dirs(folder).map_err(|error| {
            Failure::unexpected("a folder of the workspace cannot be made")
                .on(folder.to_string())
                .because(error.to_string())
        })?;
    }
    let writable = existing(&[cx.sandbox.workspace.clone(), cx.folder.path().to_owned()]);
    let mut folders = folders_of_the_user(&cx.host);
    folders.extend([cache.as_path().to_owned(), cx.plan.source.clone()]);
    let (read_only, not_covered) = outermost(existing(&folders), &writable);
    // The guardian of the stack writes down that it lives; what a server could write there, the next start would act on. So it
    // would on notes of what was lent: they name a file of the user's that the harness writes to.
    let replaced = existing(&[cache.join("live"), loans]).into_iter();
    let replaced = replaced.map(|folder| Replaced { folder, by: live.clone() }).collect();
    let inherited = existing(&[cache.join("leases")]);
    let lock = Lock::UserNamespace;
    Ok((WriteProtection { read_only, writable, replaced, inherited, lock }, not_covered))
}

/// Homes, by the environment and by `/etc/passwd`, and the folders that are usually in one.
fn folders_of_the_user(host: &Environment) -> Vec<Utf8PathBuf> {
    let named = FOLDERS.iter().filter_map(|name| host.text(name));
    let mut folders: Vec<_> = named.map(Utf8PathBuf::from).filter(|folder| folder.is_absolute()).collect();
    // Without the file (a container) there is the variable.
    let passwd = read_regular_text("/etc/passwd".into()).unwrap_or_default();
    folders.extend(home_in_passwd(&passwd, process::user()).map(Utf8Path::to_owned));
    folders
}

/// Their real paths; what is not there needs no protection.
fn existing(folders: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    folders.iter().filter_map(|folder| folder.canonicalize_utf8().ok()).collect()
}
