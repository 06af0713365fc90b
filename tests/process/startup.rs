//! Every verdict on a start, with the service that earns it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use stelae_model::lifecycle::{Patience, Rung};
use stelae_model::{ExitCode, Failure};
use stelae_run::deadline::Deadline;
use stelae_run::ports::{self, Placeholder};
use stelae_run::process::{Family, Service, Stdin, tree};
use stelae_run::signals::Interrupt;
use stelae_run::watch::{Canary, Progress, Ready, Wanted, wait_ready};

use crate::support::{free_listener, isolated, until, wanted, wanted_mcp};

const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn wait(service: &mut Service, wanted: &Wanted) -> Result<Ready, Failure> {
    wait_ready(service, wanted, Deadline::budget(LONG), &Interrupt::never(), &mut |_| ())
}

fn impatient(wanted: Wanted) -> Wanted {
    Wanted { patience: Patience { idle: Duration::from_millis(2_500), ceiling: LONG }, ..wanted }
}

pub(crate) fn code_and_kind(failure: &Failure) -> (u8, &str) {
    (failure.exit_code.number(), failure.kind.as_str())
}

/// An address that stays free until the service of the test takes it.
pub(crate) fn held() -> (Placeholder, SocketAddr) {
    let held = Placeholder::hold([127, 0, 0, 1].into(), 0).unwrap();
    let address = held.address();
    (held, address)
}

#[test]
fn every_rung_is_climbed_in_order() {
    isolated("startup::every_rung_is_climbed_in_order", |sandbox| {
        let _family = Family::enter().unwrap();
        let listener = free_listener();
        let address = listener.local_addr().unwrap();
        let script = "steps = [{ write = \"ser\\u001B[3\" }, { write = '2mver re' }, { write = 'ady' }, { listen = 'passed' }]\n\
                      answers = { not-found-until = 3, tools = ['a', 'b'], empty-lists = 2, paged = true, stream = true }";
        let mut service = sandbox.start_with("good", script, Stdin::Listener(listener));
        let mut wanted = wanted_mcp(address, &["b"]);
        wanted.ready_line = Some("server ready".to_owned());
        if let Some(mcp) = &mut wanted.mcp {
            mcp.canary = Some(Canary { tool: "a".to_owned(), arguments: json!({}), result: Vec::new() });
        }
        let mut reached = Vec::new();
        let ready =
            wait_ready(&mut service, &wanted, Deadline::budget(LONG), &Interrupt::never(), &mut |progress| {
                if let Progress::Reached(rung) = progress {
                    reached.push(rung);
                }
            })
            .unwrap();
        let all = [
            Rung::Spawned,
            Rung::Announced,
            Rung::Listening,
            Rung::Http,
            Rung::Initialize,
            Rung::Tools,
            Rung::Canary,
        ];
        assert_eq!(reached, all);
        assert_eq!(ready.rungs.iter().map(|(rung, _)| *rung).collect::<Vec<_>>(), all);
        assert_eq!(ready.tools, ["a", "b"]);
    });
}

#[test]
fn a_service_that_binds_late_on_a_held_port_is_ready() {
    isolated("startup::a_service_that_binds_late_on_a_held_port_is_ready", |sandbox| {
        let _family = Family::enter().unwrap();
        let (_held, address) = held();
        let gate = sandbox.path("gate");
        let script = format!("steps = [{{ await-file = {gate:?} }}, {{ listen = '{address}' }}]");
        let mut service = sandbox.start("late", &script);
        let ready = wait_ready(
            &mut service,
            &wanted(address),
            Deadline::budget(LONG),
            &Interrupt::never(),
            &mut |progress| {
                if let Progress::Status(Rung::Listening, status) = progress {
                    assert!(status.contains("nothing"), "{status}");
                    std::fs::write(&gate, "").unwrap();
                }
            },
        );
        assert!(ready.is_ok(), "{ready:?}");
    });
}

