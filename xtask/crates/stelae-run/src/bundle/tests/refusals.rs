//! What is not installed, and that a refusal touches nothing.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn names_and_paths_that_leave_are_refused() {
    let stand = stand();
    let kind = |name: &str| find_bundle(&stand.home, name).unwrap_err().kind;
    assert_eq!(kind(".."), "bad-name");
    assert_eq!(kind("b.b"), "bad-name");
    assert_eq!(kind("a"), "unknown-bundle");
    assert_eq!(kind("/nowhere/at/all"), "bundle-missing");
    let failure = find_bundle(&stand.home, "bb").unwrap_err();
    assert_eq!(
        text(&stand, &failure),
        "there is no bundle \"bb\"\n   on: /root/config/bundles\n hint: did you mean b?"
    );
    for name in ["../b", "", "/b"] {
        assert_eq!(remove(&stand.home, name, ALL, &mut |_| {}).unwrap_err().kind, "bad-name", "{name:?}");
    }
    assert!(stand.homes().is_empty());
}

#[test]
fn symlinks_and_strangers_in_a_bundle_are_refused() {
    type Break = (&'static str, fn(&Utf8Path));
    let dir = |stand: &Stand| stand.home.available_bundles().join("b");
    let breaks: [Break; 6] = [
        ("servers/evil.toml", |dir| symlink("/etc/passwd", dir.join("servers/evil.toml")).unwrap()),
        ("servers/../evil", |dir| fs::write(dir.join("servers/a b.toml"), "").unwrap()),
        ("servers/notes.txt", |dir| fs::write(dir.join("servers/notes.txt"), "").unwrap()),
        ("servers/folder.toml", |dir| fs::create_dir(dir.join("servers/folder.toml")).unwrap()),
        ("servers", |dir| {
            fs::rename(dir.join("servers"), dir.join("real")).unwrap();
            symlink("real", dir.join("servers")).unwrap();
        }),
        ("the bundle itself", |dir| {
            fs::rename(dir, dir.with_file_name("c")).unwrap();
            symlink("c", dir).unwrap();
        }),
    ];
    for (what, break_it) in breaks {
        let stand = stand();
        break_it(&dir(&stand));
        let failure = run(&stand, ALL).unwrap_err();
        assert_eq!(failure.exit_code, ExitCode::Bundle, "{what}: {failure}");
        assert!(stand.homes().is_empty(), "{what}");
    }
    let stand = stand();
    symlink("/etc/passwd", dir(&stand).join("servers/evil.toml")).unwrap();
    assert_eq!(
        text(&stand, &run(&stand, ALL).unwrap_err()),
        "a bundle holds something that cannot be installed\n   on: /root/config/bundles/b/servers/evil.toml\n  why: it is a symlink, which could lead out of the bundle"
    );
}

#[test]
fn bundles_that_are_badly_made_are_refused() {
    let breaks = [
        ("bundle.toml", "name = 'c'\ndescription = ''\nversion = ''\n", "bundle \"b\" calls itself \"c\""),
        ("bundle.toml", "name = 'b'\n", "a bundle is badly described"),
        ("servers/one.toml", "name = 'one'\n", "server \"one\" is badly described"),
        (
            "servers/one.toml",
            "name = 'one'\ndescription = ''\ntransport = 'stdio'\ncommand = '<<STELAE_BINDIR>>/x'\n",
            "unknown name \"STELAE_BINDIR\" in a template\n   on: /root/config/bundles/b/servers/one.toml:4:12\n hint: did you mean STELAE_BIN_DIR?",
        ),
    ];
    for (file, content, message) in breaks {
        let stand = stand();
        stand.put(&format!("root/config/bundles/b/{file}"), content);
        let failure = run(&stand, ALL).unwrap_err();
        assert_eq!(failure.exit_code, ExitCode::Bundle);
        assert!(text(&stand, &failure).starts_with(message), "{failure}");
        assert!(stand.homes().is_empty());
    }
    let stand = stand();
    fs::remove_dir_all(stand.home.available_bundles().join("b/servers")).unwrap();
    assert_eq!(run(&stand, ALL).unwrap_err().kind, "bundle-unreadable");
    fs::create_dir(stand.home.available_bundles().join("b/servers")).unwrap();
    assert!(run(&stand, ALL).unwrap_err().why[0].contains("there is no server in it"));
}

#[test]
fn a_symlink_in_the_place_of_what_is_installed_is_refused() {
    let stand = stand();
    fs::create_dir_all(stand.home.bundles()).unwrap();
    fs::create_dir(stand.dir.join("victim")).unwrap();
    symlink(stand.dir.join("victim"), stand.home.bundles().join("b")).unwrap();
    assert_eq!(run(&stand, FORCE).unwrap_err().kind, "bad-installed");
    fs::remove_file(stand.home.bundles().join("b")).unwrap();
    run(&stand, ALL).unwrap();
    symlink("/etc/passwd", stand.home.bundles().join("b/link")).unwrap();
    assert_eq!(run(&stand, FORCE).unwrap_err().kind, "bad-installed");
    assert_eq!(fs::read_dir(stand.dir.join("victim")).unwrap().count(), 0);
}

#[test]
fn two_bundles_cannot_have_a_server_of_one_name() {
    let stand = stand();
    run(&stand, ALL).unwrap();
    stand.put("root/config/bundles/c/bundle.toml", "name = 'c'\ndescription = ''\nversion = '1'\n");
    stand.put(
        "root/config/bundles/c/servers/one.toml",
        "name = 'one'\ndescription = ''\ntransport = 'http'\nurl = 'http://127.0.0.1:1/mcp'\n",
    );
    let before = stand.homes();
    let bundle = find_bundle(&stand.home, "c").unwrap();
    let failure = install(&stand.home, &bundle, ALL, &mut |_| {}).unwrap_err();
    assert_eq!(
        text(&stand, &failure),
        "server \"one\" is already installed by bundle \"b\"\n   on: /config/bundles/b\n hint: cargo xtask bundle remove b --server one"
    );
    assert_eq!(stand.homes(), before);
}

#[test]
fn a_config_home_that_cannot_be_written_says_so() {
    let stand = stand();
    stand.put("config", "a file in the folder's place");
    let failure = run(&stand, ALL).unwrap_err();
    assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Bundle, "install-failed"));
}
