//! The bundle of discovered servers and `proxy.json`, together.

use std::fs;

use super::*;

const SEED: &str = r#"{
  "schema": 1,
  "servers": [
    {"name": "wordcount", "description": "d", "transport": "stdio", "command": "<<STELAE_BIN_DIR>>/w", "args": ["demo"]},
    {"name": "broken", "description": "d", "transport": "stdio", "command": "<<STELAE_RUN_ID>>"}
  ]
}
"#;

fn stand() -> Stand {
    let stand = Stand::new();
    stand.put("root/config/discovery.json", SEED);
    stand
}

fn servers(stand: &Stand) -> Vec<String> {
    let text = fs::read_to_string(&stand.home.output).unwrap();
    let config: stelae_model::proxy::ProxyConfig = serde_json::from_str(&text).unwrap();
    config.mcp_servers.into_keys().collect()
}

#[test]
fn the_cache_is_seeded_once() {
    let stand = stand();
    assert_eq!(
        list_discovered(&stand.home).unwrap().len(),
        2,
        "the seed counts as long as there is no cache"
    );
    assert_eq!(seed_discovery(&stand.home), Ok(true));
    assert_eq!(seed_discovery(&stand.home), Ok(false));
    assert_eq!(fs::read_to_string(stand.home.discovery()).unwrap(), SEED);
    stand.put("state/discovery.json", r#"{"schema": 1, "servers": []}"#);
    assert_eq!(seed_discovery(&stand.home), Ok(false));
    assert!(list_discovered(&stand.home).unwrap().is_empty());
    stand.put("state/discovery.json", "{");
    assert_eq!(list_discovered(&stand.home).unwrap_err().exit_code, ExitCode::Bundle);
}

#[test]
fn the_real_seed_is_sound() {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let mut stand = stand();
    stand.home.root = root.to_owned();
    let names: Vec<_> = list_discovered(&stand.home).unwrap().into_iter().map(|server| server.name).collect();
    assert_eq!(names, ["wordcount"]);
    install_discovered(&stand.home, "wordcount", None, false, false).unwrap();
}

#[test]
fn install_and_remove_change_bundle_and_proxy_together() {
    let stand = stand();
    let tried = install_discovered(&stand.home, "wordcount", Some("wc_smoke"), true, false).unwrap();
    assert!(tried.changed && tried.dry_run && tried.proxy_changed);
    assert!(!stand.home.config_home.exists());
    let report = install_discovered(&stand.home, "wordcount", Some("wc_smoke"), false, false).unwrap();
    assert!(report.changed && report.proxy_changed && !report.dry_run);
    assert_eq!(servers(&stand), ["wc_smoke"]);
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        serde_json::json!({
            "changed": true, "dry_run": false, "proxy_changed": true,
            "plan": {"bundle": "discovered", "servers": [{"server": "wc_smoke", "action": "add"}], "changes": true},
        })
    );
    let again = install_discovered(&stand.home, "wordcount", Some("wc_smoke"), false, false).unwrap();
    assert!(!again.changed && !again.proxy_changed);
    install_discovered(&stand.home, "wordcount", None, false, false).unwrap();
    assert_eq!(servers(&stand), ["wc_smoke", "wordcount"]);
    assert!(remove_installed(&stand.home, "wc_smoke", true, false).unwrap().changed);
    assert_eq!(servers(&stand), ["wc_smoke", "wordcount"]);
    assert!(remove_installed(&stand.home, "wc_smoke", false, false).unwrap().proxy_changed);
    assert_eq!(servers(&stand), ["wordcount"]);
    remove_installed(&stand.home, "wordcount", false, false).unwrap();
    assert!(servers(&stand).is_empty() && !stand.home.bundles().join("discovered").exists());
    let absent = remove_installed(&stand.home, "wordcount", false, false).unwrap_err();
    assert_eq!(
        (absent.kind.as_str(), absent.what.as_str()),
        ("not-installed", "server \"wordcount\" is not installed")
    );
}

/// Each of these fails at another step of the two changes; neither of them may have happened.
#[test]
fn what_fails_changes_neither() {
    type Break = (&'static str, fn(&Stand), &'static str);
    let breaks: [Break; 5] = [
        ("unset variable", |_| {}, "unset-variable"),
        ("no template", |stand| fs::remove_file(&stand.home.template).unwrap(), "template-missing"),
        (
            "overlay",
            |stand| stand.put("config/proxy.overlay.json", "{\"mcpServers\": 1}"),
            "bad-proxy-config",
        ),
        // A folder in the place of proxy.json: found when its next content is made, after the bundle was staged.
        ("output", |stand| fs::create_dir_all(stand.home.output.join("x")).unwrap(), "output-unwritable"),
        ("cache", |stand| stand.put("state/discovery.json", "[]"), "bad-discovery"),
    ];
    for (what, break_it, kind) in breaks {
        let stand = stand();
        break_it(&stand);
        let before = stand.homes();
        let name = if what == "unset variable" { "broken" } else { "wordcount" };
        let failure = install_discovered(&stand.home, name, None, false, false).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert_eq!(stand.homes(), before, "{what}");
    }
}

#[test]
fn edits_of_discovered_servers_are_kept() {
    let stand = stand();
    install_discovered(&stand.home, "wordcount", None, false, false).unwrap();
    let file = stand.home.bundles().join("discovered/servers/wordcount.toml");
    let mine = fs::read_to_string(&file).unwrap() + "# mine\n";
    fs::write(&file, &mine).unwrap();
    assert_eq!(install_discovered(&stand.home, "wordcount", None, false, false).unwrap_err().kind, "edited");
    assert_eq!(remove_installed(&stand.home, "wordcount", false, false).unwrap_err().kind, "edited");
    assert_eq!(fs::read_to_string(&file).unwrap(), mine);
    let forced = install_discovered(&stand.home, "wordcount", None, false, true).unwrap();
    assert_eq!(forced.plan.servers[0].action, Action::Overwrite);
    fs::write(&file, &mine).unwrap();
    let forced = remove_installed(&stand.home, "wordcount", false, true).unwrap();
    assert_eq!(forced.plan.servers[0].action, Action::Remove);
    assert!(servers(&stand).is_empty() && !file.exists());
}

#[test]
fn names_are_checked() {
    let stand = stand();
    let kind = |name: &str, target: &str| {
        install_discovered(&stand.home, name, Some(target), false, false).unwrap_err().kind
    };
    assert_eq!(kind("wordcoun", "x"), "unknown-server");
    assert_eq!(kind("wordcount", "../x"), "bad-name");
    assert_eq!(kind("wordcount", ""), "bad-name");
    assert!(stand.homes().is_empty());
    install_discovered(&stand.home, "wordcount", None, false, false).unwrap();
    assert_eq!(remove_installed(&stand.home, "../x", false, false).unwrap_err().kind, "not-installed");
}
