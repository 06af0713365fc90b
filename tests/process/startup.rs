//! Every verdict on a start, with the service that earns it.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use stelae_model::lifecycle::{Patience, Rung};
use stelae_model::{ExitCode, Failure};
use stelae_run::deadline::Deadline;
use stelae_run::ports::{self, AddressLease, Placeholder};
use stelae_run::process::{Family, Service, Stdin, tree};
use stelae_run::signals::Interrupt;
use stelae_run::watch::{Canary, Progress, Ready, Wanted, wait_ready};

use crate::support::{Sandbox, free_listener, isolated, runs, until, wanted, wanted_mcp};

const LONG: Duration = Duration::from_secs(3600);

fn wait(service: &mut Service, wanted: &Wanted) -> Result<Ready, Failure> {
    wait_ready(service, wanted, Deadline::budget(LONG), &Interrupt::never(), &mut |_| ())
}

fn impatient(wanted: Wanted) -> Wanted {
    Wanted { patience: Patience { idle: Duration::from_millis(2_500), ceiling: LONG }, ..wanted }
}

fn code_and_kind(failure: &Failure) -> (u8, &str) {
    (failure.exit_code.number(), failure.kind.as_str())
}

/// An address that stays free until the service of the test takes it.
fn held() -> (Placeholder, SocketAddr) {
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
            mcp.canary = Some(Canary { tool: "a".to_owned(), arguments: json!({}) });
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
        wanted.patience = Patience { idle: Duration::from_secs(5), ceiling: Duration::from_millis(600) };
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
            mcp.canary = Some(Canary { tool: "a".to_owned(), arguments: json!({}) });
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
fn a_stranger_on_the_port_is_33_with_pid_and_command() {
    isolated("startup::a_stranger_on_the_port_is_33_with_pid_and_command", |sandbox| {
        let _family = Family::enter().unwrap();
        let stranger = free_listener();
        let address = stranger.local_addr().unwrap();
        // One service never tries to bind, the other says that it cannot and lingers, the third ends because of it.
        for (name, steps) in [
            ("passive", "[]".to_owned()),
            ("lingers", "[{ complain = 'bind: address already in use' }]".to_owned()),
            ("ends", format!("[{{ listen = '{address}' }}]")),
        ] {
            let mut service = sandbox.start(name, &format!("steps = {steps}"));
            let failure = wait(&mut service, &wanted(address)).unwrap_err();
            assert_eq!(code_and_kind(&failure), (33, "port-taken"), "{failure}");
            let text = failure.to_string();
            assert!(text.contains(&format!("{address}, pid {}: ", std::process::id())), "{text}");
            assert!(text.contains("PROXY_PORT="), "{text}");
        }
    });
}

/// Where somebody listens, and at which of the addresses that this covers the service is wanted.
const COVERED: [(&str, &str); 9] = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.77", "127.0.0.77"),
    ("::1", "::1"),
    ("0.0.0.0", "127.0.0.1"),
    ("0.0.0.0", "0.0.0.0"),
    ("::", "::1"),
    ("::", "127.0.0.1"),
    ("::", "::"),
    // The other way round: a wildcard is wanted, and cannot be had.
    ("127.0.0.1", "0.0.0.0"),
];

#[test]
fn a_service_is_ours_on_every_kind_of_address() {
    isolated("startup::a_service_is_ours_on_every_kind_of_address", |sandbox| {
        let _family = Family::enter().unwrap();
        for (number, (bound, wanted_at)) in COVERED.into_iter().enumerate() {
            let held = Placeholder::hold(bound.parse().unwrap(), 0).unwrap();
            let script = format!("steps = [{{ listen = '{}' }}]", held.address());
            let mut service = sandbox.start(&format!("ours-{number}"), &script);
            let at = SocketAddr::new(wanted_at.parse().unwrap(), held.address().port());
            let ready = wait(&mut service, &wanted(at));
            assert!(ready.is_ok(), "listens on {bound}, wanted at {wanted_at}: {ready:?}");
        }
    });
}

#[test]
fn another_listener_is_found_on_every_kind_of_address() {
    isolated("startup::another_listener_is_found_on_every_kind_of_address", |sandbox| {
        let _family = Family::enter().unwrap();
        for (number, (bound, wanted_at)) in COVERED.into_iter().enumerate() {
            let other = TcpListener::bind(SocketAddr::new(bound.parse().unwrap(), 0)).unwrap();
            let at = SocketAddr::new(wanted_at.parse().unwrap(), other.local_addr().unwrap().port());
            let text = taken_by_us(sandbox, &format!("other-{number}"), at);
            let covers = format!("it listens on {}, which covers {at}", other.local_addr().unwrap());
            assert_eq!(text.contains(&covers), bound != wanted_at, "{text}");
        }
    });
}

