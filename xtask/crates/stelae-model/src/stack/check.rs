//! What the services of a `stack.toml` must not say, besides what their types rule out.

use std::collections::BTreeMap;

use super::{BUILTIN, ForeignGateway, GATEWAY, ReadinessRules, SERVER_IN_PATH, Service, Stack, check_times};
use crate::expect::list_fault;
use crate::proxy::is_plain_name;
use crate::{ExitCode, Failure};

/// More often than this, starting again is no cure.
const MOST_RESTARTS: u32 = 10;

/// Checks that readiness proves something: a stack that lists no tool, or answers no call as it should, is not ready.
pub(super) fn proof(path: &str, rules: &ReadinessRules) -> Result<(), Failure> {
    let nothing = "readiness would prove nothing";
    let tools = &rules.required_tools;
    if tools.is_empty() {
        return Err(wrong(path, "readiness.required_tools", nothing, "no tool is required")
            .hint("name the tools that the stack is for: required_tools = [\"…\"]"));
    }
    for (index, tool) in tools.iter().enumerate() {
        let why = match tool {
            _ if tool.trim().is_empty() => "a name of a tool is empty".to_owned(),
            _ if tools[..index].contains(tool) => format!("{tool} is required twice"),
            _ => continue,
        };
        return Err(wrong(path, "readiness.required_tools", "a tool cannot be required like this", &why)
            .hint("name each tool once"));
    }
    const CANARY: &str =
        "[readiness.canary] tool = \"…\", arguments = { … }, result = [{ contains = \"…\" }]";
    let Some(canary) = &rules.canary else {
        return Err(wrong(path, "readiness.canary", nothing, "no tool is called").hint(CANARY));
    };
    if canary.tool.trim().is_empty() || !canary.arguments.is_object() {
        let why = "it needs a `tool`, and `arguments` that are a table";
        return Err(wrong(path, "readiness.canary", "the canary is no call", why).hint(CANARY));
    }
    list_fault("readiness.canary.result", &canary.result).map_err(|fault| {
        let failure = wrong(path, &fault.place, nothing, &fault.why);
        fault.hint.into_iter().fold(failure, Failure::hint)
    })
}

/// Checks every service, and the gateway's restarts.
pub(super) fn services(path: &str, stack: &Stack) -> Result<(), Failure> {
    restarts(path, GATEWAY, stack.gateway.restarts)?;
    for (name, service) in &stack.services {
        let key = |key: &str| format!("services.{name}.{key}");
        named(path, name)?;
        restarts(path, &format!("services.{name}"), service.restarts)?;
        times(path, &key, service)?;
        limits(path, &key, service, stack)?;
        readiness(path, &key, service)?;
    }
    one_port_each(path, &stack.services)
}

/// Checks every foreign gateway.
pub(super) fn gateways(path: &str, stack: &Stack) -> Result<(), Failure> {
    for (name, gateway) in &stack.gateways {
        let key = |key: &str| format!("gateways.{name}.{key}");
        let place = format!("gateways.{name}");
        let nameless = "no gateway may have this name";
        if name == BUILTIN {
            return Err(wrong(path, &place, nameless, "that is what [gateway] is called"));
        }
        if !is_plain_name(name) {
            return Err(wrong(path, &place, nameless, "a name is [A-Za-z0-9_-]{1,64}"));
        }
        restarts(path, &place, gateway.restarts)?;
        check_times("stack-config", path, 0, 1000, &[(&key("grace_ms"), gateway.grace_ms)])?;
        paths(path, &place, gateway)?;
    }
    Ok(())
}

fn paths(path: &str, place: &str, gateway: &ForeignGateway) -> Result<(), Failure> {
    let cannot = "a gateway cannot be reached like this";
    if gateway.mcp_path.is_some() == gateway.server_mcp_path.is_some() {
        return Err(wrong(path, place, cannot, "it needs either `mcp_path` or `server_mcp_path`"));
    }
    let all = [
        ("mcp_path", &gateway.mcp_path),
        ("server_mcp_path", &gateway.server_mcp_path),
        ("health_path", &gateway.health_path),
    ];
    for (key, said) in all {
        if said.as_ref().is_some_and(|said| !said.starts_with('/')) {
            return Err(wrong(path, &format!("{place}.{key}"), cannot, "a path begins with /"));
        }
    }
    match &gateway.server_mcp_path {
        Some(pattern) if !pattern.contains(SERVER_IN_PATH) => {
            let why = "without {server}, all servers have one path";
            Err(wrong(path, &format!("{place}.server_mcp_path"), cannot, why))
        }
        _ => Ok(()),
    }
}

