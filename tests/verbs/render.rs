//! `render-proxy`: the exit code, the place and the hint of each error, and that nothing is written by one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

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

    fn render(&self, args: &[&str]) -> Ended {
        let set = |name: &str, folder: &str| format!("{name}={}", self.folder.path().join(folder).display());
        let (config, state) = (set("STELAE_CONFIG_HOME", "config"), set("STELAE_STATE_HOME", "state"));
        fs::create_dir_all(self.folder.path().join("config")).unwrap();
        let before = ["--format", "json", "--set", &config, "--set", &state, "render-proxy"];
        let args: Vec<&str> = before.iter().chain(args).copied().collect();
        Xtask::new(self.source.path(), &args).run()
    }

    fn output(&self) -> std::path::PathBuf {
        self.folder.path().join("config/proxy.json")
    }

    fn fails(&self, template: &str, code: i32, kind: &str, parts: &[&str]) {
        let path = self.folder.path().join("template.json");
        fs::write(&path, template).unwrap();
        let ended = self.render(&["--template", path.to_str().unwrap()]);
        assert_eq!(ended.verdict(), (code, kind.to_owned()), "{template}: {}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "{template}: no {part:?} in {}", ended.stderr);
        }
        assert!(!self.output().exists(), "{template}: something was written");
    }
}

#[test]
fn the_port_is_the_environments_and_the_file_is_the_owners() {
    let home = Home::new();
    fs::write(home.source.path().join(".env"), "PUBLIC_PORT=8123\n").unwrap();
    let ended = home.render(&[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let text = fs::read_to_string(home.output()).unwrap();
    assert!(
        text.contains("\"addr\": \"127.0.0.1:8123\"") && text.contains("http://127.0.0.1:8123"),
        "{text}"
    );
    assert_eq!(fs::metadata(home.output()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(home.render(&["--check"]).code, 0);
    fs::write(home.output(), text.replace("8123", "9090")).unwrap();
    let ended = home.render(&["--check"]);
    assert_eq!(ended.code, 50, "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: cargo xtask render-proxy"), "{}", ended.stderr);
    let ended = home.render(&["--diff"]);
    assert!(ended.stdout.contains("-") && ended.stdout.contains("8123"), "{}", ended.stdout);
}

#[test]
fn each_bad_template_has_its_error_with_place() {
    let home = Home::new();
    let addr = |token: &str| format!("{{\n  \"mcpProxy\": {{\n    \"addr\": \"{token}\"\n  }}\n}}\n");
    home.fails(&addr("<<PROXY_PROT>>"), 21, "unknown-name", &["template.json:3:14", "PROXY_PORT"]);
    home.fails(&addr("<<PROXY_PORT"), 21, "unclosed-token", &["template.json:3:14"]);
    home.fails(&addr("<<{'a': 1}>>"), 21, "not-a-scalar", &["template.json:3:14"]);
    home.fails("{\n  \"a\": 1,\n}", 21, "template-syntax", &["template.json:3:1"]);
    home.fails("{\"a\": 1, \"a\": 2}", 21, "duplicate-key", &["template.json:1"]);
}

#[test]
fn a_bad_port_is_an_error_of_the_environment() {
    let home = Home::new();
    for port in ["0", "70000"] {
        fs::write(home.source.path().join(".env"), format!("PROXY_PORT={port}\n")).unwrap();
        assert_eq!(home.render(&[]).verdict(), (20, "bad-value".to_owned()));
    }
    assert!(!home.output().exists());
}

#[test]
fn old_templates_with_braces_can_be_moved_over() {
    let home = Home::new();
    let old = "{\"mcpProxy\": {\"name\": \"old\", \"addr\": \"127.0.0.1:{{PROXY_PORT}}\", \"baseURL\": \"{{ PUBLIC_BASE_URL }}\"}}";
    let path = home.folder.path().join("old.json");
    fs::write(&path, old).unwrap();
    let ended = home.render(&["--template", path.to_str().unwrap(), "--syntax", "braces"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(fs::read_to_string(home.output()).unwrap().contains("127.0.0.1:9090"));
}

#[test]
fn an_output_outside_of_the_homes_is_refused() {
    let home = Home::new();
    let outside = home.folder.path().join("elsewhere.json");
    let ended = home.render(&["--output", outside.to_str().unwrap()]);
    assert_eq!(ended.code, 21, "{}", ended.stderr);
    assert!(!outside.exists());
}