/// A daemon that listens, and is below nobody of ours. It is killed when this is dropped.
struct Stranger(i32);

impl Stranger {
    /// To be called before there is a family, which would adopt it.
    fn on(sandbox: &Sandbox, address: SocketAddr) -> Self {
        let name = format!("daemon-{}", address.port());
        let script =
            format!("child-listens = '{address}'\nsteps = [{{ fork = 'double-fork' }}, {{ exit = 0 }}]");
        let mut start = sandbox.start(&name, &script);
        sandbox.await_children(&name, 1);
        until("the end of who started it", || start.try_exit().is_some());
        let pid = std::fs::read_to_string(sandbox.path(&format!("{name}.children"))).unwrap();
        Self(pid.trim_end().parse().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        kill_process(Pid::from_raw(self.0).unwrap(), Signal::KILL).unwrap();
        until("the end of the stranger", || !runs(self.0));
    }
}

#[test]
fn a_stranger_on_a_wildcard_covers_a_leased_address() {
    isolated("startup::a_stranger_on_a_wildcard_covers_a_leased_address", |sandbox| {
        let lease = AddressLease::take(&sandbox.path("leases")).unwrap();
        let strangers = ["0.0.0.0", "::"].map(|ip| {
            let held = Placeholder::hold(ip.parse().unwrap(), 0).unwrap();
            (Stranger::on(sandbox, held.address()), held.address())
        });
        let _family = Family::enter().unwrap();
        for (stranger, bound) in &strangers {
            let at = SocketAddr::new(lease.address(), bound.port());
            let mut service = sandbox.start(&format!("covered-{}", at.port()), "steps = []");
            let failure = wait(&mut service, &wanted(at)).unwrap_err();
            assert_eq!(code_and_kind(&failure), (33, "port-taken"), "{failure}");
            let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
            for says in [
                format!("port {} is taken by a stranger", at.port()),
                format!("{at}, pid {}: {fixture} ", stranger.0),
                format!(", since {}", started(stranger.0)),
                format!("it listens on {bound}, which covers {at}"),
                format!("kill {}, or choose another port", stranger.0),
            ] {
                assert!(failure.to_string().contains(&says), "{says}: {failure}");
            }
        }
    });
}

/// A service is wanted where this process listens: the failure names us by pid, command line and start.
fn taken_by_us(sandbox: &Sandbox, name: &str, at: SocketAddr) -> String {
    let mut service = sandbox.start(name, "steps = []");
    let failure = wait(&mut service, &wanted(at)).unwrap_err();
    assert_eq!(code_and_kind(&failure), (33, "port-taken"), "{failure}");
    // We are not the service, but not a stranger either.
    assert!(failure.what.contains("another process of this stack"), "{failure}");
    let (us, program) = (std::process::id(), std::env::args().next().unwrap());
    let text = failure.to_string();
    let (_, described) =
        text.split_once(&format!("{at}, pid {us}: {program}")).unwrap_or_else(|| panic!("{text}"));
    let (_, since) = described.split_once(", since ").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(since.lines().next(), Some(started(us.try_into().unwrap()).as_str()), "{text}");
    text
}

/// When a process was started, as another program writes it.
fn started(pid: i32) -> String {
    let at = tree::start_time(pid).unwrap();
    let date = Command::new("date").args(["--utc", "+%F %TZ", "--date", &format!("@{at}")]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn an_address_in_use_that_nobody_is_seen_on_is_33() {
    isolated("startup::an_address_in_use_that_nobody_is_seen_on_is_33", |sandbox| {
        let _family = Family::enter().unwrap();
        let (_held, address) = held();
        let script = "steps = [{ complain = 'listen: EADDRINUSE' }, { exit = 1 }]";
        let mut service = sandbox.start("blames", script);
        let failure = wait(&mut service, &wanted(address)).unwrap_err();
        assert_eq!(code_and_kind(&failure), (33, "port-taken"), "{failure}");
        assert!(failure.to_string().contains("by whom cannot be seen"), "{failure}");
    });
}

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
