//! Replaces a folder as a whole: a complete copy beside it, then one atomic exchange.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use stelae_model::bundle::Folder;

use super::installed::{RECORD, SERVERS};
use crate::files::{create_private, create_private_dirs, discard, sync_dir};

/// A bundle's folder and the names that its changes use beside it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    dir: Utf8PathBuf,
    bundle: String,
}

/// The next content of a folder, complete on disk.
#[derive(Debug)]
pub(super) struct Stage {
    place: Place,
    /// Nothing is left to be installed: the folder goes.
    empty: bool,
}

/// A change that is visible, and can still be taken back.
#[derive(Debug)]
pub(super) struct Committed {
    place: Place,
    /// Where the content from before is, if there was any.
    before: Option<Utf8PathBuf>,
}

impl Place {
    pub(super) fn new(dir: &Utf8Path, bundle: &str) -> Self {
        Self { dir: dir.to_owned(), bundle: bundle.to_owned() }
    }

    pub(super) fn target(&self) -> Utf8PathBuf {
        self.dir.join(&self.bundle)
    }

    fn beside(&self, what: &str) -> Utf8PathBuf {
        self.dir.join(format!(".{what}-{}", self.bundle))
    }

    /// Writes the next content beside the folder; `on_server` is called after each descriptor.
    pub(super) fn stage(&self, after: &Folder, on_server: &mut dyn FnMut(&str)) -> io::Result<Stage> {
        let stage = self.beside("stage");
        let result = self.fill(&stage, after, on_server);
        if result.is_err() {
            // What cannot be removed now is removed by the next change.
            discard(&stage).ok();
        }
        result.map(|()| Stage { place: self.clone(), empty: after.is_empty() })
    }

    fn fill(&self, stage: &Utf8Path, after: &Folder, on_server: &mut dyn FnMut(&str)) -> io::Result<()> {
        if after.is_empty() {
            return Ok(());
        }
        create_private_dirs(stage)?;
        let servers = stage.join(SERVERS);
        create_private_dirs(&servers)?;
        for (name, bytes) in &after.servers {
            create_private(&servers.join(format!("{name}.toml")), bytes)?;
            on_server(name);
        }
        for (relative, bytes) in &after.foreign {
            let path = stage.join(relative);
            create_private_dirs(path.parent().unwrap_or(stage))?;
            create_private(&path, bytes)?;
        }
        if let Some(record) = &after.record {
            let text = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
            create_private(&stage.join(RECORD), (text + "\n").as_bytes())?;
        }
        sync_dir(&servers)?;
        sync_dir(stage)
    }
}

impl Stage {
    /// Makes the staged content the folder's.
    pub(super) fn commit(self) -> io::Result<Committed> {
        let Self { place, empty } = self;
        let (stage, target) = (place.beside("stage"), place.target());
        let before = match (target.exists(), empty) {
            (false, true) => None,
            (false, false) => {
                fs::rename(&stage, &target)?;
                None
            }
            (true, true) => {
                let gone = place.beside("gone");
                fs::rename(&target, &gone)?;
                Some(gone)
            }
            (true, false) => Some(exchange(&place)?),
        };
        sync_dir(&place.dir)?;
        Ok(Committed { place, before })
    }

    /// Drops the staged content.
    pub(super) fn discard(self) -> io::Result<()> {
        discard(&self.place.beside("stage"))
    }
}

/// Exchanges folder and stage; the answer is where the old content is now.
fn exchange(place: &Place) -> io::Result<Utf8PathBuf> {
    let (stage, target) = (place.beside("stage"), place.target());
    if swap(&stage, &target)? { Ok(stage) } else { dance(place) }
}

