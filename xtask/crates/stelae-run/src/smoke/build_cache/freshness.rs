//! Which files of a clone cargo has to take for changed: a decision about times, by content.
//!
//! Cargo compares file times. So a file gets the time at which its package last came to differ from the build before, as in a
//! work tree that is edited in place. Whatever was built earlier, with whatever compiler, flags and features, is older than
//! that, and is built again; whatever was built since is not.
//!
//! A package differs as a whole: a build script reads what it likes, a procedural macro too, and cargo is not told of it. It
//! differs when any entry below its folder was added, removed or changed (content, mode, target of a link), or one that
//! concerns every package. One with code that runs at build time differs with every commit: it may read the whole
//! repository, and ask git.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use toml::Table;

use crate::git::TreeEntry;

/// What cargo reads of a package.
const MANIFEST: &str = "Cargo.toml";
/// The least by which one time is later than another, whatever a file system makes of it.
const TICK_NS: u64 = 1_000_000;

/// What was last built, and since when it has been so. Names are escaped, as they need not be text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stamp {
    /// Nanoseconds since 1970: nothing of this cache is later. The clock of a machine may be set back.
    latest_ns: u64,
    packages: BTreeMap<String, Built>,
    outside: BTreeMap<String, Built>,
}

/// What something was when it was last built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Built {
    digest: String,
    since_ns: u64,
}

/// What a clone is built from, and when each of it came to be what it is.
#[derive(Debug)]
pub(super) struct Freshness {
    /// What to remember.
    pub(super) stamp: Stamp,
    /// The time of each entry and each folder, in nanoseconds since 1970.
    pub(super) times: BTreeMap<PathBuf, u64>,
    /// The packages that differ from what was last built, by folder.
    pub(super) changed: BTreeSet<PathBuf>,
    /// How many packages there are.
    pub(super) packages: usize,
    /// The names of those among the changed that run code at build time, whose leavings must not be seen by the next.
    pub(super) run_anew: BTreeSet<String>,
}

/// What a package's manifest says that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Package {
    name: Option<String>,
    runs_code: bool,
}

impl Stamp {
    /// That nothing of this cache is later than `now_ns`.
    pub(super) fn reach(&mut self, now_ns: u64) {
        self.latest_ns = self.latest_ns.max(now_ns);
    }

    /// The latest time of this cache.
    pub(super) fn latest_ns(&self) -> u64 {
        self.latest_ns
    }

    /// Whether nothing was built yet.
    pub(super) fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }
}

impl Freshness {
    /// Decides. `manifest` gives the text of a `Cargo.toml` of the tree. After a build that was killed (`cut_short`), what runs
    /// code is built anew.
    pub(super) fn decide(
        built: &Stamp,
        commit: &str,
        tree: &[TreeEntry],
        manifest: &dyn Fn(&Path) -> Option<String>,
        now_ns: u64,
        cut_short: bool,
    ) -> Self {
        let mut tree: Vec<&TreeEntry> = tree.iter().collect();
        tree.sort_by(|a, b| a.path.cmp(&b.path));
        let packages = packages(&tree, manifest);
        let now_ns = now_ns.max(built.latest_ns.saturating_add(TICK_NS));
        let since = |old: Option<&Built>, digest: &str| match old {
            Some(old) if old.digest == digest => old.since_ns,
            _ => now_ns,
        };
        let digests = digests(commit, &tree, &packages);
        let mut stamp = Stamp { latest_ns: now_ns, ..Stamp::default() };
        let mut changed = BTreeSet::new();
        for (folder, digest) in digests {
            let key = escaped(&folder);
            let runs_code = packages.get(&folder).is_some_and(|package| package.runs_code);
            let old = built.packages.get(&key).filter(|_| !(cut_short && runs_code));
            let since_ns = since(old, &digest);
            stamp.packages.insert(key, Built { digest, since_ns });
            if since_ns == now_ns {
                changed.insert(folder);
            }
        }
        let mut times = BTreeMap::new();
        for entry in &tree {
            let since_ns = match owner(&entry.path, &packages) {
                Some(folder) => stamp.packages.get(&escaped(folder)).map_or(now_ns, |built| built.since_ns),
                None => {
                    let key = escaped(&entry.path);
                    let since_ns = since(built.outside.get(&key), &entry.meta);
                    stamp.outside.insert(key, Built { digest: entry.meta.clone(), since_ns });
                    since_ns
                }
            };
            times.insert(entry.path.clone(), since_ns);
            // A folder is as late as what is latest in it: cargo looks at its time where a build script names it.
            for folder in entry.path.ancestors().skip(1) {
                let latest = times.entry(folder.to_owned()).or_insert(since_ns);
                *latest = (*latest).max(since_ns);
            }
        }
        let runs_code = changed.iter().filter_map(|folder| packages.get(folder));
        let run_anew =
            runs_code.filter(|package| package.runs_code).filter_map(|package| package.name.clone());
        let (run_anew, packages) = (run_anew.collect(), packages.len());
        Self { stamp, times, changed, packages, run_anew }
    }
}

