//! Ids of runs: they sort by time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

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

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar: counted in 400-year
/// eras of 146,097 days that begin on March 1st, so that the leap day is an era's, a century's or a year's last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(11_017), (2000, 3, 1));
        assert_eq!(civil_date(20_777), (2026, 11, 20));
    }

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
