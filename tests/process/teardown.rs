//! Nothing survives: each way in which a process gets away, stopped.

use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process_group, setrlimit, waitid,
};
use stelae_model::ExitCode;
use stelae_model::lifecycle::{Ended, ProcessRow, Proof, StopLimits, TeardownProof};
use stelae_run::process::{Family, Service, Session, Stdin, tree};
use stelae_run::signals::Interrupt;

use crate::support::{Expect, GRACE, Sandbox, isolated, isolated_expecting, runs, until};

fn stop(family: Family) -> TeardownProof {
    family.stop(GRACE, &Interrupt::never(), &mut |_| ())
}

/// A service with two children of one kind is stopped, while its first process lives, and after it has gone.
fn hostile(test: &str, how: &str, on_term: &str) {
    isolated(test, |sandbox| {
        let family = Family::enter().unwrap();
        for leader_exits in [false, true] {
            let exit = if leader_exits { ", { exit = 0 }" } else { "" };
            let name = format!("leaves-{leader_exits}");
            let forks = format!("{{ fork = {how:?} }}, {{ fork = {how:?} }}");
            let gate = sandbox.path("gate");
            let steps =
                format!("on-term = {on_term:?}\nsteps = [{forks}, {{ await-file = {gate:?} }}{exit}]");
            let mut service = sandbox.start(&name, &steps);
            sandbox.await_children(&name, 2);
            std::fs::write(&gate, "").unwrap();
            if leader_exits {
                // Its state alone may be a zombie's while its other threads are still on their way out.
                until("the exit of the leader", || service.try_exit().is_some());
                assert_eq!(service.try_exit(), Some(Ended::Status(0)));
            }
        }
        let proof = stop(family);
        assert_eq!(proof.proof, Proof::NoChildLeft, "{proof:?}");
        assert!(proof.survivors.is_empty(), "{proof:?}");
        assert!(!proof.stopped.is_empty(), "{proof:?}");
    });
}