fn named(path: &str, name: &str) -> Result<(), Failure> {
    let place = format!("services.{name}");
    if name == GATEWAY {
        return Err(wrong(
            path,
            &place,
            "no service may have this name",
            "the gateway is not a service beside itself",
        )
        .hint("describe it as [gateway], or give the service another name"));
    }
    match is_plain_name(name) {
        true => Ok(()),
        false => Err(wrong(path, &place, "no service may have this name", "a name is [A-Za-z0-9_-]{1,64}")),
    }
}

fn restarts(path: &str, table: &str, restarts: u32) -> Result<(), Failure> {
    if restarts <= MOST_RESTARTS {
        return Ok(());
    }
    let why = format!("it is {restarts}, and must be 0 to {MOST_RESTARTS}");
    Err(wrong(path, &format!("{table}.restarts"), "a number is out of range", &why))
}

fn times(path: &str, key: &dyn Fn(&str) -> String, service: &Service) -> Result<(), Failure> {
    check_times("stack-config", path, 0, 1000, &[(&key("grace_ms"), service.grace_ms)])?;
    for (name, limit) in [("idle_ms", service.idle_ms), ("ceiling_ms", service.ceiling_ms)] {
        let limit = limit.map(|limit| (key(name), limit));
        let limit = limit.iter().map(|(key, limit)| (key.as_str(), *limit)).collect::<Vec<_>>();
        check_times("stack-config", path, 1, 1000, &limit)?;
    }
    Ok(())
}

/// An idle window that is longer than the ceiling would never be noticed.
fn limits(path: &str, key: &dyn Fn(&str) -> String, service: &Service, stack: &Stack) -> Result<(), Failure> {
    let ceiling = service.ceiling_ms.unwrap_or(stack.readiness.ceiling_ms);
    match service.idle_ms {
        Some(idle) if idle > ceiling => {
            let why = format!("idle_ms {idle} <= ceiling_ms {ceiling} does not hold");
            Err(wrong(path, &key("idle_ms"), "the limits of a service do not nest", &why))
        }
        _ => Ok(()),
    }
}

fn readiness(path: &str, key: &dyn Fn(&str) -> String, service: &Service) -> Result<(), Failure> {
    let asked = "a service cannot be asked for this";
    if service.port == Some(0) {
        return Err(wrong(path, &key("port"), asked, "a port is 1 to 65535"));
    }
    if service.ready_line.as_ref().is_some_and(String::is_empty) {
        return Err(wrong(path, &key("ready_line"), asked, "every line contains an empty text"));
    }
    match (&service.health_path, service.port) {
        (Some(_), None) => {
            Err(wrong(path, &key("health_path"), asked, "it has no `port` on which it could answer"))
        }
        (Some(health), _) if !health.starts_with('/') => {
            Err(wrong(path, &key("health_path"), asked, "a path begins with /"))
        }
        _ => Ok(()),
    }
}

/// Two that bind one port would both find it kept for them.
fn one_port_each(path: &str, services: &BTreeMap<String, Service>) -> Result<(), Failure> {
    let mut taken: BTreeMap<u16, &str> = BTreeMap::new();
    for (name, service) in services {
        let Some(port) = service.port else { continue };
        if let Some(other) = taken.insert(port, name) {
            let why = format!("services.{other} has port {port}, too");
            return Err(wrong(path, &format!("services.{name}.port"), "two services have one port", &why));
        }
    }
    Ok(())
}

fn wrong(path: &str, key: &str, what: &str, why: &str) -> Failure {
    Failure::new(ExitCode::Environment, "stack-config", what).on(format!("{path}: {key}")).because(why)
}

