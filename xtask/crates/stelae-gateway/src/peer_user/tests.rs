#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests, too")]

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::*;

impl OurEnd for TcpStream {
    fn local(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn remote(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

const EVERYWHERE: [&str; 3] = ["127.0.0.1:0", "127.0.0.9:0", "[::1]:0"];

/// Each way of asking the kernel that there is.
fn all_ways(listener: &TcpListener) -> Vec<PeerUsers> {
    let of = |kernel| PeerUsers { kernel, namespace: user_namespace::UserNamespace::read().unwrap() };
    assert!(
        matches!(PeerUsers::of(listener).unwrap().kernel, kernel::Kernel::Netlink(_)),
        "this kernel has it"
    );
    vec![PeerUsers::of(listener).unwrap(), of(kernel::Kernel::Table)]
}

fn connected(listener: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(to).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Until `is`: the other tests fork, and a child has every descriptor until it executes.
fn eventually(mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn our_own_connection_is_the_same_users_on_every_kind_of_address() {
    for on in EVERYWHERE {
        let listener = TcpListener::bind(on).unwrap();
        for mut users in all_ways(&listener) {
            let (_client, ours) = connected(&listener, listener.local_addr().unwrap());
            assert_eq!(users.ask(&ours), PeerUser::Same, "{on}: {users:?}");
        }
    }
}

#[test]
fn ipv4_through_ipv6_is_found_from_both_sides() {
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let v6 = TcpListener::bind("[::]:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let mapped = "::ffff:127.0.0.1".parse::<std::net::Ipv6Addr>().unwrap();
    for (listener, to) in [
        (&v4, SocketAddr::from((mapped, port(&v4)))),
        (&v6, SocketAddr::from((mapped, port(&v6)))),
        (&v6, SocketAddr::from(([127, 0, 0, 1], port(&v6)))),
    ] {
        for mut users in all_ways(listener) {
            let (_client, ours) = connected(listener, to);
            assert_eq!(users.ask(&ours), PeerUser::Same, "{to}: {users:?}");
        }
    }
}

fn is_nobodys(user: PeerUser) -> bool {
    matches!(user, PeerUser::Unknown(_) | PeerUser::Gone)
}

/// Root may connect, and the kernel says of a socket that is closed that it is root's.
#[test]
fn a_peer_that_has_closed_its_socket_has_no_user() {
    for on in EVERYWHERE {
        let listener = TcpListener::bind(on).unwrap();
        for mut users in all_ways(&listener) {
            let (client, ours) = connected(&listener, listener.local_addr().unwrap());
            drop(client);
            eventually(|| is_nobodys(users.ask(&ours)));
            // With a reset there is no socket at all.
            let (client, ours) = connected(&listener, listener.local_addr().unwrap());
            set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
            drop(client);
            eventually(|| is_nobodys(users.ask(&ours)));
        }
    }
}

#[test]
fn a_peer_that_has_only_ended_its_sending_half_is_known() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for mut users in all_ways(&listener) {
        let (client, ours) = connected(&listener, listener.local_addr().unwrap());
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(users.ask(&ours), PeerUser::Same, "{users:?}");
    }
}

/// A later client that got the same port must not speak for an earlier one that is gone.
#[test]
fn the_next_user_of_a_port_is_not_the_one_before() {
    use rustix::net::sockopt::set_socket_reuseaddr;
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    for mut users in all_ways(&listener) {
        let (first, ours) = connected(&listener, to);
        let from = first.local_addr().unwrap();
        set_socket_linger(&first, Some(Duration::ZERO)).unwrap();
        drop(first);
        let mut second = None;
        eventually(|| {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            set_socket_reuseaddr(&socket, true).unwrap();
            let connected = bind(&socket, &from).and_then(|()| connect(&socket, &to));
            second = connected.is_ok().then_some(socket);
            second.is_some()
        });
        assert!(is_nobodys(users.ask(&ours)), "{users:?}");
        let (theirs, peer) = listener.accept().unwrap();
        assert_eq!((peer, users.ask(&theirs)), (from, PeerUser::Same));
    }
}

/// The connection ends, and another client gets the port, between the accept and the kernel's answer.
#[test]
fn an_answer_that_came_after_the_end_of_the_connection_does_not_count() {
    /// Is connected when it is looked at for the first time, and not after.
    struct Ends<'a>(&'a TcpStream, std::cell::Cell<bool>);
    impl OurEnd for Ends<'_> {
        fn local(&self) -> io::Result<SocketAddr> {
            self.0.local_addr()
        }

        fn remote(&self) -> io::Result<SocketAddr> {
            if self.1.replace(true) { Err(io::ErrorKind::NotConnected.into()) } else { self.0.peer_addr() }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for mut users in all_ways(&listener) {
        let (_client, ours) = connected(&listener, listener.local_addr().unwrap());
        assert_eq!(users.ask(&ours), PeerUser::Same);
        assert_eq!(users.ask(&Ends(&ours, false.into())), PeerUser::Gone, "{users:?}");
    }
}

#[test]
fn a_listening_socket_is_no_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    /// Says that it is connected to a socket that listens.
    struct Pretends(SocketAddr, SocketAddr);
    impl OurEnd for Pretends {
        fn local(&self) -> io::Result<SocketAddr> {
            Ok(self.0)
        }

        fn remote(&self) -> io::Result<SocketAddr> {
            Ok(self.1)
        }
    }
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = Pretends(listener.local_addr().unwrap(), other.local_addr().unwrap());
    for mut users in all_ways(&listener) {
        assert!(is_nobodys(users.ask(&ours)), "{users:?}");
    }
}

#[test]
fn a_socket_that_the_kernel_does_not_know_cannot_be_guarded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
    let why = PeerUsers::of(&listener).unwrap_err();
    let failure = unknowable(&listener, why);
    assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Environment, "peer-unknown"));
    let text = failure.to_string();
    assert!(text.contains("NETLINK_SOCK_DIAG") && text.contains("/proc/net/tcp"), "{text}");
}

/// What it costs, with many other sockets: `cargo test … -- --ignored --nocapture what_it_costs`.
#[test]
#[ignore = "a measurement"]
fn what_it_costs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut others: Vec<_> = (0..2_500).map(|_| connected(&listener, to)).collect();
    for mut users in all_ways(&listener) {
        let (_client, ours) = connected(&listener, to);
        let mut took: Vec<_> = (0..100)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(users.ask(&ours), PeerUser::Same);
                begun.elapsed()
            })
            .collect();
        took.sort();
        println!("{users:?}: p50 {:?}, p99 {:?}", took[50], took[99]);
    }
    others.clear();
}
