use camino::Utf8Path;
use stelae_model::env::attest::AttestedProcess;
use stelae_model::env::declared::{STELAE_BIN_DIR, STELAE_ROOT};
use stelae_model::env::{Given, Layers};

use super::*;
use crate::deadline::Deadline;
use crate::process::Limits;
use crate::signals::Interrupt;

fn given() -> Vec<Given> {
    vec![Given::of::<STELAE_ROOT>("/r"), Given::of::<STELAE_BIN_DIR>("/b")]
}

/// What is declared for a server with this entry, and what it would have if the gateway started it.
fn server(entry: &str) -> (BTreeMap<String, Declaration>, BTreeMap<String, String>) {
    let environment = Environment::resolve(&Layers { given: given(), ..Layers::default() }).unwrap();
    let text = format!(
        r#"{{"mcpProxy": {{"name": "s", "addr": ":1", "baseURL": "x"}}, "mcpServers": {{"a": {entry}}}}}"#
    );
    let proxy: ProxyConfig = serde_json::from_str(&text).unwrap();
    let mut all = declarations(&environment, &proxy, &OwnVariables::new(), GatewayIs::Builtin).unwrap();
    all.retain(|label, _| label == "server:a");
    let plain = declare(
        "server:a",
        &Base::from_environment(&environment).unwrap(),
        &ServerEnv::from_environment(&environment).unwrap(),
    );
    let mut has = plain.must_have;
    has.extend(proxy.mcp_servers["a"].env.clone());
    (all, has)
}

fn differences(
    (declared, has): &(BTreeMap<String, Declaration>, BTreeMap<String, String>),
) -> Vec<Difference> {
    attest(declared, &[observed(has.clone())]).differences
}

fn observed(environment: BTreeMap<String, String>) -> Observed {
    Observed {
        pid: 7,
        command: "a".into(),
        origin: Origin::Unrecorded,
        memory: Memory::Environment(environment),
    }
}

