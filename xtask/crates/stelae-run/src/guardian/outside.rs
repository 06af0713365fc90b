//! What can only be seen from outside of the PID namespace: a stranger's pid.

use std::net::SocketAddr;

use stelae_model::Isolation;

use super::inner::{Guarded, guarded};
use super::line::{Answer, Question};
use crate::ports::{self, Owner};

/// The outer half, if this process lives in a namespace.
fn outside() -> Option<&'static Guarded> {
    guarded().filter(|guarded| guarded.isolation() == Isolation::Pidns)
}

/// Who listens on `address`, seen from outside; None if this process is outside itself.
pub(crate) fn ask_for_owner(address: SocketAddr) -> Option<Owner> {
    let Answer::OwnerOf(owner) = outside()?.ask(Question::OwnerOf(address))?;
    owner
}

/// Answers; for the outer half.
pub(super) fn answer(question: &Question) -> Answer {
    let &Question::OwnerOf(address) = question;
    Answer::OwnerOf(ports::owner_of(address))
}
