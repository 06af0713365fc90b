//! The content of an installation: every file and link of its folder, with a digest of each and one of all.
//!
//! It is taken down when the installation is made, and compared before each use. A file whose identity is the same has the
//! same content (see `crate::sealed`), so that a comparison costs a look at each file, and no reading.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use stelae_model::starts::FileIdentity;
use stelae_model::value::full_digest;

use super::shelf::RECORD;
use crate::files::{limits, read_untrusted_json, replace_json};
use crate::process::tree::identity_of;
use crate::sealed::digest;

/// More entries than any tool has.
const MOST_ENTRIES: usize = 500_000;
/// Files are read by so many threads.
const READERS: usize = 4;

/// Everything in an installation, by its path there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    entries: BTreeMap<Utf8PathBuf, Entry>,
}

/// One file or link. Folders stand for nothing: what is in them does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "is", rename_all = "kebab-case")]
enum Entry {
    /// A regular file.
    File {
        sha256: String,
        /// Its owner may execute it.
        executable: bool,
        identity: Option<FileIdentity>,
    },
    /// A symbolic link.
    Link { to: Utf8PathBuf },
}

/// What is in a folder, before it is read.
enum Found {
    File { executable: bool, identity: FileIdentity },
    Link(Utf8PathBuf),
}

impl Content {
    /// What a folder has now. Files that `known` has with the same identity are not read.
    ///
    /// # Errors
    /// What the system says; an entry is neither file nor folder nor link, or its name is not UTF-8.
    pub(super) fn of(folder: &Utf8Path, known: &Self) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        walk(folder, Utf8Path::new(""), &mut found)?;
        let mut entries = BTreeMap::new();
        let mut to_read = Vec::new();
        for (path, found) in found {
            match found {
                Found::Link(to) => drop(entries.insert(path, Entry::Link { to })),
                Found::File { executable, identity } => match known.entries.get(&path) {
                    Some(Entry::File { sha256, identity: Some(was), .. }) if *was == identity => {
                        let (sha256, identity) = (sha256.clone(), Some(identity));
                        entries.insert(path, Entry::File { sha256, executable, identity });
                    }
                    _ => to_read.push((path, executable)),
                },
            }
        }
        entries.extend(read_all(folder, &to_read)?);
        Ok(Self { entries })
    }

    /// Whether it is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One digest of all: of names, of what executes, of contents, of where links lead.
    pub(super) fn digest(&self) -> String {
        let line = |(path, entry): (&Utf8PathBuf, &Entry)| match entry {
            Entry::File { sha256, executable, .. } => {
                format!("{path}\0{}\0{sha256}\n", if *executable { "program" } else { "file" })
            }
            Entry::Link { to } => format!("{path}\0link\0{to}\n"),
        };
        format!("sha256:{}", full_digest(&self.entries.iter().map(line).collect::<String>()))
    }

    /// The first entry that is not the same here and there, and how; nothing when all are.
    pub(super) fn difference(&self, now: &Self) -> Option<String> {
        let names = self.entries.keys().chain(now.entries.keys());
        names.min_by_key(|name| (self.is_same(now, name), (*name).clone())).and_then(|name| {
            let is = |of: &Self| match of.entries.get(name) {
                None => "not there".to_owned(),
                Some(Entry::File { sha256, executable: true, .. }) => format!("a program, sha256 {sha256}"),
                Some(Entry::File { sha256, .. }) => format!("a file, sha256 {sha256}"),
                Some(Entry::Link { to }) => format!("a link to {to}"),
            };
            (!self.is_same(now, name)).then(|| format!("{name} was {}, and is {}", is(self), is(now)))
        })
    }

    fn is_same(&self, now: &Self, name: &Utf8Path) -> bool {
        match (self.entries.get(name), now.entries.get(name)) {
            (
                Some(Entry::File { sha256: was, executable: ran, .. }),
                Some(Entry::File { sha256, executable, .. }),
            ) => (was, ran) == (sha256, executable),
            (was, is) => was == is,
        }
    }

    /// What was found at the last comparison, as it was kept; nothing if that cannot be read: then every file is.
    pub(super) fn kept(path: &Utf8Path) -> Self {
        read_untrusted_json(path, limits::TOOL_FILE).unwrap_or_default()
    }

    /// Keeps it for the next comparison.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn keep(&self, path: &Utf8Path) -> io::Result<()> {
        replace_json(path, self)
    }
}

/// Everything below `at`, which is a path in `folder`.
fn walk(folder: &Utf8Path, at: &Utf8Path, found: &mut BTreeMap<Utf8PathBuf, Found>) -> io::Result<()> {
    let here = folder.join(at);
    for entry in here.read_dir_utf8()? {
        let entry = entry?;
        let path = at.join(entry.file_name());
        let metadata = entry.path().symlink_metadata()?;
        if metadata.is_dir() {
            walk(folder, &path, found)?;
        } else if metadata.is_symlink() {
            found.insert(path, Found::Link(entry.path().read_link_utf8()?));
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            // It says what it was made from, and what this digest was.
            if path != RECORD {
                found.insert(path, Found::File { executable, identity: identity_of(&metadata) });
            }
        } else {
            return Err(io::Error::other(format!("{path} is neither a file nor a folder nor a link")));
        }
        if found.len() > MOST_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MOST_ENTRIES} files")));
        }
    }
    Ok(())
}

