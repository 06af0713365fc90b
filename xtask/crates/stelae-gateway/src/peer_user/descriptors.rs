//! Which process holds a socket.

use stelae_run::process::tree;

/// Whether a process whose descriptors we may read holds the socket with this inode.
pub(super) fn are_readable_of(inode: u64) -> bool {
    holder(inode).is_some()
}

/// `pid 123: curl -s …`, of the first process that is seen to hold the socket with this inode. Reads the descriptors of every
/// process that it may: not for every connection.
pub(super) fn holder(inode: u64) -> Option<String> {
    let holds = |pid: &i32| tree::sockets(*pid).is_ok_and(|sockets| sockets.contains(&inode));
    let pid = tree::all_pids().into_iter().find(holds)?;
    // A command may hold line breaks and escapes.
    Some(format!("pid {pid}: {:?}", tree::command_line(pid).unwrap_or_default()))
}
