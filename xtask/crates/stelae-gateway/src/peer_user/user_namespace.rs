//! What a uid means that the kernel shows to this process.

use std::io;

use rustix::process::geteuid;
use stelae_run::files::read_regular_text;

use super::{PeerUser, descriptors};

const ROOT: u32 = 0;
/// What the kernel shows in place of a user that is not mapped, unless it is told otherwise.
const OVERFLOW: u32 = 65_534;
/// The map of a namespace in which every user is itself.
const EVERY_USER: [&str; 3] = ["0", "0", "4294967295"];

/// The user namespace of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct UserNamespace {
    us: u32,
    /// The uid behind which several users may be; none where every user is mapped.
    ambiguous: Option<u32>,
}

impl UserNamespace {
    /// As it is now. Its map was written before this program was started.
    pub(super) fn read() -> io::Result<Self> {
        let us = geteuid().as_raw();
        // A kernel without user namespaces has no such file.
        let map = match read_regular_text("/proc/self/uid_map".into()) {
            Ok(map) => map,
            Err(error) if error.kind() == io::ErrorKind::NotFound => EVERY_USER.join(" "),
            Err(error) => return Err(error),
        };
        let overflow = read_regular_text("/proc/sys/kernel/overflowuid".into());
        let overflow = overflow.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW);
        Ok(Self { us, ambiguous: (!maps_every_user(&map)).then_some(overflow) })
    }

    /// Who the user `uid` is, whose socket has this inode.
    pub(super) fn judge(self, uid: u32, inode: u64) -> PeerUser {
        let ambiguous = self.ambiguous == Some(uid);
        if ambiguous && uid != self.us {
            return PeerUser::Unknown("a user that is not mapped in this user namespace");
        }
        // We are shown as the overflow user, and so is every other one. The descriptors of a process can be read by its own
        // user only.
        if ambiguous && !descriptors::are_readable_of(inode) {
            return PeerUser::Unknown("the overflow user of this user namespace");
        }
        if uid == self.us || uid == ROOT { PeerUser::Same } else { PeerUser::Other { uid, inode } }
    }
}

fn maps_every_user(map: &str) -> bool {
    map.split_ascii_whitespace().eq(EVERY_USER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_user_and_root_are_told_from_others() {
        let everywhere = UserNamespace { us: 1000, ambiguous: None };
        assert_eq!(everywhere.judge(1000, 7), PeerUser::Same);
        assert_eq!(everywhere.judge(0, 7), PeerUser::Same);
        assert_eq!(everywhere.judge(65_534, 7), PeerUser::Other { uid: 65_534, inode: 7 });
        let nobody = UserNamespace { us: 65_534, ambiguous: None };
        assert_eq!(nobody.judge(65_534, 7), PeerUser::Same);
    }

    #[test]
    fn the_overflow_user_of_a_namespace_is_no_user() {
        let alone = UserNamespace { us: 1000, ambiguous: Some(65_534) };
        assert!(matches!(alone.judge(65_534, 7), PeerUser::Unknown(_)));
        assert_eq!(alone.judge(1000, 7), PeerUser::Same);
        // Two users look alike: who holds the socket decides.
        let nobody = UserNamespace { us: 65_534, ambiguous: Some(65_534) };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = stelae_run::ports::socket_inode(&listener).unwrap();
        assert_eq!(nobody.judge(65_534, inode), PeerUser::Same);
        assert!(matches!(nobody.judge(65_534, u64::MAX), PeerUser::Unknown(_)));
    }

    #[test]
    fn a_map_of_some_users_is_not_one_of_all() {
        assert!(maps_every_user("         0          0 4294967295\n"));
        for some in ["65534 65534 1\n", "0 1000 1\n1 100000 65536\n", "", "0 0 4294967295\n1 1 1\n"] {
            assert!(!maps_every_user(some), "{some}");
        }
    }
}
