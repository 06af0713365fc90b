//! The disposable workspace: a folder with our marker in it, locked while a run uses it. A folder without the marker
//! is another's, and is never touched.
//!
//! The folder is held open from the moment at which it was made: what is removed in the end is that one, wherever a server has
//! moved it, and no other that lies where it was.

mod lost;
mod marker;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, Mode, RenameFlags, mkdirat, renameat_with};
use rustix::io::Errno;
use stelae_model::{ExitCode, Failure};

use self::marker::{LOCK, MARKER, Marker, lock};
use super::options::IfExists;
use crate::agents::AgentHome;
use crate::deadline::Deadline;
use crate::files::{LastingId, Remains, about, empty_tree, open_folder, path_of, remove_empty, split};
use crate::guardian::Dead;

/// Folder of all workspaces that are given no other place, in the cache home.
pub const WORKSPACES: &str = "workspaces";
/// File of a run's record: which folder its workspace is.
pub const WORKSPACE_ID: &str = "workspace.json";
/// Folder of the homes of agents, one for each stage.
pub(super) const AGENT_HOMES: &str = "agent";
/// A removal ends by then: a folder that something fills for ever is named as what is left. A cold build of a large repository
/// takes a few seconds of it.
const REMOVED_WITHIN: Duration = Duration::from_secs(120);

