//! Who falls to the supervisor while its stack is up.

use std::fs;

use stelae_tests::{until, zombies};

use crate::stage::{PATIENT, Service, Stage};

const READY: Service =
    Service { script: "steps = [{ listen = 'passed' }]\nanswers = { tools = ['a'] }", ..PATIENT };

/// Leaves twenty a second to whoever adopts them, and writes a line for each.
const ORPHANS: &str = "\n[services.orphans]\ncommand = 'sh'\n\
                       args = ['-c', 'while :; do (true &); echo one more; sleep 0.05; done']\n";

/// A stack may be up for weeks, and the table of processes has an end.
#[test]
fn orphans_are_waited_for_while_the_stack_is_up() {
    let stage = Stage::new(&READY);
    let stack = stage.path("config/stack.toml");
    fs::write(&stack, fs::read_to_string(&stack).unwrap() + ORPHANS).unwrap();
    let mut run = stage.start(&READY);
    Stage::await_ready(&mut run);
    let lines = || fs::read_to_string(stage.path("service-orphans.log")).unwrap_or_default().lines().count();
    until("fifty orphans", || lines() >= 50);
    until("their end", || zombies(run.inner()).len() < 10);
    stage.end_by_term(run);
}