#[test]
fn a_servers_own_variables_must_have_the_values_of_its_entry() {
    let mut one = server(r#"{"command": "x", "env": {"OWN": "hunter2"}}"#);
    assert_eq!(differences(&one), []);
    one.1.insert("OWN".into(), "other".into());
    assert!(matches!(&differences(&one)[..], [Difference::Differs { variable, .. }] if variable == "OWN"));
    one.1.remove("OWN");
    assert!(matches!(&differences(&one)[..], [Difference::Missing { variable, .. }] if variable == "OWN"));
}

#[test]
fn an_entry_cannot_redefine_what_is_declared_for_every_server() {
    let set = server(r#"{"command": "x", "env": {"PROXY_PORT": "9"}}"#);
    assert_eq!(
        differences(&set)[0].to_string(),
        "server:a (pid 7): PROXY_PORT is \"9\", declared is \"9090\""
    );
    let unset = server(r#"{"command": "x", "env": {"LC_ALL": "C"}}"#);
    assert!(
        matches!(&differences(&unset)[..], [Difference::Leaked { variable, .. }] if variable == "LC_ALL")
    );
    let token = server(r#"{"command": "x", "env": {"STELAE_CONTROL_TOKEN": "t"}}"#);
    assert!(matches!(&differences(&token)[..], [Difference::Leaked { .. }]));
}

#[test]
fn what_an_env_file_says_must_be_there_and_does_not_redefine_what_is_declared() {
    let environment = Environment::resolve(&Layers { given: given(), ..Layers::default() }).unwrap();
    let text = r#"{"mcpProxy": {"name": "s", "addr": ":1", "baseURL": "x"}, "mcpServers": {}}"#;
    let file = [("OWN", "1"), ("PROXY_PORT", "9")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    let own = OwnVariables::from([("service:a".to_owned(), file.into())]);
    let proxy = serde_json::from_str(text).unwrap();
    let all = declarations(&environment, &proxy, &own, GatewayIs::Builtin).unwrap();
    let service = &all["service:a"];
    let must_have = ["OWN", "PROXY_PORT", "STELAE_PROCESS"].map(|name| service.must_have[name].as_str());
    assert_eq!(must_have, ["1", "9090", "service:a"]);
    assert!(!service.must_be_set.contains(TOKEN) && !service.may_be_absent);
}

#[test]
fn behind_a_foreign_gateway_nobody_has_a_token() {
    let environment = Environment::resolve(&Layers { given: given(), ..Layers::default() });
    let text = r#"{"mcpProxy": {"name": "s", "addr": ":1", "baseURL": "x"},
        "mcpServers": {"a": {"command": "x", "control": true}}}"#;
    let proxy = serde_json::from_str(text).unwrap();
    let (environment, own) = (environment.unwrap(), OwnVariables::new());
    let all = declarations(&environment, &proxy, &own, GatewayIs::Foreign).unwrap();
    for label in ["gateway", "server:a"] {
        let mut environment = all[label].must_have.clone();
        environment.insert(TOKEN.to_owned(), "t".to_owned());
        let differences = attest(&all, &[observed(environment)]).differences;
        let is_leak =
            |one: &Difference| matches!(one, Difference::Leaked { variable, .. } if variable == TOKEN);
        assert!(differences.iter().any(is_leak), "{label}: {differences:?}");
    }
}

#[test]
fn a_control_server_must_have_the_token() {
    let mut control = server(r#"{"command": "x", "control": true}"#);
    assert_eq!(differences(&control)[0].to_string(), "server:a (pid 7): STELAE_CONTROL_TOKEN is missing");
    control.1.insert(TOKEN.into(), "t".into());
    assert_eq!(differences(&control), []);
}

/// What `with` finds out about a process that runs `script`, once that has said something.
fn seen<T>(script: &str, with: impl Fn(&Invocation, i32) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    // A label of its own: other tests of this process start agents, too.
    let label = format!("agent-of-{}", folder.file_name().unwrap());
    let invocation = Invocation::for_test(&label, "/bin/sh".into(), folder.to_owned(), &[("A", "1")]);
    let invocation = invocation.args(["-c", script]);
    let (stdout, stderr) = (folder.join("out"), folder.join("err"));
    let deadline = Deadline::after(Duration::from_secs(60));
    let limits = Limits { deadline, interrupt: &Interrupt::never(), stdout: &stdout, stderr: &stderr };
    let mut seen = None;
    process::run(&invocation, &limits, &mut |_, line| {
        let pid = line.parse().unwrap();
        seen.get_or_insert_with(|| with(&invocation, pid));
        std::fs::write(folder.join("go"), "").unwrap();
    })
    .unwrap();
    seen.unwrap()
}

const WAIT: &str = "echo $$; until [ -e go ]; do :; done";

fn attested(invocation: &Invocation, pid: i32) -> Option<Attestation> {
    let start = start_of(invocation, pid).unwrap();
    attest_process(invocation, pid, Some(&start))
}

#[test]
fn a_program_that_has_what_it_was_given_has_no_differences() {
    let attestation = seen(WAIT, attested).unwrap();
    assert_eq!((attestation.processes.len(), &attestation.differences[..]), (1, &[][..]));
    assert_eq!(attestation.processes[0].judged_by, JudgedBy::Memory);
}

#[test]
fn what_a_wrapper_in_between_adds_is_seen() {
    let attestation = seen(&format!("exec env -u PWD B=2 sh -c '{WAIT}'"), attested).unwrap();
    let [Difference::Leaked { variable, .. }] = &attestation.differences[..] else {
        panic!("{:?}", attestation.differences)
    };
    assert_eq!(variable, "B");
}

#[test]
fn a_program_that_has_ended_is_not_attested() {
    assert!(seen(WAIT, |invocation, _| attest_process(invocation, i32::MAX, None)).is_none());
}

/// Overwrites the memory of its environment with this byte, as programs do that set their title.
fn overwriting(byte: u8) -> String {
    format!(
        "exec env -u PWD -u OLDPWD python3 -c '
import os
begin, end = (int(field) for field in open(\"/proc/self/stat\").read().rsplit(\")\")[1].split()[47:49])
with open(\"/proc/self/mem\", \"r+b\", 0) as memory:
    memory.seek(begin)
    memory.write(bytes([{byte}]) * (end - begin))
print(os.getpid(), flush=True)
while not os.path.exists(\"go\"): pass
'"
    )
}

#[test]
fn a_process_that_wrote_over_its_memory_is_judged_by_its_start() {
    for byte in [0, b' ', b'x'] {
        let attestation = seen(&overwriting(byte), attested).unwrap();
        assert_eq!(attestation.verdict(), Ok(()), "{byte}");
        assert_eq!(attestation.processes[0].judged_by, JudgedBy::Start, "{byte}");
        // And without a record of its start it is not known at all.
        let attestation = seen(&overwriting(byte), |invocation, pid| attest_process(invocation, pid, None));
        assert!(attestation.unwrap().verdict().is_err(), "{byte}");
    }
}

#[test]
fn a_process_that_is_judged_by_its_start_has_to_hold_its_port() {
    let ours = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = ours.local_addr().unwrap();
    let process = |pid, judged_by| AttestedProcess {
        process: "service:a".to_owned(),
        pid,
        command: String::new(),
        judged_by,
        why: None,
        environment: BTreeMap::new(),
    };
    let elsewhere = |pid, judged_by, address| {
        let attestation = Attestation { processes: vec![process(pid, judged_by)], ..Attestation::default() };
        listens_elsewhere(&attestation, &BTreeMap::from([("service:a".to_owned(), address)])).len()
    };
    let us = std::process::id();
    assert_eq!(elsewhere(us, JudgedBy::Start, address), 0);
    assert_eq!(elsewhere(us, JudgedBy::Start, closed), 1);
    assert_eq!(elsewhere(i32::MAX.unsigned_abs(), JudgedBy::Start, address), 1);
    assert_eq!(elsewhere(us, JudgedBy::Memory, closed), 0);
}
