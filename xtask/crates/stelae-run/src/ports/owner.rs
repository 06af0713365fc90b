//! Whose port it is.

use std::io;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use stelae_model::{ExitCode, Failure};

use super::table::{self, ListeningSocket, listeners_on};
use crate::calendar::utc;
use crate::guardian;
use crate::process::{self, tree};

/// Who listens on an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// What the socket is bound to, possibly a wildcard.
    pub address: SocketAddr,
    /// The socket's identity.
    pub inode: u64,
    /// The user who made it.
    pub uid: u32,
    /// The processes that hold it, oldest first. Empty if they belong to another user, or live in another PID namespace.
    pub holders: Vec<Holder>,
    /// The pids are those outside of our PID namespace: none of the holders is ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
}

/// One process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// Its command line, shortened.
    pub command: String,
    /// When it was started, in seconds since the epoch.
    pub started_unix_s: Option<u64>,
    /// The run or stack of ours that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl Owner {
    /// The run or stack of ours that holds it.
    pub fn run(&self) -> Option<&str> {
        self.holders.iter().find_map(|holder| holder.run.as_deref())
    }

    /// `pid 123: python3 -m http.server 9090, since 2026-11-20 12:44:01Z`, or the user, if that is all one can see.
    pub fn describe(&self) -> String {
        match self.holders.first() {
            Some(holder) => holder.describe(),
            None => format!("a process of user {} that we may not look at", self.uid),
        }
    }

    /// Whether `pid`, or something below it, holds the socket.
    pub fn is_below(&self, pid: i32) -> bool {
        !self.outside && self.holders.iter().any(|holder| tree::ancestry(holder.pid).contains(&pid))
    }
}

impl Holder {
    /// Pid, command line and start: who was there first shows in the last.
    fn describe(&self) -> String {
        let since = self.started_unix_s.map(|at| format!(", since {}", utc(at))).unwrap_or_default();
        format!("pid {}: {}{since}", self.pid, self.command)
    }
}

/// Who listens on `address`; asks every process there is, so ask once, not in a loop.
pub fn owner_of(address: SocketAddr) -> Option<Owner> {
    let socket = listeners_on(address).into_iter().next()?;
    let owner = owner_of_socket(socket, &tree::all_pids());
    if owner.holders.is_empty() {
        // Inside of a PID namespace a stranger has no pid; whoever is outside sees it.
        let seen = guardian::ask_for_owner(address).map(|owner| Owner { outside: true, ..owner });
        return seen.or(Some(owner));
    }
    Some(owner)
}

/// The same, asking the processes `among` only.
pub(crate) fn owner_of_socket(socket: ListeningSocket, among: &[i32]) -> Owner {
    let holds = |pid: &i32| tree::sockets(*pid).is_ok_and(|sockets| sockets.contains(&socket.inode));
    let mut holders: Vec<Holder> = among.iter().copied().filter(holds).filter_map(holder).collect();
    holders.sort_by_key(|holder| (holder.started_unix_s, holder.pid));
    Owner { address: socket.address, inode: socket.inode, uid: socket.uid, holders, outside: false }
}

fn holder(pid: i32) -> Option<Holder> {
    let (command, started_unix_s) = (tree::command_line(pid)?, tree::start_time(pid));
    Some(Holder { pid, command, started_unix_s, run: process::run_of(pid) })
}

/// Every address that one of the processes listens on.
pub fn listening_addresses(pids: &[i32]) -> Vec<SocketAddr> {
    let held: Vec<u64> = pids.iter().filter_map(|&pid| tree::sockets(pid).ok()).flatten().collect();
    table::all()
        .into_iter()
        .filter(|socket| held.contains(&socket.inode))
        .map(|socket| socket.address)
        .collect()
}

/// An address that could not be bound.
#[derive(Debug)]
pub struct PortTaken {
    /// What was wanted.
    pub address: SocketAddr,
    /// Who has it, if one can see.
    pub owner: Option<Owner>,
    /// What the operating system said.
    pub error: io::Error,
}

impl PortTaken {
    /// Whether it may be free in a moment: whoever has it is of a stack of ours, or is nobody who can be seen any more.
    pub(crate) fn may_be_going(&self) -> bool {
        let going = |owner: &Owner| owner.run().is_some() || owner.holders.is_empty();
        super::is_taken(&self.error) && self.owner.as_ref().is_none_or(going)
    }

    pub(super) fn look_up(address: SocketAddr, error: io::Error) -> Self {
        let owner = if super::is_taken(&error) { owner_of(address) } else { None };
        Self { address, owner, error }
    }

