//! What can only be seen from outside of the namespaces of a run: another program's pid, the pids outside of those inside, and whose a
//! folder is.

use std::net::SocketAddr;
use std::time::Duration;

use camino::Utf8Path;
use stelae_model::{ExitCode, Failure, Isolation};

use super::inner::{ANSWERS_WITHIN, Guarded, guarded};
use super::line::{Answer, Question};
use crate::files::{Shared, find_shared};
use crate::ports::{self, Owner};
use crate::process::{self, tree};

/// A teardown asks this about each survivor, and has an end.
const NAMES_WITHIN: Duration = Duration::from_secs(1);

/// The outer half, if this process lives in a namespace.
fn outside() -> Option<&'static Guarded> {
    guarded().filter(|guarded| guarded.isolation() == Isolation::Pidns)
}

/// Who listens on `address`, seen from outside; None if this process is outside itself.
pub(crate) fn ask_for_owner(address: SocketAddr) -> Option<Owner> {
    match outside()?.ask(Question::OwnerOf(address), ANSWERS_WITHIN)? {
        Answer::OwnerOf(owner) => owner,
        _ => None,
    }
}

/// The pid that a process of our namespace has outside of it; None if this process is outside itself, or the watchdog does not
/// say.
pub(crate) fn host_pid(pid: i32) -> Option<i32> {
    match outside()?.ask(Question::HostPid(pid), NAMES_WITHIN)? {
        // One that was too late is about another process.
        Answer::HostPid(asked, outside) if asked == pid => outside,
        _ => None,
    }
}

/// That no other user can put files into a folder on the way to `path`; `instead` is what to type to have it elsewhere.
///
/// A user namespace does not know the owners of folders: there the watchdog is asked, which is outside. A process that another
/// run's namespace is around has nothing to ask: the harness outside has checked the folders of that run.
///
/// # Errors
/// Exit 40, `folder-not-private`; `folder-unknown`: whose it is cannot be told.
pub fn check_private(path: &Utf8Path, instead: &str) -> Result<(), Failure> {
    let found = match outside() {
        Some(outside) => match outside.ask(Question::SharedAt(path.to_owned()), ANSWERS_WITHIN) {
            Some(Answer::SharedAt(shared)) => Ok(shared),
            Some(Answer::Unknown(why)) => Err(why),
            _ => Err("the watchdog does not answer".to_owned()),
        },
        None if process::is_in_a_namespace_of_ours() => Ok(None),
        None => find_shared(path).map_err(|error| error.to_string()),
    };
    match found {
        Ok(None) => Ok(()),
        Ok(Some(shared)) => Err(shared.failure(path, instead)),
        Err(why) => {
            let what = "it cannot be told who can change a folder that must be yours alone";
            Err(Failure::new(ExitCode::PrerequisiteMissing, "folder-unknown", what)
                .on(path.to_string())
                .because(why)
                .hint(instead))
        }
    }
}

/// Answers; for the outer half.
pub(super) fn answer(question: &Question) -> Answer {
    match question {
        &Question::OwnerOf(address) => Answer::OwnerOf(ports::owner_of(address)),
        &Question::HostPid(pid) => Answer::HostPid(pid, pid_below_us(pid)),
        Question::SharedAt(path) => {
            let found: std::io::Result<Option<Shared>> = find_shared(path);
            found.map_or_else(|error| Answer::Unknown(error.to_string()), Answer::SharedAt)
        }
    }
}

/// The pid, as seen from here, of the process below us that has the pid `inside` in the namespace next below ours.
fn pid_below_us(inside: i32) -> Option<i32> {
    let us = std::process::id().cast_signed();
    tree::descendants(us).iter().map(|row| row.pid).find(|&pid| tree::pid_one_below(pid) == Some(inside))
}