/// The packages of a tree, by folder. A manifest that cannot be understood is one of a package that runs code.
fn packages(tree: &[&TreeEntry], manifest: &dyn Fn(&Path) -> Option<String>) -> BTreeMap<PathBuf, Package> {
    let paths: BTreeSet<&Path> = tree.iter().map(|entry| entry.path.as_path()).collect();
    let manifests = paths.iter().filter(|path| path.file_name().is_some_and(|name| name == MANIFEST));
    let package = |path: &&&Path| {
        let folder = path.parent()?;
        let has_script = paths.contains(folder.join("build.rs").as_path());
        Some((folder.to_owned(), read_package(manifest(path).as_deref(), has_script, folder)?))
    };
    manifests.filter_map(|path| package(&path)).collect()
}

/// What a manifest says; nothing if it is one of a workspace that has no package in its root.
fn read_package(text: Option<&str>, has_script: bool, folder: &Path) -> Option<Package> {
    let Some(table) = text.and_then(|text| text.parse::<Table>().ok()) else {
        return Some(Package { name: None, runs_code: true });
    };
    let Some(package) = table.get("package").and_then(toml::Value::as_table) else {
        let is_root = folder.as_os_str().is_empty();
        return (!is_root).then(Package::default);
    };
    let script = match package.get("build") {
        None => has_script,
        Some(toml::Value::Boolean(build)) => *build,
        Some(_) => true,
    };
    let lib = table.get("lib").and_then(toml::Value::as_table);
    let is = |key: &str| lib.and_then(|lib| lib.get(key)?.as_bool()) == Some(true);
    let runs_code = script || is("proc-macro") || is("proc_macro");
    Some(Package { name: package.get("name")?.as_str().map(str::to_owned), runs_code })
}

/// What each package consists of.
fn digests(
    commit: &str,
    tree: &[&TreeEntry],
    packages: &BTreeMap<PathBuf, Package>,
) -> BTreeMap<PathBuf, String> {
    let mut hashers: BTreeMap<&Path, Sha256> = BTreeMap::new();
    for (folder, package) in packages {
        let mut hasher = Sha256::new();
        if package.runs_code {
            hasher.update(commit);
        }
        hashers.insert(folder, hasher);
    }
    for entry in tree {
        let mut add = |folder: &Path| {
            if let Some(hasher) = hashers.get_mut(folder) {
                for part in [entry.path.as_os_str().as_bytes(), b"\0", entry.meta.as_bytes(), b"\0"] {
                    hasher.update(part);
                }
            }
        };
        if concerns_all(&entry.path) {
            packages.keys().for_each(|folder| add(folder));
        } else {
            // Also what is below a package of its own: a macro of the outer one may read it.
            entry.path.ancestors().skip(1).for_each(&mut add);
        }
    }
    let digest = |hasher: Sha256| hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hashers.into_iter().map(|(folder, hasher)| (folder.to_owned(), digest(hasher))).collect()
}

/// Whether something is cargo's for the whole workspace, or decides what git makes of contents.
fn concerns_all(path: &Path) -> bool {
    const IN_THE_ROOT: [&str; 4] = [MANIFEST, "Cargo.lock", "rust-toolchain", "rust-toolchain.toml"];
    IN_THE_ROOT.iter().any(|name| path == Path::new(name))
        || path.starts_with(".cargo")
        || path.file_name().is_some_and(|name| name == ".gitattributes")
}

/// The folder of the innermost package that a file is in.
fn owner<'a>(path: &Path, packages: &'a BTreeMap<PathBuf, Package>) -> Option<&'a PathBuf> {
    path.ancestors().skip(1).find_map(|folder| packages.get_key_value(folder)).map(|(folder, _)| folder)
}

