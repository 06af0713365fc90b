//! `selftest`: a live witness for every exit code.

use std::time::Duration;

use clap::Args;
use stelae_model::env::Environment;
use stelae_model::{ExitCode, Failure};
use stelae_run::guardian::Wanted;
use stelae_run::process::Family;
use stelae_run::record::Recorder;
use stelae_run::selftest::{BUILDS_WITHIN, Report, Selftest as Hearing, gateway_stack};
use stelae_run::signals::Interrupt;

use crate::context::Context;
use crate::gateway::ensure_gateway;
use crate::guard::{BY_HAND, Guard, over_in, scratch};
use crate::verb::Outcome;

/// The gateway is built within less, and so is a witness heard: it may build, on a stage that git makes.
const NEXT_WITHIN: Duration = BUILDS_WITHIN.saturating_mul(2);

/// `selftest`
#[derive(Debug, Args)]
#[command(
    after_help = "Each witness starts this very program, which really ends with the code, says so, and leaves nothing"
)]
pub(crate) struct Selftest {
    /// Hears only the witness for this code; may be said more than once [default: all]
    #[arg(long, value_name = "CODE", value_parser = code)]
    only: Vec<ExitCode>,
}

fn code(text: &str) -> Result<ExitCode, String> {
    let number: u8 = text.parse().map_err(|_| "expected a number".to_owned())?;
    let code = ExitCode::try_from(number)?;
    code.awaits().map_or(Ok(code), |feature| Err(format!("nobody can have seen it yet: it awaits {feature}")))
}

impl Selftest {
    /// How it is guarded: those whom it starts are, each by itself.
    pub(crate) fn guard() -> Guard {
        Guard { auto: Wanted::Guard, for_others: true, names_run: true, ..Guard::of_everything() }
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        over_in(NEXT_WITHIN);
        let interrupt = context.interrupt()?;
        let family = Family::enter()?;
        let environment = context.environment()?;
        let program = context.program()?;
        let folder = scratch(&environment, "selftest")?;
        let hearing = Hearing { only: self.only, folder: folder.path().to_owned(), program };
        let report = hear(&hearing, context, &environment, &interrupt);
        drop(family);
        // What was seen is in the report.
        let removed = folder.remove_or(BY_HAND);
        let report = report?;
        context.printer.data(&report, || report.lines());
        report.check()?;
        removed.map(|()| ExitCode::Pass)
    }
}

fn hear(
    hearing: &Hearing,
    context: &Context,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<Report, Failure> {
    if hearing.hears(ExitCode::ReadyButIncomplete) {
        let recorder = Recorder::to_listeners(Vec::new());
        let log = hearing.folder.join("cargo.log");
        ensure_gateway(environment, &gateway_stack()?.gateway, &log, interrupt, &recorder)?;
    }
    hearing.carry_out(environment, interrupt, &mut |witness| {
        over_in(NEXT_WITHIN);
        context.printer.talk(&format!("selftest: {}: {}", witness.code.number(), witness.scenario));
    })
}
