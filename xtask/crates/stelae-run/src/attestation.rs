//! Reads the environments of live processes, and compares them with what was declared for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stelae_model::env::attest::{Attestation, Declaration, Observed, attest};
use stelae_model::env::declared::{STELAE_CALLS, STELAE_CONTROL_TOKEN, STELAE_PROCESS};
use stelae_model::env::programs::{GATEWAY, XTASK};
use stelae_model::env::{
    Base, Environment, GatewayEnv, Invocation, ProgramEnv, ServerEnv, ServiceEnv, Variable as _, XtaskEnv,
};
use stelae_model::lifecycle::ProcessRow;
use stelae_model::proxy::ProxyConfig;
use stelae_model::{ExitCode, Failure};

use crate::process::tree::{self, Unreadable};
use crate::stack::StackConfig;

/// Variables that carry a passed socket; they are for the gateway, and for nobody behind it.
const PASSED_SOCKET: [&str; 2] = ["LISTEN_FDS", "LISTEN_FDS_FIRST_FD"];
/// The token is made by the supervisor when it starts the gateway: nobody outside can know its value.
const TOKEN: &str = STELAE_CONTROL_TOKEN::DECLARED.name;

/// Variables of the services' env files, by the label of the service.
pub type OwnVariables = BTreeMap<String, BTreeMap<String, String>>;

/// Whose the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayIs {
    /// Ours: it has a token, and hands it to servers that may make it reload.
    Builtin,
    /// Somebody else's: there is no token at all.
    Foreign,
}

/// What every process of a stack must have, by label: the supervisor, the gateway, each service beside it, each server
/// on stdio behind it. `own` has a row for every service. A gateway has no variables of its own: what its env file adds is
/// a leak.
///
/// # Errors
/// Exit 20, `missing-variable`.
pub fn declarations(
    environment: &Environment,
    proxy: &ProxyConfig,
    own: &OwnVariables,
    gateway_is: GatewayIs,
) -> Result<BTreeMap<String, Declaration>, Failure> {
    let base = Base::from_environment(environment)?;
    let xtask = declare(XTASK.name, &base, &XtaskEnv::from_environment(environment)?);
    let has_token = gateway_is == GatewayIs::Builtin;
    let gateway_env = GatewayEnv::from_environment(environment)?;
    let mcp_token = gateway_env.mcp_token.clone().filter(|_| has_token);
    let gateway_env = GatewayEnv { control_token: None, mcp_token, ..gateway_env };
    let mut gateway = declare(GATEWAY.name, &base, &gateway_env);
    gateway.must_be_set.extend(has_token.then(|| TOKEN.to_owned()));
    gateway.may_have.extend(PASSED_SOCKET.map(str::to_owned));
    gateway.may_have.extend(has_token.then(|| STELAE_CALLS::DECLARED.name.to_owned()));
    let mut all = BTreeMap::from([(XTASK.name.to_owned(), xtask), (GATEWAY.name.to_owned(), gateway)]);
    let service_env = ServiceEnv::from_environment(environment)?;
    for (label, own) in own {
        let mut service = declare(label, &base, &service_env);
        service.must_have.extend(undeclared::<ServiceEnv>(own));
        all.insert(label.clone(), service);
    }
    let server_env = ServerEnv { control_token: None, ..ServerEnv::from_environment(environment)? };
    for (name, entry) in proxy.mcp_servers.iter().filter(|(_, entry)| entry.command.is_some()) {
        let label = format!("server:{name}");
        let mut server = declare(&label, &base, &server_env);
        server.must_have.extend(undeclared::<ServerEnv>(&entry.env));
        server.must_be_set.extend((entry.control && has_token).then(|| TOKEN.to_owned()));
        server.may_be_absent = !entry.required;
        all.insert(label, server);
    }
    Ok(all)
}

/// Variables of a process's own, as its entry or its env file says them. One that is declared for every program of its
/// kind is none: it may be set there, and is passed on, but what was declared still holds, and the difference is
/// reported.
fn undeclared<E: ProgramEnv>(own: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    let declared = Base::VARIABLES.iter().chain(E::VARIABLES).map(|declared| declared.name);
    let declared: BTreeSet<&str> = declared.collect();
    let own = own.iter().filter(move |(name, _)| !declared.contains(name.as_str()));
    own.map(|(name, text)| (name.clone(), text.clone()))
}