#[test]
fn a_daemon_that_takes_the_port_is_the_services_and_nobody_elses() {
    isolated("startup::a_daemon_that_takes_the_port_is_the_services_and_nobody_elses", |sandbox| {
        let _family = Family::enter().unwrap();
        let (_held, address) = held();
        // It is nobody's child but ours, and listens on a wildcard.
        let listen = format!("0.0.0.0:{}", address.port());
        let script = format!("child-listens = '{listen}'\nsteps = [{{ fork = 'double-fork' }}]");
        let mut service = sandbox.start("daemon", &script);
        let ready = wait(&mut service, &wanted(address));
        assert!(ready.is_ok(), "{ready:?}");
        // For another service of ours it is in the way, all the same.
        let mut other = sandbox.start("other", "steps = []");
        let failure = wait(&mut other, &wanted(address)).unwrap_err();
        assert_eq!(code_and_kind(&failure), (33, "port-taken"), "{failure}");
        assert!(failure.what.contains("another process of this stack"), "{failure}");
    });
}

#[test]
fn an_exit_before_ready_is_30_whatever_the_status() {
    isolated("startup::an_exit_before_ready_is_30_whatever_the_status", |sandbox| {
        let _family = Family::enter().unwrap();
        for (name, step, says) in [
            ("zero", "{ exit = 0 }", "exit status 0"),
            ("three", "{ exit = 3 }", "exit status 3"),
            ("signal", "{ die = 9 }", "signal 9 (SIGKILL)"),
        ] {
            let (_held, address) = held();
            let script =
                format!("steps = [{{ say = 'one' }}, {{ complain = 'two' }}, {{ write = 'last' }}, {step}]");
            let mut service = sandbox.start(name, &script);
            let failure = wait(&mut service, &wanted(address)).unwrap_err();
            assert_eq!(code_and_kind(&failure), (30, "exited-before-ready"), "{failure}");
            assert!(failure.what.contains(says), "{failure}");
            assert_eq!(failure.log_tail, ["one", "two", "last"]);
        }
    });
}

#[test]
fn an_exit_after_the_port_was_bound_is_30() {
    isolated("startup::an_exit_after_the_port_was_bound_is_30", |sandbox| {
        let _family = Family::enter().unwrap();
        let listener = free_listener();
        let wanted = wanted_mcp(listener.local_addr().unwrap(), &["a"]);
        let script = "steps = [{ listen = 'passed' }]\nanswers = { die-on = 'tools/list' }";
        let mut service = sandbox.start_with("crash", script, Stdin::Listener(listener));
        let failure = wait(&mut service, &wanted).unwrap_err();
        assert_eq!(code_and_kind(&failure), (30, "exited-before-ready"), "{failure}");
    });
}

#[test]
fn a_silent_service_is_31_with_the_status_of_its_rung() {
    isolated("startup::a_silent_service_is_31_with_the_status_of_its_rung", |sandbox| {
        let _family = Family::enter().unwrap();
        let (_held, address) = held();
        let mut service = sandbox.start("silent", "steps = []");
        let failure = wait(&mut service, &impatient(wanted(address))).unwrap_err();
        assert_eq!(code_and_kind(&failure), (31, "idle"), "{failure}");
        assert!(
            failure.to_string().contains(&format!("rung listening: nothing listens on {address}")),
            "{failure}"
        );
    });
}

#[test]
fn a_service_on_another_address_is_told_so() {
    isolated("startup::a_service_on_another_address_is_told_so", |sandbox| {
        let _family = Family::enter().unwrap();
        let ((_held, address), (_other_held, other)) = (held(), held());
        let mut service = sandbox.start("elsewhere", &format!("steps = [{{ listen = '{other}' }}]"));
        let failure = wait(&mut service, &impatient(wanted(address))).unwrap_err();
        assert_eq!(code_and_kind(&failure), (31, "idle"), "{failure}");
        assert!(failure.to_string().contains(&format!("it listens on {other} instead")), "{failure}");
    });
}

#[test]
fn chatter_keeps_it_alive_until_the_ceiling() {
    isolated("startup::chatter_keeps_it_alive_until_the_ceiling", |sandbox| {
        let _family = Family::enter().unwrap();
        let (_held, address) = held();
        let mut wanted = wanted(address);
        wanted.patience = Patience { idle: Duration::from_secs(20), ceiling: Duration::from_secs(5) };
        let mut service = sandbox.start("chatty", "steps = [{ chatter-every-ms = 5 }]");
        let failure = wait(&mut service, &wanted).unwrap_err();
        assert_eq!(code_and_kind(&failure), (31, "ceiling"), "{failure}");
        assert_eq!(failure.log_tail.len(), 20);
    });
}

