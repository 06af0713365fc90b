//! Which processes belong together: pure look-ups in a table of all processes.
//!
//! A tree by parent pid forgets whoever's parent has died: that process is adopted by the nearest subreaper. So one
//! service's kin is remembered from look to look, and adopted processes are recognised by the group or the session of
//! a remembered one, or by a mark in their environment.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One process, as the kernel's table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// Its pid.
    pub pid: i32,
    /// Its parent now; it changes when the parent dies.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// When it was started, in clock ticks since boot: with the pid, this names one process for ever.
    pub started: u64,
    /// Ended, and not yet waited for.
    pub zombie: bool,
}

/// All processes below `root`, without `root`, parents before their children.
pub fn descendants(rows: &[ProcessRow], root: i32) -> Vec<&ProcessRow> {
    let mut children: BTreeMap<i32, Vec<&ProcessRow>> = BTreeMap::new();
    for row in rows {
        children.entry(row.parent).or_default().push(row);
    }
    let (mut found, mut seen) = (Vec::new(), BTreeSet::from([root]));
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for &child in children.get(&parent).into_iter().flatten() {
            // The table is not read in one instant, so a pid can stand in it twice; a loop must not follow from that.
            if seen.insert(child.pid) {
                found.push(child);
                next.push(child.pid);
            }
        }
    }
    found
}

/// The kin of one service, remembered while it is being stopped.
#[derive(Clone, Debug)]
pub struct Kin {
    root: i32,
    known: BTreeSet<(i32, u64)>,
    groups: BTreeSet<i32>,
    sessions: BTreeSet<i32>,
}

impl Kin {
    /// Begins with the service's first process, which leads a group of its own.
    pub fn new(root: i32) -> Self {
        Self {
            root,
            known: BTreeSet::new(),
            groups: BTreeSet::from([root]),
            sessions: BTreeSet::from([root]),
        }
    }

    /// Who belongs to the service now. `us` is the subreaper that adopts orphans, `others` are the first processes of
    /// the services that live on, `marked` tells whether an adopted process carries the service's mark.
    pub fn members<'a>(
        &mut self,
        rows: &'a [ProcessRow],
        us: i32,
        others: &[i32],
        marked: &dyn Fn(&ProcessRow) -> bool,
    ) -> Vec<&'a ProcessRow> {
        let is_other = |row: &ProcessRow| others.contains(&row.pid);
        let mut members: BTreeMap<i32, &ProcessRow> = BTreeMap::new();
        for row in descendants(rows, us) {
            let by_parent = row.pid == self.root || members.contains_key(&row.parent);
            let adopted = row.parent == us
                && (self.known.contains(&(row.pid, row.started))
                    || self.groups.contains(&row.group)
                    || self.sessions.contains(&row.session)
                    || marked(row));
            if !is_other(row) && (by_parent || adopted) {
                members.insert(row.pid, row);
            }
        }
        for row in members.values() {
            self.remember(row, us, rows);
        }
        members.into_values().collect()
    }

    /// Groups and sessions are remembered only when a member leads them: a service that was started without a session
    /// of its own shares ours, and everything else of ours with it.
    fn remember(&mut self, row: &ProcessRow, us: i32, rows: &[ProcessRow]) {
        let ours = rows.iter().find(|row| row.pid == us);
        self.known.insert((row.pid, row.started));
        if ours.is_none_or(|ours| ours.group != row.group) && row.group == row.pid {
            self.groups.insert(row.group);
        }
        if ours.is_none_or(|ours| ours.session != row.session) && row.session == row.pid {
            self.sessions.insert(row.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: i32 = 10;

    fn row(pid: i32, parent: i32, group: i32, session: i32) -> ProcessRow {
        ProcessRow { pid, parent, group, session, started: u64::from(pid.unsigned_abs()), zombie: false }
    }

    fn us() -> ProcessRow {
        row(US, 1, US, US)
    }

    fn pids(kin: &mut Kin, rows: &[ProcessRow], others: &[i32]) -> Vec<i32> {
        kin.members(rows, US, others, &|_| false).iter().map(|row| row.pid).collect()
    }

    #[test]
    fn descendants_reach_every_depth_and_nobody_else() {
        let rows = [us(), row(11, US, 11, US), row(12, 11, 12, 12), row(13, 12, 12, 12), row(14, 1, 14, 14)];
        let found: Vec<_> = descendants(&rows, US).iter().map(|row| row.pid).collect();
        assert_eq!(found, [11, 12, 13]);
    }

    #[test]
    fn a_table_that_contradicts_itself_does_not_loop() {
        let rows = [row(11, 12, 11, 1), row(12, 11, 11, 1), row(10, 11, 1, 1)];
        assert_eq!(descendants(&rows, US).len(), 0);
        assert_eq!(descendants(&rows, 11).len(), 2);
    }

    #[test]
    fn siblings_live_on() {
        let rows = [us(), row(11, US, 11, US), row(12, 11, 11, US), row(20, US, 20, US), row(21, 20, 20, US)];
        assert_eq!(pids(&mut Kin::new(11), &rows, &[20]), [11, 12]);
    }

    #[test]
    fn an_orphan_is_known_by_its_group_after_the_leader_exited() {
        let rows = [us(), row(12, US, 11, US), row(20, US, 20, US)];
        assert_eq!(pids(&mut Kin::new(11), &rows, &[20]), [12]);
    }

    #[test]
    fn an_orphan_is_known_from_the_look_before() {
        let mut kin = Kin::new(11);
        let before = [us(), row(11, US, 11, US), row(12, 11, 12, 12), row(13, 12, 12, 12)];
        assert_eq!(pids(&mut kin, &before, &[]), [11, 12, 13]);
        // 12 and 11 are gone; 13 fell to us, and 14 was forked by 12 after the last look, in the session of 12.
        let after = [us(), row(13, US, 12, 12), row(14, US, 12, 12)];
        assert_eq!(pids(&mut kin, &after, &[]), [13, 14]);
    }

    #[test]
    fn a_reused_pid_is_a_stranger() {
        let mut kin = Kin::new(11);
        pids(&mut kin, &[us(), row(11, US, 11, US), row(12, 11, 12, 12)], &[]);
        let reused = ProcessRow { started: 999, ..row(12, US, US, US) };
        assert_eq!(pids(&mut kin, &[us(), reused], &[]), [0; 0]);
    }

    #[test]
    fn a_mark_is_enough_and_our_own_session_is_not() {
        let rows = [us(), row(12, US, 12, 12), row(13, US, 13, US)];
        let mut kin = Kin::new(11);
        let marked = kin.members(&rows, US, &[], &|row| row.pid == 12);
        assert_eq!(marked.iter().map(|row| row.pid).collect::<Vec<_>>(), [12]);
    }
}
