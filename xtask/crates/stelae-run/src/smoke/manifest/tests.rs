use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use camino::Utf8PathBuf;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};

use super::*;
use crate::files::test_folder;
use crate::signals::Interrupt;

/// A clone, as it was, and what is known of it.
struct Bench {
    _guard: tempfile::TempDir,
    folder: Utf8PathBuf,
    seen: Seen,
    was: Manifest,
}

fn plenty() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

fn run(
    folder: &Utf8Path,
    known: Option<&Manifest>,
    declared: &Declared,
    anew: bool,
    seen: &mut Seen,
) -> Result<Manifest, Stopped> {
    let interrupt = Interrupt::never();
    look("repo", folder, &Look { known, declared, anew, deadline: plenty(), interrupt: &interrupt }, seen)
}

impl Bench {
    fn new() -> Self {
        let (guard, path) = test_folder();
        let folder = path.join("repo");
        for sub in ["src", ".git/objects/info", ".git/objects/pack", ".git/refs/heads", ".git/info"] {
            fs::create_dir_all(folder.join(sub)).unwrap();
        }
        for file in
            ["README.md", "src/main.rs", ".gitignore", ".git/HEAD", ".git/config", ".git/refs/heads/main"]
        {
            fs::write(folder.join(file), file).unwrap();
        }
        symlink("README.md", folder.join("link")).unwrap();
        let mut seen = Seen::new();
        let was = run(&folder, None, &Declared::default(), false, &mut seen).unwrap();
        Self { _guard: guard, folder, seen, was }
    }

    fn differences(&mut self) -> Vec<String> {
        self.look(&Declared::default(), false)
    }

    fn look(&mut self, declared: &Declared, anew: bool) -> Vec<String> {
        let now = run(&self.folder, Some(&self.was), declared, anew, &mut self.seen).unwrap();
        summary(&compare(&self.was, &now), MOST_SHOWN)
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        self.folder.join(name)
    }
}