#[cfg(test)]
mod tests {
    use super::super::{parse_stack, tests::GOOD};
    use super::*;

    fn failure(service: &str) -> Failure {
        let failure = parse_stack("stack.toml", &format!("{GOOD}[services.a]\ncommand = \"x\"\n{service}"));
        let failure = failure.unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "stack-config"));
        failure
    }

    #[test]
    fn a_service_reads_with_its_defaults() {
        let text = format!("{GOOD}[services.a]\ncommand = \"x\"\nport = 7\nhealth_path = \"/up\"\n");
        let stack = parse_stack("stack.toml", &text).unwrap();
        let service = &stack.services["a"];
        assert_eq!((service.grace_ms, service.restarts, service.port), (3_000, 0, Some(7)));
        assert_eq!(stack.grace_ms(), 3_000);
        let longer = parse_stack("stack.toml", &format!("{text}grace_ms = 4000\n")).unwrap();
        assert_eq!(longer.grace_ms(), 4_000);
    }

    #[test]
    fn what_a_service_must_not_say_has_its_key() {
        for (says, key, why) in [
            ("restarts = 11", "services.a.restarts", "it is 11, and must be 0 to 10"),
            ("grace_ms = 86400001", "services.a.grace_ms", "it is 86400001, and must be 0 to 86400000"),
            ("idle_ms = 0", "services.a.idle_ms", "it is 0, and must be 1 to 86400000"),
            ("idle_ms = 3", "services.a.idle_ms", "idle_ms 3 <= ceiling_ms 2 does not hold"),
            ("port = 0", "services.a.port", "a port is 1 to 65535"),
            ("ready_line = \"\"", "services.a.ready_line", "every line contains an empty text"),
            ("health_path = \"/up\"", "services.a.health_path", "it has no `port` on which it could answer"),
            ("port = 7\nhealth_path = \"up\"", "services.a.health_path", "a path begins with /"),
            (
                "port = 7\n[services.b]\ncommand = \"x\"\nport = 7",
                "services.b.port",
                "services.a has port 7, too",
            ),
            (
                "[services.gateway]\ncommand = \"x\"",
                "services.gateway",
                "the gateway is not a service beside itself",
            ),
            ("[services.\"../b\"]\ncommand = \"x\"", "services.../b", "a name is [A-Za-z0-9_-]{1,64}"),
        ] {
            let failure = failure(says);
            assert_eq!((&failure.on[0], &failure.why[0]), (&format!("stack.toml: {key}"), &why.to_owned()));
        }
        assert_eq!(failure("restart = 1").on, ["stack.toml:13:1"]);
        let text = GOOD.replace("command = \"g\"", "command = \"g\"\nrestarts = 11");
        assert_eq!(parse_stack("stack.toml", &text).unwrap_err().on, ["stack.toml: gateway.restarts"]);
    }

    #[test]
    fn a_stack_that_would_prove_nothing_is_refused() {
        let canary = "canary = { tool = \"t\", arguments = {}, result = [{ contains = \"x\" }] }\n";
        for (old, new, key, why) in [
            ("required_tools = [\"t\"]", "required_tools = []", "required_tools", "no tool is required"),
            (
                "required_tools = [\"t\"]",
                "required_tools = [\"\"]",
                "required_tools",
                "a name of a tool is empty",
            ),
            (
                "required_tools = [\"t\"]",
                "required_tools = [\"t\", \"t\"]",
                "required_tools",
                "t is required twice",
            ),
            (canary, "", "canary", "no tool is called"),
            (", result = [{ contains = \"x\" }]", "", "canary.result", "an empty list expects nothing"),
            ("contains = \"x\"", "contains = \"\"", "canary.result 1", "every text contains"),
            ("arguments = {}", "arguments = 3", "canary", "it needs a `tool`"),
        ] {
            assert!(GOOD.contains(old), "{old}");
            let failure = parse_stack("stack.toml", &GOOD.replace(old, new)).unwrap_err();
            assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "stack-config"));
            assert_eq!(failure.on, [format!("stack.toml: readiness.{key}")], "{new}");
            assert!(failure.why[0].contains(why) && failure.hint.is_some(), "{failure}");
        }
    }
}
