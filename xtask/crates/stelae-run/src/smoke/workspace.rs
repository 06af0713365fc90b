//! The disposable workspace: a folder with our marker in it, locked while a run uses it. A folder without the marker
//! is somebody else's, and is never touched.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use stelae_model::{ExitCode, Failure};

use super::options::IfExists;
use crate::agents::AgentHome;
use crate::files::{Readable, replace};

/// File that makes a folder a workspace of ours.
const MARKER: &str = ".stelae-workspace.json";
/// File that is locked while a run uses the workspace.
const LOCK: &str = ".stelae-workspace.lock";
/// Folder of the homes of agents, one for each stage.
pub(super) const AGENT_HOMES: &str = "agent";

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    run: String,
}

/// A workspace that this process has locked.
#[derive(Debug)]
pub struct Workspace {
    path: Utf8PathBuf,
    // Held for its lock; the kernel frees it however we end.
    _lock: File,
}

impl Workspace {
    /// Makes the workspace of a new run.
    ///
    /// # Errors
    /// Exit 40: `workspace-not-ours`, `workspace-in-use`, `workspace-exists` (with `Refuse`), `workspace`.
    pub fn create(path: &Utf8Path, run: &str, if_exists: IfExists) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            let workspace = Self::open(path)?;
            match if_exists {
                IfExists::Refuse => {
                    return Err(Failure::new(
                        ExitCode::PrerequisiteMissing,
                        "workspace-exists",
                        "the workspace is there already",
                    )
                    .on(path.to_string())
                    .hint("--if-exists reuse or --if-exists replace"));
                }
                IfExists::Reuse => {}
                IfExists::Replace => {
                    workspace.end_loans()?;
                    workspace.empty()?;
                }
            }
            workspace.mark(run)?;
            return Ok(workspace);
        }
        Self::make(path, run)
    }

    /// Locked and marked under a name that only a workspace in the making has, then renamed: at no moment is there a folder
    /// of which nobody could tell whose it is.
    fn make(path: &Utf8Path, run: &str) -> Result<Self, Failure> {
        let fail = |error: &std::io::Error| failed("the workspace cannot be made", path, error);
        let unfinished = unfinished(path);
        // Not with its parents: what we do not make we do not have to remove.
        let made = fs::DirBuilder::new().mode(0o700).create(&unfinished);
        made.map_err(|error| failed("the workspace cannot be made", &unfinished, &error))?;
        let made = lock(&unfinished).and_then(|lock| {
            let workspace = Self { path: unfinished.clone(), _lock: lock };
            workspace.mark(run)?;
            let renamed = renameat_with(CWD, unfinished.as_str(), CWD, path.as_str(), RenameFlags::NOREPLACE);
            renamed.map_err(|error| fail(&error.into()))?;
            Ok(Self { path: path.to_owned(), ..workspace })
        });
        made.inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))
    }

    /// Clears what a run that was killed has left of its workspace, finished or not. One that somebody else is making just now
    /// is left to him.
    ///
    /// # Errors
    /// Exit 34 or 40, as for [`Workspace::open`] and [`Workspace::remove`].
    pub fn clear(path: &Utf8Path) -> Result<(), Failure> {
        let unfinished = unfinished(path);
        if unfinished.symlink_metadata().is_ok_and(|entry| entry.is_dir()) {
            match lock(&unfinished) {
                Ok(_lock) => fs::remove_dir_all(&unfinished).map_err(|error| {
                    failed("the unfinished workspace cannot be removed", &unfinished, &error)
                })?,
                Err(failure) if failure.kind == "workspace-in-use" => {}
                Err(failure) => return Err(failure),
            }
        }
        if path.symlink_metadata().is_err() { Ok(()) } else { Self::open(path)?.remove() }
    }

    /// Opens the workspace of an earlier run.
    ///
    /// # Errors
    /// Exit 40: `workspace-gone`, `workspace-not-ours`, `workspace-in-use`.
    pub fn open(path: &Utf8Path) -> Result<Self, Failure> {
        let metadata = path.symlink_metadata().map_err(|error| {
            Failure::new(
                ExitCode::PrerequisiteMissing,
                "workspace-gone",
                "the run's workspace is not there any more",
            )
            .on(path.to_string())
            .because(error.to_string())
            .hint("start a new run, with --keep always if you want to resume it: cargo xtask smoke")
        })?;
        if !metadata.is_dir() || read_marker(path).is_none() {
            return Err(Failure::new(
                ExitCode::PrerequisiteMissing,
                "workspace-not-ours",
                "that folder is not a workspace of ours",
            )
            .on(path.to_string())
            .because(format!("it has no {MARKER}"))
            .hint("name a folder that does not exist yet: --workspace PATH"));
        }
        Ok(Self { path: path.to_owned(), _lock: lock(path)? })
    }

    /// Its folder.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Makes a folder in it, and gives its path.
    ///
    /// # Errors
    /// Exit 40, `workspace`.
    pub fn folder(&self, name: &str) -> Result<Utf8PathBuf, Failure> {
        let path = self.path.join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| failed("a folder of the workspace cannot be made", &path, &error))?;
        Ok(path)
    }

    /// Removes it, marker last: a removal that is cut short leaves a folder that is still known to be ours.
    ///
    /// # Errors
    /// Exit 34, `workspace-survived`; 10, `agent-home`: it holds credentials that their user may need.
    pub fn remove(self) -> Result<(), Failure> {
        self.end_loans()?;
        let gone = self.empty().and_then(|()| {
            fs::remove_dir_all(&self.path)
                .map_err(|error| failed("the workspace cannot be removed", &self.path, &error))
        });
        gone.map_err(|mut failure| {
            failure.exit_code = ExitCode::Survivor;
            failure.kind = "workspace-survived".to_owned();
            failure.hint(format!("rm -rf {}", self.path))
        })
    }

    /// Gives back what is still lent to agents: of a run that was killed, nobody else does.
    fn end_loans(&self) -> Result<(), Failure> {
        AgentHome::reclaim_all(&self.path.join(AGENT_HOMES))?.into_iter().try_for_each(AgentHome::give_back)
    }

    fn empty(&self) -> Result<(), Failure> {
        let fail = |error: &std::io::Error| failed("the workspace cannot be emptied", &self.path, error);
        for entry in fs::read_dir(&self.path).map_err(|error| fail(&error))? {
            let entry = entry.map_err(|error| fail(&error))?;
            if entry.file_name() == MARKER || entry.file_name() == LOCK {
                continue;
            }
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed =
                if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            removed.map_err(|error| fail(&error))?;
        }
        Ok(())
    }

    fn mark(&self, run: &str) -> Result<(), Failure> {
        let path = self.path.join(MARKER);
        let text = format!("{}\n", serde_json::json!({ "run": run }));
        // Whole or not at all: half a marker would make it nobody's.
        replace(&path, text.as_bytes(), Readable::ByOwner)
            .map_err(|error| failed("the workspace cannot be marked", &path, &error))
    }
}

