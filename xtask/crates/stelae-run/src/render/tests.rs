//! On real files. `Stand` is also what the tests of bundles stand on.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::render::Names;

use super::*;

/// A repository with the real `config` folder's shape, and empty homes, in a folder of its own.
pub(crate) struct Stand {
    _guard: tempfile::TempDir,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) home: Home,
}

pub(crate) const TEMPLATE: &str = r#"{
  "mcpProxy": {"name": "s", "addr": "<<PROXY_HOST>>:<<PROXY_PORT>>", "baseURL": "<<PUBLIC_BASE_URL>>"},
  "mcpServers": {}
}
"#;

impl Stand {
    pub(crate) fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(guard.path().canonicalize().unwrap()).unwrap();
        let names = Names::new([
            ("PROXY_HOST", Some("127.0.0.1")),
            ("PROXY_PORT", Some("22831")),
            ("PUBLIC_BASE_URL", Some("http://127.0.0.1:22831")),
            ("STELAE_BIN_DIR", Some("/opt/bin")),
            ("STELAE_RUN_ID", None),
        ]);
        let home = Home::new(dir.join("root"), dir.join("config"), dir.join("state"), names);
        let stand = Self { _guard: guard, dir, home };
        stand.put("root/config/proxy.template.json", TEMPLATE);
        stand
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Every file of the config and state home, but the lock, with its bytes.
    pub(crate) fn homes(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for home in [&self.home.config_home, &self.home.state_home] {
            collect(home, &self.dir, &mut files);
        }
        files
    }

    /// The installed server of a bundle, without an installation.
    fn server(&self, bundle: &str, name: &str, rest: &str) {
        let text = format!("name = '{name}'\ndescription = ''\ntransport = 'stdio'\n{rest}");
        self.put(&format!("config/bundles/{bundle}/servers/{name}.toml"), &text);
        let record = format!(r#"{{"schema":1,"bundle":"{bundle}","version":"1","servers":{{"{name}":""}}}}"#);
        self.put(&format!("config/bundles/{bundle}/installed.json"), &record);
    }
}

fn collect(dir: &Utf8Path, root: &Utf8Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            collect(entry.path(), root, files);
        } else if entry.file_name() != ".lock" {
            let name = entry.path().strip_prefix(root).unwrap().to_string();
            files.insert(name, fs::read(entry.path()).unwrap_or_default());
        }
    }
}

fn failure(stand: &Stand) -> Failure {
    let failure = render_proxy(&stand.home).unwrap_err();
    assert!(!stand.home.output.exists(), "nothing is written on an error");
    failure
}

/// The text of a failure, with the stand's folder left out.
fn text(stand: &Stand) -> String {
    failure(stand).to_string().replace(stand.dir.as_str(), "")
}

#[test]
fn template_bundles_and_overlay_are_composed_in_this_order() {
    let stand = Stand::new();
    stand.server("core", "b", "command = '<<STELAE_BIN_DIR>>/b'\n");
    stand.server("extra", "a", "command = 'a'\n");
    stand.put(
        "config/proxy.overlay.json",
        r#"{"mcpServers": {"a": null, "b": {"env": {"PORT": "<<PROXY_PORT>>"}}}, "mcpProxy": {"name": "mine"}}"#,
    );
    let rendered = render_proxy(&stand.home).unwrap();
    assert_eq!(
        rendered.text,
        r#"{
  "mcpProxy": {
    "name": "mine",
    "addr": "127.0.0.1:22831",
    "baseURL": "http://127.0.0.1:22831"
  },
  "mcpServers": {
    "b": {
      "command": "/opt/bin/b",
      "env": {
        "PORT": "22831"
      }
    }
  }
}
"#
    );
    assert_eq!(rendered.sources.len(), 4);
    assert_eq!(render_proxy(&stand.home).unwrap(), rendered);
}

