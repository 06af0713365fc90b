//! `render-proxy`: the exit code, the place and the hint of each error, and that nothing is written by one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use stelae_tests::Home;

fn fails(home: &Home, template: &str, code: i32, kind: &str, parts: &[&str]) {
    let path = home.path().join("template.json");
    fs::write(&path, template).unwrap();
    let ended = home.run(&["render-proxy", "--template", path.as_str()]);
    assert_eq!(ended.verdict(), (code, kind.to_owned()), "{template}: {}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{template}: no {part:?} in {}", ended.stderr);
    }
    assert!(!home.proxy_json().exists(), "{template}: something was written");
}

#[test]
fn the_port_is_the_environments_and_the_file_is_the_owners() {
    let home = Home::new();
    fs::write(home.source.path().join(".env"), "PUBLIC_PORT=8123\n").unwrap();
    let ended = home.run(&["render-proxy"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let text = fs::read_to_string(home.proxy_json()).unwrap();
    assert!(
        text.contains("\"addr\": \"127.0.0.1:8123\"") && text.contains("http://127.0.0.1:8123"),
        "{text}"
    );
    assert_eq!(fs::metadata(home.proxy_json()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(home.run(&["render-proxy", "--check"]).code, 0);
    fs::write(home.proxy_json(), text.replace("8123", "9090")).unwrap();
    let ended = home.run(&["render-proxy", "--check"]);
    assert_eq!(ended.code, 50, "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: cargo xtask render-proxy"), "{}", ended.stderr);
    let ended = home.run(&["render-proxy", "--diff"]);
    assert!(ended.stdout.contains("-") && ended.stdout.contains("8123"), "{}", ended.stdout);
}

#[test]
fn each_bad_template_has_its_error_with_place() {
    let home = Home::new();
    let addr = |token: &str| format!("{{\n  \"mcpProxy\": {{\n    \"addr\": \"{token}\"\n  }}\n}}\n");
    fails(&home, &addr("<<PROXY_PROT>>"), 21, "unknown-name", &["template.json:3:14", "PROXY_PORT"]);
    fails(&home, &addr("<<PROXY_PORT"), 21, "unclosed-token", &["template.json:3:14"]);
    fails(&home, &addr("<<{'a': 1}>>"), 21, "not-a-scalar", &["template.json:3:14"]);
    fails(
        &home,
        "{\n\"mcpProxy\": {\"name\": \"s\",\n    \"addr\": \"0.0.0.0:<<PROXY_PORT>>\", \"baseURL\": \"x\"}}",
        21,
        "bad-proxy-config",
        &["template.json:3:13", "not a loopback address"],
    );
    fails(&home, "{\n  \"a\": 1,\n}", 21, "template-syntax", &["template.json:3:1"]);
    fails(&home, "{\"a\": 1, \"a\": 2}", 21, "duplicate-key", &["template.json:1"]);
}

#[test]
fn a_bad_port_is_an_error_of_the_environment() {
    let home = Home::new();
    for port in ["0", "70000"] {
        fs::write(home.source.path().join(".env"), format!("PROXY_PORT={port}\n")).unwrap();
        assert_eq!(home.run(&["render-proxy"]).verdict(), (20, "bad-value".to_owned()));
    }
    assert!(!home.proxy_json().exists());
}

#[test]
fn old_templates_with_braces_can_be_moved_over() {
    let home = Home::new();
    let old = "{\"mcpProxy\": {\"name\": \"old\", \"addr\": \"127.0.0.1:{{PROXY_PORT}}\", \"baseURL\": \"{{ PUBLIC_BASE_URL }}\"}}";
    let path = home.path().join("old.json");
    fs::write(&path, old).unwrap();
    let ended = home.run(&["render-proxy", "--template", path.as_str(), "--syntax", "braces"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(fs::read_to_string(home.proxy_json()).unwrap().contains("127.0.0.1:9090"));
}

#[test]
fn an_output_outside_of_the_homes_is_refused() {
    let home = Home::new();
    let outside = home.path().join("elsewhere.json");
    let ended = home.run(&["render-proxy", "--output", outside.as_str()]);
    assert_eq!(ended.code, 21, "{}", ended.stderr);
    assert!(!outside.exists());
}
