//! Eyes of the tests' own: waiting for levels, and looking for what is alive.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use camino::Utf8Path;

/// Waits until something is so.
///
/// # Panics
/// When it is not so within ten minutes: a cold build may be on the way.
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < Duration::from_secs(600), "waited in vain for {what}");
        // Soon at first, and seldom later: a look through all of /proc costs milliseconds, and the machine has others to serve.
        let pause = (begun.elapsed() / 20).clamp(Duration::from_millis(2), Duration::from_millis(50));
        thread::sleep(pause);
    }
}

/// Waits until a file has a text.
///
/// # Panics
/// When it never has.
pub fn await_line(path: &Utf8Path, text: &str) {
    until(text, || fs::read_to_string(path).is_ok_and(|file| file.contains(text)));
}

/// Every live process whose command line or environment contains `mark`, but this one: `pid command`.
///
/// # Panics
/// When `/proc` cannot be read.
pub fn alive(mark: &str) -> Vec<String> {
    alive_of(&[mark.to_owned()])
}

/// The same for any of several marks.
///
/// # Panics
/// When `/proc` cannot be read.
pub fn alive_of(marks: &[String]) -> Vec<String> {
    let has_one = |text: &str| marks.iter().any(|mark| text.contains(mark.as_str()));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("a /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |file: &str| {
            String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default()).into_owned()
        };
        let command = read("cmdline").replace('\0', " ");
        // A zombie has neither a command line nor an environment.
        if pid != std::process::id() && (has_one(&command) || has_one(&read("environ"))) {
            found.push(format!("{pid} {command}"));
        }
    }
    found
}

/// The children of a process, oldest first.
///
/// # Panics
/// When `/proc` cannot be read.
pub fn children(parent: i32) -> Vec<i32> {
    children_that(parent, |state| state != "Z")
}

/// The children of a process that have ended, and that it has not waited for, oldest first.
///
/// # Panics
/// When `/proc` cannot be read.
pub fn zombies(parent: i32) -> Vec<i32> {
    children_that(parent, |state| state == "Z")
}

fn children_that(parent: i32, are: impl Fn(&str) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("a /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        if fields[1] == parent.to_string() && are(fields[0]) {
            found.push((fields[19].parse::<u64>().unwrap_or(0), pid));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, pid)| pid).collect()
}

/// The runs of a source, by id.
pub fn runs(source: &Utf8Path) -> Vec<String> {
    let folder = source.join("target/xtask/runs");
    let mut runs: Vec<_> = folder
        .read_dir_utf8()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_owned())
        .collect();
    runs.sort();
    runs
}

/// That no file of a run's folder holds this text.
///
/// # Panics
/// When one does, or when there are too few files for a run's.
pub fn assert_nowhere_in(folder: &Utf8Path, text: &str) {
    let (mut folders, mut files) = (vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir_utf8().expect("a folder").map(|entry| entry.expect("an entry")) {
            if entry.file_type().expect("a type").is_dir() {
                folders.push(entry.path().to_owned());
                continue;
            }
            files += 1;
            let bytes = fs::read(entry.path()).expect("a file");
            let said = String::from_utf8_lossy(&bytes);
            assert!(!said.contains(text), "{}: {said}", entry.path());
        }
    }
    assert!(files > 10, "only {files} files were looked at");
}
