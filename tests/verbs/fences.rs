//! Fences around the crates, each with its positive side: a fence that finds nothing anywhere guards nothing.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use stelae_tests::root;

fn depends_on(package: &str, dependency: &str) -> bool {
    let args = ["tree", "--locked", "--package", package, "--edges", "normal,build", "--prefix", "none"];
    let output = Command::new("cargo").args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().any(|line| line.split(' ').next() == Some(dependency))
}

#[test]
fn the_gateway_has_tokio_and_xtask_has_not() {
    for heavy in ["tokio", "rmcp", "axum", "hyper"] {
        assert!(depends_on("stelae-gateway", heavy), "{heavy} is not in the gateway any more");
        assert!(!depends_on("xtask", heavy), "{heavy} is in xtask");
    }
}

#[test]
fn the_model_has_no_effects_below_it() {
    for effect in ["duct", "rustix", "signal-hook", "ureq", "stelae-run"] {
        assert!(
            depends_on("stelae-run", effect) || effect == "stelae-run",
            "{effect} is not in stelae-run any more"
        );
        assert!(!depends_on("stelae-model", effect), "{effect} is in the model");
    }
}

/// What opens, writes or removes a file by its path, whatever it is by now: a pipe, a symlink, a device, a mount point.
const BY_PATH: [&str; 10] = [
    "fs::read(",
    "read_to_string(",
    "File::open(",
    "File::create",
    "File::options(",
    "OpenOptions",
    "fs::write(",
    "fs::copy(",
    "remove_dir_all(",
    "tokio::fs",
];

/// Where it stays, how often, and why it cannot harm.
const STAYS: [(&str, &str, usize); 3] = [
    // The kernel's own files, of this process.
    ("stelae-run/src/process/launcher/linux.rs", "fs::write(", 3),
    // The kernel's own device.
    ("stelae-run/src/stack/attached.rs", "File::open(", 1),
    // `create_new`: a file that is there already, a symlink included, is refused.
    ("stelae-gateway/src/model/record.rs", "OpenOptions", 3),
];

/// A file, and what is in it.
type Place = (String, &'static str);

fn sources(folder: &Utf8Path, found: &mut Vec<Utf8PathBuf>) {
    for entry in folder.read_dir_utf8().unwrap().map(Result::unwrap) {
        let path = entry.into_path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension() == Some("rs") {
            found.push(path);
        }
    }
}

/// How often each of them is in the code of the harness and the gateway, tests and [`stelae_run::files`] apart; and in the tests.
fn opened_by_path() -> (BTreeMap<Place, usize>, BTreeMap<&'static str, usize>) {
    let mut paths = Vec::new();
    for folder in ["xtask/src", "xtask/crates/stelae-run/src", "xtask/crates/stelae-gateway/src"] {
        sources(&root().join(folder), &mut paths);
    }
    let (mut code, mut in_tests) = (BTreeMap::new(), BTreeMap::new());
    for path in paths {
        let text = fs::read_to_string(&path).unwrap().replace("LiveFile::", "Live::");
        let is_test = path.file_stem().is_some_and(|stem| stem.ends_with("tests"))
            || path.components().any(|part| part.as_str() == "tests");
        let end = if is_test { 0 } else { text.find("\nmod tests").unwrap_or(text.len()) };
        let (before, after) = text.split_at(end);
        let relative = path.strip_prefix(root().join("xtask")).unwrap();
        let name = relative.as_str().trim_start_matches("crates/").to_owned();
        for pattern in BY_PATH {
            let lines = |text: &str| {
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                code.filter(|line| line.contains(pattern)).count()
            };
            *in_tests.entry(pattern).or_insert(0) += lines(after);
            if lines(before) > 0 && !name.starts_with("stelae-run/src/files/") {
                code.insert((name.clone(), pattern), lines(before));
            }
        }
    }
    (code, in_tests)
}

#[test]
fn files_are_opened_by_the_one_reader() {
    let (code, in_tests) = opened_by_path();
    let stays = STAYS.map(|(file, pattern, count)| ((file.to_owned(), pattern), count));
    assert_eq!(
        code,
        BTreeMap::from(stays),
        "open files with stelae_run::files, which never waits and never follows"
    );
    for pattern in
        ["fs::read(", "read_to_string(", "File::open(", "OpenOptions", "fs::write(", "remove_dir_all("]
    {
        assert!(in_tests[pattern] > 0, "{pattern} is found nowhere: is it still spelled so?");
    }
}