/// What is done to a clone, and what is said of it.
type Case = (&'static str, fn(&Bench), &'static [&'static str]);

const CASES: [Case; 24] = [
    ("nothing", |_| {}, &[]),
    (
        "other content of the same length",
        |bench| fs::write(bench.path("README.md"), "readme.MD").unwrap(),
        &["changed (content): repo:README.md"],
    ),
    (
        "longer content",
        |bench| fs::write(bench.path("src/main.rs"), "longer content").unwrap(),
        &["changed (content): repo:src/main.rs"],
    ),
    ("a new file", |bench| fs::write(bench.path("src/new"), "").unwrap(), &["added (file): repo:src/new"]),
    (
        "a file that is gone",
        |bench| fs::remove_file(bench.path("README.md")).unwrap(),
        &["removed (file): repo:README.md"],
    ),
    (
        "a mode",
        |bench| fs::set_permissions(bench.path("README.md"), fs::Permissions::from_mode(0o700)).unwrap(),
        &["changed (mode: 0644 -> 0700): repo:README.md"],
    ),
    (
        "a link that leads elsewhere",
        |bench| {
            fs::remove_file(bench.path("link")).unwrap();
            symlink("src", bench.path("link")).unwrap();
        },
        &["changed (link: README.md -> src): repo:link"],
    ),
    (
        "a link in the place of a file",
        |bench| {
            fs::remove_file(bench.path("README.md")).unwrap();
            symlink("x", bench.path("README.md")).unwrap();
        },
        &["changed (type: file -> link, mode: 0644 -> 0000): repo:README.md"],
    ),
    ("a pipe", |bench| fifo(&bench.path("pipe")), &["added (fifo): repo:pipe"]),
    (
        "a pipe in the place of a file",
        |bench| {
            fs::remove_file(bench.path("README.md")).unwrap();
            fifo(&bench.path("README.md"));
        },
        &["changed (type: file -> fifo, mode: 0644 -> 0600): repo:README.md"],
    ),
    (
        "a socket",
        |bench| drop(UnixListener::bind(bench.path("socket")).unwrap()),
        &["added (socket): repo:socket"],
    ),
    (
        "an empty folder",
        |bench| fs::create_dir(bench.path("empty")).unwrap(),
        &["added (folder): repo:empty"],
    ),
    (
        "a folder of a thousand files is one difference",
        |bench| {
            fs::create_dir(bench.path("many")).unwrap();
            (0..1000).for_each(|n| fs::write(bench.path(&format!("many/{n}")), "").unwrap());
        },
        &["added (folder): repo:many"],
    ),
    (
        "a name that is no text",
        |bench| {
            use std::os::unix::ffi::OsStrExt as _;
            fs::write(bench.folder.as_std_path().join(std::ffi::OsStr::from_bytes(b"\xff\n")), "").unwrap();
        },
        &["added (file): repo:\\xff\\x0a"],
    ),
    (
        "a hook",
        |bench| {
            fs::create_dir(bench.path(".git/hooks")).unwrap();
            fs::write(bench.path(".git/hooks/pre-commit"), "").unwrap();
        },
        &["added (folder): repo:.git/hooks"],
    ),
    (
        "a detached head",
        |bench| fs::write(bench.path(".git/HEAD"), "0123456789").unwrap(),
        &["changed (content): repo:.git/HEAD"],
    ),
    (
        "a lock of the index",
        |bench| fs::write(bench.path(".git/index.lock"), "").unwrap(),
        &["added (file): repo:.git/index.lock"],
    ),
    (
        "a merge under way",
        |bench| fs::write(bench.path(".git/MERGE_HEAD"), "x").unwrap(),
        &["added (file): repo:.git/MERGE_HEAD"],
    ),
    (
        "an exclude",
        |bench| fs::write(bench.path(".git/info/exclude"), "*\n").unwrap(),
        &["added (file): repo:.git/info/exclude"],
    ),
    (
        "objects of elsewhere",
        |bench| fs::write(bench.path(".git/objects/info/alternates"), "/x").unwrap(),
        &["added (file): repo:.git/objects/info/alternates"],
    ),
    ("an object is none", |bench| fs::write(bench.path(".git/objects/pack/p"), "x").unwrap(), &[]),
    (
        "an index that is none",
        |bench| fs::write(bench.path(".git/index"), "x").unwrap(),
        &["added (file): repo:.git/index"],
    ),
    (
        "six gigabytes that take no room",
        |bench| fs::File::create(bench.path("sparse")).unwrap().set_len(6 << 30).unwrap(),
        &["added (file): repo:sparse"],
    ),
    (
        "the folder itself is a link",
        |bench| {
            fs::rename(&bench.folder, bench.folder.with_file_name("moved")).unwrap();
            symlink("moved", &bench.folder).unwrap();
        },
        &["changed (type: folder -> link, mode: 0755 -> 0000): repo:"],
    ),
];

fn fifo(path: &Utf8Path) {
    mkfifoat(CWD, path.as_str(), Mode::RUSR | Mode::WUSR).unwrap();
}

#[test]
fn whatever_is_done_to_a_clone_is_seen_and_named() {
    for (what, done, says) in CASES {
        let mut bench = Bench::new();
        done(&bench);
        let mut said = bench.differences();
        if what == "the folder itself is a link" {
            // Everything in it is gone, which is said as well.
            said.truncate(1);
        }
        assert_eq!(said, says, "{what}");
    }
}

#[test]
fn what_is_declared_is_looked_into_and_read() {
    let mut bench = Bench::new();
    fs::create_dir_all(bench.path("out/deep")).unwrap();
    fs::write(bench.path("out/deep/f"), "x").unwrap();
    let declared = Declared::read(&["repo:out".to_owned(), "repo:out/**".to_owned()]).unwrap();
    let now = run(&bench.folder, Some(&bench.was), &declared, false, &mut bench.seen).unwrap();
    let differences = compare(&bench.was, &now);
    assert_eq!(differences.len(), 3);
    assert!(differences.iter().all(|difference| difference.is_declared(&declared)));
    bench.was = now;
    fs::write(bench.path("out/deep/f"), "y").unwrap();
    assert_eq!(bench.differences(), ["changed (content): repo:out/deep/f"]);
}

#[test]
fn a_time_that_was_set_back_hides_nothing() {
    let mut bench = Bench::new();
    let path = bench.path("README.md");
    let modified = path.metadata().unwrap().modified().unwrap();
    fs::write(&path, "readme.MD").unwrap();
    fs::File::open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(bench.differences(), ["changed (content): repo:README.md"]);
}

#[test]
fn what_was_read_and_has_not_changed_is_not_read_again() {
    let mut bench = Bench::new();
    let place = "repo:README.md";
    // Too young at first: two changes in one tick of the clock have one time.
    bench.seen.clear();
    let old = std::time::SystemTime::now();
    while old.elapsed().unwrap() < Duration::from_millis(60) {
        std::thread::yield_now();
    }
    assert_eq!(bench.differences(), [""; 0]);
    assert!(bench.seen.contains_key(place), "it is old enough by now");
    assert_eq!(bench.differences(), [""; 0]);
    assert_eq!(bench.look(&Declared::default(), true), [""; 0]);
}

#[test]
fn a_memory_that_is_written_without_a_new_time_is_seen_by_the_last_look() {
    let mut bench = Bench::new();
    let place = "repo:README.md".to_owned();
    let stat = stat::stat(CWD, bench.path("README.md").as_str()).unwrap();
    // As if the content had been read at these very times, and been another one.
    bench.seen.insert(place.clone(), walk::Read::of(stat.clone(), false));
    assert_eq!(bench.differences(), ["changed (content): repo:README.md"], "what was read is what is told");
    assert_eq!(bench.look(&Declared::default(), true), [""; 0], "and the last look reads");
    // Not what has not been written since the first look: before it, no process of the run was there to map it.
    bench.seen.insert(place, walk::Read::of(stat, true));
    assert_eq!(bench.look(&Declared::default(), true), ["changed (content): repo:README.md"]);
}

#[test]
fn three_thousand_folders_deep_and_few_descriptors() {
    let mut bench = Bench::new();
    let mut at = rustix::fs::open(bench.folder.as_str(), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", OFlags::PATH, Mode::empty()).unwrap();
    }
    let begun = run(&bench.folder, None, &Declared::default(), false, &mut bench.seen).unwrap();
    assert_eq!(begun.entries.len(), bench.was.entries.len() + 3000);
    // Looked at again, each of them is on the way down and on the way back.
    bench.was = begun;
    assert_eq!(bench.differences(), [""; 0]);
    rustix::fs::mkdirat(&at, "new", Mode::RWXU).unwrap();
    let said = bench.differences();
    assert!(said.len() == 1 && said[0].starts_with("added (folder): repo:d/d/"), "{said:?}");
    // What comes deep down is one entry.
    let mut shallow = Bench::new();
    fs::rename(bench.path("d"), shallow.path("d")).unwrap();
    assert_eq!(shallow.differences(), ["added (folder): repo:d"]);
    // The removal of the standard library needs a descriptor for each folder.
    flatten(&shallow.folder);
}

/// Takes a deep chain of folders apart from its top.
fn flatten(folder: &Utf8Path) {
    let (top, spare) = (folder.join("d"), folder.join("spare"));
    while top.exists() {
        fs::rename(&top, &spare).unwrap();
        if spare.join("d").exists() {
            fs::rename(spare.join("d"), &top).unwrap();
        }
        fs::remove_dir_all(&spare).unwrap();
    }
}

#[test]
fn a_flood_is_given_up() {
    let mut bench = Bench::new();
    for number in 0..10_050 {
        fs::write(bench.path(&format!("src/{number}")), "").unwrap();
    }
    let flooded = run(&bench.folder, Some(&bench.was), &Declared::default(), false, &mut bench.seen);
    assert!(matches!(flooded, Err(Stopped::Flooded(place)) if place.starts_with("repo:src/")));
}

#[test]
fn a_deadline_and_a_signal_end_a_look() {
    let bench = Bench::new();
    let declared = Declared::default();
    let late = Deadline::after(Duration::ZERO);
    let interrupt = Interrupt::never();
    let how = Look { known: None, declared: &declared, anew: false, deadline: late, interrupt: &interrupt };
    assert!(matches!(look("repo", &bench.folder, &how, &mut Seen::new()), Err(Stopped::Late)));
    interrupt.raise(ExitCode::Terminated);
    let how = Look { deadline: plenty(), ..how };
    assert!(matches!(look("repo", &bench.folder, &how, &mut Seen::new()), Err(Stopped::Interrupted(_))));
}

#[test]
fn each_part_of_a_clone_has_its_kind_of_failure() {
    for (place, kind) in [
        ("repo:README.md", "git-not-clean"),
        ("repo:.gitignore", "git-not-clean"),
        ("repo:.git/HEAD", "git-refs-changed"),
        ("repo:.git/refs/heads/x", "git-refs-changed"),
        ("repo:.git/hooks", "git-config-changed"),
        ("repo:.git/objects/info/alternates", "git-config-changed"),
        ("repo:.git/index//x", "git-state-changed"),
        ("repo:.git/MERGE_HEAD", "git-state-changed"),
        ("config:proxy.json", "catalog-changed"),
    ] {
        assert_eq!(kind_of(place).0, kind, "{place}");
    }
}
