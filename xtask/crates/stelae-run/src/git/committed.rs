//! Files of one commit, read from git and not from the work tree: what describes a run is what is committed.

use std::collections::BTreeMap;

use camino::Utf8Path;
use stelae_model::{ExitCode, Failure};

use super::Git;
use crate::process::Limits;
use crate::record::Recorder;

/// More than any description has. A larger one is refused, and not read.
const MOST_BYTES: u64 = 1024 * 1024;

/// Some files of one commit.
#[derive(Clone, Debug)]
pub struct Committed {
    commit: String,
    files: BTreeMap<String, Result<String, Refused>>,
}

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    suffix: &'static str,
    what: &'static str,
    why: String,
    hint: String,
}

/// What a commit has under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: String,
    id: String,
    size: u64,
}

impl Git {
    /// Reads files of a commit. A file that is not there, or that is no plain text, is an error only when it is asked for.
    ///
    /// # Errors
    /// What git says; exit 10, `output-unreadable`, when the objects are not what git said that they are.
    pub fn committed(
        &self,
        cwd: &Utf8Path,
        commit: &str,
        paths: &[&str],
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Committed, Failure> {
        let mut asked = vec!["ls-tree", "-z", "-l", "--full-tree", commit, "--"];
        // A path that leads through something that is no folder has no entry; its first part tells why.
        asked.extend(paths.iter().flat_map(|path| [*path, first_part(path)]));
        let listed = self.run_bytes(cwd, &asked, limits, recorder)?;
        let entries = parse_entries(&listed);
        let wanted: Vec<_> =
            paths.iter().filter_map(|&path| Some((path, readable(entries.get(path)?).ok()?))).collect();
        let mut texts = BTreeMap::new();
        if !wanted.is_empty() {
            let mut show = vec!["show", "--no-textconv", "--format="];
            show.extend(wanted.iter().map(|(_, entry)| entry.id.as_str()));
            let mut bytes = self.run_bytes(cwd, &show, limits, recorder)?;
            for (path, entry) in &wanted {
                let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
                if bytes.len() < size {
                    return Err(torn(commit));
                }
                let rest = bytes.split_off(size);
                texts.insert(*path, std::mem::replace(&mut bytes, rest));
            }
            if !bytes.is_empty() {
                return Err(torn(commit));
            }
        }
        let read = |path: &&str| match texts.get(path) {
            Some(bytes) => text(bytes),
            None => Err(refused(path, &entries)),
        };
        let files = paths.iter().map(|path| ((*path).to_owned(), read(path))).collect();
        Ok(Committed { commit: commit.to_owned(), files })
    }
}

impl Committed {
    /// The text of a file. `what` is how messages call it, `kind` the start of the failure's kind.
    ///
    /// # Errors
    /// Exit 20: `<kind>-missing`, `<kind>-unreadable` (a symbolic link, a folder, an executable or a huge file),
    /// `<kind>-not-utf8`.
    pub fn text(&self, path: &str, kind: &str, what: &str) -> Result<&str, Failure> {
        let missing = || Refused::missing(path);
        let refused = match self.files.get(path) {
            Some(Ok(text)) => return Ok(text),
            Some(Err(refused)) => refused.clone(),
            None => missing(),
        };
        let kind = format!("{kind}-{}", refused.suffix);
        let failure = Failure::new(ExitCode::Environment, &kind, format!("{what} {}", refused.what));
        Err(failure.on(self.place(path)).because(refused.why).hint(refused.hint))
    }

    /// The text of a file, if the commit has it and it can be read.
    pub fn find(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_ref().ok().map(String::as_str)
    }

    /// How messages name a file of it: as git does, so that `git show` takes it.
    pub fn place(&self, path: &str) -> String {
        format!("{}:{path}", self.commit.get(..12).unwrap_or(&self.commit))
    }
}

fn first_part(path: &str) -> &str {
    path.split_once('/').map_or(path, |(first, _)| first)
}

/// `<mode> <type> <id> <size>\t<path>`, each ended by a NUL.
fn parse_entries(listed: &[u8]) -> BTreeMap<String, Entry> {
    let entry = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?;
        let (meta, path) = line.split_once('\t')?;
        let mut words = meta.split_ascii_whitespace();
        let (mode, _type, id, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let size = size.parse().unwrap_or(0);
        Some((path.to_owned(), Entry { mode: mode.to_owned(), id: id.to_owned(), size }))
    };
    listed.split(|&byte| byte == 0).filter_map(entry).collect()
}

fn readable(entry: &Entry) -> Result<&Entry, ()> {
    if entry.mode == "100644" && entry.size <= MOST_BYTES { Ok(entry) } else { Err(()) }
}

impl Refused {
    fn missing(path: &str) -> Self {
        Self {
            suffix: "missing",
            what: "is not in the commit that is cloned",
            why: "the commit has no such file".to_owned(),
            hint: format!("commit it, as a run sees only what is committed: git add {path}"),
        }
    }

    fn unreadable(why: String, hint: String) -> Self {
        Self { suffix: "unreadable", what: "cannot be read from the commit that is cloned", why, hint }
    }
}

/// Why a path was not read.
fn refused(path: &str, entries: &BTreeMap<String, Entry>) -> Refused {
    let replace = |path: &str| format!("put a plain file in its place, and commit that: git add {path}");
    let first = first_part(path);
    let Some(entry) = entries.get(path) else {
        return match entries.get(first).map(|entry| entry.mode.as_str()) {
            Some("120000") if first != path => Refused::unreadable(
                format!("{first} is a symbolic link in the commit, and none is followed"),
                replace(path),
            ),
            Some("160000") if first != path => {
                Refused::unreadable(format!("{first} is a submodule"), replace(path))
            }
            _ => Refused::missing(path),
        };
    };
    match entry.mode.as_str() {
        "120000" => {
            Refused::unreadable("it is a symbolic link, and none is followed".to_owned(), replace(path))
        }
        "040000" => Refused::unreadable("it is a folder".to_owned(), replace(path)),
        "160000" => Refused::unreadable("it is a submodule".to_owned(), replace(path)),
        "100755" => Refused::unreadable(
            "it is marked as executable, and is a description".to_owned(),
            format!("git update-index --chmod=-x {path} && git commit"),
        ),
        mode if entry.size <= MOST_BYTES => Refused::unreadable(format!("its mode is {mode}"), replace(path)),
        _ => Refused::unreadable(
            format!("it has {} bytes, and at most {MOST_BYTES} are read", entry.size),
            "move what is no description out of it, and commit that".to_owned(),
        ),
    }
}

fn text(bytes: &[u8]) -> Result<String, Refused> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let at = error.valid_up_to();
        let line = bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        Refused {
            suffix: "not-utf8",
            what: "is not UTF-8 in the commit that is cloned",
            why: format!("byte {at}, on line {line}, is no character"),
            hint: "save it as UTF-8, and commit that".to_owned(),
        }
    })
}

fn torn(commit: &str) -> Failure {
    let what = "git gives other contents than it has listed";
    Failure::new(ExitCode::StepFailed, "output-unreadable", what)
        .on(commit.to_owned())
        .hint("look at the repository: git fsck")
}
