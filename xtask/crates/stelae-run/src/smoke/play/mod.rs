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
pub(crate) use golden::{conclude_golden, golden_to_compare, keep_golden};
pub(crate) use loan::take_back;
pub use loan::take_back_all;
pub(crate) use manual::manual_instructions;
pub(crate) use prepare::{check_prompts, check_settings, homes};
pub(crate) use verdict::{CALLS, check_nothing_since};

use std::io::pipe;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use stelae_model::agent::{Agent, Model};
use stelae_model::catalog::Catalog;
use stelae_model::env::attest::{Attestation, Difference};
use stelae_model::expect::Stage;
use stelae_model::{ExitCode, Failure};

use super::context::SmokeContext;
use super::protection::protected;
use super::stack::LiveStack;
use super::state::Restarted;
use crate::agents::{AgentHome, Gate, Passed};
use crate::process::{self, Limits};
use pace::Pace;
use papers::Papers;
use prepare::{Prepared, prepare};
use room::{check_room, tell_of_attempts};
use verdict::{BEGUN, Begun, cut, judge_stage};

/// The folder, in the workspace, of the socket that holds an agent.
const GATE: &str = "gate";

/// Plays a stage, and judges it. Gives how many calls the gateway had been given by then.
///
/// # Errors
/// What the judge says; what keeps the agent from being started; exit 10 or 124 when it does not end; 10, `service-died`, when the
/// stack dies while it plays, and it is ended for that; 20, `environment-differs`, `environment-unreadable`, `environment-unseen`; 50,
/// `program-changed`.
pub(crate) fn play(
    cx: &mut SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    catalog: &Catalog,
) -> Result<usize, Failure> {
    let papers = Papers::begin(cx, &stage.name)?;
    cx.check_programs()?;
    cx.check_agent()?;
    // Elsewhere a process cannot be looked at, and is not held for it.
    let gate = cfg!(target_os = "linux").then(|| Gate::open(&cx.sandbox.workspace.join(GATE))).transpose()?;
    let prepared = prepare(cx, stage, restarted, catalog, &papers, gate.as_ref().map(Gate::path))?;
    let begun = Begun::now(cx, restarted)?;
    let lent = prepared.home.as_ref().and_then(AgentHome::lent_file);
    let invocation = protected(cx, &prepared.invocation, lent)?;
    let prepared = Prepared { invocation, ..prepared };
    let (ended, attested) = run(cx, &prepared, &papers, gate);
    // The agent is gone, and nobody needs them any more. What does not go back keeps the workspace from being removed.
    if let Some(failure) = prepared.home.and_then(|home| home.give_back().err()) {
        cx.recorder.warn(failure.to_string().replace('\n', "; "));
    }
    tell_of_attempts(cx, &papers);
    // What kept the agent from being let go is the reason for everything else.
    let looks = attested?;
    let finished = match ended {
        Ok(finished) => finished,
        // How far the agent came without its stack tells nothing.
        Err(stopped) if stopped.kind == "service-died" => return Err(stopped),
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
    check_environment(cx, &papers, looks)?;
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

/// What came of the run of an agent, and what was seen of its environment.
type Played = (Result<process::Finished, Failure>, Result<Option<Looks>, Failure>);

/// The looks at the environment of an agent.
struct Looks {
    /// While it was held.
    held: Passed,
    /// When it had said its first word; nothing if it had ended by then, or said nothing.
    again: Option<Attestation>,
}

fn run(cx: &mut SmokeContext, prepared: &Prepared, papers: &Papers, gate: Option<Gate>) -> Played {
    let mut stack = cx.stack.take();
    let played = run_while_up(cx, stack.as_mut(), prepared, papers, gate);
    cx.stack = stack;
    played
}

fn run_while_up(
    cx: &SmokeContext,
    mut stack: Option<&mut LiveStack>,
    prepared: &Prepared,
    papers: &Papers,
    gate: Option<Gate>,
) -> Played {
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
    let program = cx.program_of_agent();
    let passed: OnceLock<Passed> = OnceLock::new();
    let mut again = None;
    let mut on_line = |stream, line: &str| match stream {
        process::Stream::Stdout => {
            pace.line(line);
            // It has said its first word, so it is what it was started as.
            again.get_or_insert_with(|| passed.get().and_then(|passed| passed.look_again(invocation)));
        }
        process::Stream::Stderr => cx.recorder.line("agent", line),
    };
    // An agent can take a minute to give up on a gateway that is gone.
    let mut died = || stack.as_mut().and_then(|stack| stack.check(&cx.plan.run, &cx.recorder).err());
    let (finished, held) = attended(
        |over, waker| {
            let Some(gate) = gate else { return Ok(None) };
            let program = program.as_ref().map(|(path, identity)| (path.as_path(), *identity));
            let held = gate.attend(invocation, program, cx.deadline, over, waker)?;
            held.iter().for_each(|held| {
                passed.get_or_init(|| held.clone());
            });
            Ok(held)
        },
        || process::run_unless(invocation, &limits, &mut on_line, &mut died),
    );
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
    let looks = held.map(|held| held.map(|held| Looks { held, again: again.flatten() }));
    (hidden.and(finished), looks)
}

/// Runs the agent, and attends to its gate meanwhile; an agent that has ended does not come to it any more.
fn attended<T>(
    attend: impl FnOnce(&AtomicBool, &OwnedFd) -> Result<Option<Passed>, Failure> + Send,
    run: impl FnOnce() -> T,
) -> (T, Result<Option<Passed>, Failure>) {
    let over = AtomicBool::new(false);
    let (waker, wake) = match pipe() {
        Ok((waker, wake)) => (OwnedFd::from(waker), wake),
        Err(error) => {
            return (run(), Err(Failure::unexpected("no pipe can be made").because(error.to_string())));
        }
    };
    thread::scope(|scope| {
        let attending = scope.spawn(|| attend(&over, &waker));
        let ran = run();
        over.store(true, Ordering::Release);
        drop(wake);
        let held =
            attending.join().unwrap_or_else(|_| Err(Failure::unexpected("the gate of the agent panicked")));
        (ran, held)
    })
}

/// That the agent had the environment that it was given.
///
/// # Errors
/// Exit 20: `environment-unseen`, when it never came to be looked at; `environment-differs`, `environment-unreadable`.
fn check_environment(cx: &SmokeContext, papers: &Papers, looks: Option<Looks>) -> Result<(), Failure> {
    if !cfg!(target_os = "linux") {
        cx.recorder.warn("this platform does not tell which environment the agent had");
        return Ok(());
    }
    let Some(Looks { held, again }) = looks else {
        return Err(Failure::new(
            ExitCode::Environment,
            "environment-unseen",
            "the environment of the agent was not looked at",
        )
        .because("it ended, or was let go, without having been held")
        .hint("what is started in the agent's place has to start it with its arguments as they are"));
    };
    let report = papers.named("environment.json");
    let seen_again = match &again {
        None => "it had ended before its first word was read",
        Some(again) if unreadable_by_itself(again) => "it protects its memory by then, and was read before",
        Some(_) => "it was read again at its first word",
    };
    let last = again.filter(|again| !unreadable_by_itself(again)).unwrap_or(held.attestation);
    cx.keep_json(
        &report,
        &json!({
            "schema": 1,
            "held": true,
            "again": seen_again,
            "processes": last.processes,
            "differences": last.differences,
        }),
    );
    last.verdict().map_err(|failure| failure.on(cx.folder.join(&report).to_string()))
}

/// Whether all that is wrong is that the agent, of the same user, does not let itself be read any more.
fn unreadable_by_itself(attestation: &Attestation) -> bool {
    let user = rustix::process::geteuid().as_raw();
    let protects = |difference: &Difference| match difference {
        Difference::Unreadable { pid, .. } => {
            process::tree::user(pid.cast_signed()).is_none_or(|now| now == user)
        }
        _ => false,
    };
    !attestation.differences.is_empty() && attestation.differences.iter().all(protects)
}
