//! `bundle`: planned, shown, all or nothing, idempotent; a user's edits are kept.

use std::fs;

use stelae_tests::{Ended, Source, Xtask};
use tempfile::TempDir;

struct Home {
    source: Source,
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { source: Source::of_working_tree(), folder: tempfile::tempdir().unwrap() }
    }

    fn bundle(&self, args: &[&str]) -> Ended {
        let set = |name: &str, folder: &str| format!("{name}={}", self.folder.path().join(folder).display());
        let (config, state) = (set("STELAE_CONFIG_HOME", "config"), set("STELAE_STATE_HOME", "state"));
        let before = ["--format", "json", "--set", &config, "--set", &state, "bundle"];
        let args: Vec<&str> = before.iter().chain(args).copied().collect();
        Xtask::new(self.source.path(), &args).run()
    }

    fn installed(&self) -> std::path::PathBuf {
        self.folder.path().join("config/bundles/core/servers/stelae.toml")
    }
}

#[test]
fn install_is_idempotent_and_keeps_edits() {
    let home = Home::new();
    let ended = home.bundle(&["install", "core", "--dry-run"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!home.installed().exists());
    let ended = home.bundle(&["install", "core"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("core/stelae"), "no live line: {}", ended.stderr);
    let written = fs::metadata(home.installed()).unwrap().modified().unwrap();
    let ended = home.bundle(&["install", "core"]);
    assert!(ended.code == 0 && ended.stderr.contains("up to date"), "{}", ended.stderr);
    assert_eq!(fs::metadata(home.installed()).unwrap().modified().unwrap(), written);

    let edited = fs::read_to_string(home.installed()).unwrap() + "# mine\n";
    fs::write(home.installed(), &edited).unwrap();
    let ended = home.bundle(&["install", "core"]);
    assert_eq!(ended.code, 22, "{}", ended.stderr);
    assert!(ended.stderr.contains("# mine") && ended.stderr.contains("--force"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(home.installed()).unwrap(), edited);
    assert_eq!(home.bundle(&["install", "core", "--force"]).code, 0);
    assert!(!fs::read_to_string(home.installed()).unwrap().contains("# mine"));
    assert_eq!(home.bundle(&["remove", "core"]).code, 0);
    assert!(!home.installed().exists());
}

#[test]
fn what_leaves_the_bundle_is_refused() {
    let home = Home::new();
    let ended = home.bundle(&["install", "cor"]);
    assert_eq!(ended.code, 22, "{}", ended.stderr);
    assert!(ended.stderr.contains("core"), "no suggestion: {}", ended.stderr);
    for name in ["../core", "core/../../core", ".."] {
        let ended = home.bundle(&["install", name]);
        assert!([2, 22].contains(&ended.code), "{name}: {}", ended.stderr);
    }
    let bundle = home.source.path().join("config/bundles/core/servers");
    std::os::unix::fs::symlink("/etc/passwd", bundle.join("evil.toml")).unwrap();
    assert_eq!(home.bundle(&["install", "core"]).code, 22);
    assert!(!home.installed().exists());
}

#[test]
fn list_and_status_say_what_there_is() {
    let home = Home::new();
    assert!(home.bundle(&["list"]).stdout.contains("core"));
    assert_eq!(home.bundle(&["install", "core"]).code, 0);
    let ended = home.bundle(&["status"]);
    assert!(ended.code == 0 && ended.stdout.contains("up-to-date"), "{} {}", ended.stdout, ended.stderr);
}