/// One atomic exchange of two folders; `false` if the file system cannot do that.
fn swap(one: &Utf8Path, other: &Utf8Path) -> io::Result<bool> {
    match renameat_with(CWD, one.as_std_path(), CWD, other.as_std_path(), RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Between the two renames there is no folder; `recover` puts that right if it stays so.
fn dance(place: &Place) -> io::Result<Utf8PathBuf> {
    let (stage, target, old) = (place.beside("stage"), place.target(), place.beside("old"));
    fs::rename(&target, &old)?;
    if let Err(error) = fs::rename(&stage, &target) {
        fs::rename(&old, &target)?;
        return Err(error);
    }
    Ok(old)
}

impl Committed {
    /// Deletes the content from before. The change has happened, so a failure to do this is none of it: what cannot
    /// be removed now is removed by the next change.
    pub(super) fn finish(self) {
        self.before.as_deref().map(discard).transpose().ok();
    }

    /// Puts the content from before back.
    pub(super) fn undo(self) -> io::Result<()> {
        let (target, gone) = (self.place.target(), self.place.beside("gone"));
        match &self.before {
            // A removal: nothing is in the way.
            Some(before) if !target.exists() => fs::rename(before, &target)?,
            Some(before) => {
                if !swap(before, &target)? {
                    // Then `before` is what the dance calls old, and safe with `recover` at each moment.
                    fs::rename(&target, &gone)?;
                    fs::rename(before, &target)?;
                }
                discard(before)?;
            }
            None if target.exists() => fs::rename(&target, &gone)?,
            None => {}
        }
        discard(&gone)?;
        sync_dir(&self.place.dir)
    }
}

/// Puts right what changes that died have left in the folder of bundles. Only for who holds the lock: then every
/// leftover is a dead one's.
pub(super) fn recover(dir: &Utf8Path) -> io::Result<()> {
    for entry in dir.read_dir_utf8()? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(bundle) = name.strip_prefix(".old-") {
            // Died between the two renames: the old content is the only complete one that was ever visible.
            let target = dir.join(bundle);
            if target.exists() {
                discard(entry.path())?;
            } else {
                fs::rename(entry.path(), target)?;
            }
        } else if [".stage-", ".gone-"].iter().any(|prefix| name.starts_with(prefix)) {
            discard(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `core/mark` that says `old`, and a stage that says `new`.
    fn staged() -> (tempfile::TempDir, Place) {
        let guard = tempfile::tempdir().unwrap();
        let place = Place::new(Utf8Path::from_path(guard.path()).unwrap(), "core");
        for (path, text) in [(place.target(), "old"), (place.beside("stage"), "new")] {
            create_private_dirs(&path).unwrap();
            fs::write(path.join("mark"), text).unwrap();
        }
        (guard, place)
    }

    fn mark(place: &Place) -> String {
        fs::read_to_string(place.target().join("mark")).unwrap()
    }

    fn leftovers(place: &Place) -> usize {
        place.dir.read_dir_utf8().unwrap().count() - 1
    }

    #[test]
    fn an_exchange_can_be_finished_or_undone() {
        let (_guard, place) = staged();
        let committed = Stage { place: place.clone(), empty: false }.commit().unwrap();
        assert_eq!(mark(&place), "new");
        committed.finish();
        assert_eq!((mark(&place).as_str(), leftovers(&place)), ("new", 0));

        let (_guard, place) = staged();
        Stage { place: place.clone(), empty: false }.commit().unwrap().undo().unwrap();
        assert_eq!((mark(&place).as_str(), leftovers(&place)), ("old", 0));
    }

    /// The folder is never missing, not even for one who takes no lock: one rename, where the file system can do that.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_exchange_is_one_rename() {
        let (_guard, place) = staged();
        assert_eq!(exchange(&place).unwrap(), place.beside("stage"));
        assert_eq!(fs::read_to_string(place.beside("stage").join("mark")).unwrap(), "old");
    }

    #[test]
    fn an_addition_and_a_removal_can_be_undone() {
        let (_guard, place) = staged();
        fs::remove_dir_all(place.target()).unwrap();
        Stage { place: place.clone(), empty: false }.commit().unwrap().undo().unwrap();
        assert_eq!(place.dir.read_dir_utf8().unwrap().count(), 0);

        let (_guard, place) = staged();
        fs::remove_dir_all(place.beside("stage")).unwrap();
        let committed = Stage { place: place.clone(), empty: true }.commit().unwrap();
        assert!(!place.target().exists());
        committed.undo().unwrap();
        assert_eq!((mark(&place).as_str(), leftovers(&place)), ("old", 0));
    }

    /// Where the file system cannot exchange: dead after each of the two renames.
    #[test]
    fn the_dance_is_recovered_from_wherever_it_died() {
        let (_guard, place) = staged();
        fs::rename(place.target(), place.beside("old")).unwrap();
        recover(&place.dir).unwrap();
        assert_eq!((mark(&place).as_str(), leftovers(&place)), ("old", 0));

        let (_guard, place) = staged();
        let old = dance(&place).unwrap();
        assert_eq!((mark(&place).as_str(), old.as_path()), ("new", place.beside("old").as_path()));
        recover(&place.dir).unwrap();
        assert_eq!((mark(&place).as_str(), leftovers(&place)), ("new", 0));
    }
}
