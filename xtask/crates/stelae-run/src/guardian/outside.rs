//! What can only be seen from outside of the PID namespace: a stranger's pid, and what an earlier session left.

use std::net::SocketAddr;

use stelae_model::Isolation;
use stelae_model::lifecycle::StopLimits;

use super::inner::{Guarded, guarded, millis};
use super::line::{Answer, Question};
use crate::ports::{self, Owner};
use crate::process::{self, Swept};
use crate::signals::Interrupt;

/// The outer half, if this process lives in a namespace.
fn outside() -> Option<&'static Guarded> {
    guarded().filter(|guarded| guarded.isolation() == Isolation::Pidns)
}

/// Who listens on `address`, seen from outside; None if this process is outside itself.
pub(crate) fn ask_for_owner(address: SocketAddr) -> Option<Owner> {
    match outside()?.ask(Question::OwnerOf(address)) {
        Some(Answer::OwnerOf(owner)) => owner,
        _ => None,
    }
}

/// Ends what carries the id of `run` and lives outside; None if this process is outside itself.
pub(crate) fn ask_to_sweep(run: &str, limits: StopLimits) -> Option<Swept> {
    let question = Question::Sweep {
        run: run.to_owned(),
        grace_ms: millis(limits.grace),
        ceiling_ms: millis(limits.ceiling),
    };
    Some(match outside()?.ask(question) {
        Some(Answer::Sweep(swept)) => swept,
        _ => Swept {
            ended: Vec::new(),
            survivors: vec![
                "nobody outside of the namespace answered: what lives there is not known".to_owned(),
            ],
        },
    })
}

/// Answers; for the outer half.
pub(super) fn answer(question: Question, interrupt: &Interrupt) -> Answer {
    match question {
        Question::OwnerOf(address) => Answer::OwnerOf(ports::owner_of(address)),
        Question::Sweep { run, grace_ms, ceiling_ms } => {
            let millis = std::time::Duration::from_millis;
            let limits = StopLimits { grace: millis(grace_ms), ceiling: millis(ceiling_ms) };
            Answer::Sweep(process::sweep(&run, limits, interrupt))
        }
    }
}