macro_rules! hostile {
    ($($name:ident: $how:literal, $on_term:literal;)+) => {
        $(#[test] fn $name() { hostile(concat!("teardown::", stringify!($name)), $how, $on_term); })+
    };
}

hostile! {
    plain_children: "plain", "die";
    children_in_their_own_group: "own-group", "die";
    children_in_their_own_session: "setsid", "die";
    double_forked_daemons: "double-fork", "die";
    daemons_that_cleared_their_environment: "cleared-env", "die";
    a_relay_of_short_lived_processes: "relay", "die";
    plain_children_that_ignore_term: "plain", "ignore";
    daemons_that_ignore_term: "double-fork", "ignore";
    cleared_daemons_that_ignore_term: "cleared-env", "ignore";
    plain_children_that_fork_while_dying: "plain", "fork-and-die";
    sessions_that_fork_while_dying: "setsid", "fork-and-die";
    daemons_that_fork_while_dying: "double-fork", "fork-and-die";
}

#[test]
fn who_dies_politely_is_asked_and_who_does_not_is_killed() {
    isolated("teardown::who_dies_politely_is_asked_and_who_does_not_is_killed", |sandbox| {
        let family = Family::enter().unwrap();
        let polite = sandbox.start("polite", "steps = [{ say = 'up' }]");
        let stubborn = sandbox.start("stubborn", "on-term = 'ignore'\nsteps = [{ say = 'up' }]");
        sandbox.await_log("polite", "up");
        sandbox.await_log("stubborn", "up");
        let mut seen = Vec::new();
        // Time enough for the polite one to die, however little of it the machine has.
        let patient = StopLimits { grace: Duration::from_secs(5), ..GRACE };
        let proof = family.stop(patient, &Interrupt::never(), &mut |present| {
            let us = i32::try_from(std::process::id()).unwrap();
            let alive: Vec<_> = tree::descendants(us).into_iter().map(|row| row.pid).collect();
            seen = present.rows.iter().map(|row| row.pid).filter(|pid| alive.contains(pid)).collect();
        });
        assert!(seen.contains(&polite.pid()) && seen.contains(&stubborn.pid()), "{seen:?}");
        let of = |pid| proof.stopped.iter().find(|stopped| stopped.pid == pid).unwrap();
        assert_eq!(
            (of(polite.pid()).signal.as_str(), of(polite.pid()).ended),
            ("SIGTERM", Some(Ended::Signal(15)))
        );
        assert_eq!(
            (of(stubborn.pid()).signal.as_str(), of(stubborn.pid()).ended),
            ("SIGKILL", Some(Ended::Signal(9)))
        );
        assert!(of(stubborn.pid()).command.contains("stubborn.toml"), "{proof:?}");
    });
}

#[test]
fn the_third_signal_ends_an_endless_grace() {
    isolated("teardown::the_third_signal_ends_an_endless_grace", |sandbox| {
        let family = Family::enter().unwrap();
        sandbox.start("stubborn", "on-term = 'ignore'\nsteps = [{ say = 'up' }]");
        sandbox.await_log("stubborn", "up");
        let interrupt = Interrupt::never();
        (0..3).for_each(|_| interrupt.raise(ExitCode::Interrupted));
        // With the hour that it is told, the test would be killed as one that hangs.
        let an_hour = StopLimits { grace: Duration::from_secs(3600), ..GRACE };
        assert_eq!(family.stop(an_hour, &interrupt, &mut |_| ()).proof, Proof::NoChildLeft);
    });
}

#[test]
fn a_stopped_process_is_stopped() {
    isolated("teardown::a_stopped_process_is_stopped", |sandbox| {
        let family = Family::enter().unwrap();
        let service = sandbox.start("frozen", "steps = [{ say = 'up' }]");
        sandbox.await_log("frozen", "up");
        let pid = Pid::from_raw(service.pid()).unwrap();
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        let an_hour = StopLimits { grace: Duration::from_secs(3600), ..GRACE };
        let proof = family.stop(an_hour, &Interrupt::never(), &mut |_| ());
        assert_eq!(proof.stopped[0].signal, "SIGTERM", "{proof:?}");
    });
}

#[test]
fn a_panic_leaves_nothing_behind() {
    isolated_expecting(Expect::Panic, "teardown::a_panic_leaves_nothing_behind", |sandbox| {
        let _family = Family::enter().unwrap();
        sandbox.start("left", "on-term = 'ignore'\nsteps = [{ fork = 'cleared-env' }, { fork = 'setsid' }]");
        sandbox.await_children("left", 2);
        panic!("the body of the test fails");
    });
}

#[test]
fn nothing_is_started_once_everything_is_being_stopped() {
    isolated("teardown::nothing_is_started_once_everything_is_being_stopped", |sandbox| {
        let family = Family::enter().unwrap();
        let mut refused = None;
        family.stop(GRACE, &Interrupt::never(), &mut |_| {
            let log = sandbox.path("late.log");
            refused = Service::start(&sandbox.fixture("late", ""), &log, Stdin::Null, Session::Ours).err();
        });
        assert_eq!(refused.unwrap().kind, "closing");
    });
}

/// Which kinds of getting away are recognised when only one service is stopped, and another one lives on.
#[test]
fn stopping_one_service_leaves_the_other_alone() {
    isolated("teardown::stopping_one_service_leaves_the_other_alone", |sandbox| {
        let family = Family::enter().unwrap();
        let forks =
            "{ fork = 'plain' }, { fork = 'own-group' }, { fork = 'setsid' }, { fork = 'double-fork' }";
        let script = format!("on-term = 'ignore'\nsteps = [{forks}]");
        let mut first = sandbox.start("first", &script);
        let mut second = sandbox.start("second", &script);
        sandbox.await_children("first", 4);
        sandbox.await_children("second", 4);
        let proof = first.stop(GRACE, &Interrupt::never());
        assert_eq!((proof.proof, proof.stopped.len()), (Proof::TreeGone, 5), "{proof:?}");
        assert_eq!(first.try_exit(), Some(Ended::Signal(9)));
        assert_eq!(second.try_exit(), None);
        let us = i32::try_from(std::process::id()).unwrap();
        assert_eq!(tree::descendants(us).len(), 5, "{:?}", tree::descendants(us));
        assert_eq!(stop(family).stopped.len(), 5);
        assert_eq!(second.try_exit(), Some(Ended::Signal(9)), "a sweep must not lose the status");
    });
}

#[test]
fn a_released_service_outlives_the_teardown() {
    isolated("teardown::a_released_service_outlives_the_teardown", |sandbox| {
        let family = Family::enter().unwrap();
        sandbox.start("stays-behind", "steps = [{ fork = 'double-fork' }]");
        let log = sandbox.path("released.log");
        let script = "steps = [{ say = 'up' }, { fork = 'plain' }]";
        let released =
            Service::start(&sandbox.fixture("released", script), &log, Stdin::Null, Session::Own).unwrap();
        sandbox.await_children("released", 1);
        sandbox.await_children("stays-behind", 1);
        let pid = released.release();
        let proof = stop(family);
        assert_eq!(proof.proof, Proof::OnlyReleased, "{proof:?}");
        assert!(runs(pid), "{proof:?}");
        let row = tree::descendants(i32::try_from(std::process::id()).unwrap()).remove(0);
        assert_eq!((row.pid, row.group, row.session), (pid, pid, pid), "it has a session of its own");
        kill_group(pid);
    });
}

/// Kills a child of ours and its group. A zombie is not over: its other threads may still be on their way out.
fn kill_group(pid: i32) {
    let group = Pid::from_raw(pid).unwrap();
    kill_process_group(group, Signal::KILL).unwrap();
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    until("the end of the released service", || waitid(WaitId::Pid(group), ended).unwrap().is_some());
    let over = |row: &ProcessRow| row.group != pid || row.zombie;
    until("the end of its group", || tree::table().unwrap().iter().all(over));
}

#[test]
fn a_life_line_ends_when_we_do() {
    isolated("teardown::a_life_line_ends_when_we_do", |sandbox: &Sandbox| {
        // No family here: this half just exits, and what is left is for the life line.
        let script = "steps = [{ say = 'up' }, { await-end-of-stdin = {} }, { exit = 0 }]";
        let service = sandbox.start_with("follower", script, Stdin::LifeLine);
        sandbox.await_log("follower", "up");
        assert!(runs(service.pid()));
        drop(service);
        until("its end", || sandbox_is_quiet(sandbox));
    });
}

fn sandbox_is_quiet(sandbox: &Sandbox) -> bool {
    let us = i32::try_from(std::process::id()).unwrap();
    crate::support::survivors(sandbox.folder.as_std_path()).iter().all(|(pid, _)| *pid == us)
}

/// Does something while not one more descriptor is to be had.
fn without_descriptors<T>(body: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
    let given = body();
    setrlimit(Resource::Nofile, before).unwrap();
    given
}

const SOON: StopLimits =
    StopLimits { grace: Duration::from_millis(100), ceiling: Duration::from_millis(300) };

fn names_the_table(proof: &TeardownProof) {
    assert_eq!(proof.proof, Proof::None, "{proof:?}");
    let failure = proof.check().unwrap_err();
    assert_eq!(failure.exit_code, ExitCode::Survivor);
    assert!(
        failure.to_string().contains("the process table cannot be read: Too many open files"),
        "{failure}"
    );
}

#[test]
fn an_unreadable_table_proves_nothing_about_a_tree() {
    isolated("teardown::an_unreadable_table_proves_nothing_about_a_tree", |sandbox| {
        let family = Family::enter().unwrap();
        let mut service = sandbox.start("stays", "on-term = 'ignore'\nsteps = [{ fork = 'setsid' }]");
        sandbox.await_children("stays", 1);
        let proof = without_descriptors(|| service.stop(SOON, &Interrupt::never()));
        names_the_table(&proof);
        // The group that is known by its number was killed all the same.
        until("the end of the service", || service.try_exit().is_some());
        assert_eq!(stop(family).proof, Proof::NoChildLeft);
    });
}

#[test]
fn an_unreadable_table_is_no_proof_that_only_the_released_live() {
    isolated("teardown::an_unreadable_table_is_no_proof_that_only_the_released_live", |sandbox| {
        let family = Family::enter().unwrap();
        let released = sandbox.start("released", "steps = [{ say = 'here' }]");
        sandbox.start("other", "steps = [{ fork = 'setsid' }]");
        sandbox.await_children("other", 1);
        let pid = released.release();
        let proof = without_descriptors(|| family.stop(SOON, &Interrupt::never(), &mut |_| ()));
        names_the_table(&proof);
        assert!(runs(pid));
        kill_group(pid);
        assert_eq!(stop(Family::enter().unwrap()).proof, Proof::NoChildLeft);
    });
}
