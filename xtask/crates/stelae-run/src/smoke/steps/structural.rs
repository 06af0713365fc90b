//! `structural`: the stack, looked at from outside.

use std::time::Duration;

use serde_json::json;
use stelae_model::catalog::{Catalog, NotFound};
use stelae_model::env::Environment;
use stelae_model::env::declared::PATH;
use stelae_model::event::Event;
use stelae_model::flow::Step;
use stelae_model::proxy::{ServerHealth, ServerState};
use stelae_model::{ExitCode, Failure};

use crate::attestation::attest_stack;
use crate::http::Http;
use crate::programs;
use crate::sessions::Sessions;
use crate::smoke::context::SmokeContext;
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
        let catalog = list_tools(cx, &restarted)?;
        check_required(cx, &catalog)?;
        check_servers(cx)?;
        attest(cx, "environment.json")?;
        Ok(Attested { restarted, tools: catalog.names().into_iter().collect() })
    }
}

/// The sandbox's variables, and the stack as they and the clone describe it.
fn stack(cx: &SmokeContext) -> Result<(Environment, StackConfig), Failure> {
    let inside = cx.sandbox.environment(&cx.host)?;
    let config = StackConfig::read(&inside, None, &cx.plan.gateway)?;
    Ok((inside, config))
}

/// That the stack is still up.
pub(super) fn check_stack(cx: &mut SmokeContext) -> Result<(), Failure> {
    match &mut cx.stack {
        Some(stack) => stack.check(&cx.plan.run, &cx.recorder),
        None => Err(Failure::new(ExitCode::StepFailed, "service-died", "the stack that was left up is gone")
            .hint(format!("cargo xtask smoke --resume {} --from restart", cx.plan.run))),
    }
}

/// The supervisor looks at the gateway every 20 ms.
const DEATH_IS_SEEN: Duration = Duration::from_millis(500);

/// The failure with which the stack died, if it did just now: whoever talks to it may notice first.
pub(super) fn stack_died(cx: &mut SmokeContext) -> Option<Failure> {
    let until = cx.deadline.within(DEATH_IS_SEEN);
    while !until.passed() {
        if let Err(died) = check_stack(cx) {
            return Some(died);
        }
        cx.interrupt.wait(Duration::from_millis(10));
    }
    None
}

/// What the endpoints list.
pub(super) fn list_tools(cx: &mut SmokeContext, restarted: &Restarted) -> Result<Catalog, Failure> {
    let endpoints = &restarted.endpoints;
    let (inside, config) = stack(cx)?;
    let headers = config.client_headers(&inside)?;
    let listed = Sessions::connect(endpoints, &headers, cx.deadline)
        .map_err(|error| error.to_string())
        .and_then(|sessions| {
            let catalog = sessions.catalog().clone();
            sessions.close(cx.deadline).map_err(|error| error.to_string())?;
            Ok(catalog)
        });
    listed.map_err(|why| {
        // When the endpoint is gone because the stack is, that is what happened.
        if let Some(died) = stack_died(cx) {
            return died;
        }
        let code = cx.deadline.exit_code(ExitCode::NotReadyInTime);
        let code = if cx.deadline.passed() { code } else { ExitCode::NotReadyInTime };
        Failure::new(code, "endpoint-unusable", "the endpoint does not list its tools")
            .on(endpoints.url.clone())
            .because(why)
            .log_tail(tail(&cx.log("gateway")))
            .hint(format!("look at the gateway's log: {}", cx.log("gateway")))
    })
}

fn check_required(cx: &SmokeContext, catalog: &Catalog) -> Result<(), Failure> {
    let required = stack(cx)?.1.stack.readiness.required_tools;
    let missing: Vec<_> =
        required.iter().filter_map(|tool| Some((tool, catalog.find(tool).err()?))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(tool, _)| tool.as_str()).collect();
    let ambiguous = missing.iter().filter(|(_, why)| matches!(why, NotFound::Ambiguous { .. }));
    let failure = Failure::new(
        ExitCode::ReadyButIncomplete,
        "tools-missing",
        "the endpoint lists only some of the required tools",
    )
    .because(format!("missing: {}", names.join(", ")));
    Err(ambiguous
        .fold(failure, |failure, (_, why)| failure.because(why.to_string()))
        .hint(format!("look at the gateway's log: {}", cx.log("gateway"))))
}

/// That every required server is ready, and none has died since the start. Asked where the gateway says so.
pub(super) fn check_servers(cx: &SmokeContext) -> Result<(), Failure> {
    // A foreign gateway has no such path: whether its servers live, the attestation sees.
    let Some(url) = stack(cx)?.1.ready_url() else { return Ok(()) };
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
    let (inside, config) = stack(cx)?;
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
