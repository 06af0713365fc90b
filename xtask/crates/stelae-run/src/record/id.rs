//! Ids of runs: they sort by time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use crate::calendar::civil_date;
use crate::files::random;

/// `20261120-094512-1f3a9c`: UTC time, then digits that tell runs of one second apart.
pub fn run_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let unique = unique(random(), now.subsec_nanos(), COUNTER.fetch_add(1, Ordering::Relaxed));
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{unique}")
}

/// How many ids this process has made.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Six digits that depend on all of it. Two of one second can still be the same, if hardly ever: what makes a run's
/// id its own is that its folder is made anew (`RunFolder::create_new`).
fn unique(random: u64, nanos: u32, counter: u32) -> String {
    let (random, time) = (random.to_le_bytes(), [nanos, counter].map(u32::to_le_bytes).concat());
    let digest = Sha256::digest([&random[..], &time].concat());
    format!("{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_time_and_counter_all_tell_ids_apart() {
        let ids = [(7, 5, 0), (7 + 16, 5, 0), (7 + 4096, 5, 0), (7, 6, 0), (7, 5, 1)];
        let ids: std::collections::BTreeSet<_> = ids.map(|(pid, nanos, n)| unique(pid, nanos, n)).into();
        assert_eq!(ids.len(), 5, "{ids:?}");
    }

    #[test]
    fn ids_have_one_shape() {
        let id = run_id();
        assert_eq!((id.len(), id.matches('-').count()), (22, 2), "{id}");
    }
}