    /// The failure to report. `port_variable` is what one sets to choose another port.
    pub fn failure(&self, port_variable: &str) -> Failure {
        if !super::is_taken(&self.error) {
            let what = format!("{} cannot be listened on", self.address);
            return Failure::new(ExitCode::PrerequisiteMissing, "address-unusable", what)
                .because(self.error.to_string());
        }
        let us = i32::try_from(std::process::id()).unwrap_or(0);
        let ours = self.owner.as_ref().is_some_and(|owner| owner.is_below(us));
        port_taken(self.address, self.owner.as_ref(), ours, port_variable)
    }
}

/// The failure for a port that somebody has: exit code 33, kind `port-taken`.
pub fn port_taken(address: SocketAddr, owner: Option<&Owner>, ours: bool, port_variable: &str) -> Failure {
    let run = owner.and_then(Owner::run);
    let by = match run {
        _ if ours => "another process of this stack".to_owned(),
        Some(run) => format!("another stack of yours ({run})"),
        None => "a stranger".to_owned(),
    };
    let mut failure =
        Failure::new(ExitCode::PortTaken, "port-taken", format!("port {} is taken by {by}", address.port()));
    // Whoever listens reads it in what was rendered.
    let export = format!("export {port_variable}={}", another_port(address.port()));
    let choose = format!("{export}; cargo xtask render-proxy && cargo xtask restart");
    let Some(owner) = owner else {
        return failure
            .on(format!("{address}, by whom cannot be seen"))
            .because(
                "nobody listens there: a socket may be bound without listening, or have just been closed",
            )
            .hint(format!("choose another port: {choose}"));
    };
    failure = failure.on(format!("{address}, {}", owner.describe()));
    if owner.address != address {
        failure = failure.because(format!("it listens on {}, which covers {address}", owner.address));
    }
    match owner.holders.first() {
        Some(holder) if run.is_some() && !ours => {
            let end = format!("end it: cargo xtask down, or kill {}", holder.pid);
            failure.hint(format!("{end}; or choose another port: {choose}"))
        }
        Some(holder) => failure.hint(format!("kill {}, or choose another port: {choose}", holder.pid)),
        None => failure.hint(format!("choose another port: {choose}")),
    }
}

/// A failure of another process, in a namespace, which could not see the stranger that has the port; we may, or know whom to
/// ask.
#[must_use]
pub fn name_stranger(mut failure: Failure) -> Failure {
    let on = failure.on.first_mut().filter(|_| failure.kind == "port-taken");
    let Some(on) = on else { return failure };
    let address = on.split_once(", ").and_then(|(address, _)| address.parse().ok());
    if let Some(owner) = address.and_then(owner_of).filter(|owner| owner.outside) {
        *on = format!("{}, {}", owner.address, owner.describe());
    }
    failure
}

/// One that can be typed. Whether it is free is for the next start to find out.
fn another_port(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(9090)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::ports::{listen, socket_inode};

    #[test]
    fn our_own_listener_is_found_on_every_kind_of_address() {
        let us = i32::try_from(std::process::id()).unwrap();
        for bound in ["127.0.0.1:0", "127.0.0.9:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(bound).unwrap();
            let address = listener.local_addr().unwrap();
            let owner = owner_of(address).unwrap();
            // A child that another test is just forking has a copy of it.
            assert!(owner.holders.iter().any(|holder| holder.pid == us), "{bound}: {:?}", owner.holders);
            assert_eq!(Some(owner.inode), socket_inode(&listener));
            assert!(listening_addresses(&[us]).contains(&address));
            assert!(owner.is_below(us));
        }
    }

    #[test]
    fn a_taken_port_names_who_has_it_and_a_wildcard_counts() {
        let stranger = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = stranger.local_addr().unwrap().port();
        let taken = listen(([127, 0, 0, 1], port).into()).unwrap_err();
        let failure = taken.failure("PROXY_PORT");
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::PortTaken, "port-taken"));
        let text = failure.to_string();
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        assert!(text.contains(&format!("0.0.0.0:{port}, which covers 127.0.0.1:{port}")), "{text}");
        assert!(text.contains("PROXY_PORT="), "{text}");
    }

    #[test]
    fn an_owner_is_named_with_pid_command_and_start() {
        let holder =
            |started_unix_s| Holder { pid: 7, command: "node x.js".to_owned(), started_unix_s, run: None };
        let owner = |holders| Owner {
            address: ([127, 0, 0, 1], 1).into(),
            inode: 1,
            uid: 1000,
            holders,
            outside: false,
        };
        let known = owner(vec![holder(Some(951_782_400))]).describe();
        assert_eq!(known, "pid 7: node x.js, since 2000-02-29 00:00:00Z");
        assert_eq!(owner(vec![holder(None)]).describe(), "pid 7: node x.js");
        assert_eq!(owner(Vec::new()).describe(), "a process of user 1000 that we may not look at");
    }

    #[test]
    fn an_address_that_is_not_ours_is_not_a_taken_port() {
        let failure = listen("192.0.2.1:0".parse().unwrap()).unwrap_err().failure("PROXY_PORT");
        assert_eq!(failure.kind, "address-unusable");
    }
}