#[test]
fn the_real_template_renders_and_says_no_port() {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let mut stand = Stand::new();
    stand.home.template = root.join("config/proxy.template.json");
    assert_eq!(render_proxy(&stand.home).unwrap().config.mcp_proxy.addr, "127.0.0.1:22831");
    let text = fs::read_to_string(&stand.home.template).unwrap();
    // The incident: a port that was written into the template.
    assert!(!text.contains(|c: char| c.is_ascii_digit()), "{text}");
}

#[test]
fn braces_render_the_old_stacks_templates() {
    let mut stand = Stand::new();
    stand.put("root/config/proxy.template.json", &TEMPLATE.replace("<<", "{{").replace(">>", "}}"));
    stand.server("core", "b", "command = '<<STELAE_BIN_DIR>>/b'\n");
    assert!(render_proxy(&stand.home).is_err());
    stand.home.syntax = Syntax::Braces;
    let config = render_proxy(&stand.home).unwrap().config;
    assert_eq!(config.mcp_proxy.addr, "127.0.0.1:22831");
    assert_eq!(config.mcp_servers["b"].command.as_deref(), Some("/opt/bin/b"));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let stand = Stand::new();
    let template = stand.home.template.clone();
    fs::remove_file(&template).unwrap();
    assert_eq!(
        text(&stand),
        "the template does not exist\n   on: /root/config/proxy.template.json\n  why: No such file or directory (os error 2)"
    );
    fs::create_dir(&template).unwrap();
    assert_eq!(
        text(&stand),
        "the template cannot be read\n   on: /root/config/proxy.template.json\n  why: it is not a regular file"
    );
    fs::remove_dir(&template).unwrap();
    fs::write(&template, b"{\"\xff\": 1}").unwrap();
    assert_eq!(failure(&stand).kind, "template-not-utf8");
    assert_eq!(failure(&stand).exit_code, ExitCode::Render);
}

#[test]
fn faults_are_placed_in_the_file_that_has_them() {
    let stand = Stand::new();
    stand.put("root/config/proxy.template.json", &TEMPLATE.replace("PROXY_PORT", "PROXY_PRT"));
    assert_eq!(
        text(&stand),
        "unknown name \"PROXY_PRT\" in a template\n   on: /root/config/proxy.template.json:2:53\n hint: did you mean PROXY_PORT?"
    );
    stand.put("root/config/proxy.template.json", TEMPLATE);
    stand.put(
        "config/proxy.overlay.json",
        "{\n  \"mcpServers\": {\"x\": {\"args\": [\"<<STELAE_RUN_ID>>\"]}}}",
    );
    assert_eq!(
        text(&stand),
        "variable STELAE_RUN_ID has no value, and a template needs it\n   on: /config/proxy.overlay.json:2:34\n hint: cargo xtask env explain STELAE_RUN_ID"
    );
    assert_eq!(failure(&stand).exit_code, ExitCode::Environment);
    stand.put("config/proxy.overlay.json", "{\n  \"mcpProxy\": {\"addr\": \"127.0.0.1:70000\"}}");
    assert_eq!(
        text(&stand),
        "the result is no proxy.json: mcpProxy.addr is wrong\n   on: /config/proxy.overlay.json:2:24\n  why: the port in \"127.0.0.1:70000\" is not a port: 1 to 65535"
    );
    fs::remove_file(stand.home.default_overlay()).unwrap();
    stand.server("core", "b", "command = 'x'\nargs = [\n  '<<NOPE>>',\n]\n");
    let text = text(&stand);
    assert!(text.contains("on: /config/bundles/core/servers/b.toml:6:4\n"), "{text}");
}

