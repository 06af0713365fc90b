//! `soak`: many lifecycles, killed at any moment; and what is left of them.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use stelae_model::env::declared::STELAE_CACHE_HOME;
use stelae_model::{ExitCode, Failure, Isolation};
use stelae_run::guardian::{Wanted, decide};
use stelae_run::process::Family;
use stelae_run::soak::{Cycle, Kill, NEXT_WITHIN, Shape, Soak, Tally};

use crate::context::Context;
use crate::guard::{BY_HAND, Guard, IsolationFlag, over_in, scratch};
use crate::verb::Outcome;

/// `soak`
#[derive(Debug, Args)]
#[command(
    after_help = "Each lifecycle takes a lease, a workspace and a port, starts a service that gets away in one of \
                        eleven ways, and is stopped or killed"
)]
pub(crate) struct SoakVerb {
    /// How many lifecycles
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = runs)]
    runs: usize,
    /// How many at once
    #[arg(long, value_name = "J", default_value_t = 4, value_parser = jobs)]
    jobs: usize,
    /// Who is killed: nobody, everyone in turn once the service is up, or anyone at any moment
    #[arg(long, value_enum, value_name = "WHOM", default_value_t = KillFlag::Random)]
    kill: KillFlag,
    /// What the random choices begin with [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// So many threads keep the processors busy meanwhile
    #[arg(long, value_name = "N", default_value_t = 2)]
    load: usize,
}

fn runs(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&runs| runs > 0).ok_or_else(|| "expected 1 or more".to_owned())
}

fn jobs(text: &str) -> Result<usize, String> {
    // Each has a loopback address of its own, and there are fewer than 200.
    text.parse().ok().filter(|jobs| (1..=128).contains(jobs)).ok_or_else(|| "expected 1 to 128".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KillFlag {
    Never,
    Each,
    Random,
}

impl SoakVerb {
    /// How it is guarded: its lifecycles are, each by itself.
    pub(crate) fn guard() -> Guard {
        Guard { auto: Wanted::Guard, for_others: true, names_run: true, ..Guard::of_everything() }
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        over_in(NEXT_WITHIN);
        let interrupt = context.interrupt()?;
        let environment = context.environment()?;
        let family = Family::enter()?;
        let (isolations, program) = (isolations(context.isolation)?, context.program()?);
        let folder = scratch(&environment, "soak")?;
        let soak = Soak {
            runs: self.runs,
            jobs: self.jobs,
            kill: match self.kill {
                KillFlag::Never => Kill::Never,
                KillFlag::Each => Kill::Each,
                KillFlag::Random => Kill::Random,
            },
            seed: self.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ (nanos() << 20)),
            isolations,
            load: self.load,
            port: 20_000 + u16::try_from(nanos() % 10_000).unwrap_or(0),

            folder: folder.path().to_owned(),
            program,
        };
        let tally = soak.carry_out(&environment, &interrupt, &mut |done| {
            over_in(NEXT_WITHIN);
            if done % 50 == 0 {
                context.printer.talk(&format!("soak: {done} of {}", self.runs));
            }
        });
        drop(family);
        let clean = tally.as_ref().is_ok_and(Tally::is_clean);
        // What failed is read in the logs; what was clean, or cut short, leaves nothing.
        let removed = if clean || tally.is_err() { folder.remove_or(BY_HAND) } else { Ok(()) };
        let tally = tally?;
        context.printer.data(&tally, || tally.lines());
        removed?;
        if clean { Ok(ExitCode::Pass) } else { Err(left(&tally).on(soak.folder.to_string())) }
    }
}

fn left(tally: &Tally) -> Failure {
    let leaked = [&tally.survivors, &tally.leaked_leases, &tally.leaked_ports, &tally.leaked_folders];
    let count: usize = leaked.iter().map(|list| list.len()).sum();
    let hint = format!("cargo xtask soak --seed {}", tally.seed);
    if count > 0 {
        let what = format!("{count} things outlived the lifecycles that they were of");
        return Failure::new(ExitCode::Survivor, "survivor", what).hint(hint);
    }
    let what = format!("{} things did not go as a kill explains", tally.failed.len());
    let failure = Failure::new(ExitCode::StepFailed, "lifecycle-failed", what).hint(hint);
    tally.failed.first().cloned().into_iter().fold(failure, Failure::because)
}

/// Those that were asked for, and of those, the ones that are allowed here.
fn isolations(flag: IsolationFlag) -> Result<Vec<Isolation>, Failure> {
    Ok(match flag {
        IsolationFlag::Guard => vec![Isolation::Guard],
        IsolationFlag::Pidns => vec![decide(Wanted::Pidns, None)?],
        IsolationFlag::Auto => match decide(Wanted::Auto, None)? {
            Isolation::Pidns => vec![Isolation::Guard, Isolation::Pidns],
            Isolation::Guard => vec![Isolation::Guard],
        },
    })
}

fn nanos() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos())
}

/// `soak-cycle`: one lifecycle, started by `soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakCycle {
    #[arg(long)]
    run: String,
    #[arg(long, value_parser = shape)]
    shape: Shape,
    #[arg(long)]
    mark: String,
    #[arg(long)]
    workspace: Utf8PathBuf,
    #[arg(long, default_value_t = 7077)]
    port: u16,
    #[arg(long)]
    grace_ms: u64,
    #[arg(long)]
    hold_ms: u64,
}

fn shape(name: &str) -> Result<Shape, String> {
    Shape::named(name).ok_or_else(|| "there is no such shape".to_owned())
}

impl SoakCycle {
    /// How it is guarded.
    pub(crate) fn guard() -> Guard {
        Guard::of_everything()
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let environment = context.environment()?;
        let cycle = Cycle {
            run: self.run,
            shape: self.shape,
            mark: self.mark,
            workspace: self.workspace,
            leases: environment.get::<STELAE_CACHE_HOME>()?.join("leases"),
            port: self.port,
            grace: Duration::from_millis(self.grace_ms),
            hold: Duration::from_millis(self.hold_ms),
        };
        cycle.carry_out(&environment, &context.interrupt()?).map(|()| ExitCode::Pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_of_nothing_is_refused() {
        assert_eq!((runs("0").is_ok(), runs("1"), runs("x").is_ok()), (false, Ok(1), false));
    }
}
