//! `structural`: the stack, looked at from outside.

use std::time::Duration;

use serde_json::json;
use stelae_model::catalog::{Catalog, NotFound};
use stelae_model::env::Environment;
use stelae_model::event::Event;
use stelae_model::flow::Step;
use stelae_model::proxy::{Readiness, ServerHealth, ServerState};
use stelae_model::starts::{FileIdentity, StartRecord, read_starts};
use stelae_model::{ExitCode, Failure};

use super::host::{self, Named};
use crate::attestation::attest_stack;
use crate::files::{limits, read_untrusted_text};
use crate::http::Http;
use crate::process::{beside_calls, tree};
use crate::sealed::{Sealed, changed};
use crate::sessions::Sessions;
use crate::smoke::context::SmokeContext;
use crate::smoke::engine::file_of;
use crate::smoke::manifest;
use crate::smoke::sandbox::BORROWED;
use crate::smoke::servers::check_deaths;
use crate::smoke::stack::gone;
use crate::smoke::state::{Attested, Restarted};
use crate::stack::StackConfig;
use crate::tail::tail;
use crate::watch::{Follower, ask_servers};

/// The report of this step; those of the stages have the stage in their name.
const FIRST_REPORT: &str = "environment.json";

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
        check_deaths(cx, &restarted)?;
        let catalog = list_tools(cx, &restarted)?;
        check_required(cx, &catalog)?;
        check_servers(cx)?;
        attest(cx, FIRST_REPORT, &restarted)?;
        manifest::check_step(cx, "structural", &["restart"])?;
        Ok(Attested { restarted, tools: catalog.names().into_iter().collect() })
    }
}

/// The sandbox's variables, and the stack as they and the clone describe it.
pub(crate) fn stack(cx: &SmokeContext) -> Result<(Environment, StackConfig), Failure> {
    let inside = cx.sandbox.environment(&cx.host)?;
    let config = StackConfig::read(&inside, None, &cx.plan.gateway)?;
    Ok((inside, config))
}

/// That the stack is still up.
pub(crate) fn check_stack(cx: &mut SmokeContext) -> Result<(), Failure> {
    match &mut cx.stack {
        Some(stack) => stack.check(&cx.plan.run, &cx.recorder),
        None => {
            let left_up: Option<Restarted> = cx.folder.read_json(&file_of("restart")).ok();
            let log = cx.log("restart");
            let records = left_up.map(|restarted| Follower::of_records(&log, restarted.supervisor_log_start));
            Err(gone(records, &cx.plan.run))
        }
    }
}

/// The supervisor looks at the gateway every 20 ms.
const DEATH_IS_SEEN: Duration = Duration::from_millis(500);

