//! A disk that is full does not stop a run, and does not go unsaid.

use std::fs;
use std::process::Command;

use serde_json::Value;
use stelae_tests::{Source, Xtask, alive, runs};

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

#[test]
fn a_workspace_that_cannot_be_removed_is_a_survivor() {
    let namespaces = ["--user", "--map-root-user", "--mount"];
    let allowed =
        Command::new("unshare").args(namespaces).arg("true").status().is_ok_and(|status| status.success());
    if !allowed {
        println!("skipped: no user namespaces here, so nothing to mount");
        return;
    }
    let source = Source::of_working_tree();
    // A mount point in the workspace: nobody can remove it, root included.
    let script = "mount -t tmpfs none $TMPDIR; exec env -u PWD -u OLDPWD -u SHLVL -u _ <<STELAE_BIN_DIR>>/stelae-gateway \
                  serve --config <<STELAE_CONFIG_HOME>>/proxy.json";
    let stack = "config/stack.toml";
    source.edit(stack, "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"", "command = \"/bin/sh\"");
    let old = "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]";
    source.edit(stack, old, &format!("args = [\"-c\", \"{script}\"]"));
    let under = ["unshare", "--user", "--map-root-user", "--mount"];
    let ended =
        Xtask::new(source.path(), &["--format", "json", "smoke", "--until", "restart", "--keep", "never"]);
    let ended = ended.start_under(&under).wait();
    assert_eq!(ended.verdict(), (34, "workspace-survived".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: rm -rf "), "{}", ended.stderr);
    assert_eq!(alive(ended.sandbox.path().to_str().unwrap()), Vec::<String>::new());
}
