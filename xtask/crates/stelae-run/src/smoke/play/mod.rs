//! A stage, played by the builtin agent or by an agent CLI, by the run or by hand; and judged by everybody who saw it.
//!
//! ```text
//! papers     what is kept of a stage, and where
//! pace       how long the agent waited for what
//! prepare    who is started, with what: script, prompt, home, invocation
//! manual     the same, for a person to start
//! loan       what the agent of a person was lent, taken back
//! room       what kept the agent from going elsewhere, and whether it did
//! verdict    transcript, model and gateway, put before the judge
//! golden     what of it is the same in every run
//! ```

mod golden;
mod loan;
mod manual;
mod pace;
mod papers;
mod prepare;
mod room;
mod verdict;

pub use golden::golden_file;
pub(crate) use golden::{conclude_golden, keep_golden, read_golden};
pub(crate) use loan::take_back;
pub use loan::take_back_all;
pub(crate) use manual::manual_instructions;
pub(crate) use prepare::{check_prompts, check_settings};
pub(crate) use verdict::{CALLS, check_nothing_since};

use stelae_model::Failure;
use stelae_model::agent::{Agent, Model};
use stelae_model::catalog::Catalog;
use stelae_model::env::attest::Attestation;
use stelae_model::expect::Stage;

use super::context::SmokeContext;
use super::state::Restarted;
use crate::agents::AgentHome;
use crate::attestation::attest_program;
use crate::process::{self, Limits};
use pace::Pace;
use papers::Papers;
use prepare::{Prepared, prepare};
use room::{check_room, tell_of_attempts};
use verdict::{BEGUN, Begun, cut, judge_stage};

/// Plays a stage, and judges it. Gives how many calls the gateway had been given by then.
///
/// # Errors
/// What the judge says; what keeps the agent from being started; exit 10 or 124 when it does not end; 20,
/// `environment-differs`.
pub(crate) fn play(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    catalog: &Catalog,
) -> Result<usize, Failure> {
    let papers = Papers::begin(cx, &stage.name)?;
    let prepared = prepare(cx, stage, restarted, catalog, &papers)?;
    let begun = Begun::now(cx, restarted)?;
    let (ended, attested) = run(cx, &prepared, &papers);
    // The agent is gone, and nobody needs them any more. What does not go back keeps the workspace from being removed.
    if let Some(failure) = prepared.home.and_then(|home| home.give_back().err()) {
        cx.recorder.warn(failure.to_string().replace('\n', "; "));
    }
    tell_of_attempts(cx, &papers);
    let finished = match ended {
        Ok(finished) => finished,
        Err(stopped) => return Err(cut_short(cx, stage, restarted, &papers, begun, stopped)),
    };
    if cx.plan.agent != Agent::Builtin && cx.plan.model == Model::Scripted {
        check_room(&finished, &papers)?;
    }
    // The transcript says more than the exit code, so it is judged first; but a bad exit is never green.
    let calls = judge_stage(cx, stage, restarted, &papers, begun)?;
    finished.success_or_failure().map_err(|failure| {
        // The room around an agent ends as that did, and cannot die of its signal.
        failure.because("everything was done and told of; above 128 the number is that of a signal")
    })?;
    check_environment(cx, &papers, attested.transpose()?.flatten())?;
    Ok(calls)
}

/// An agent that did not end: how far it came is why.
fn cut_short(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    papers: &Papers,
    begun: Begun,
    stopped: Failure,
) -> Failure {
    match judge_stage(cx, stage, restarted, papers, begun) {
        Ok(_) => stopped.because("it had done everything, had said so, and did not end"),
        // Our own signal is no reason.
        Err(failure) if failure.kind == "model-unreached" => stopped.because("it never reached its model"),
        Err(failure) => failure.why.into_iter().fold(stopped.because(failure.what), Failure::because),
    }
}

/// Judges a stage that was played by hand.
///
/// # Errors
/// What the judge says; exit 11, `transcript-missing`, when it was not.
pub(crate) fn judge_by_hand(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
) -> Result<usize, Failure> {
    let papers = Papers::of(cx, &stage.name);
    cx.recorder.note(format!("judging what was done by hand: {}", papers.transcript));
    cut(cx, &papers);
    tell_of_attempts(cx, &papers);
    judge_stage(cx, stage, restarted, &papers, Begun::by_hand(cx, &papers)?)
}

/// Whether a stage was given to a person to play.
pub(crate) fn is_by_hand(cx: &SmokeContext, name: &str) -> bool {
    cx.folder.join(&Papers::of(cx, name).named(BEGUN)).exists()
}

/// What came of the run of an agent, and what it had in its environment.
type Played = (Result<process::Finished, Failure>, Option<Result<Option<Attestation>, Failure>>);

fn run(cx: &SmokeContext, prepared: &Prepared, papers: &Papers) -> Played {
    let limits = Limits {
        deadline: cx.deadline,
        interrupt: &cx.interrupt,
        stdout: &papers.transcript,
        stderr: &papers.complaints,
    };
    let invocation = &prepared.invocation;
    for secret in prepared.home.iter().flat_map(AgentHome::secrets) {
        cx.recorder.hide(&secret);
    }
    let mut pace = Pace::new(cx.plan.agent);
    let mut attested = None;
    let finished = process::run(invocation, &limits, &mut |stream, line| match stream {
        process::Stream::Stdout => {
            pace.line(line);
            // It has said its first word, so it is what it was started as.
            attested.get_or_insert_with(|| attest_program(invocation, prepared.starter.as_deref()));
        }
        process::Stream::Stderr => cx.recorder.line("agent", line),
    });
    let waits = pace.over();
    for wait in &waits {
        cx.recorder.warn(format!("the agent waited {wait}"));
    }
    let finished = finished.map(|finished| cx.recorder.minding_leaks(finished)).map_err(|stopped| {
        waits.iter().fold(stopped, |stopped, wait| stopped.because(format!("the agent waited {wait}")))
    });
    cut(cx, papers);
    let hidden = prepared
        .home
        .as_ref()
        .map_or(Ok(()), |home| home.hide_credentials(&[&papers.transcript, &papers.complaints]));
    (hidden.and(finished), attested)
}

/// That the agent had the environment that it was given, as far as it lived for long enough to be looked at.
fn check_environment(
    cx: &SmokeContext,
    papers: &Papers,
    attested: Option<Attestation>,
) -> Result<(), Failure> {
    let Some(attestation) = attested else {
        cx.recorder.warn(
            "nobody looked at the agent's environment: it was not there, or not any more, when it spoke",
        );
        return Ok(());
    };
    let report = papers.named("environment.json");
    cx.keep_json(&report, &attestation);
    attestation.verdict().map_err(|failure| failure.on(cx.folder.join(&report).to_string()))
}