/// A workspace that this process has locked.
#[derive(Debug)]
pub struct Workspace {
    path: Utf8PathBuf,
    run: String,
    folder: OwnedFd,
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
                    workspace.end_loans(path)?;
                    workspace.empty(&[MARKER, LOCK]).map_err(|remains| {
                        let what = "what is in the workspace cannot be removed";
                        let failure = Failure::new(ExitCode::PrerequisiteMissing, "workspace", what);
                        remains.tell(failure, "the same command again")
                    })?;
                }
            }
            Marker::write(path, workspace.folder.as_fd(), run)?;
            return Ok(Self { run: run.to_owned(), ..workspace });
        }
        Self::make(path, run)
    }

    /// Locked and marked under a name that only a workspace in the making has, then renamed: at no moment is there a folder
    /// of which it could not be told whose it is.
    fn make(path: &Utf8Path, run: &str) -> Result<Self, Failure> {
        let fail = |error: &io::Error| failed("the workspace cannot be made", path, error);
        let unfinished = unfinished(path);
        // Not with its parents: what we do not make we do not have to remove.
        let made = fs::DirBuilder::new().mode(0o700).create(&unfinished);
        made.map_err(|error| failed("the workspace cannot be made", &unfinished, &error))?;
        let folder = open_folder(&unfinished).map_err(|error| fail(&error))?;
        let made = lock(&unfinished, folder.as_fd()).and_then(|lock| {
            Marker::write(&unfinished, folder.as_fd(), run)?;
            let renamed = renameat_with(CWD, unfinished.as_str(), CWD, path.as_str(), RenameFlags::NOREPLACE);
            renamed.map_err(|error| fail(&error.into()))?;
            Ok(lock)
        });
        match made {
            Ok(lock) => Ok(Self { path: path.to_owned(), run: run.to_owned(), folder, _lock: lock }),
            Err(failure) => {
                remove_unfinished(&unfinished).ok();
                Err(failure)
            }
        }
    }

    /// Removes what a run that was killed has left of its workspace, finished or not, and gives its path. One that another process
    /// is making just now is left to that. `workspaces` is the folder of all of them, for one that was renamed.
    ///
    /// # Errors
    /// Exit 34 or 40, as for [`Workspace::open`] and [`Workspace::remove`].
    pub fn clear(dead: &Dead, workspaces: &Utf8Path) -> Result<Option<Utf8PathBuf>, Failure> {
        let Some(path) = &dead.workspace else { return Ok(None) };
        let unfinished = unfinished(path);
        if let Ok(folder) = open_folder(&unfinished) {
            match lock(&unfinished, folder.as_fd()) {
                Ok(_lock) => remove_unfinished(&unfinished).map_err(|error| {
                    failed("the unfinished workspace cannot be removed", &unfinished, &error)
                })?,
                Err(failure) if failure.kind == "workspace-in-use" => {}
                Err(failure) => return Err(failure),
            }
        }
        let Some(workspace) = Self::find(&dead.run, dead.folder, path, workspaces)? else { return Ok(None) };
        let path = workspace.path.clone();
        workspace.remove().map(|()| Some(path))
    }

    /// The workspace of an earlier run, where it was made or where it was moved to: beside that place, or anywhere below
    /// `workspaces`. `made` is the folder that the run made, if that is known.
    ///
    /// # Errors
    /// Exit 40, as for [`Workspace::open`].
    pub fn find(
        run: &str,
        made: Option<LastingId>,
        path: &Utf8Path,
        workspaces: &Utf8Path,
    ) -> Result<Option<Self>, Failure> {
        let there = open_folder(path).is_ok_and(|folder| {
            let is_made = made.is_none_or(|made| about(&folder).is_ok_and(|found| found.lasting == made));
            is_made && Marker::of(folder.as_fd()).is_ok_and(|marker| marker.run == run)
        });
        if there {
            return Self::open(path).map(Some);
        }
        lost::find(run, made, path, workspaces).map(|found| Self::open(&found)).transpose()
    }

    /// Opens the workspace of an earlier run.
    ///
    /// # Errors
    /// Exit 40: `workspace-gone`, `workspace-not-ours`, `workspace-in-use`.
    pub fn open(path: &Utf8Path) -> Result<Self, Failure> {
        path.symlink_metadata().map_err(|error| {
            Failure::new(
                ExitCode::PrerequisiteMissing,
                "workspace-gone",
                "the run's workspace is not there any more",
            )
            .on(path.to_string())
            .because(error.to_string())
            .hint("start a new run, with --keep always if you want to resume it: cargo xtask smoke")
        })?;
        let opened = open_folder(path).map_err(|error| error.to_string());
        let known = opened.and_then(|folder| Ok((Marker::of(folder.as_fd())?, folder)));
        let (marker, folder) = known.map_err(|why| {
            Failure::new(
                ExitCode::PrerequisiteMissing,
                "workspace-not-ours",
                "that folder is not a workspace of ours",
            )
            .on(path.to_string())
            .because(why)
            .hint("name a folder that does not exist yet: --workspace PATH")
        })?;
        let lock = lock(path, folder.as_fd())?;
        Ok(Self { path: path.to_owned(), run: marker.run, folder, _lock: lock })
    }

    /// Its folder.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// What tells its folder from every other one.
    ///
    /// # Errors
    /// Exit 40, `workspace`.
    pub fn id(&self) -> Result<LastingId, Failure> {
        let found = about(&self.folder);
        found
            .map(|about| about.lasting)
            .map_err(|error| failed("the workspace cannot be told from another", &self.path, &error.into()))
    }

    /// Makes a folder in it, and gives its path. A symlink that a server has put in its place is refused.
    ///
    /// # Errors
    /// Exit 40, `workspace`.
    pub fn folder(&self, name: &str) -> Result<Utf8PathBuf, Failure> {
        let path = self.path.join(name);
        let made = match mkdirat(&self.folder, name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => open_folder(&path).map(drop),
            Err(error) => Err(error.into()),
        };
        made.map_err(|error| failed("a folder of the workspace cannot be made", &path, &error))?;
        Ok(path)
    }

    /// Removes it, marker last: a removal that is cut short leaves a folder that is still known to be ours. One that was renamed
    /// is removed where it is.
    ///
    /// # Errors
    /// Exit 34, `workspace-survived`, with what is left; 10, `agent-home`: it holds credentials that their user may need.
    pub fn remove(self) -> Result<(), Failure> {
        let again = format!("cargo xtask runs stop {}", self.run);
        self.remove_or(&again)
    }

    /// The same for one whose run has no record. `then` is what its user does when nothing is in the way any more.
    ///
    /// # Errors
    /// As [`Workspace::remove`].
    pub fn remove_or(self, then: &str) -> Result<(), Failure> {
        let survived = |remains: &Remains| {
            let what = "the workspace cannot be removed";
            remains.tell(Failure::new(ExitCode::Survivor, "workspace-survived", what), then)
        };
        let found = self.whereabouts().map_err(|error| {
            Failure::new(
                ExitCode::Survivor,
                "workspace-survived",
                "the workspace was moved, and is not found",
            )
            .on(self.path.to_string())
            .because(error.to_string())
            .hint(format!("find it by its {MARKER}, which names the run {}; then: {then}", self.run))
        })?;
        self.end_loans(&found)?;
        let gone = self.empty(&[MARKER, LOCK]).and_then(|()| self.empty(&[])).and_then(|()| {
            let (parent, name) = split(&found).map_err(|error| Remains::of_path(&found, error))?;
            let id = about(&self.folder).map_err(|error| Remains::of_path(&found, error.into()))?.id;
            remove_empty(parent.as_fd(), &name, id, found.as_str())
        });
        gone.map_err(|remains| survived(&remains))
    }

    /// Where it is now: where it was made, or what the kernel knows of the open folder.
    fn whereabouts(&self) -> io::Result<Utf8PathBuf> {
        let id = about(&self.folder)?.id;
        let is_at = |path: &Utf8Path| open_folder(path).and_then(|folder| Ok(about(folder)?.id == id));
        if is_at(&self.path).unwrap_or(false) {
            return Ok(self.path.clone());
        }
        let moved = Utf8PathBuf::try_from(path_of(&self.folder)?).map_err(io::Error::other)?;
        if is_at(&moved)? { Ok(moved) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Gives back what is still lent to agents: of a run that was killed, no other process does.
    fn end_loans(&self, path: &Utf8Path) -> Result<(), Failure> {
        AgentHome::reclaim_all(&path.join(AGENT_HOMES))?.into_iter().try_for_each(AgentHome::give_back)
    }

    fn empty(&self, spared: &[&str]) -> Result<(), Remains> {
        let deadline = Deadline::after(REMOVED_WITHIN);
        empty_tree(self.folder.as_fd(), self.path.as_str(), spared, deadline)
    }
}

/// What it is called while it is made.
fn unfinished(path: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}.stelae-unfinished"))
}

/// Removes one that was never finished: there is nothing in it but a lock and a marker, perhaps in the making. A folder with more
/// in it is not one, and stays.
fn remove_unfinished(path: &Utf8Path) -> io::Result<()> {
    for entry in path.read_dir_utf8()? {
        let entry = entry?;
        if [MARKER, LOCK].iter().any(|name| entry.file_name().trim_start_matches('.').starts_with(&name[1..]))
        {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn failed(what: &str, path: &Utf8Path, error: &io::Error) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "workspace", what)
        .on(path.to_string())
        .because(error.to_string())
        .hint("make room, or name another folder: --workspace PATH")
}

#[cfg(test)]
mod tests;