#[test]
fn broken_installations_are_failures_of_rendering() {
    let stand = Stand::new();
    stand.server("core", "b", "command = 'x'\ncolour = 1\n");
    assert_eq!(
        (failure(&stand).exit_code, failure(&stand).kind.as_str()),
        (ExitCode::Render, "bad-descriptor")
    );
    fs::remove_file(stand.home.bundles().join("core/servers/b.toml")).unwrap();
    assert_eq!(
        text(&stand),
        "server \"b\" of bundle \"core\" is installed, but its file is gone\n   on: /config/bundles/core/servers/b.toml\n hint: cargo xtask bundle remove core --server b"
    );
    stand.put(
        "config/bundles/core/installed.json",
        r#"{"schema":1,"bundle":"core","version":"1","servers":{"../b":""}}"#,
    );
    assert_eq!((failure(&stand).exit_code, failure(&stand).kind.as_str()), (ExitCode::Render, "bad-record"));
    stand.put("config/bundles/core/installed.json", "{");
    assert_eq!(failure(&stand).kind, "bad-record");
    fs::remove_dir_all(stand.home.bundles()).unwrap();
    symlink("/", stand.home.bundles()).unwrap();
    assert_eq!(failure(&stand).kind, "bad-installed");
}

#[test]
fn an_overlay_that_was_asked_for_must_be_there() {
    let mut stand = Stand::new();
    stand.home.overlay = Some(stand.dir.join("mine.json"));
    assert_eq!(failure(&stand).kind, "overlay-missing");
    stand.home.overlay = None;
    fs::create_dir_all(&stand.home.config_home).unwrap();
    symlink("nowhere", stand.home.default_overlay()).unwrap();
    // A person wanted one there.
    assert_eq!(failure(&stand).kind, "overlay-missing");
}

#[test]
fn outputs_outside_of_the_homes_are_refused() {
    let mut stand = Stand::new();
    let dir = stand.dir.clone();
    fs::create_dir_all(dir.join("config")).unwrap();
    fs::create_dir_all(dir.join("elsewhere")).unwrap();
    symlink(dir.join("elsewhere"), dir.join("config/link")).unwrap();
    stand.home.output = dir.join("elsewhere/proxy.json");
    assert_eq!(
        text(&stand),
        "the output must be a file in the config or state home\n   on: /elsewhere/proxy.json\n  why: it leads into /elsewhere\n hint: write it to /config/proxy.json"
    );
    for output in [
        "config/link/proxy.json",
        "config/../proxy.json",
        "config/proxy.overlay.json",
        "config/bundles/x.json",
        "configs/p",
    ] {
        stand.home.output = dir.join(output);
        assert_eq!(failure(&stand).kind, "output-refused", "{output}");
    }
    // Files of ours under their own names, and under those that a symlinked folder gives them.
    fs::create_dir_all(dir.join("state")).unwrap();
    symlink(dir.join("config"), dir.join("state/in")).unwrap();
    symlink(dir.join("state/kept.json"), dir.join("config/mine.json")).unwrap();
    stand.home.overlay = Some(dir.join("config/mine.json"));
    for output in [
        "state/in/proxy.overlay.json",
        "state/in/bundles/x.json",
        "state/in/mine.json",
        "state/discovery.json",
        "state/supervisor/stack.json",
    ] {
        stand.home.output = dir.join(output);
        assert_eq!(failure(&stand).kind, "output-refused", "{output}");
    }
    stand.put("state/kept.json", "{}");
    stand.home.output = dir.join("state/kept.json");
    assert_eq!(render_proxy(&stand.home).unwrap_err().kind, "output-refused", "where the overlay leads");
    stand.home.overlay = None;
    stand.home.output = dir.join("state/deep/proxy.json");
    assert_eq!(write(&render_proxy(&stand.home).unwrap()), Ok(Written::Created));
}

