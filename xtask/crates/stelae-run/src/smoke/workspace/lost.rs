//! Finds a workspace that is not where it was made: a server can rename it.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::marker::Marker;
use crate::deadline::Deadline;
use crate::files::{LastingId, about, open_folder};

/// A search that takes longer finds nothing more.
const AT_MOST: Duration = Duration::from_secs(5);
/// So many folders are looked into.
const MOST_FOLDERS: usize = 20_000;

/// The folder that a run of this id has marked, beside `path` or anywhere below `workspaces`: the very one, and not a copy.
pub(super) fn find(
    run: &str,
    made: Option<LastingId>,
    path: &Utf8Path,
    workspaces: &Utf8Path,
) -> Option<Utf8PathBuf> {
    let is_it = |path: &Utf8Path| {
        let Ok(folder) = open_folder(path) else { return false };
        let folder = std::os::fd::AsFd::as_fd(&folder);
        let known = |made| about(folder).is_ok_and(|found| found.lasting == made);
        // A marker without its folder's id proves nothing of a folder that is not where it was made.
        Marker::of(folder).is_ok_and(|marker| marker.run == run && marker.names_folder())
            && made.is_none_or(known)
    };
    let deadline = Deadline::after(AT_MOST);
    let beside = path.parent().into_iter().flat_map(folders_in);
    if let Some(found) = beside.take(MOST_FOLDERS).find(|path| is_it(path)) {
        return Some(found);
    }
    let mut waiting = vec![workspaces.to_owned()];
    let mut looked = 0;
    while let Some(folder) = waiting.pop() {
        for path in folders_in(&folder) {
            looked += 1;
            if looked > MOST_FOLDERS || deadline.passed() {
                return None;
            }
            if is_it(&path) {
                return Some(path);
            }
            waiting.push(path);
        }
    }
    None
}

/// The folders in a folder; symlinks are none.
fn folders_in(folder: &Utf8Path) -> impl Iterator<Item = Utf8PathBuf> + use<> {
    let entries = folder.read_dir_utf8().into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(camino::Utf8DirEntry::into_path)
}
