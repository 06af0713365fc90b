//! A restart that does not come to leave its stack up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use camino::Utf8Path;
use rustix::process::Signal;
use serde_json::{Value, json};
use stelae_tests::{Xtask, alive, held_port, until};

/// The supervisor ends what it has started as it always does, and keeps what it has seen: it is not just killed.
#[test]
fn a_restart_that_is_interrupted_lets_the_supervisor_end_its_stack() {
    let folder = stelae_tests::private_folder();
    let path = |name: &str| Utf8Path::from_path(folder.path()).unwrap().join(name);
    for name in ["config", "home"] {
        fs::create_dir(path(name)).unwrap();
    }
    let held = held_port();
    let address = held.address();
    let proxy = json!({ "mcpProxy":
        { "name": "fixture", "addr": address.to_string(), "baseURL": format!("http://{address}") } });
    fs::write(path("home/proxy.json"), proxy.to_string()).unwrap();
    let script = path("script.toml");
    fs::write(
        &script,
        "steps = [{ listen = 'passed' }, { say = 'up' }]\nanswers = { not-found-until = 1000000 }",
    )
    .unwrap();
    let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
    let stack = format!(
        "version = 1\n[gateway]\ncommand = {fixture:?}\nargs = ['--script', {script:?}]\nsocket = 'passed'\n\
         grace_ms = 1000\n[readiness]\nidle_ms = 600000\nceiling_ms = 600000\nceiling_ci_ms = 600000\n\
         mcp_path = '/mcp'\nhealth_path = '/healthz'\nready_path = '/readyz'\nrequired_tools = ['a']\n\
         canary = {{ tool = 'a', arguments = {{}}, result = [{{ contains = 'a' }}] }}\n"
    );
    fs::write(path("config/stack.toml"), stack).unwrap();
    let set = |name: &str, value: &str| format!("--set={name}={value}");
    let mut run = Xtask::new(&path(""), &["--format=json", "restart", "--budget-s", "3600"])
        .args(&[&set("STELAE_CONFIG_HOME", path("home").as_str())])
        .args(&[&set("STELAE_STATE_HOME", path("state").as_str())])
        .args(&[&set("PROXY_PORT", &address.port().to_string())])
        .args(&["--log", path("gateway.log").as_str(), "--evidence", path("evidence").as_str()])
        .start();
    until("the gateway", || {
        assert!(!run.has_ended(), "{}", run.stderr());
        fs::read_to_string(path("gateway.log")).is_ok_and(|log| log.contains("up"))
    });
    run.signal(Signal::TERM);
    let ended = run.wait();
    assert_eq!(ended.verdict(), (143, "interrupted".to_owned()), "{}", ended.stderr);
    let proof = fs::read_to_string(path("evidence/teardown.json"))
        .unwrap_or_else(|error| panic!("{error}: {}", ended.stderr));
    let proof: Value = serde_json::from_str(&proof).unwrap();
    assert_ne!(proof["stopped"], json!([]), "{proof:#}");
    // The logs and the evidence are nobody else's to read.
    let home = fs::metadata(path("state/supervisor")).unwrap();
    assert_eq!(home.permissions().mode() & 0o777, 0o700);
    assert!(path("evidence/snapshot.json").exists());
    assert_eq!(alive(script.as_str()), Vec::<String>::new());
}
