//! What is told of the room in which an agent CLI played: with its model, and with no way elsewhere.

use stelae_model::agent::{Agent, Model};
use stelae_model::lifecycle::Ended;
use stelae_model::room::{Attempts, RoomReport};
use stelae_model::{ExitCode, Failure};

use super::papers::Papers;
use crate::files::{limits, read_untrusted_json};
use crate::process::Finished;
use crate::smoke::context::SmokeContext;

/// Says so when an agent wanted to go where it should not. That is no failure: it could not.
pub(super) fn tell_of_attempts(cx: &SmokeContext, papers: &Papers) {
    let Some(report) = report(papers) else {
        if cx.plan.agent != Agent::Builtin && cx.plan.model == Model::Scripted {
            cx.recorder
                .warn("nobody says whether the agent tried to reach somebody else: there is no report");
        }
        return;
    };
    if report.attempts.any() {
        let Attempts { no_route, lookups, named } = &report.attempts;
        let count = no_route.unwrap_or(0) + lookups.unwrap_or(0);
        let mut tried: Vec<_> = named.clone();
        if count > 0 {
            tried.push(format!("{count} attempts of which the kernel knows no name"));
        }
        let tried = tried.join(", ");
        cx.recorder.warn(format!("the agent tried to reach somebody else: {tried}; see {}", papers.network));
    }
    if let Some(why) = report.why {
        cx.recorder.note(format!("nothing but its settings kept the agent from the network: {why}"));
    }
}

/// That the room was there until the agent had ended: what is wrong with the room is no fault of the agent's.
///
/// # Errors
/// `agent-not-started`, with the room's own exit code.
pub(super) fn check_room(finished: &Finished, papers: &Papers) -> Result<(), Failure> {
    let code = match finished.status {
        Ended::Status(code) => u8::try_from(code).ok(),
        _ => None,
    };
    let seen = report(papers).and_then(|report| report.exit_code);
    if seen.is_some() && seen == code {
        return Ok(());
    }
    // One that was ended by a signal was ended by somebody else than whoever ends us.
    let is_reason = |code: &ExitCode| *code != ExitCode::Pass && code.number() < 100;
    let code = code.and_then(|code| ExitCode::try_from(code).ok()).filter(is_reason);
    let said = finished.stderr_text.lines().find(|line| line.starts_with("error: "));
    let what = "the agent could not be run with its model around it";
    let failure = Failure::new(code.unwrap_or(ExitCode::StepFailed), "agent-not-started", what)
        .on(finished.command.clone())
        .because(format!("it ended with {}", finished.status));
    let failure = said.into_iter().fold(failure, Failure::because);
    Err(failure.log_tail(finished.tail.clone()))
}

fn report(papers: &Papers) -> Option<RoomReport> {
    read_untrusted_json(&papers.network, limits::RECORD).ok()
}