#[test]
fn the_file_is_private_and_left_alone_when_it_is_right() {
    let stand = Stand::new();
    let rendered = render_proxy(&stand.home).unwrap();
    let stat = || fs::symlink_metadata(&rendered.path).unwrap();
    assert_eq!(write(&rendered), Ok(Written::Created));
    assert_eq!(stat().permissions().mode() & 0o7777, 0o600);
    let before = stat();
    assert_eq!(write(&rendered), Ok(Written::Unchanged));
    assert_eq!((stat().ino(), stat().mtime_nsec()), (before.ino(), before.mtime_nsec()));
    fs::set_permissions(&rendered.path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(write(&rendered), Ok(Written::Unchanged));
    assert_eq!(stat().permissions().mode() & 0o7777, 0o600);
    fs::write(&rendered.path, "{}").unwrap();
    assert_eq!(write(&rendered), Ok(Written::Replaced));
    assert_eq!(fs::read_to_string(&rendered.path).unwrap(), rendered.text);
    assert_eq!(stand.homes().len(), 1, "no temporary file is left");
}

#[test]
fn a_symlink_in_the_outputs_place_is_replaced_and_never_followed() {
    let stand = Stand::new();
    stand.put("victim", "mine");
    fs::create_dir_all(&stand.home.config_home).unwrap();
    symlink(stand.dir.join("victim"), &stand.home.output).unwrap();
    write(&render_proxy(&stand.home).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(stand.dir.join("victim")).unwrap(), "mine");
    assert!(fs::symlink_metadata(&stand.home.output).unwrap().is_file());
    // Also one to a file with the right content: somebody else can change that.
    fs::rename(&stand.home.output, stand.dir.join("victim")).unwrap();
    symlink(stand.dir.join("victim"), &stand.home.output).unwrap();
    assert!(check(&render_proxy(&stand.home).unwrap()).is_err());
    assert_eq!(write(&render_proxy(&stand.home).unwrap()), Ok(Written::Created));
    assert!(fs::symlink_metadata(&stand.home.output).unwrap().is_file());
}

#[test]
fn an_output_that_cannot_be_written_says_so() {
    let stand = Stand::new();
    fs::create_dir_all(&stand.home.output).unwrap();
    let rendered = render_proxy(&stand.home).unwrap();
    assert_eq!(
        write(&rendered).unwrap_err().to_string().replace(stand.dir.as_str(), ""),
        "the rendered file cannot be written\n   on: /config/proxy.json\n  why: it is not a regular file"
    );
    assert_eq!(check(&rendered).unwrap_err().kind, "output-unreadable");
    fs::remove_dir_all(&stand.home.config_home).unwrap();
    stand.put("config", "a file in the folder's place");
    assert_eq!(write(&rendered).unwrap_err().kind, "output-unwritable");
}

#[test]
fn check_says_what_differs() {
    let stand = Stand::new();
    let rendered = render_proxy(&stand.home).unwrap();
    let missing = check(&rendered).unwrap_err();
    assert_eq!((missing.exit_code, missing.kind.as_str()), (ExitCode::Drift, "drift"));
    assert_eq!(missing.what, "proxy.json is not rendered yet");
    assert_eq!(missing.log_tail[..2], ["--- /dev/null", "+++ rendered"]);
    assert!(!stand.home.output.exists(), "checking writes nothing");
    write(&rendered).unwrap();
    assert_eq!(check(&rendered), Ok(()));
    assert_eq!(diff(&rendered).unwrap(), "");
    let drifted = rendered.text.replace("22831\",", "9090\",");
    fs::write(&rendered.path, drifted).unwrap();
    assert_eq!(
        check(&rendered).unwrap_err().to_string().replace(stand.dir.as_str(), ""),
        "proxy.json differs from what would be rendered
   on: /config/proxy.json
  log:
    | --- /config/proxy.json
    | +++ rendered
    | @@ -1,7 +1,7 @@
    |  {
    |    \"mcpProxy\": {
    |      \"name\": \"s\",
    | -    \"addr\": \"127.0.0.1:9090\",
    | +    \"addr\": \"127.0.0.1:22831\",
    |      \"baseURL\": \"http://127.0.0.1:22831\"
    |    },
    |    \"mcpServers\": {}
 hint: cargo xtask render-proxy"
    );
}
