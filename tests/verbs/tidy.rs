//! Tidy: what no compiler holds, about the exit codes. Each is ended with by something, seen by a witness, or waited for.

use std::collections::BTreeSet;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::ExitCode;
use stelae_run::selftest::WITNESSES;
use stelae_tests::root;

/// What names codes without ending with them.
const NAMES_ONLY: [&str; 2] =
    ["xtask/crates/stelae-model/src/exit_code.rs", "xtask/crates/stelae-run/src/selftest"];

fn witnessed() -> Vec<ExitCode> {
    WITNESSES.iter().map(|witness| witness.code).collect()
}

fn sources(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8().unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let is_left_out = NAMES_ONLY.iter().any(|only| path == root().join(only));
        if is_left_out || ["tests", "tests.rs", "target"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(path));
        } else if path.extension() == Some("rs") {
            found.push(path.to_owned());
        }
    }
    found
}

/// The names behind `ExitCode::` in what is shipped: tests are at the end of a file, or in files of their own. That a
/// code is named is not that something ends with it; that is what the witnesses are for.
fn named_in(text: &str) -> impl Iterator<Item = String> {
    let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    shipped
        .split("ExitCode::")
        .skip(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect())
}

fn named() -> BTreeSet<String> {
    let files = sources(&root().join("xtask"));
    files.iter().flat_map(|path| named_in(&fs::read_to_string(path).unwrap()).collect::<Vec<_>>()).collect()
}

#[test]
fn every_exit_code_has_one_witness_or_is_waited_for() {
    for &code in ExitCode::ALL {
        let (witnesses, name) = (witnessed().iter().filter(|&&seen| seen == code).count(), code.name());
        match code.awaits() {
            None => assert_eq!(
                witnesses, 1,
                "witnesses of {name}; they are in stelae-run/src/selftest/witness.rs"
            ),
            Some(feature) => {
                assert_eq!(
                    witnesses, 0,
                    "{name} is seen: it does not await {feature} any more (exit_code.rs)"
                );
            }
        }
    }
    assert!(witnessed().is_sorted(), "the witnesses are in the order of the codes");
}

#[test]
fn every_exit_code_is_ended_with_or_is_waited_for() {
    let named = named();
    for &code in ExitCode::ALL {
        let (is_named, name) = (named.contains(code.name()), code.name());
        match code.awaits() {
            None => assert!(is_named, "nothing ends with {name}: say in exit_code.rs what it awaits"),
            Some(feature) => {
                assert!(
                    !is_named,
                    "something ends with {name}, which is said to await {feature} (exit_code.rs)"
                );
            }
        }
    }
}

#[test]
fn codes_are_found_in_what_is_shipped_and_not_in_its_tests() {
    let text = "ExitCode::Drift) or ExitCode::try_from\n#[cfg(test)]\nmod tests { ExitCode::Flaky }";
    assert_eq!(named_in(text).collect::<Vec<_>>(), ["Drift", "try"]);
    let files = sources(&root().join("xtask"));
    assert!(files.iter().any(|path| path.ends_with("stelae-model/src/failure.rs")));
    assert!(
        NAMES_ONLY.iter().all(|only| root().join(only).exists()),
        "what is left out is not there any more"
    );
}