/// Reads all of them, several at once.
fn read_all(folder: &Utf8Path, files: &[(Utf8PathBuf, bool)]) -> io::Result<BTreeMap<Utf8PathBuf, Entry>> {
    let (next, entries) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let read = || -> io::Result<()> {
        while let Some((path, executable)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (sha256, identity) = digest(&folder.join(path))
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            let entry = Entry::File { sha256, executable: *executable, identity };
            entries.lock().map_err(|_| io::Error::other("a reader panicked"))?.insert(path.clone(), entry);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS.min(files.len())).map(|_| scope.spawn(read)).collect();
        readers.into_iter().try_for_each(|reader| {
            reader.join().unwrap_or_else(|_| Err(io::Error::other("a reader panicked")))
        })
    })?;
    entries.into_inner().map_err(|_| io::Error::other("a reader panicked"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        fs::create_dir_all(path.join("lib/deep")).unwrap();
        fs::write(path.join("lib/deep/a.js"), "a").unwrap();
        fs::write(path.join("program"), "p").unwrap();
        fs::set_permissions(path.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("program", path.join("link")).unwrap();
        fs::write(path.join(RECORD), "{}").unwrap();
        (guard, path)
    }

    #[test]
    fn every_change_of_a_folder_is_found_and_named() {
        type Change = fn(&Utf8Path);
        let changes: [(&str, Change); 8] = [
            ("lib/deep/a.js was a file", |path| fs::write(path.join("lib/deep/a.js"), "b").unwrap()),
            ("lib/new.js was not there", |path| fs::write(path.join("lib/new.js"), "").unwrap()),
            ("program was a program", |path| fs::remove_file(path.join("program")).unwrap()),
            ("program was a program", |path| {
                fs::set_permissions(path.join("program"), fs::Permissions::from_mode(0o644)).unwrap();
            }),
            ("link was a link to program", |path| {
                fs::remove_file(path.join("link")).unwrap();
                symlink("lib", path.join("link")).unwrap();
            }),
            ("program was a program", |path| {
                fs::rename(path.join("program"), path.join("lib/program")).unwrap();
                symlink("lib/program", path.join("program")).unwrap();
            }),
            ("lib/deep/a.js was a file", |path| fs::rename(path.join("lib"), path.join("library")).unwrap()),
            ("lib/link was not there", |path| symlink("..", path.join("lib/link")).unwrap()),
        ];
        for (said, change) in changes {
            let (_guard, path) = folder();
            let was = Content::of(&path, &Content::default()).unwrap();
            assert_eq!(Content::of(&path, &was).unwrap(), was);
            assert_eq!(was.difference(&was), None);
            change(&path);
            let is = Content::of(&path, &was).unwrap();
            assert_ne!(is.digest(), was.digest(), "{said}");
            let difference = was.difference(&is).unwrap();
            assert!(difference.contains(said) || said.starts_with("program"), "{difference}");
        }
    }

    #[test]
    fn what_is_known_is_not_read_and_what_was_touched_is() {
        let (_guard, path) = folder();
        let was = Content::of(&path, &Content::default()).unwrap();
        let mut poisoned = was.clone();
        let Some(Entry::File { sha256, .. }) = poisoned.entries.get_mut(Utf8Path::new("program")) else {
            panic!("no program")
        };
        "known".clone_into(sha256);
        assert_ne!(Content::of(&path, &poisoned).unwrap(), was);
        let file = fs::File::options().write(true).open(path.join("program")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(Content::of(&path, &poisoned).unwrap().digest(), was.digest());
    }

    #[test]
    fn the_record_of_an_installation_is_not_part_of_it_and_its_place_does_not_count() {
        let (_guard, path) = folder();
        let was = Content::of(&path, &Content::default()).unwrap();
        fs::write(path.join(RECORD), "other").unwrap();
        assert_eq!(Content::of(&path, &was).unwrap(), was);
        let elsewhere = path.with_extension("moved");
        fs::rename(&path, &elsewhere).unwrap();
        let moved = Content::of(&elsewhere, &was).unwrap();
        assert_eq!(moved.digest(), was.digest());
        fs::rename(&elsewhere, &path).unwrap();
    }

    #[test]
    fn a_pipe_is_no_part_of_any_installation_and_is_not_waited_for() {
        let (_guard, path) = folder();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let pipe = path.join("lib/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, pipe.as_str(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(Content::of(&path, &Content::default()).unwrap_err().to_string().contains("lib/pipe"));
    }
}
