//! Whose port it is: the service's own, or somebody else's, on every kind of address.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use stelae_run::ports::{AddressLease, Placeholder};
use stelae_run::process::{Family, tree};

use crate::startup::{code_and_kind, held, wait};
use crate::support::{Sandbox, free_listener, isolated, runs, until, wanted};

#[test]
fn a_stranger_on_the_port_is_33_with_pid_and_command() {
    isolated("strangers::a_stranger_on_the_port_is_33_with_pid_and_command", |sandbox| {
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
    isolated("strangers::a_service_is_ours_on_every_kind_of_address", |sandbox| {
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
    isolated("strangers::another_listener_is_found_on_every_kind_of_address", |sandbox| {
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
    isolated("strangers::a_stranger_on_a_wildcard_covers_a_leased_address", |sandbox| {
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
fn an_address_in_use_that_nobody_is_seen_on_is_33_if_it_is_the_own_one() {
    isolated("strangers::an_address_in_use_that_nobody_is_seen_on_is_33_if_it_is_the_own_one", |sandbox| {
        let _family = Family::enter().unwrap();
        let (_held, address) = held();
        // Who blames another port, or none, may tell of somebody else.
        for (name, blamed, expected, says) in [
            ("own", address.to_string(), (33, "port-taken"), "by whom cannot be seen"),
            ("another", "127.0.0.1:1".to_owned(), (30, "exited-before-ready"), "says: listen: EADDRINUSE"),
            ("none", String::new(), (30, "exited-before-ready"), "says: listen: EADDRINUSE"),
        ] {
            let script = format!("steps = [{{ complain = 'listen: EADDRINUSE {blamed}' }}, {{ exit = 1 }}]");
            let mut service = sandbox.start(name, &script);
            let failure = wait(&mut service, &wanted(address)).unwrap_err();
            assert_eq!(code_and_kind(&failure), expected, "{failure}");
            assert!(failure.to_string().contains(says), "{failure}");
        }
    });
}
