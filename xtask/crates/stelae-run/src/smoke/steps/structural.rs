//! `structural`: the stack, looked at from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use stelae_model::env::declared::PATH;
use stelae_model::event::Event;
use stelae_model::flow::Step;
use stelae_model::proxy::{ServerHealth, ServerState};
use stelae_model::stack::parse_stack;
use stelae_model::{ExitCode, Failure};

use crate::attestation::attest_stack;
use crate::http::Http;
use crate::mcp::McpClient;
use crate::programs;
use crate::smoke::context::{SmokeContext, read};
use crate::smoke::sandbox::BORROWED;
use crate::smoke::state::{Attested, Restarted};
use crate::stack::StackConfig;
use crate::tail::tail;
use crate::watch::ask_servers;

/// Asks the endpoint for its tools, and every process for its environment.
#[derive(Debug)]
pub(crate) struct Structural;

impl Step for Structural {
    type Context = SmokeContext;
    type Needs = Restarted;
    type Gives = Attested;

    fn name(&self) -> String {
        "structural".to_owned()
    }

    fn perform(&self, cx: &mut SmokeContext, restarted: Restarted) -> Result<Attested, Failure> {
        check_stack(cx)?;
        let tools = list_tools(cx, &restarted)?;
        check_required(cx, &tools)?;
        check_servers(cx, &restarted)?;
        attest(cx, "environment.json")?;
        Ok(Attested { restarted, tools })
    }
}

/// That the stack is still up.
pub(super) fn check_stack(cx: &mut SmokeContext) -> Result<(), Failure> {
    match &mut cx.stack {
        Some(stack) => stack.check(&cx.recorder),
        None => Err(Failure::new(ExitCode::StepFailed, "service-died", "the stack that was left up is gone")
            .hint(format!("cargo xtask smoke --resume {} --from restart", cx.plan.run))),
    }
}

/// The supervisor looks at the gateway every 20 ms.
const DEATH_IS_SEEN: Duration = Duration::from_millis(500);

/// What the endpoint lists.
pub(super) fn list_tools(cx: &mut SmokeContext, restarted: &Restarted) -> Result<BTreeSet<String>, Failure> {
    let listed = McpClient::connect(&restarted.url, &[], cx.deadline).and_then(|mut client| {
        let tools = client.list_tools(cx.deadline)?;
        client.close(cx.deadline)?;
        Ok(tools)
    });
    let tools = listed.map_err(|error| {
        // When the endpoint is gone because the stack is, that is what happened.
        let until = cx.deadline.within(DEATH_IS_SEEN);
        while !until.passed() {
            if let Err(died) = check_stack(cx) {
                return died;
            }
            cx.interrupt.wait(Duration::from_millis(10));
        }
        let code = cx.deadline.exit_code(ExitCode::NotReadyInTime);
        let code = if cx.deadline.passed() { code } else { ExitCode::NotReadyInTime };
        Failure::new(code, "endpoint-unusable", "the endpoint does not list its tools")
            .on(restarted.url.clone())
            .because(error.to_string())
            .log_tail(tail(&cx.log("gateway")))
            .hint(format!("look at the gateway's log: {}", cx.log("gateway")))
    })?;
    Ok(tools.into_iter().map(|tool| tool.name).collect())
}

fn check_required(cx: &SmokeContext, tools: &BTreeSet<String>) -> Result<(), Failure> {
    let path = cx.sandbox.repo().join("config/stack.toml");
    let required = parse_stack(path.as_str(), &read(&path)?)?.readiness.required_tools;
    let missing: Vec<_> = required.into_iter().filter(|tool| !tools.contains(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        ExitCode::ReadyButIncomplete,
        "tools-missing",
        "the endpoint lists only some of the required tools",
    )
    .because(format!("missing: {}", missing.join(", ")))
    .hint(format!("look at the gateway's log: {}", cx.log("gateway"))))
}

/// That every required server is ready, and none has died since the start. Asked where the gateway says so.
pub(super) fn check_servers(cx: &SmokeContext, restarted: &Restarted) -> Result<(), Failure> {
    let path = cx.sandbox.repo().join("config/stack.toml");
    let rules = parse_stack(path.as_str(), &read(&path)?)?.readiness;
    let (Some(ready_path), Some(base)) = (rules.ready_path, restarted.url.strip_suffix(&rules.mcp_path))
    else {
        return Ok(());
    };
    let url = format!("{base}{ready_path}");
    let asked = ask_servers(&Http::new(), &url, cx.deadline).map_err(|why| {
        let what = "the gateway does not say how its servers are";
        Failure::new(ExitCode::NotReadyInTime, "endpoint-unusable", what)
            .because(why)
            .log_tail(tail(&cx.log("gateway")))
            .hint(format!("look at the gateway's log: {}", cx.log("gateway")))
    })?;
    let Some(readiness) = asked else { return Ok(()) };
    let unwell = |health: &ServerHealth| {
        health.required && (health.state != ServerState::Ready || health.restarts > 0)
    };
    let failure = Failure::new(
        ExitCode::ReadyButIncomplete,
        "servers-not-ready",
        "a required server does not stay ready",
    )
    .on(url);
    let unwell: Vec<_> = readiness.servers.iter().filter(|(_, health)| unwell(health)).collect();
    if unwell.is_empty() {
        return Ok(());
    }
    let failure = unwell.into_iter().fold(failure, |failure, (name, health)| {
        let reason = health.reason.clone().unwrap_or_else(|| "it is ready now".to_owned());
        failure.because(format!("server {name} died {} times; {reason}", health.restarts))
    });
    Err(failure
        .log_tail(tail(&cx.log("gateway")))
        .hint(format!("look at the gateway's log: {}", cx.log("gateway"))))
}

/// Compares every live process's environment with what the run declared, and keeps the report under this name.
pub(super) fn attest(cx: &SmokeContext, report: &str) -> Result<(), Failure> {
    let inside = cx.sandbox.environment(&cx.host)?;
    let config = StackConfig::read(&inside, None)?;
    let supervisor = cx.stack.as_ref().map_or(0, super::super::stack::LiveStack::supervisor);
    let attestation = attest_stack(&inside, &config, supervisor)?;
    let borrowed = BORROWED.iter().filter_map(|name| {
        let resolved = cx.host.resolved(name)?;
        Some(json!({"variable": name, "value": resolved.shown()?}))
    });
    let borrowed: Vec<_> = borrowed.collect();
    let path = inside.get::<PATH>()?;
    let cargo = programs::find("cargo", path.as_str())?;
    cx.keep_json(
        report,
        &json!({
            "schema": 1,
            "borrowed": borrowed,
            "programs": {"git": cx.git.program(), "cargo": cargo},
            "processes": attestation.processes,
            "differences": attestation.differences,
        }),
    );
    cx.recorder.event(Event::Attested {
        processes: attestation.processes.len(),
        differences: attestation.differences.len(),
    });
    attestation.verdict().map_err(|failure| failure.on(cx.folder.join(report).to_string()))
}
