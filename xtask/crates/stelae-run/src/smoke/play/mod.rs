//! A stage, played by the builtin agent or by an agent CLI, by the run or by hand; and judged by everybody who saw it.
//!
//! ```text
//! papers     what is kept of a stage, and where
//! pace       how long the agent waited for what
//! prepare    who is started, with what: script, prompt, home, invocation
//! manual     the same, for a person to start
//! verdict    transcript, model and gateway, put before the judge
//! golden     what of it is the same in every run
//! ```

mod golden;
mod manual;
mod pace;
mod papers;
mod prepare;
mod verdict;

pub use golden::golden_file;
pub(crate) use golden::{conclude_golden, keep_golden, read_golden};
pub(crate) use manual::manual_instructions;
pub(crate) use prepare::{check_prompts, check_settings};
pub(crate) use verdict::CALLS;

use stelae_model::Failure;
use stelae_model::catalog::Catalog;
use stelae_model::env::attest::Attestation;
use stelae_model::expect::Stage;
use stelae_model::room::RoomReport;

use super::context::SmokeContext;
use super::state::Restarted;
use crate::attestation::attest_program;
use crate::files::read_regular_text;
use crate::process::{self, Limits};
use pace::Pace;
use papers::Papers;
use prepare::{Prepared, prepare};
use verdict::{Begun, judge_stage};

/// Plays a stage, and judges it.
///
/// # Errors
/// What the judge says; what keeps the agent from being started; exit 30 or 31 when it does not end.
pub(crate) fn play(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    catalog: &Catalog,
) -> Result<(), Failure> {
    let papers = Papers::of(cx, &stage.name);
    papers.clear()?;
    let prepared = prepare(cx, stage, restarted, catalog, &papers)?;
    let begun = Begun::now(cx)?;
    let ended = run(cx, &prepared, &papers);
    // Whatever the agent says of itself: what it tried to reach is told first.
    tell_of_attempts(cx, &papers);
    let judged = judge_stage(cx, stage, &papers, begun);
    match (ended, judged) {
        (Ok(finished), Ok(())) => {
            // The transcript says more than the exit code, so it is judged first; but a bad exit is never green.
            finished.success_or_failure().map(drop)
        }
        (Ok(_), Err(failure)) => Err(failure),
        // What did not end was cut short: how far it came is why.
        (Err(stopped), Err(failure)) => {
            let why = failure.why.into_iter().fold(stopped.because(failure.what), Failure::because);
            Err(why)
        }
        (Err(stopped), Ok(())) => Err(stopped),
    }
}

/// Judges a stage that was played by hand.
///
/// # Errors
/// What the judge says; exit 11, `transcript-missing`, when it was not.
pub(crate) fn judge_by_hand(cx: &SmokeContext, stage: &Stage) -> Result<(), Failure> {
    let papers = Papers::of(cx, &stage.name);
    cx.recorder.note(format!("judging what was done by hand: {}", papers.transcript));
    tell_of_attempts(cx, &papers);
    judge_stage(cx, stage, &papers, Begun::by_hand(cx, &papers)?)
}

fn run(cx: &SmokeContext, prepared: &Prepared, papers: &Papers) -> Result<process::Finished, Failure> {
    let limits = Limits {
        deadline: cx.deadline,
        interrupt: &cx.interrupt,
        stdout: &papers.transcript,
        stderr: &papers.complaints,
    };
    let invocation = &prepared.invocation;
    let program = cx.plan.agent_program.as_ref().map_or(&invocation.program, |program| &program.path);
    let mut pace = Pace::new(cx.plan.agent);
    let mut attested = None;
    let finished = process::run(invocation, &limits, &mut |stream, line| match stream {
        process::Stream::Stdout => {
            pace.line(line);
            // It has said its first word, so it is what it was started as.
            attested.get_or_insert_with(|| attest_program(invocation, program));
        }
        process::Stream::Stderr => cx.recorder.line("agent", line),
    });
    let waits = pace.over();
    for wait in &waits {
        cx.recorder.warn(format!("the agent waited {wait}"));
    }
    let finished = finished.map_err(|stopped| {
        waits.iter().fold(stopped, |stopped, wait| stopped.because(format!("the agent waited {wait}")))
    })?;
    check_environment(cx, papers, attested.transpose()?.flatten())?;
    Ok(cx.recorder.minding_leaks(finished))
}

/// That the agent had the environment that it was given, as far as it lived for long enough to be looked at.
fn check_environment(
    cx: &SmokeContext,
    papers: &Papers,
    attested: Option<Attestation>,
) -> Result<(), Failure> {
    let Some(attestation) = attested else {
        cx.recorder.note("the agent ended before its environment could be read");
        return Ok(());
    };
    let report = papers.named("environment.json");
    cx.keep_json(&report, &attestation);
    attestation.verdict().map_err(|failure| failure.on(cx.folder.join(&report).to_string()))
}

/// Says so when an agent wanted to go where it should not.
fn tell_of_attempts(cx: &SmokeContext, papers: &Papers) {
    let Ok(text) = read_regular_text(&papers.network) else { return };
    match serde_json::from_str::<RoomReport>(&text) {
        Ok(report) if report.attempts.any() => {
            let named = match &report.attempts.named[..] {
                [] => String::new(),
                named => format!(": {}", named.join(", ")),
            };
            cx.recorder
                .warn(format!("the agent tried to reach somebody else{named}; see {}", papers.network));
        }
        Ok(report) => {
            if let Some(why) = report.why {
                cx.recorder.note(format!("nothing but its settings kept the agent from the network: {why}"));
            }
        }
        Err(error) => cx.recorder.warn(format!("{} cannot be read: {error}", papers.network)),
    }
}
