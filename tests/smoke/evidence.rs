//! A disk that is full does not stop a run, and does not go unsaid; nor does a workspace that cannot go.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use rustix::process::geteuid;
use serde_json::Value;
use stelae_tests::{Source, Xtask, cache, private_folder, runs};

/// What a command is put behind so that it may mount, for itself and what it starts only.
pub(super) fn with_mounts_of_its_own() -> Option<&'static [&'static str]> {
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

/// A server mounts a folder of the user's in the workspace, where it is not prevented from that: no process can remove the
/// mount point, root included, and what is in the folder is not removed.
#[test]
fn a_folder_of_the_user_that_is_mounted_in_the_workspace_is_left_alone() {
    let Some(under) = with_mounts_of_its_own() else {
        skipped("no mounts are allowed here: nothing cannot be removed");
        return;
    };
    let users = private_folder();
    let precious = users.path().join("precious");
    fs::write(&precious, "words").unwrap();
    let fault = format!("mkdir $TMPDIR/mounted; mount --bind {} $TMPDIR/mounted", users.path().display());
    let source = Source::of_working_tree();
    let script = format!(
        "{fault}; exec env -u PWD -u OLDPWD -u SHLVL -u _ <<STELAE_BIN_DIR>>/stelae-gateway serve \
         --config <<STELAE_CONFIG_HOME>>/proxy.json"
    );
    let stack = "config/stack.toml";
    source.edit(stack, "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"", "command = \"/bin/sh\"");
    let old = "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]";
    source.edit(stack, old, &format!("args = [\"-c\", \"{script}\"]"));
    // In namespaces the stack's mounts are its own.
    let args = ["--isolation", "guard", "--format", "json", "smoke", "--until", "restart", "--keep", "never"];
    let ended = Xtask::new(source.path(), &args).start_under(under).wait();
    let workspace = cache().join("workspaces").join(ended.run_id());
    let left = ended.left();
    // The mount went with its namespace.
    fs::remove_dir_all(&workspace).ok();
    assert_eq!(ended.verdict(), (34, "workspace-survived".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: umount /") && !ended.stderr.contains("rm -rf"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "words");
    assert_eq!(left, [workspace.as_str()]);
}