#[test]
fn a_flood_does_not_hide_the_exit() {
    isolated("startup::a_flood_does_not_hide_the_exit", |sandbox| {
        let _family = Family::enter().unwrap();
        let (_held, address) = held();
        let script = "steps = [{ flood-mib = 50 }, { say = 'the reason' }, { exit = 1 }]";
        let mut service = sandbox.start("flood", script);
        let failure = wait(&mut service, &wanted(address)).unwrap_err();
        assert_eq!(code_and_kind(&failure), (30, "exited-before-ready"), "{failure}");
        assert_eq!(failure.log_tail.last().map(String::as_str), Some("the reason"));
    });
}

#[test]
fn an_answer_that_never_comes_is_31_on_its_rung() {
    isolated("startup::an_answer_that_never_comes_is_31_on_its_rung", |sandbox| {
        let _family = Family::enter().unwrap();
        for (method, rung) in [("initialize", "initialize"), ("tools/list", "tools")] {
            let listener = free_listener();
            let wanted = impatient(wanted_mcp(listener.local_addr().unwrap(), &["a"]));
            let script = format!("steps = [{{ listen = 'passed' }}]\nanswers = {{ hang-on = ['{method}'] }}");
            let mut service = sandbox.start_with(rung, &script, Stdin::Listener(listener));
            let failure = wait(&mut service, &wanted).unwrap_err();
            assert_eq!(code_and_kind(&failure), (31, "idle"), "{failure}");
            let says = format!("rung {rung}: {method} was asked for, no answer yet");
            assert!(failure.to_string().contains(&says), "{failure}");
        }
    });
}

#[test]
fn an_error_instead_of_a_list_is_31_with_the_error() {
    isolated("startup::an_error_instead_of_a_list_is_31_with_the_error", |sandbox| {
        let _family = Family::enter().unwrap();
        let listener = free_listener();
        let wanted = impatient(wanted_mcp(listener.local_addr().unwrap(), &["a"]));
        let script = "steps = [{ listen = 'passed' }]\nanswers = { error-on = ['tools/list'] }";
        let mut service = sandbox.start_with("broken", script, Stdin::Listener(listener));
        let failure = wait(&mut service, &wanted).unwrap_err();
        assert_eq!(code_and_kind(&failure), (31, "idle"), "{failure}");
        assert!(failure.to_string().contains("error -32603: tools/list is broken"), "{failure}");
    });
}

#[test]
fn missing_tools_are_32_with_what_is_there_and_why() {
    isolated("startup::missing_tools_are_32_with_what_is_there_and_why", |sandbox| {
        let _family = Family::enter().unwrap();
        let listener = free_listener();
        let wanted = impatient(wanted_mcp(listener.local_addr().unwrap(), &["a", "grep"]));
        let health = json!({ "state": "starting", "required": true, "tools": 0, "restarts": 0, "reason": "no answer" });
        let readyz = json!({ "ready": false, "servers": { "core": health } });
        let script =
            format!("steps = [{{ listen = 'passed' }}]\n[answers]\ntools = ['a', 'b']\nreadyz = '{readyz}'");
        let mut service = sandbox.start_with("half", &script, Stdin::Listener(listener));
        let failure = wait(&mut service, &wanted).unwrap_err();
        assert_eq!(code_and_kind(&failure), (32, "tools-missing"), "{failure}");
        let text = failure.to_string();
        for says in ["tools are missing: grep", "there: a, b", "server core is starting: no answer"] {
            assert!(text.contains(says), "{says}: {text}");
        }
    });
}

#[test]
fn a_server_that_failed_for_good_is_not_waited_for() {
    isolated("startup::a_server_that_failed_for_good_is_not_waited_for", |sandbox| {
        let _family = Family::enter().unwrap();
        let listener = free_listener();
        let mut wanted = wanted_mcp(listener.local_addr().unwrap(), &["grep"]);
        wanted.patience = Patience { idle: LONG, ceiling: LONG };
        let health = json!({ "state": "failed", "required": true, "tools": 0, "restarts": 0, "reason": "no such program" });
        let readyz = json!({ "ready": false, "servers": { "core": health } });
        let script = format!("steps = [{{ listen = 'passed' }}]\n[answers]\nreadyz = '{readyz}'");
        let mut service = sandbox.start_with("failed", &script, Stdin::Listener(listener));
        let failure = wait(&mut service, &wanted).unwrap_err();
        assert_eq!(code_and_kind(&failure), (32, "tools-missing"), "{failure}");
        assert!(failure.to_string().contains("server core is failed: no such program"), "{failure}");
    });
}

