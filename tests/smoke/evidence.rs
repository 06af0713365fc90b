//! A disk that is full does not stop a run, and does not go unsaid.

use std::fs;
use std::process::Command;

use serde_json::Value;
use stelae_tests::{Source, Xtask, runs};

#[test]
fn a_full_disk_under_the_evidence_is_said_and_the_run_goes_on() {
    let namespaces = ["--user", "--map-root-user", "--mount"];
    let allowed =
        Command::new("unshare").args(namespaces).arg("true").status().is_ok_and(|status| status.success());
    if !allowed {
        // What the recorder does on a full disk is tested in its own crate, with /dev/full.
        println!("skipped: no user namespaces here, so no small disk");
        return;
    }
    let source = Source::of_working_tree();
    let evidence = source.path().join("target/xtask/runs");
    fs::create_dir_all(&evidence).unwrap();
    let mount = format!("mount -t tmpfs -o size=48k none {evidence} && exec \"$@\"");
    let under = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let ended = Xtask::new(source.path(), &["--format", "json", "smoke"]).start_under(&under).wait();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.json()["evidence_complete"], Value::Bool(false));
    assert!(ended.json()["warnings"].to_string().contains("the evidence is incomplete"), "{}", ended.stdout);
    assert_eq!(ended.left(), Vec::<String>::new());
    // The small disk was only ever in the namespace of that run.
    assert_eq!(runs(source.path()), Vec::<String>::new());
}
