//! Who is alive, by lock: one file for each guardian, which both of its halves hold locked. When the kernel has freed both
//! locks, and only then, what carries the run's id is nobody's, and is ended by whoever starts next.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::lifecycle::StopLimits;
use stelae_model::{ExitCode, Failure};

use super::line::Dead;
use crate::deadline::Deadline;
use crate::files::{bounded, create_private, limits, open_existing, random};
use crate::process;
use crate::signals::Interrupt;

/// So many names in a row that somebody else has just taken are no coincidence.
const MOST_NAMES: usize = 100;

/// A start that is held up for longer by what others have left is worse than what they have left.
const SWEEPS_AT_MOST: Duration = Duration::from_secs(10);

/// The file of this guardian, locked (shared) as long as this process lives.
#[derive(Debug)]
pub struct LiveFile {
    path: Utf8PathBuf,
    file: File,
}

impl LiveFile {
    /// Makes one, in a folder that is made with it.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(folder: &Utf8Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        for _ in 0..MOST_NAMES {
            let path = folder.join(format!("{:016x}.json", random()));
            create_private(&path, b"")?;
            match Self::share(&path) {
                // Somebody who sweeps saw it before it was locked, and takes it for a dead one.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_gone(&error) => {}
                locked => return locked,
            }
        }
        Err(io::Error::other("whoever sweeps this folder takes every new file of it"))
    }

    /// Locks the one that the other half has made.
    ///
    /// # Errors
    /// What the system says; it is locked by whoever sweeps it.
    pub fn share(path: &Utf8Path) -> io::Result<Self> {
        let file = open_existing(path)?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // It may have been swept away between the two lines above.
        let (held, named) = (file.metadata()?, fs::symlink_metadata(path)?);
        if (held.dev(), held.ino()) != (named.dev(), named.ino()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Says which run it is.
    ///
    /// # Errors
    /// Exit 40, `not-registered`.
    pub fn write(&self, dead: &Dead) -> Result<(), Failure> {
        let written = serde_json::to_vec(dead).map_err(io::Error::other).and_then(|text| {
            let mut file = &self.file;
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(&text)
        });
        written.map_err(|error| {
            Failure::new(
                ExitCode::PrerequisiteMissing,
                "not-registered",
                "the run cannot be written down where the next start looks for it",
            )
            .on(self.path.to_string())
            .because(error.to_string())
            .hint("make room, or name another folder: --set STELAE_CACHE_HOME=PATH")
        })
    }

    /// Removes it: the end was an orderly one, and there is nothing to sweep.
    pub fn remove(self) {
        // One that stays is swept by the next start, which finds nothing of it.
        fs::remove_file(&self.path).ok();
    }
}

/// Sixteen hexadecimal digits, and `.json`.
fn is_name(path: &Utf8Path) -> bool {
    let stem = path.file_stem().unwrap_or_default();
    let digits = stem.len() == 16 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits && path.extension() == Some("json")
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Ends what dead runs have left, and clears their workspaces with `clear`. Gives what was done, and what could not be, a
/// sentence each. A run of which anything is alive is not touched.
///
/// In a namespace of ours nothing is done: a run that began outside of it would look as if nobody of it were left. Whoever
/// made the namespace has swept before, and the next start outside does.
pub fn sweep_dead(
    folder: &Utf8Path,
    limits: StopLimits,
    interrupt: &Interrupt,
    clear: &mut dyn FnMut(&Dead) -> Result<Option<Utf8PathBuf>, Failure>,
) -> Vec<String> {
    if process::is_in_a_namespace_of_ours() {
        return Vec::new();
    }
    let (mut dead, mut alive) = (Vec::new(), BTreeSet::new());
    for entry in folder.read_dir_utf8().into_iter().flatten().flatten() {
        match Found::at(entry.path()) {
            Found::Alive(run) => alive.extend(run.map(|run| run.run)),
            Found::Dead(file, run) => dead.push((entry.path().to_owned(), file, run)),
            Found::Nothing => {}
        }
    }
    let mut done = Vec::new();
    let deadline = Deadline::after(SWEEPS_AT_MOST);
    for (path, lock, run) in dead {
        if deadline.passed() {
            done.push(
                "there was no time to end what all dead runs have left: the next start goes on".to_owned(),
            );
            break;
        }
        let Some(run) = run else {
            // Killed before it said what it was, and so before it started anything.
            fs::remove_file(&path).ok();
            continue;
        };
        if alive.contains(&run.run) {
            continue;
        }
        if sweep_run(&run, limits, interrupt, clear, &mut done) {
            fs::remove_file(&path).ok();
        }
        drop(lock);
    }
    done
}

/// Whether nothing of it is left.
fn sweep_run(
    dead: &Dead,
    limits: StopLimits,
    interrupt: &Interrupt,
    clear: &mut dyn FnMut(&Dead) -> Result<Option<Utf8PathBuf>, Failure>,
    done: &mut Vec<String>,
) -> bool {
    let of = format!("of the run {}, whose harness is gone", dead.run);
    let swept = process::sweep_lost(&dead.run, limits, interrupt);
    done.extend(swept.ended.iter().map(|process| format!("ended {process}, {of}")));
    done.extend(swept.survivors.iter().map(|process| format!("cannot end {process}, {of}")));
    // Its files may still be in use by what does not go.
    if !swept.survivors.is_empty() {
        return false;
    }
    let Some(workspace) = dead.workspace.as_deref() else { return true };
    match clear(dead) {
        Ok(removed) => {
            done.extend(removed.map(|path| format!("removed the workspace {path} {of}")));
            true
        }
        Err(failure) => {
            done.push(format!("cannot remove the workspace {workspace} {of}: {}", told(&failure)));
            false
        }
    }
}

/// A failure in one line: what, why, and what helps.
fn told(failure: &Failure) -> String {
    let parts = [&failure.what].into_iter().chain(&failure.why).chain(&failure.hint);
    parts.map(String::as_str).collect::<Vec<_>>().join("; ")
}

enum Found {
    /// Locked by somebody.
    Alive(Option<Dead>),
    /// Locked by nobody but us, from now on.
    Dead(File, Option<Dead>),
    /// Gone, or not to be opened.
    Nothing,
}

impl Found {
    fn at(path: &Utf8Path) -> Self {
        // Whatever else lies there is not the harness's: it is neither opened nor removed.
        let ours = path.symlink_metadata();
        let ours = ours.is_ok_and(|entry| entry.is_file() && entry.len() <= limits::LIVE_FILE);
        if !ours || !is_name(path) {
            return Self::Nothing;
        }
        let Ok(file) = open_existing(path) else { return Self::Nothing };
        let locked = file.try_lock();
        // One that was not written whole is one of a process that had not begun.
        let text = bounded(&file, limits::LIVE_FILE);
        let run: Option<Dead> = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
        match locked {
            Ok(()) => Self::Dead(file, run),
            Err(_) => Self::Alive(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::await_unlocked;

    const LIMITS: StopLimits = StopLimits { grace: Duration::ZERO, ceiling: Duration::from_secs(5) };

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("live")).unwrap();
        (guard, path)
    }

    fn run(run: &str, workspace: &Utf8Path) -> Dead {
        Dead::new(&format!("{run}-{:x}", random()), Some(workspace.to_owned()))
    }

    fn sweep(folder: &Utf8Path) -> (Vec<String>, Vec<Utf8PathBuf>) {
        let mut cleared = Vec::new();
        let done = sweep_dead(folder, LIMITS, &Interrupt::never(), &mut |dead| {
            cleared.extend(dead.workspace.clone());
            Ok(dead.workspace.clone())
        });
        (done, cleared)
    }

    fn names(folder: &Utf8Path) -> usize {
        folder.read_dir_utf8().unwrap().count()
    }

    #[test]
    fn a_run_is_swept_when_both_halves_are_dead_and_not_before() {
        let (guard, folder) = folder();
        let workspace = Utf8Path::from_path(guard.path()).unwrap();
        let outer = LiveFile::create(&folder).unwrap();
        let inner = LiveFile::share(outer.path()).unwrap();
        inner.write(&run("r", workspace)).unwrap();
        assert_eq!(sweep(&folder), (vec![], vec![]));
        drop(outer);
        assert_eq!(sweep(&folder), (vec![], vec![]));
        let path = inner.path().to_owned();
        drop(inner);
        await_unlocked(&path);
        let (done, cleared) = sweep(&folder);
        assert_eq!((done.len(), cleared), (1, vec![workspace.to_owned()]), "{done:?}");
        assert_eq!((sweep(&folder), names(&folder)), ((vec![], vec![]), 0));
    }

    #[test]
    fn a_run_of_which_another_guardian_lives_is_left_alone() {
        let (guard, folder) = folder();
        let dead = run("r", Utf8Path::from_path(guard.path()).unwrap());
        let (first, second) = (LiveFile::create(&folder).unwrap(), LiveFile::create(&folder).unwrap());
        first.write(&dead).unwrap();
        second.write(&dead).unwrap();
        let path = first.path().to_owned();
        drop(first);
        await_unlocked(&path);
        assert_eq!((sweep(&folder), names(&folder)), ((vec![], vec![]), 2));
        second.remove();
        await_unlocked(&path);
        assert_eq!(sweep(&folder).1.len(), 1);
    }

    #[test]
    fn one_that_never_said_what_it_was_is_removed_and_nothing_else() {
        let (_guard, folder) = folder();
        let path = LiveFile::create(&folder).unwrap().path().to_owned();
        await_unlocked(&path);
        assert_eq!((sweep(&folder), names(&folder)), ((vec![], vec![]), 0));
    }

    #[test]
    fn what_is_not_ours_is_neither_opened_nor_removed() {
        let (_guard, folder) = folder();
        let first = LiveFile::create(&folder).unwrap().path().to_owned();
        await_unlocked(&first);
        let path = |name: &str| folder.join(name);
        let name = "0123456789abcdef.json";
        rustix::fs::mkfifoat(rustix::fs::CWD, path(name).as_str(), rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("0123456789abcdee.json")).unwrap();
        File::create(path("0123456789abcded.json")).unwrap().set_len(20 << 30).unwrap();
        fs::write(path("somebody's"), "{}").unwrap();
        assert_eq!((sweep(&folder), names(&folder)), ((vec![], vec![]), 4));
    }

    #[test]
    fn what_cannot_be_cleared_is_tried_again() {
        let (guard, folder) = folder();
        LiveFile::create(&folder)
            .unwrap()
            .write(&run("r", Utf8Path::from_path(guard.path()).unwrap()))
            .unwrap();
        let path = folder.read_dir_utf8().unwrap().next().unwrap().unwrap().into_path();
        await_unlocked(&path);
        let refuse = &mut |_: &Dead| Err(Failure::unexpected("in use"));
        let done = sweep_dead(&folder, LIMITS, &Interrupt::never(), refuse);
        assert!(done[0].contains("cannot remove"), "{done:?}");
        await_unlocked(&path);
        assert_eq!((sweep(&folder).1.len(), names(&folder)), (1, 0));
    }
}
