//! Services beside the gateway: order, ports, and what the end of one means for the others.
//!
//! Every test looks for survivors.

mod again;
mod bench;

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use stelae_tests::held_port;

use bench::{Bench, GATEWAY};

#[test]
fn each_starts_when_what_it_needs_is_ready_and_the_gateway_last() {
    let bench = Bench::new(GATEWAY, "");
    let (kept, other) = (held_port(), bench.path("other.attempts"));
    let port = kept.address().port();
    // It becomes ready only when the one that nobody asked to wait for it is started beside it.
    let first = format!("steps = [{{ await-file = '{other}' }}, {{ listen = '127.0.0.1:{port}' }}]");
    let bench = bench
        .service("first", &first, &format!("port = {port}\nhealth_path = '/healthz'"))
        .service("other", "steps = [{ say-attempt = {} }]", "ready_line = 'attempt 1'")
        .service(
            "second",
            "steps = [{ say-variable = 'STELAE_PROCESS' }]",
            "ready_line = 'service:second'\nneeds = ['first']",
        );
    let held = bench.start();
    held.await_ready();
    let events = held.ends();
    let at = |process: &str, rung: &str| {
        let reached = |event: &Value| {
            event["process"] == process && event["rung"] == rung && event["status"] == "ready"
        };
        events.iter().position(reached).unwrap_or_else(|| panic!("{process} never reached {rung}"))
    };
    // Which of the two beside each other is told of first is nobody's promise.
    let ready = events.iter().position(|event| event["kind"] == "ready").unwrap();
    assert!(at("service:other", "announced") < ready);
    let order = [
        at("service:first", "http"),
        at("service:second", "spawned"),
        at("service:second", "announced"),
        at("gateway", "spawned"),
        at("gateway", "tools"),
        ready,
    ];
    assert!(order.is_sorted(), "{order:?}");
    let line = json!({ "kind": "line", "source": "service:second", "text": "STELAE_PROCESS=service:second" });
    assert!(events.contains(&line), "{events:#?}");
    assert_eq!(bench.log("service-second.log"), "STELAE_PROCESS=service:second\n");
}

#[test]
fn a_gateway_that_needs_nobody_does_not_wait() {
    let bench = Bench::new(GATEWAY, "needs = []");
    let gateway = bench.path("gateway.attempts");
    let script = format!("steps = [{{ await-file = '{gateway}' }}, {{ say = 'up' }}]");
    let bench = bench.service("late", &script, "ready_line = 'up'");
    let held = bench.start();
    held.await_ready();
    let events = held.ends();
    let announced = |event: &Value| event["rung"] == "announced" && event["status"] == "ready";
    let ready = events.iter().position(|event| event["kind"] == "ready").unwrap();
    assert!(events.iter().position(announced).unwrap() < ready, "a stack is ready when all of it is");
}

#[test]
fn a_dead_service_fails_whoever_needs_it_and_cuts_the_others_short() {
    for status in [1, 0] {
        let failed = Bench::new(GATEWAY, "")
            .service(
                "a",
                &format!("steps = [{{ say = 'the reason' }}, {{ exit = {status} }}]"),
                "ready_line = 'up'",
            )
            .service("b", "", "needs = ['a']")
            .service("c", "", "needs = ['b']")
            .service("slow", "lifetime-s = 600", "ready_line = 'never'")
            .fails();
        failed
            .is(30, "exited-before-ready")
            .says(&format!("service:a ended with exit status {status} before it was ready"))
            .says(&format!(
                "b was not started: it needs a, which ended with exit status {status} before it was ready"
            ))
            .says("c was not started: it needs b, which cannot do without a")
            .says("gateway was not started: it needs a, which ended")
            .says("the reason");
        // It was alive when everything was ended: nobody had waited until it had gone by itself.
        let torn_down = failed.events.iter().find(|event| event["kind"] == "torn-down").unwrap();
        assert_eq!(torn_down["signalled"], 1, "{torn_down}");
    }
}

#[test]
fn who_dies_while_the_others_start_is_the_cause_and_not_they() {
    let bench = Bench::new("steps = [{ complain = 'starting' }]", "");
    let log = bench.path("logs/gateway.log");
    let failed = bench
        .service(
            "a",
            &format!("steps = [{{ say = 'up' }}, {{ await-file = '{log}' }}, {{ exit = 4 }}]"),
            "ready_line = 'up'",
        )
        .fails();
    failed
        .is(30, "exited-before-ready")
        .says("service:a died after it was ready, before the stack was: exit status 4")
        .says("gateway was given up while it started: it needs a, which died after it was ready");
}

#[test]
fn a_service_that_dies_under_a_stack_that_is_up_ends_it() {
    let bench = Bench::new(GATEWAY, "");
    let die = bench.path("die");
    let script = format!("steps = [{{ say = 'up' }}, {{ await-file = '{die}' }}, {{ exit = 5 }}]");
    let bench = bench.service("a", &script, "ready_line = 'up'").service("b", "", "needs = ['a']");
    let held = bench.start();
    held.await_ready();
    fs::write(&die, "").unwrap();
    let failed = held.fails();
    failed
        .is(10, "service-died")
        .says("service:a died while the stack was up: exit status 5")
        .says("b needs a")
        .says("gateway needs a");
    assert_eq!(failed.failure["log_tail"], json!(["up"]));
}

#[test]
fn the_port_of_a_service_is_kept_until_it_takes_it() {
    let bench = Bench::new(GATEWAY, "");
    let (kept, gate) = (held_port(), bench.path("gate"));
    let port = kept.address().port();
    let script = format!(
        "steps = [{{ say = 'started' }}, {{ await-file = '{gate}' }}, {{ listen = '127.0.0.1:{port}' }}]"
    );
    let bench = bench.service("a", &script, &format!("port = {port}"));
    let held = bench.start();
    held.await_said(r#""text":"started""#);
    // From here on, it is the stack that keeps it.
    drop(kept);
    assert_eq!(bind_plainly(port), Err(rustix::io::Errno::ADDRINUSE));
    fs::write(&gate, "").unwrap();
    held.await_ready();
    held.ends();
    // And no longer.
    assert_eq!(bind_plainly(port), Ok(()));
}

/// Binds as a program does that does not know `SO_REUSEADDR`.
fn bind_plainly(port: u16) -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

#[test]
fn the_port_of_a_service_that_a_stranger_has_is_33_before_anything_starts() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let bench = Bench::new(GATEWAY, "").service("a", "", &format!("port = {port}")).service("b", "", "");
    bench
        .fails()
        .is(33, "port-taken")
        .says(&format!("pid {}", std::process::id()))
        .says("give services.a another `port`");
    assert!(!bench.path("logs/service-b.log").exists());
}

#[test]
fn a_circle_of_needs_starts_nothing() {
    let bench = Bench::new(GATEWAY, "").service("a", "", "needs = ['b']").service("b", "", "needs = ['a']");
    bench
        .fails()
        .is(20, "needs-cycle")
        .says("a -> b -> a: each needs the next")
        .says("stack.toml: services.a.needs");
    assert_eq!(fs::read_dir(bench.path("logs")).unwrap().count(), 0);
}