fn declare(label: &str, base: &Base, env: &impl ProgramEnv) -> Declaration {
    let mut declaration = Declaration::of(label, env);
    declaration.must_have.extend(base.pairs().into_iter().map(|(name, text)| (name.to_owned(), text)));
    declaration
}

/// Reads the environment of `root` and of everything below it.
///
/// # Errors
/// Exit 20, `environment-unreadable`: a process that we may not look at cannot be attested.
pub fn observe(root: i32) -> Result<Vec<Observed>, Failure> {
    let below = tree::descendants(root).into_iter().filter(|row| !row.zombie).map(|row| row.pid);
    let all = std::iter::once(root).chain(below);
    all.filter_map(|pid| look(pid).transpose()).collect()
}

/// One process; nothing if it has ended between two looks.
fn look(pid: i32) -> Result<Option<Observed>, Failure> {
    match tree::environ(pid) {
        Ok(pairs) => Ok(Some(Observed {
            pid: u32::try_from(pid).unwrap_or(0),
            command: tree::command_line(pid).unwrap_or_default(),
            environment: pairs.into_iter().collect(),
        })),
        Err(Unreadable::Gone) => Ok(None),
        Err(why) => {
            let what = "the environment of a process cannot be read";
            Err(Failure::new(ExitCode::Environment, "environment-unreadable", what)
                .on(format!("pid {pid}: {}", tree::command_line(pid).unwrap_or_default()))
                .because(why.to_string()))
        }
    }
}

/// Compares everything below `root` with what was declared.
///
/// A process is seen between `fork` and `exec` with its parent's environment; so a difference counts only when a
/// second look finds it too.
///
/// # Errors
/// What [`StackConfig::own_variables`], [`declarations`] and [`observe`] find. Differences are no error here: see
/// [`Attestation::verdict`].
pub fn attest_stack(
    environment: &Environment,
    config: &StackConfig,
    root: i32,
) -> Result<Attestation, Failure> {
    const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
    let own = config.own_variables(environment)?;
    let gateway_is = if config.chosen.reloads() { GatewayIs::Builtin } else { GatewayIs::Foreign };
    let declarations = declarations(environment, &config.proxy, &own, gateway_is)?;
    let first = attest(&declarations, &observe(root)?);
    if first.differences.is_empty() {
        return Ok(first);
    }
    std::thread::sleep(BETWEEN_LOOKS);
    Ok(attest(&declarations, &observe(root)?))
}