fn escaped(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    /// A tree of plain files: path and content.
    fn tree(files: &[(&str, &str)]) -> Vec<TreeEntry> {
        let entry =
            |&(path, id): &(&str, &str)| TreeEntry { meta: format!("100644 blob {id}"), path: path.into() };
        files.iter().map(entry).collect()
    }

    fn manifest(path: &Path) -> Option<String> {
        let folder = path.parent()?.to_str()?;
        Some(match folder {
            "" => "[workspace]".to_owned(),
            "macro" => "[package]\nname = \"macro\"\n[lib]\nproc-macro = true".to_owned(),
            folder => format!("[package]\nname = \"{folder}\""),
        })
    }

    const FILES: [(&str, &str); 9] = [
        ("Cargo.toml", "1"),
        ("docs/page", "1"),
        ("a/Cargo.toml", "1"),
        ("a/src/lib.rs", "1"),
        ("a/inner/Cargo.toml", "1"),
        ("a/inner/src/lib.rs", "1"),
        ("b/Cargo.toml", "1"),
        ("b/build.rs", "1"),
        ("macro/Cargo.toml", "1"),
    ];

    fn changed_by(change: impl Fn(&mut Vec<TreeEntry>)) -> Vec<String> {
        let decide = |built: &Stamp, commit: &str, tree: &[TreeEntry], now| {
            Freshness::decide(built, commit, tree, &manifest, now, false)
        };
        let first = decide(&Stamp::default(), "first", &tree(&FILES), 1000);
        assert_eq!((first.changed.len(), first.packages), (4, 4));
        let again = decide(&first.stamp, "first", &tree(&FILES), 2000);
        assert!(again.changed.is_empty());
        assert_eq!(again.times, first.times);
        let mut changed = tree(&FILES);
        change(&mut changed);
        let next = decide(&again.stamp, "second", &changed, 3000);
        next.changed.iter().map(|folder| folder.display().to_string()).collect()
    }

    fn edit(path: &str) -> impl Fn(&mut Vec<TreeEntry>) + '_ {
        move |tree| {
            let entry = tree.iter_mut().find(|entry| entry.path == Path::new(path)).unwrap();
            entry.meta.push('x');
        }
    }

    /// What runs code at build time may ask git for the commit: it is built anew with each.
    #[test]
    fn a_difference_concerns_whom_it_can_reach() {
        assert_eq!(changed_by(|_| ()), ["b", "macro"]);
        assert_eq!(changed_by(edit("docs/page")), ["b", "macro"]);
        assert_eq!(changed_by(edit("a/src/lib.rs")), ["a", "b", "macro"]);
        assert_eq!(changed_by(edit("a/inner/src/lib.rs")), ["a", "a/inner", "b", "macro"]);
        assert_eq!(changed_by(edit("Cargo.toml")).len(), 4);
        for all in ["Cargo.lock", "rust-toolchain", ".cargo/config.toml", "docs/.gitattributes"] {
            assert_eq!(changed_by(|files| files.extend(tree(&[(all, "1")]))).len(), 4, "{all}");
        }
        let removed = changed_by(|tree| tree.retain(|entry| entry.path != Path::new("a/src/lib.rs")));
        assert_eq!(removed, ["a", "b", "macro"]);
        let mode = changed_by(|tree| tree[3].meta = tree[3].meta.replace("100644", "100755"));
        assert_eq!(mode, ["a", "b", "macro"]);
        let not_text = changed_by(|tree| {
            let path = Path::new("a").join(OsStr::from_bytes(b"\xff"));
            tree.push(TreeEntry { meta: "100644 blob 1".into(), path });
        });
        assert_eq!(not_text, ["a", "b", "macro"]);
    }

    #[test]
    fn what_differs_is_later_than_whatever_was_built_though_the_clock_is_set_back() {
        let mut stamp =
            Freshness::decide(&Stamp::default(), "c", &tree(&FILES), &manifest, 5_000_000, false).stamp;
        stamp.reach(9_000_000);
        let mut files = tree(&FILES);
        edit("a/src/lib.rs")(&mut files);
        let next = Freshness::decide(&stamp, "c", &files, &manifest, 10, false);
        assert!(next.times[Path::new("a/Cargo.toml")] > 9_000_000, "{:?}", next.times);
        assert_eq!(next.times[Path::new("a")], next.times[Path::new("a/src/lib.rs")]);
    }

    #[test]
    fn after_a_build_that_was_killed_what_runs_code_is_built_anew() {
        let stamp = Freshness::decide(&Stamp::default(), "c", &tree(&FILES), &manifest, 10, false).stamp;
        let next = Freshness::decide(&stamp, "c", &tree(&FILES), &manifest, 20, true);
        assert_eq!(next.changed, ["b", "macro"].map(PathBuf::from).into());
        assert_eq!(next.run_anew, ["b", "macro"].map(str::to_owned).into());
    }

    #[test]
    fn a_manifest_says_whether_its_package_runs_code() {
        let read =
            |text: &str, has_script| read_package(Some(text), has_script, Path::new("x")).unwrap().runs_code;
        assert!(read("[package]\nname = 'x'", true) && !read("[package]\nname = 'x'", false));
        assert!(!read("[package]\nname = 'x'\nbuild = false", true));
        assert!(read("[package]\nname = 'x'\nbuild = 'other.rs'", false));
        assert!(read("[package]\nname = 'x'\n[lib]\nproc-macro = true", false));
        assert!(read("what is this", false) && read_package(None, false, Path::new("")).unwrap().runs_code);
        assert_eq!(read_package(Some("[workspace]"), true, Path::new("")), None);
    }
}
