//! How much of everything the gateway has at once, for all clients and for one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are wanted, if the hard limit allows them.
const WANTED_FILES: u64 = 4_096;
/// Open files that no client gets: the pipes of servers, files, the sockets of what is refused.
const RESERVED_FILES: u64 = 128;
/// A call of a server behind HTTP takes one open file for its client, and one for the server.
const FILES_OF_A_CLIENT: u64 = 2;
/// Nor are there more connections than this.
const MOST_CONNECTIONS: usize = 1_024;
/// However few files are allowed.
const FEWEST_CONNECTIONS: usize = 8;

/// Bytes of requests that are read and not done with, in memory as they are counted (see [`super::budget`]).
pub(super) const REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// So many sessions can there be at once. One costs some 75 kB in a debug build.
pub(super) const SESSIONS: usize = 1_000;
/// So many requests of one session can be under way at once.
pub(super) const CALLS_OF_A_SESSION: usize = 128;
/// So many resources can one session be subscribed to.
pub(super) const SUBSCRIPTIONS_OF_A_SESSION: usize = 1_000;
/// The longest URI of a resource that can be subscribed to.
pub(super) const SUBSCRIPTION_BYTES: usize = 8 * 1024;

/// Raises the limit of open files as far as it is wanted and allowed, and gives the number of connections for which there is
/// room then. The servers of the stack inherit the limit.
pub(super) fn connections() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED_FILES, |maximum| maximum.min(WANTED_FILES));
    let have = current.unwrap_or(u64::MAX);
    let raised =
        have < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
    connections_of(if raised { wanted } else { have })
}

fn connections_of(files: u64) -> usize {
    let room = files.saturating_sub(RESERVED_FILES) / FILES_OF_A_CLIENT;
    usize::try_from(room).unwrap_or(usize::MAX).clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS)
}

/// Requests under way at once, of all sessions: fewer than connections, so that a client that asks for something else gets in.
pub(super) fn calls(connections: usize) -> usize {
    (connections / 4 * 3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_servers() {
        for (files, connections) in [(0, 8), (256, 64), (1_024, 448), (4_096, 1_024), (u64::MAX, 1_024)] {
            assert_eq!(connections_of(files), connections, "{files}");
            assert!(calls(connections) < connections);
        }
    }
}
