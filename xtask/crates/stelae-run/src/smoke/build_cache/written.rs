//! What a build has written into the sources: what is built from that is not what is committed, and the next clone lacks it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What a build cannot change without being seen: the time of the last change of an entry cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    mode: u32,
    /// Of folders, nothing but that they are there: what is in them is seen itself.
    content: Option<(u64, i64, i64, i64, i64)>,
}

/// The work tree of a clone, git's own folder left out.
#[derive(Debug)]
pub(crate) struct WorkTree {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Seen>,
}

impl WorkTree {
    /// Looks at every file, ignored ones too.
    ///
    /// # Errors
    /// What the system says, and on what.
    pub(crate) fn look(root: &Path) -> anyhow::Result<Self> {
        let mut entries = BTreeMap::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(folder) = todo.pop() {
            let path = root.join(&folder);
            for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                let entry = entry.with_context(|| path.display().to_string())?;
                let name = folder.join(entry.file_name());
                if name == Path::new(".git") {
                    continue;
                }
                // It may go while it is looked at, and then it is not there.
                let found = match entry.metadata() {
                    Ok(found) => found,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).with_context(|| name.display().to_string()),
                };
                if found.is_dir() {
                    todo.push(name.clone());
                }
                entries.insert(name, Seen::of(&found));
            }
        }
        Ok(Self { root: root.to_owned(), entries })
    }

    /// What is not as it was, each with what became of it: `src/gen.rs (added)`.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn written(&self) -> anyhow::Result<Vec<String>> {
        let now = Self::look(&self.root)?;
        let mut written = Vec::new();
        for (path, seen) in &self.entries {
            match now.entries.get(path) {
                None => written.push(format!("{} (removed)", path.display())),
                Some(other) if other != seen => written.push(format!("{} (changed)", path.display())),
                Some(_) => {}
            }
        }
        let added = now.entries.keys().filter(|path| !self.entries.contains_key(*path));
        written.extend(added.map(|path| format!("{} (added)", path.display())));
        Ok(written)
    }
}

impl Seen {
    fn of(entry: &fs::Metadata) -> Self {
        let content = (entry.size(), entry.mtime(), entry.mtime_nsec(), entry.ctime(), entry.ctime_nsec());
        Self { inode: entry.ino(), mode: entry.mode(), content: (!entry.is_dir()).then_some(content) }
    }
}