#[test]
fn a_canary_that_fails_is_32() {
    isolated("startup::a_canary_that_fails_is_32", |sandbox| {
        let _family = Family::enter().unwrap();
        let listener = free_listener();
        let mut wanted = impatient(wanted_mcp(listener.local_addr().unwrap(), &["a"]));
        if let Some(mcp) = &mut wanted.mcp {
            mcp.canary = Some(Canary { tool: "a".to_owned(), arguments: json!({}), result: Vec::new() });
        }
        let script = "steps = [{ listen = 'passed' }]\nanswers = { tools = ['a'], failing-calls = true }";
        let mut service = sandbox.start_with("canary", script, Stdin::Listener(listener));
        let failure = wait(&mut service, &wanted).unwrap_err();
        assert_eq!(code_and_kind(&failure), (32, "canary-failed"), "{failure}");
        assert!(failure.to_string().contains("\"a\" was called"), "{failure}");
    });
}

/// The stranger is this very process: it is not the service, and nothing below it.
#[test]
fn the_passed_socket_is_closed_on_our_side() {
    isolated("startup::the_passed_socket_is_closed_on_our_side", |sandbox| {
        let _family = Family::enter().unwrap();
        let listener = free_listener();
        let address = listener.local_addr().unwrap();
        let script = "steps = [{ listen = 'passed' }, { await-requests = 1 }, { exit = 0 }]";
        let mut service = sandbox.start_with("gone", script, Stdin::Listener(listener));
        let mut wanted = wanted(address);
        wanted.health_path = Some("/healthz".to_owned());
        drop(wait(&mut service, &wanted));
        until("its exit", || service.try_exit().is_some());
        assert_eq!(ports::listeners_on(address), []);
    });
}

#[test]
fn a_passed_budget_is_124_and_a_limit_is_31() {
    isolated("startup::a_passed_budget_is_124_and_a_limit_is_31", |sandbox| {
        let _family = Family::enter().unwrap();
        let (_held, address) = held();
        let mut service = sandbox.start("slow", "steps = [{ say = 'up' }]");
        let short = Duration::from_millis(200);
        let mut until = |deadline| {
            let never = Interrupt::never();
            wait_ready(&mut service, &wanted(address), deadline, &never, &mut |_| ()).unwrap_err()
        };
        assert_eq!(code_and_kind(&until(Deadline::budget(short))), (124, "budget-exhausted"));
        assert_eq!(code_and_kind(&until(Deadline::budget(LONG).within(short))), (31, "ceiling"));
    });
}

#[test]
fn a_signal_ends_the_wait() {
    isolated("startup::a_signal_ends_the_wait", |sandbox| {
        let _family = Family::enter().unwrap();
        let listener = free_listener();
        let wanted = wanted_mcp(listener.local_addr().unwrap(), &["a"]);
        // In the middle of an exchange that never ends.
        let script = "steps = [{ listen = 'passed' }]\nanswers = { hang-on = ['initialize'] }";
        let mut service = sandbox.start_with("hangs", script, Stdin::Listener(listener));
        let interrupt = Interrupt::never();
        let raise = interrupt.clone();
        let failure =
            wait_ready(&mut service, &wanted, Deadline::budget(LONG), &interrupt, &mut |progress| {
                if matches!(progress, Progress::Status(Rung::Initialize, _)) {
                    raise.raise(ExitCode::Interrupted);
                }
            })
            .unwrap_err();
        assert_eq!(code_and_kind(&failure), (130, "interrupted"), "{failure}");
    });
}

#[test]
fn a_service_gets_its_environment_and_nothing_else() {
    isolated("startup::a_service_gets_its_environment_and_nothing_else", |sandbox| {
        let _family = Family::enter().unwrap();
        let service = sandbox.start("env", "steps = [{ say = 'up' }]");
        sandbox.await_log("env", "up");
        let environ = tree::environ(service.pid()).unwrap();
        let mut names: Vec<&str> = environ.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["STELAE_PROCESS", "STELAE_TEST_FOLDER"]);
    });
}
