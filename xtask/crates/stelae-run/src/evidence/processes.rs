//! What each process is and holds, read from `/proc`.

use std::fs;
use std::sync::mpsc::Sender;

use stelae_model::evidence::{Details, secrets_in, seen_environment};
use stelae_model::lifecycle::ProcessRow;

use super::{Piece, unseen};
use crate::files::kernel_text;
use crate::process::tree;

/// Processes that are looked at; the others are counted.
const MOST: usize = 500;

/// Who of them is looked at.
pub(super) fn worth_a_look(rows: &[ProcessRow]) -> Vec<i32> {
    rows.iter().take(MOST).map(|row| row.pid).collect()
}

/// Looks at each.
pub(super) fn look(pids: &[i32], tell: &Sender<Piece>) -> Option<()> {
    for (index, &pid) in pids.iter().enumerate() {
        let (details, secrets, sockets) = details(pid);
        for secret in secrets {
            tell.send(Piece::Secret(secret)).ok()?;
        }
        tell.send(Piece::Looked(index, Box::new(details), sockets)).ok()?;
    }
    tell.send(Piece::Done).ok()
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
    let status = match kernel_text(format!("/proc/{pid}/status")) {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_said_to_be() {
        let (details, _, _) = details(i32::MAX);
        assert_eq!(details.unreadable.len(), 4, "{details:?}");
    }
}
