//! Services that are started again: how often, until when, and what is told of the first time.

use std::fs;

use camino::Utf8Path;
use rustix::process::Signal;
use serde_json::json;
use stelae_tests::{alive, await_line, until};

use super::bench::{Bench, GATEWAY};

#[test]
fn a_crash_loop_counts_and_quotes_the_first_crash() {
    let script = "steps = [{ say-attempt = {} }, { exit-before-attempt = 2 }, { exit = 9 }]";
    let bench = Bench::new(GATEWAY, "").service("a", script, "ready_line = 'up'\nrestarts = 2");
    let failed = bench.fails();
    failed
        .is(30, "crash-loop")
        .says("service:a ended 3 times, and was started again 2 times")
        .says("the first time, it ended with exit status 3")
        .says("the last time: service:a ended with exit status 9")
        .says("gateway was not started: it needs a");
    assert_eq!(failed.failure["log_tail"], json!(["attempt 1"]));
    assert_eq!(bench.log("service-a.first-crash.log"), "attempt 1\n");
    assert_eq!(bench.log("service-a.log"), "attempt 1\nattempt 2\nattempt 3\n");
}

#[test]
fn one_that_comes_up_at_the_second_start_is_ready_and_alone() {
    let bench = Bench::new(GATEWAY, "");
    let children = bench.path("a.children");
    let script = format!(
        "steps = [{{ say-attempt = {{}} }}, {{ fork = 'setsid' }}, {{ await-file = '{children}' }}, \
         {{ exit-before-attempt = 2 }}, {{ say = 'up' }}]"
    );
    let bench = bench.service("a", &script, "ready_line = 'up'\nrestarts = 1");
    let held = bench.start();
    held.await_ready();
    // What the first start left behind went before the second one came.
    await_lines(&children, 2);
    let sessions = alive(bench.path("a.toml").as_str());
    let sessions = sessions.iter().filter(|process| process.contains("--role session")).count();
    assert_eq!(sessions, 1);
    let events = held.ends();
    let warning = "service:a ended with exit status 3 before it was ready, and is started again (1 of 1)";
    assert!(events.contains(&json!({ "kind": "warning", "text": warning })), "{events:#?}");
}

#[test]
fn a_service_that_may_be_started_again_comes_back() {
    let bench = Bench::new(GATEWAY, "");
    let (die, again) = (bench.path("die"), bench.path("again"));
    let script = format!(
        "steps = [{{ say-attempt = {{}} }}, {{ await-file = '{die}' }}, {{ exit-before-attempt = 2 }}, \
         {{ say = 'back' }}, {{ await-file = '{again}' }}, {{ exit = 6 }}]"
    );
    let bench = bench.service("a", &script, "ready_line = 'attempt'\nrestarts = 1");
    let held = bench.start();
    held.await_ready();
    fs::write(&die, "").unwrap();
    held.await_said("service:a is ready again");
    await_line(&bench.path("logs/service-a.log"), "back");
    // It had its one chance.
    fs::write(&again, "").unwrap();
    let failed = held.fails();
    failed
        .is(10, "service-died")
        .says("service:a died while the stack was up: exit status 6, and it did not come back")
        .says("service:a ended 2 times, and was started again once")
        .says("the first time, it ended with exit status 3")
        .says("gateway needs a");
    assert_eq!(bench.log("service-a.first-crash.log"), "attempt 1\n");
}

#[test]
fn a_gateway_that_may_be_started_again_listens_again() {
    let bench = Bench::new("", "restarts = 1");
    let die = bench.path("die");
    let script = format!(
        "steps = [{{ say-attempt = {{}} }}, {{ listen = 'passed' }}, {{ await-file = '{die}' }}, {{ exit-before-attempt = 2 }}]\n\
         [answers]\ntools = ['a']\n"
    );
    fs::write(bench.path("gateway.toml"), script).unwrap();
    let held = bench.start();
    held.await_ready();
    fs::write(&die, "").unwrap();
    held.await_said("gateway is ready again");
    held.ends();
    assert_eq!(bench.log("gateway.log"), "attempt 1\nattempt 2\n");
}

#[test]
fn a_signal_ends_a_start_that_pauses_or_waits() {
    let bench = Bench::new(GATEWAY, "").service("waits", "", "ready_line = 'never'").service(
        "crashes",
        "steps = [{ exit = 1 }]",
        "ready_line = 'never'\nrestarts = 10",
    );
    let held = bench.start();
    held.await_said("(3 of 10)");
    held.run.signal(Signal::INT);
    held.fails().is(130, "interrupted");
}

#[test]
fn the_ceiling_holds_for_all_restarts_together() {
    let script = "steps = [{ say-attempt = {} }, { sleep-ms = 400 }, { exit = 3 }]";
    let limits = "restarts = 10\nceiling_ms = 1500\nidle_ms = 1500";
    let bench = Bench::new(GATEWAY, "").service("a", script, &format!("ready_line = 'never'\n{limits}"));
    // Which end it comes to is a matter of the machine's speed.
    let failed = bench.fails();
    assert!([30, 31].contains(&failed.code), "{}", failed.failure);
    // Each of eleven starts had its own ceiling otherwise, and time enough.
    let attempts = bench.log("service-a.log").lines().count();
    assert!(attempts < 11, "{attempts} attempts");
}

#[test]
fn a_ceiling_that_passes_after_a_crash_says_so() {
    let script = "steps = [{ say-attempt = {} }, { exit-before-attempt = 2 }, { chatter-every-ms = 5 }]";
    let failed = Bench::new(GATEWAY, "")
        .service("a", script, "ready_line = 'never'\nrestarts = 10\nceiling_ms = 6000\nidle_ms = 6000")
        .fails();
    failed.is(31, "ceiling").says("the first time, it ended with exit status 3").says("first-crash.log");
}

/// The first start wrote its child's line, and so did the second.
fn await_lines(path: &Utf8Path, count: usize) {
    until("lines", || fs::read_to_string(path).is_ok_and(|text| text.lines().count() >= count));
}