/// Compares the process of an invocation with what it was given: the one that carries its label and was started by us, or by
/// whoever's command line begins with the words of `starter`. Nothing if there is none any more. What that process starts
/// itself is its own business.
///
/// # Errors
/// Exit 20, `environment-unreadable`.
pub(crate) fn attest_program(
    invocation: &Invocation,
    starter: Option<&[String]>,
) -> Result<Option<Attestation>, Failure> {
    let us = i32::try_from(std::process::id()).unwrap_or(0);
    let label = STELAE_PROCESS::DECLARED.name;
    let is_ours = |row: &ProcessRow| match starter {
        None => row.parent == us,
        Some(begins) => tree::words(row.parent).starts_with(begins),
    };
    for row in tree::descendants(us).iter().filter(|row| !row.zombie && is_ours(row)) {
        let Some(observed) = look(row.pid)? else { continue };
        if observed.environment.get(label) != Some(&invocation.process) {
            continue;
        }
        let mut must_have = invocation.environment().clone();
        must_have.insert(label.to_owned(), invocation.process.clone());
        let declared = Declaration { must_have, ..Declaration::default() };
        let declarations = BTreeMap::from([(invocation.process.clone(), declared)]);
        return Ok(Some(attest(&declarations, &[observed])));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use stelae_model::env::Layers;
    use stelae_model::env::attest::Difference;

    use super::*;
    use crate::deadline::Deadline;
    use crate::process::{self, Limits};
    use crate::signals::Interrupt;

    /// What is declared for a server with this entry, and what it would have if the gateway started it.
    fn server(entry: &str) -> (BTreeMap<String, Declaration>, BTreeMap<String, String>) {
        let found = vec![("STELAE_ROOT", "/r".to_owned()), ("STELAE_BIN_DIR", "/b".to_owned())];
        let environment = Environment::resolve(&Layers { found, ..Layers::default() }).unwrap();
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
        let observed = Observed { pid: 7, command: "a".into(), environment: has.clone() };
        attest(declared, &[observed]).differences
    }

    #[test]
    fn a_servers_own_variables_must_have_the_values_of_its_entry() {
        let mut one = server(r#"{"command": "x", "env": {"OWN": "hunter2"}}"#);
        assert_eq!(differences(&one), []);
        one.1.insert("OWN".into(), "other".into());
        assert!(
            matches!(&differences(&one)[..], [Difference::Differs { variable, .. }] if variable == "OWN")
        );
        one.1.remove("OWN");
        assert!(
            matches!(&differences(&one)[..], [Difference::Missing { variable, .. }] if variable == "OWN")
        );
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
        let found = vec![("STELAE_ROOT", "/r".to_owned()), ("STELAE_BIN_DIR", "/b".to_owned())];
        let environment = Environment::resolve(&Layers { found, ..Layers::default() }).unwrap();
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
        let environment = Environment::resolve(&Layers {
            found: vec![("STELAE_ROOT", "/r".to_owned()), ("STELAE_BIN_DIR", "/b".to_owned())],
            ..Layers::default()
        });
        let text = r#"{"mcpProxy": {"name": "s", "addr": ":1", "baseURL": "x"},
            "mcpServers": {"a": {"command": "x", "control": true}}}"#;
        let proxy = serde_json::from_str(text).unwrap();
        let (environment, own) = (environment.unwrap(), OwnVariables::new());
        let all = declarations(&environment, &proxy, &own, GatewayIs::Foreign).unwrap();
        for label in ["gateway", "server:a"] {
            let mut environment = all[label].must_have.clone();
            environment.insert(TOKEN.to_owned(), "t".to_owned());
            let observed = Observed { pid: 7, command: "a".into(), environment };
            let differences = attest(&all, &[observed]).differences;
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

    /// What is seen of the process that `starter` has started, when `script` runs and has said something.
    fn seen(script: &str, starter: Option<&[&str]>) -> Option<Attestation> {
        let starter: Option<Vec<_>> =
            starter.map(|words| words.iter().map(|&word| word.to_owned()).collect());
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
        process::run(&invocation, &limits, &mut |_, _| {
            seen.get_or_insert_with(|| attest_program(&invocation, starter.as_deref()).unwrap());
            std::fs::write(folder.join("go"), "").unwrap();
        })
        .unwrap();
        seen.flatten()
    }

    const WAIT: &str = "echo up; until [ -e go ]; do :; done";

    #[test]
    fn a_program_that_has_what_it_was_given_has_no_differences() {
        let attestation = seen(WAIT, None).unwrap();
        assert_eq!((attestation.processes.len(), &attestation.differences[..]), (1, &[][..]));
    }

    #[test]
    fn what_somebody_in_between_adds_is_seen() {
        let attestation = seen(&format!("exec env -u PWD B=2 sh -c '{WAIT}'"), None).unwrap();
        let [Difference::Leaked { variable, .. }] = &attestation.differences[..] else {
            panic!("{:?}", attestation.differences)
        };
        assert_eq!(variable, "B");
    }

    #[test]
    fn a_program_that_is_not_there_is_not_attested() {
        assert!(seen(WAIT, Some(&["/bin/no-such-program"])).is_none());
    }

    #[test]
    fn a_program_in_a_room_is_found_below_who_started_it() {
        // Longer than what messages show of a command line.
        let script = format!("env C=3 sh -c '{WAIT}'; : {}", "x".repeat(300));
        let attestation = seen(&script, Some(&["/bin/sh", "-c", &script])).unwrap();
        let leaked = |difference: &Difference| matches!(difference, Difference::Leaked { variable, .. } if variable == "C");
        assert!(attestation.differences.iter().any(leaked), "{:?}", attestation.differences);
    }
}