/// The failure with which the stack died, if it did just now: whoever talks to it may notice first.
pub(crate) fn stack_died(cx: &mut SmokeContext) -> Option<Failure> {
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
    let (connected, deadline) = (endpoints.clone(), cx.deadline);
    let listed: Result<_, String> = cx.while_up(move || {
        let sessions =
            Sessions::connect(&connected, &headers, deadline).map_err(|error| error.to_string())?;
        let catalog = sessions.catalog().clone();
        sessions.close(deadline).map_err(|error| error.to_string())?;
        Ok(catalog)
    })?;
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

/// What the gateway says of its servers; nothing, where it does not.
///
/// # Errors
/// Exit 31, `endpoint-unusable`; what [`check_stack`] finds.
pub(crate) fn readiness(cx: &mut SmokeContext) -> Result<Option<Readiness>, Failure> {
    // A foreign gateway has no such path: whether its servers live, the attestation sees.
    let Some(url) = stack(cx)?.1.ready_url() else { return Ok(None) };
    let deadline = cx.deadline;
    cx.while_up(move || ask_servers(&Http::new(), &url, deadline))?.map_err(|why| {
        let what = "the gateway does not say how its servers are";
        Failure::new(ExitCode::NotReadyInTime, "endpoint-unusable", what)
            .because(why)
            .log_tail(tail(&cx.log("gateway")))
            .hint(format!("look at the gateway's log: {}", cx.log("gateway")))
    })
}

/// That every required server is ready. Asked where the gateway says so.
pub(super) fn check_servers(cx: &mut SmokeContext) -> Result<(), Failure> {
    let Some(readiness) = readiness(cx)? else { return Ok(()) };
    let unwell = |health: &ServerHealth| health.required && health.state != ServerState::Ready;
    let failure =
        Failure::new(ExitCode::ReadyButIncomplete, "servers-not-ready", "a required server is not ready")
            .on(stack(cx)?.1.ready_url().unwrap_or_default());
    let unwell: Vec<_> = readiness.servers.iter().filter(|(_, health)| unwell(health)).collect();
    if unwell.is_empty() {
        return Ok(());
    }
    let failure = unwell.into_iter().fold(failure, |failure, (name, health)| {
        let reason = health.reason.as_deref().unwrap_or("it is being started");
        failure.because(format!("server {name}: {reason}"))
    });
    Err(failure
        .log_tail(tail(&cx.log("gateway")))
        .hint(format!("look at the gateway's log: {}", cx.log("gateway"))))
}

/// Compares every live process's environment with what the run declared, and keeps the report under this name.
pub(super) fn attest(cx: &SmokeContext, report: &str, restarted: &Restarted) -> Result<(), Failure> {
    let (inside, config) = stack(cx)?;
    let supervisor = cx.stack.as_ref().map_or(0, super::super::stack::LiveStack::supervisor);
    let named = if report == FIRST_REPORT { Named::All } else { Named::Executed };
    let (attestation, programs) = std::thread::scope(|scope| {
        let programs = scope.spawn(|| host::programs(cx, &inside, supervisor, named));
        let attestation = attest_stack(&inside, &config, supervisor, &|| starts(restarted));
        (attestation, programs.join())
    });
    let attestation = attestation?;
    let programs = programs.unwrap_or_else(|_| Err(Failure::unexpected("the look at programs panicked")))?;
    cx.check_programs()?;
    check_executed(&cx.programs(), supervisor, &starts(restarted)?)?;
    let borrowed = BORROWED.iter().filter_map(|name| {
        let resolved = cx.host.resolved(name)?;
        Some(json!({"variable": name, "value": resolved.shown()?}))
    });
    let borrowed: Vec<_> = borrowed.collect();
    cx.keep_json(
        report,
        &json!({
            "schema": 1,
            "borrowed": borrowed,
            "programs": programs,
            "processes": attestation.processes,
            "not_compared": attestation.not_compared,
            "differences": attestation.differences,
        }),
    );
    cx.recorder.event(Event::Attested {
        processes: attestation.processes.len(),
        differences: attestation.differences.len(),
    });
    attestation.verdict().map_err(|failure| failure.on(cx.folder.join(report).to_string()))
}

/// What the supervisor and the gateway have recorded of what they started; nothing, when they keep no record.
fn starts(restarted: &Restarted) -> Result<Vec<StartRecord>, Failure> {
    let Some(path) = restarted.calls.as_deref().map(beside_calls) else { return Ok(Vec::new()) };
    match read_untrusted_text(&path, limits::TRANSCRIPT) {
        Ok(text) => read_starts(path.as_str(), &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Failure::new(
            ExitCode::StepFailed,
            "starts-unreadable",
            "the record of what was started cannot be read",
        )
        .on(path.to_string())
        .because(error.to_string())),
    }
}

/// That each process that was started from one of these programs executes that very file: it may have been another one for
/// the moment in which it was executed.
///
/// # Errors
/// Exit 50, `program-changed`.
fn check_executed(programs: &[Sealed], root: i32, starts: &[StartRecord]) -> Result<(), Failure> {
    let changed = |program: &Sealed, why: String| {
        Err(changed(&format!("{}, as it was built from the clone,", program.path), &program.path)
            .because(why))
    };
    let is_other = |executed: &FileIdentity, program: &Sealed| {
        program.identity.is_some_and(|identity| !identity.is_same_file(executed))
    };
    for start in starts {
        let Some(program) = programs.iter().find(|program| program.path == start.program) else { continue };
        if start.executed.is_some_and(|executed| is_other(&executed, program)) {
            let why = format!("{} was started from another file: pid {}", start.process, start.pid);
            return changed(program, why);
        }
    }
    // The kernel knows no symbolic links in a path.
    let real = |program: &Sealed| {
        let folder = program.path.parent()?.canonicalize_utf8().ok()?;
        Some(folder.join(program.path.file_name()?))
    };
    let programs: Vec<_> = programs.iter().filter_map(|program| Some((real(program)?, program))).collect();
    for pid in std::iter::once(root).chain(tree::descendants(root).into_iter().map(|row| row.pid)) {
        let Some((path, executed)) = tree::executed(pid) else { continue };
        let path = path.as_str().trim_end_matches(" (deleted)");
        let program = programs.iter().find(|(real, _)| real == path).map(|(_, program)| *program);
        if let Some(program) = program.filter(|program| is_other(&executed, program)) {
            return changed(program, format!("pid {pid} executes another file that was there"));
        }
    }
    Ok(())
}
