//! The users and groups of this machine, as far as `/etc/passwd` and `/etc/group` tell.

use super::read::read_config;

/// Longer than any of the two files is.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What the two files say.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Name, number and primary group of each user.
    users: Vec<(String, u32, u32)>,
    /// Name, number and members of each group.
    groups: Vec<(String, u32, Vec<String>)>,
}

impl Accounts {
    /// Reads them. Files that cannot be read name no user and no group.
    pub(super) fn read() -> Self {
        let text = |path: &str| {
            let bytes = read_config(path, MOST_BYTES).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self::parse(&text("/etc/passwd"), &text("/etc/group"))
    }

    pub(super) fn parse(passwd: &str, group: &str) -> Self {
        let user = |line: &str| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            Some((name.to_owned(), id, fields.next()?.parse().ok()?))
        };
        let group_of = |line: &str| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            let members = fields.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
            Some((name.to_owned(), id, members.collect()))
        };
        Self {
            users: passwd.lines().filter_map(user).collect(),
            groups: group.lines().filter_map(group_of).collect(),
        }
    }

    /// Whether only root and the user `uid` can be in a group: root's own, or the one that distributions make for each user, which
    /// is the user's primary group, has the user's name, and no other member. Of a group that the files do not name it is not
    /// known who is in it; a directory service can add members to any other.
    pub(super) fn is_private_group(&self, gid: u32, primary: u32, uid: u32) -> bool {
        let Some((group, _, members)) = self.groups.iter().find(|(_, id, _)| *id == gid) else {
            return false;
        };
        let is_trusted =
            |name: &str| self.users.iter().any(|(user, id, _)| user == name && (*id == 0 || *id == uid));
        let others = self.users.iter().any(|(_, id, primary)| *primary == gid && *id != 0 && *id != uid);
        let own = gid == primary && self.users.iter().any(|(name, id, _)| *id == uid && name == group);
        (gid == 0 || own) && !others && members.iter().all(|name| is_trusted(name))
    }

    /// A user for a reader.
    pub(super) fn user(&self, uid: u32) -> String {
        let name = self.users.iter().find(|(_, id, _)| *id == uid).map(|(name, _, _)| format!(" ({name})"));
        format!("uid {uid}{}", name.unwrap_or_default())
    }

    /// A group for a reader.
    pub(super) fn group(&self, gid: u32) -> String {
        let name = self.groups.iter().find(|(_, id, _)| *id == gid).map(|(name, _, _)| format!(" ({name})"));
        format!("{gid}{}", name.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_private_that_only_its_user_can_be_in() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nyou:x:1001:1001::/:/bin/sh\n\
                      other:x:1002:1003::/:/bin/sh\nbroken line\n";
        let group = "root:x:0:\nme:x:1000:\nyou:x:1001:me\nusers:x:100:\nteam:x:1003:me\nstaff:x:50:other\n";
        let accounts = Accounts::parse(passwd, group);
        assert!(accounts.is_private_group(1000, 1000, 1000));
        assert!(accounts.is_private_group(0, 1000, 1000));
        // Another's; one that others may be in; one that is not the primary one; one that is not known.
        for gid in [1001, 100, 1003, 50, 4711] {
            assert!(!accounts.is_private_group(gid, 1000, 1000), "{gid}");
            assert!(!accounts.is_private_group(gid, gid, 1000), "{gid}");
        }
        // With another member, or as the primary group of another user.
        assert!(!Accounts::parse(passwd, "me:x:1000:you\n").is_private_group(1000, 1000, 1000));
        let shared = passwd.replace("1001:1001", "1001:1000");
        assert!(!Accounts::parse(&shared, group).is_private_group(1000, 1000, 1000));
        assert!(!Accounts::parse(passwd, "root:x:0:you\n").is_private_group(0, 1000, 1000));
        assert!(!Accounts::default().is_private_group(0, 0, 0), "nothing is known");
        assert_eq!((accounts.user(1001), accounts.group(7)), ("uid 1001 (you)".to_owned(), "7".to_owned()));
    }
}
