//! `bench`: measures, against aims and against others.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use stelae_model::bench::Report;
use stelae_model::env::declared::{PATH, STELAE_ROOT, STELAE_RUN_ID};
use stelae_model::env::programs::CARGO;
use stelae_model::env::{Base, CargoEnv, Environment, ProgramEnv as _, Variable as _};
use stelae_model::lifecycle::StopLimits;
use stelae_model::terminal::Lines;
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_model::{ExitCode, Failure};
use stelae_run::bench::{Bench as Measurement, GATEWAYS, Gateway, TARGET_LIMIT};
use stelae_run::deadline::Deadline;
use stelae_run::guardian::{Dead, guarded};
use stelae_run::process::{self, Family, Limits};
use stelae_run::programs;
use stelae_run::signals::Interrupt;

use crate::context::{Context, absolute};
use crate::gateway::cargo_folder;
use crate::guard::{BY_HAND, Guard, over_in, scratch};
use crate::verb::Outcome;

/// A cold release build takes minutes; this is for a machine that does something else meanwhile.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// `bench`
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// What the gateway costs: a call, many clients, memory, and the time until every tool is listed
    Gateway(BenchGateway),
}

/// `bench gateway`
#[derive(Debug, Args)]
#[command(
    after_help = "Our gateway in its release build, no gateway at all, and others take turns, each with the same three \
                        servers. Every answer is looked at"
)]
pub(crate) struct BenchGateway {
    /// How many rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    rounds: usize,
    /// Calls one after the other, of each gateway in each round
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = at_least_one)]
    calls: usize,
    /// Clients at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    clients: usize,
    /// Calls of each of them
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one)]
    calls_each: usize,
    /// Measures another gateway, too: mcp-hub or mcp-proxy, and its program; may be said more than once
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = peer)]
    peer: Vec<Peer>,
    /// Exits 11 when an aim does not hold
    #[arg(long)]
    check: bool,
}

/// Another gateway.
#[derive(Clone, Debug)]
struct Peer {
    gateway: &'static Gateway,
    program: Utf8PathBuf,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "expected 1 or more".to_owned())
}

fn peer(text: &str) -> Result<Peer, String> {
    let (name, program) = text.split_once('=').ok_or("expected NAME=PROGRAM")?;
    // The first is ours, which is always measured.
    let mut others = GATEWAYS.iter().skip(1);
    let gateway = others.find(|gateway| gateway.name == name).ok_or_else(|| {
        let known: Vec<_> = GATEWAYS.iter().skip(1).map(|gateway| gateway.name).collect();
        format!("nobody knows how to start it; known are {}", known.join(", "))
    })?;
    if program.is_empty() {
        return Err("expected NAME=PROGRAM, and there is no program".to_owned());
    }
    Ok(Peer { gateway, program: program.into() })
}

impl Bench {
    /// How it is guarded.
    pub(crate) fn guard() -> Guard {
        Guard { names_run: true, ..Guard::of_everything() }
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Gateway(verb) => verb.run(context),
        }
    }
}

impl BenchGateway {
    fn run(self, context: &Context) -> Outcome {
        over_in(BUILD_LIMIT);
        let interrupt = context.interrupt()?;
        let environment = context.environment()?;
        let family = Family::enter()?;
        let folder = scratch(&environment, "bench")?;
        let registered = register(&environment, folder.path());
        let measured =
            registered.and_then(|()| self.measure(context, &environment, folder.path(), &interrupt));
        let stopped = family.stop(StopLimits::default(), &interrupt, &mut |_| {});
        // What failed has the end of its log in the failure.
        let removed = folder.remove_or(BY_HAND);
        let report = measured?;
        context.printer.data(&report, || Lines::block("", &report.text()));
        stopped.check()?;
        removed?;
        if self.check && !report.holds() { Err(missed(&report)) } else { Ok(ExitCode::Pass) }
    }

    fn measure(
        &self,
        context: &Context,
        environment: &Environment,
        folder: &Utf8Path,
        interrupt: &Interrupt,
    ) -> Result<Report, Failure> {
        let mut gateways = Vec::new();
        for Peer { gateway, program } in &self.peer {
            gateways.push((*gateway, absolute(program)?));
        }
        context.printer.talk("bench: cargo builds the gateway for release, or finds it fresh");
        let release = build(environment, &folder.join("cargo.log"), interrupt)?;
        gateways.insert(0, (&GATEWAYS[0], release.join("stelae-gateway")));
        let measurement = Measurement {
            rounds: self.rounds,
            calls: self.calls,
            clients: self.clients,
            calls_each: self.calls_each,
            gateways,
            server: release.join("mcp-fixture"),
            folder: folder.to_owned(),
        };
        measurement.carry_out(environment, interrupt, &mut |round, target| {
            over_in(TARGET_LIMIT);
            context.printer.talk(&format!("bench: round {round} of {}: {target}", self.rounds));
        })
    }
}

/// Says what the next start removes, should this be killed: whoever works in the folder carries the run's id, and is ended
/// before.
fn register(environment: &Environment, folder: &Utf8Path) -> Result<(), Failure> {
    let (Some(guarded), Some(run)) = (guarded(), environment.text(STELAE_RUN_ID::DECLARED.name)) else {
        return Ok(());
    };
    guarded.register(&Dead::new(run, Some(folder.to_owned())))
}

/// Has cargo build the gateway and the server behind it; says the folder of the programs.
fn build(environment: &Environment, log: &Utf8Path, interrupt: &Interrupt) -> Result<Utf8PathBuf, Failure> {
    let root = environment.get::<STELAE_ROOT>()?.as_path().to_owned();
    let target = cargo_folder(environment)?.map_or_else(|| root.join("target"), |(target, _)| target);
    let cargo = programs::find("cargo", environment.get::<PATH>()?.as_str())?;
    let target_dir = AbsolutePath::parse(target.as_str()).map_err(Failure::unexpected)?;
    let env = CargoEnv { target_dir: Some(target_dir), ..CargoEnv::from_environment(environment)? };
    let invocation = CARGO
        .invoke(cargo, root, &Base::from_environment(environment)?, &env)
        .args(["build", "--release", "--locked", "--package", "stelae-gateway"])
        .args(["--bin", "stelae-gateway", "--bin", "mcp-fixture"]);
    let limits = Limits { deadline: Deadline::after(BUILD_LIMIT), interrupt, stdout: log, stderr: log };
    process::run(&invocation, &limits, &mut |_, _| {})?.success_or_failure()?;
    Ok(target.join("release"))
}

fn missed(report: &Report) -> Failure {
    let missed: Vec<_> = report.aims.iter().filter(|aim| !aim.holds).collect();
    let what = format!("{} of {} aims do not hold", missed.len(), report.aims.len());
    let failure = Failure::new(ExitCode::ExpectationNotMet, "aims-missed", what);
    let failure = missed.iter().fold(failure, |failure, aim| {
        let measured = aim.measured.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.3}"));
        failure.because(format!("{}: {measured}", aim.what))
    });
    failure.hint("a machine that does something else measures that, too: cargo xtask bench gateway --rounds 15 --check")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_one_of_those_that_can_be_started() {
        let hub = peer("mcp-hub=/opt/hub").unwrap();
        assert_eq!((hub.gateway.name, hub.program.as_str()), ("mcp-hub", "/opt/hub"));
        assert!(peer("stelae-gateway=/x").is_err(), "ours is always measured");
        assert!(peer("nobody=/x").unwrap_err().ends_with("mcp-hub, mcp-proxy"));
        assert!(peer("mcp-hub").is_err());
        assert!(peer("mcp-hub=").is_err());
    }
}
