//! What each process is and holds, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc::Sender;

use stelae_model::evidence::{Details, SocketSeen, secrets_in, seen_environment};
use stelae_model::lifecycle;

use super::{Piece, unseen};
use crate::ports;
use crate::process::tree;

/// Processes that are looked at; the others are counted.
const MOST: usize = 500;
/// Sockets that are listed of one process.
const MOST_SOCKETS: usize = 100;

/// Looks at everything below `root`: first at who there is, then at each, and at last at the table of sockets.
pub(super) fn look(root: i32, tell: &Sender<Piece>) -> Option<()> {
    match tree::table() {
        Ok(rows) => {
            let found: Vec<_> = lifecycle::descendants(&rows, root).into_iter().cloned().collect();
            let pids: Vec<i32> = found.iter().take(MOST).map(|row| row.pid).collect();
            tell.send(Piece::Table(found)).ok()?;
            look_at(&pids, tell)?;
        }
        Err(error) => tell.send(Piece::Problem(unseen("the process table cannot be read", &error))).ok()?,
    }
    tell.send(Piece::Done).ok()
}

fn look_at(pids: &[i32], tell: &Sender<Piece>) -> Option<()> {
    let mut held = BTreeMap::new();
    for (index, &pid) in pids.iter().enumerate() {
        let (details, secrets, sockets) = details(pid);
        for secret in secrets {
            tell.send(Piece::Secret(secret)).ok()?;
        }
        tell.send(Piece::Looked(index, Box::new(details))).ok()?;
        held.insert(index, sockets);
    }
    tell_sockets(&held, tell)
}

/// One process, the secrets that it was given, and the inodes of its sockets.
fn details(pid: i32) -> (Details, Vec<String>, Vec<u64>) {
    let mut details = Details { command: tree::command_line(pid).unwrap_or_default(), ..Details::default() };
    read_status(pid, &mut details);
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => details.cwd = Some(cwd.to_string_lossy().into_owned()),
        Err(error) => details.unreadable.push(unseen("its working directory", &error)),
    }
    let mut secrets = Vec::new();
    match tree::environ(pid) {
        Ok(environment) => {
            secrets = secrets_in(&environment).map(str::to_owned).collect();
            details.environment = Some(seen_environment(&environment));
        }
        Err(why) => details.unreadable.push(format!("its environment: {why}")),
    }
    let sockets = tree::sockets(pid).unwrap_or_else(|why| {
        details.unreadable.push(format!("its sockets: {why}"));
        Vec::new()
    });
    (details, secrets, sockets)
}

fn read_status(pid: i32, details: &mut Details) {
    let status = match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => status,
        Err(error) => return details.unreadable.push(unseen("its state", &error)),
    };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|line| line.trim().to_owned())
    };
    details.state = field("State");
    // A zombie has no memory, and no such line.
    details.rss_kib = field("VmRSS").and_then(|text| text.strip_suffix("kB")?.trim().parse().ok());
}

fn tell_sockets(held: &BTreeMap<usize, Vec<u64>>, tell: &Sender<Piece>) -> Option<()> {
    let all: BTreeSet<u64> = held.values().flatten().copied().collect();
    let known = match ports::tcp_sockets(&|inode| all.contains(&inode)) {
        Ok(known) => known,
        Err(error) => return tell.send(Piece::Problem(unseen("the table of sockets", &error))).ok(),
    };
    for (&index, inodes) in held {
        // The same socket can be open twice.
        let own: BTreeSet<u64> = inodes.iter().copied().collect();
        let seen: Vec<SocketSeen> = known
            .iter()
            .filter(|socket| own.contains(&socket.inode))
            .take(MOST_SOCKETS)
            .map(|socket| SocketSeen {
                state: socket.state.to_owned(),
                local: socket.local,
                remote: socket.remote,
            })
            .collect();
        let other = own.len().saturating_sub(seen.len());
        tell.send(Piece::Sockets(index, seen, other)).ok()?;
    }
    Some(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_process_is_seen_with_its_sockets_and_its_environment() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let us = i32::try_from(std::process::id()).unwrap();
        let (tell, told) = channel();
        look_at(&[us], &tell).unwrap();
        drop(tell);
        let mut pieces = told.into_iter();
        let details = pieces.find_map(|piece| match piece {
            Piece::Looked(0, details) => Some(details),
            _ => None,
        });
        let details = details.unwrap();
        assert!(details.command.contains("stelae_run"), "{details:?}");
        assert!(details.state.is_some() && details.rss_kib > Some(0) && details.cwd.is_some(), "{details:?}");
        assert!(details.environment.unwrap().contains_key("PATH"));
        assert_eq!(details.unreadable, Vec::<String>::new());
        let sockets = pieces.find_map(|piece| match piece {
            Piece::Sockets(0, sockets, _) => Some(sockets),
            _ => None,
        });
        let sockets = sockets.unwrap();
        let listens = SocketSeen { state: "listen".into(), local: address, remote: None };
        assert!(sockets.contains(&listens), "{sockets:?}");
        let connected = |socket: &SocketSeen| {
            socket.local == client.local_addr().unwrap() && socket.remote == Some(address)
        };
        assert!(sockets.iter().any(connected), "{sockets:?}");
    }

    #[test]
    fn who_is_gone_is_said_to_be() {
        let (details, _, _) = details(i32::MAX);
        assert_eq!(details.unreadable.len(), 4, "{details:?}");
    }
}