/// What it is called while it is made.
fn unfinished(path: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}.stelae-unfinished"))
}

fn read_marker(path: &Utf8Path) -> Option<Marker> {
    serde_json::from_str(&fs::read_to_string(path.join(MARKER)).ok()?).ok()
}

fn lock(path: &Utf8Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
    let file = file.map_err(|error| failed("the workspace cannot be locked", path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            ExitCode::PrerequisiteMissing,
            "workspace-in-use",
            "another run uses that workspace",
        )
        .on(path.to_string())
        .hint("wait for it, or name another: --workspace PATH")),
        Err(TryLockError::Error(error)) => Err(failed("the workspace cannot be locked", path, &error)),
    }
}

fn failed(what: &str, path: &Utf8Path, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "workspace", what)
        .on(path.to_string())
        .because(error.to_string())
        .hint("make room, or name another folder: --workspace PATH")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::await_unlocked;

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("w")).unwrap();
        (folder, path)
    }

    fn kind(result: Result<Workspace, Failure>) -> String {
        result.unwrap_err().kind
    }

    #[test]
    fn a_strangers_folder_is_never_touched() {
        let (_keep, path) = folder();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("precious"), "x").unwrap();
        for if_exists in [IfExists::Refuse, IfExists::Reuse, IfExists::Replace] {
            assert_eq!(kind(Workspace::create(&path, "r", if_exists)), "workspace-not-ours");
        }
        assert!(path.join("precious").exists());
    }

    #[test]
    fn what_was_killed_while_it_was_made_is_cleared() {
        let (_keep, path) = folder();
        fs::create_dir(unfinished(&path)).unwrap();
        fs::write(unfinished(&path).join(LOCK), "").unwrap();
        Workspace::clear(&path).unwrap();
        assert!(!unfinished(&path).exists());
        let workspace = Workspace::create(&path, "r", IfExists::Refuse).unwrap();
        assert!(!unfinished(&path).exists());
        assert_eq!(Workspace::clear(&path).unwrap_err().kind, "workspace-in-use");
        drop(workspace);
        await_unlocked(&path.join(LOCK));
        Workspace::clear(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_being_made_is_left_to_whoever_makes_it() {
        let (_keep, path) = folder();
        fs::create_dir(unfinished(&path)).unwrap();
        let making = lock(&unfinished(&path)).unwrap();
        Workspace::clear(&path).unwrap();
        assert!(unfinished(&path).join(LOCK).exists());
        // The folder that is in the way is named, and not the one that is not there.
        let failure = Workspace::create(&path, "r", IfExists::Refuse).unwrap_err();
        assert_eq!((failure.kind.as_str(), failure.on), ("workspace", vec![unfinished(&path).into_string()]));
        drop(making);
        await_unlocked(&unfinished(&path).join(LOCK));
        Workspace::clear(&path).unwrap();
        assert!(!unfinished(&path).exists());
    }

    #[test]
    fn what_an_agent_has_renewed_outlives_whoever_removes_its_home() {
        use stelae_model::agent::{Agent, Model};
        use stelae_model::env::{Environment, Layers};
        let (keep, path) = folder();
        let user = Utf8Path::from_path(keep.path()).unwrap().join("auth.json");
        let process = vec![("CODEX_HOME".to_owned(), user.parent().unwrap().to_string())];
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let run_that_is_killed = |key: &str| {
            fs::write(&user, r#"{"OPENAI_API_KEY":"the-old-one"}"#).unwrap();
            drop(Workspace::create(&path, "r", IfExists::Reuse).unwrap());
            let at = path.join(AGENT_HOMES).join("install");
            let mut home = AgentHome::create(&at).unwrap();
            home.lend_credentials(Agent::Codex, Model::Live, &host).unwrap();
            home.leave();
            fs::remove_file(at.join("auth.json")).unwrap();
            fs::write(at.join("auth.json"), key).unwrap();
            await_unlocked(&path.join(LOCK));
        };
        run_that_is_killed("renewed");
        drop(Workspace::create(&path, "s", IfExists::Replace).unwrap());
        assert_eq!(fs::read_to_string(&user).unwrap(), "renewed");
        await_unlocked(&path.join(LOCK));
        run_that_is_killed("renewed again");
        Workspace::clear(&path).unwrap();
        assert_eq!((fs::read_to_string(&user).unwrap().as_str(), path.exists()), ("renewed again", false));
    }

    #[test]
    fn ours_is_refused_reused_or_replaced_as_told() {
        let (_keep, path) = folder();
        let first = Workspace::create(&path, "r", IfExists::Refuse).unwrap();
        fs::write(path.join("file"), "x").unwrap();
        assert_eq!(kind(Workspace::create(&path, "s", IfExists::Replace)), "workspace-in-use");
        drop(first);
        await_unlocked(&path.join(LOCK));
        assert_eq!(kind(Workspace::create(&path, "s", IfExists::Refuse)), "workspace-exists");
        await_unlocked(&path.join(LOCK));
        assert!(Workspace::create(&path, "s", IfExists::Reuse).is_ok() && path.join("file").exists());
        await_unlocked(&path.join(LOCK));
        let replaced = Workspace::create(&path, "s", IfExists::Replace).unwrap();
        assert!(!path.join("file").exists());
        replaced.remove().unwrap();
        assert!(!path.exists());
        assert_eq!(kind(Workspace::open(&path)), "workspace-gone");
    }
}
