//! A disk that is full does not stop a run, and does not go unsaid; nor does a workspace that cannot go.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use rustix::process::geteuid;
use serde_json::Value;
use stelae_tests::{Source, Xtask, alive, runs};

/// What a command is put behind so that it may mount, for itself and what it starts only.
fn with_mounts_of_its_own() -> Option<&'static [&'static str]> {
    const USER: &[&str] = &["unshare", "--user", "--map-root-user", "--mount"];
    const ROOT: &[&str] = &["unshare", "--mount"];
    let ways = if geteuid().is_root() { [ROOT, USER].as_slice() } else { [USER].as_slice() };
    let script = "mount -t tmpfs none /mnt";
    let works = |words: &&&[&str]| {
        let tried = Command::new(words[0]).args(&words[1..]).args(["sh", "-c", script]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    ways.iter().find(works).copied()
}

/// Says it where it is seen: what a passing test prints is captured, what is written to stderr directly is not.
fn skipped(why: &str) {
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}

#[test]
fn a_full_disk_under_the_evidence_is_said_and_the_run_goes_on() {
    let Some(unshare) = with_mounts_of_its_own() else {
        skipped("neither user namespaces nor root, so no small disk; stelae-run tests /dev/full");
        return;
    };
    let source = Source::of_working_tree();
    let evidence = source.path().join("target/xtask/runs");
    fs::create_dir_all(&evidence).unwrap();
    let mount = format!("mount -t tmpfs -o size=48k none {evidence} && exec \"$@\"");
    let under: Vec<&str> = unshare.iter().copied().chain(["sh", "-c", &mount, "sh"]).collect();
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
    // A mount point in the workspace: nobody can remove it, root included. Who is not root needs no more than a file in a
    // folder that may not be written.
    let (under, fault) = if geteuid().is_root() {
        let Some(unshare) = with_mounts_of_its_own() else {
            skipped("root, who may not mount: nothing here cannot be removed");
            return;
        };
        (unshare, "mount -t tmpfs none $TMPDIR")
    } else {
        (["env"].as_slice(), "mkdir $TMPDIR/kept && touch $TMPDIR/kept/file && chmod 555 $TMPDIR/kept")
    };
    let source = Source::of_working_tree();
    let script = format!(
        "{fault}; exec env -u PWD -u OLDPWD -u SHLVL -u _ <<STELAE_BIN_DIR>>/stelae-gateway serve \
         --config <<STELAE_CONFIG_HOME>>/proxy.json"
    );
    let stack = "config/stack.toml";
    source.edit(stack, "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"", "command = \"/bin/sh\"");
    let old = "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]";
    source.edit(stack, old, &format!("args = [\"-c\", \"{script}\"]"));
    let args = ["--format", "json", "smoke", "--until", "restart", "--keep", "never"];
    let ended = Xtask::new(source.path(), &args).start_under(under).wait();
    // For who cleans up after the test; a mount went with its namespace.
    Command::new("chmod").args(["-R", "u+w"]).arg(ended.sandbox.path()).status().unwrap();
    assert_eq!(ended.verdict(), (34, "workspace-survived".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: rm -rf "), "{}", ended.stderr);
    assert_eq!(alive(ended.sandbox.path().to_str().unwrap()), Vec::<String>::new());
}
