//! Bad input: a clear error, the right code, nothing half-written.

use std::fs;

use stelae_tests::{Ended, Source, Xtask, runs};

fn smoke(source: &Source, args: &[&str]) -> Ended {
    let args: Vec<&str> = ["--format", "json", "smoke"].iter().chain(args).copied().collect();
    Xtask::new(source.path(), &args).run()
}

fn is(ended: &Ended, code: i32, kind: &str) {
    assert_eq!(ended.verdict(), (code, kind.to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn a_source_that_is_not_a_repository() {
    let source = Source::of_working_tree();
    let folder = stelae_tests::private_folder();
    let ended = smoke(&source, &["--source", folder.path().to_str().unwrap()]);
    is(&ended, 40, "not-a-repository");
    assert_eq!(runs(source.path()), Vec::<String>::new());
    is(&smoke(&source, &["--source", "/no/such/folder"]), 40, "not-a-repository");
    let inside = source.path().join("config");
    is(&smoke(&source, &["--source", inside.as_str()]), 40, "not-a-repository");
}

#[test]
fn a_workspace_that_is_not_ours() {
    let source = Source::of_working_tree();
    let folder = stelae_tests::private_folder();
    fs::write(folder.path().join("precious"), "x").unwrap();
    for if_exists in ["refuse", "reuse", "replace"] {
        let ended =
            smoke(&source, &["--workspace", folder.path().to_str().unwrap(), "--if-exists", if_exists]);
        is(&ended, 40, "workspace-not-ours");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_env_file_that_cannot_be_read() {
    let source = Source::of_working_tree();
    // A folder cannot be read as a file by anybody, root included.
    fs::create_dir(source.path().join(".env.local")).unwrap();
    is(&smoke(&source, &[]), 20, "env-file-unreadable");
}

#[test]
fn steps_stages_and_budgets_that_there_are_not() {
    let source = Source::of_working_tree();
    let ended = smoke(&source, &["--until", "rendr"]);
    is(&ended, 2, "unknown-step");
    assert!(ended.stderr.contains("did you mean render?"), "{}", ended.stderr);
    is(&smoke(&source, &["--manual-stage", "instal"]), 2, "unknown-step");
    is(&smoke(&source, &["--budget-s", "0"]), 2, "budget-impossible");
    is(&smoke(&source, &["--resume", "20000101-000000-000000"]), 2, "unknown-run");
    is(&smoke(&source, &["--resume", "../../etc"]), 2, "unknown-run");
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let source = Source::of_working_tree();
    for (file, expected) in [("config/smoke.toml", 0), ("config/stack.toml", 40), (".env", 20)] {
        let path = source.path().join(file);
        let text = fs::read_to_string(&path).ok();
        fs::remove_file(&path).ok();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let ended = smoke(&source, &["--plan"]);
        // What describes a run is read from the commit, whatever lies in its place. A stack is known by its file.
        assert_eq!(ended.code, expected, "{file}: {}", ended.stderr);
        fs::remove_file(&path).unwrap();
        text.into_iter().for_each(|text| fs::write(&path, text).unwrap());
    }
    let endless =
        Xtask::new(source.path(), &["--format", "json", "--env-file", "/dev/zero", "env", "show"]).run();
    assert_eq!(endless.verdict(), (20, "env-file-unreadable".to_owned()));
}

#[test]
fn orders_that_contradict_each_other() {
    let source = Source::of_working_tree();
    is(&smoke(&source, &["--manual-stage", "remove", "--until", "setup"]), 2, "contradictory");
    // A plan is one of a new run. Of one that goes on nothing would be looked at, not even whether there is one.
    let planned = smoke(&source, &["--plan", "--resume", "20000101-000000-000000"]);
    assert_eq!(planned.code, 2, "{}", planned.stderr);
    assert!(planned.stderr.contains("--resume"), "{}", planned.stderr);
}
