//! `bundle`: planned, shown, all or nothing, idempotent; a user's edits are kept.

use std::fs;

use camino::Utf8PathBuf;
use stelae_tests::Home;

fn installed(home: &Home) -> Utf8PathBuf {
    home.path().join("config/bundles/core/servers/stelae.toml")
}

#[test]
fn install_is_idempotent_and_keeps_edits() {
    let home = Home::new();
    let ended = home.run(&["bundle", "install", "core", "--dry-run"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!installed(&home).exists());
    let ended = home.run(&["bundle", "install", "core"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("core/stelae"), "no live line: {}", ended.stderr);
    let written = fs::metadata(installed(&home)).unwrap().modified().unwrap();
    let ended = home.run(&["bundle", "install", "core"]);
    assert!(ended.code == 0 && ended.stderr.contains("up to date"), "{}", ended.stderr);
    assert_eq!(fs::metadata(installed(&home)).unwrap().modified().unwrap(), written);

    let edited = fs::read_to_string(installed(&home)).unwrap() + "# mine\n";
    fs::write(installed(&home), &edited).unwrap();
    let ended = home.run(&["bundle", "install", "core"]);
    assert_eq!(ended.code, 22, "{}", ended.stderr);
    assert!(ended.stderr.contains("# mine") && ended.stderr.contains("--force"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(installed(&home)).unwrap(), edited);
    assert_eq!(home.run(&["bundle", "install", "core", "--force"]).code, 0);
    assert!(!fs::read_to_string(installed(&home)).unwrap().contains("# mine"));
    assert_eq!(home.run(&["bundle", "remove", "core"]).code, 0);
    assert!(!installed(&home).exists());
}

#[test]
fn what_leaves_the_bundle_is_refused() {
    let home = Home::new();
    let ended = home.run(&["bundle", "install", "cor"]);
    assert_eq!(ended.code, 22, "{}", ended.stderr);
    assert!(ended.stderr.contains("core"), "no suggestion: {}", ended.stderr);
    for name in ["../core", "core/../../core", ".."] {
        let ended = home.run(&["bundle", "install", name]);
        assert!([2, 22].contains(&ended.code), "{name}: {}", ended.stderr);
    }
    let bundle = home.source.path().join("config/bundles/core/servers");
    std::os::unix::fs::symlink("/etc/passwd", bundle.join("evil.toml")).unwrap();
    assert_eq!(home.run(&["bundle", "install", "core"]).code, 22);
    assert!(!installed(&home).exists());
}

#[test]
fn list_and_status_say_what_there_is() {
    let home = Home::new();
    assert!(home.run(&["bundle", "list"]).stdout.contains("core"));
    assert_eq!(home.run(&["bundle", "install", "core"]).code, 0);
    let ended = home.run(&["bundle", "status"]);
    assert!(ended.code == 0 && ended.stdout.contains("up-to-date"), "{} {}", ended.stdout, ended.stderr);
}
