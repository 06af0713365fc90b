//! What follows when a process that was meant to stay has ended: another start, or the end of starting.
//!
//! Restarts are counted over the whole life of a stack and never given back, so however a process dies, there is a
//! last time. And a restart is decided only when there is time left for it: it never moves a limit.

use std::time::Duration;

use super::Ended;

/// The pause before the first restart; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One end. A process that is meant to stay and does not has crashed, also with status 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// How it ended.
    pub ended: Ended,
    /// When, since it was started for the first time.
    pub at: Duration,
}

/// What is done about a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterCrash {
    /// It is started again.
    StartAgain {
        /// After this pause.
        after: Duration,
    },
    /// It is not started again, and never was.
    Over,
    /// It was started again, and ended again, as often as there was leave or time.
    CrashLoop {
        /// How often it was started in all.
        starts: u32,
        /// The first time: what came after may be only its consequence.
        first: Crash,
    },
}

/// How often one process has ended, and how often it may.
#[derive(Clone, Debug)]
pub struct Crashes {
    restarts: u32,
    used: u32,
    first: Option<Crash>,
}

impl Crashes {
    /// It may be started again so often.
    pub fn new(restarts: u32) -> Self {
        Self { restarts, used: 0, first: None }
    }

    /// It has ended; `left` is the time until the sooner of its ceiling and the deadline.
    pub fn exited(&mut self, crash: Crash, left: Duration) -> AfterCrash {
        let first = *self.first.get_or_insert(crash);
        let after = self.pause();
        if !self.exhausted() && after < left {
            self.used += 1;
            return AfterCrash::StartAgain { after };
        }
        match self.used {
            0 => AfterCrash::Over,
            used => AfterCrash::CrashLoop { starts: used + 1, first },
        }
    }

    /// Whether another end would be the last.
    pub fn exhausted(&self) -> bool {
        self.used >= self.restarts
    }

    /// How often it was started again.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// How often it may be started again in all.
    pub fn allowed(&self) -> u32 {
        self.restarts
    }

    /// The first crash, once there was one.
    pub fn first(&self) -> Option<Crash> {
        self.first
    }

    fn pause(&self) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << self.used.min(16)).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn crash(status: i32, at_ms: u64) -> Crash {
        Crash { ended: Ended::Status(status), at: Duration::from_millis(at_ms) }
    }

    fn again(after_ms: u64) -> AfterCrash {
        AfterCrash::StartAgain { after: Duration::from_millis(after_ms) }
    }

    #[test]
    fn without_restarts_the_first_end_is_the_end() {
        assert_eq!(Crashes::new(0).exited(crash(1, 5), LONG), AfterCrash::Over);
        assert_eq!(Crashes::new(0).exited(crash(0, 5), LONG), AfterCrash::Over);
    }

    #[test]
    fn two_restarts_are_three_starts_and_the_first_crash_is_the_one_that_counts() {
        let mut crashes = Crashes::new(2);
        assert_eq!(crashes.exited(crash(3, 10), LONG), again(50));
        assert_eq!(crashes.exited(crash(0, 90), LONG), again(100));
        let last = crashes.exited(crash(7, 300), LONG);
        assert_eq!(last, AfterCrash::CrashLoop { starts: 3, first: crash(3, 10) });
        assert_eq!((crashes.used(), crashes.first()), (2, Some(crash(3, 10))));
    }

    #[test]
    fn pauses_grow_to_a_second_and_no_further() {
        let mut crashes = Crashes::new(10);
        let pauses: Vec<_> = (0..10).map(|_| crashes.exited(crash(1, 0), LONG)).collect();
        assert_eq!(pauses[..6], [50, 100, 200, 400, 800, 1000].map(again));
        assert_eq!(pauses[9], again(1000));
    }

    #[test]
    fn a_restart_that_there_is_no_time_for_is_not_begun() {
        let mut crashes = Crashes::new(10);
        assert_eq!(crashes.exited(crash(1, 5), Duration::from_millis(50)), AfterCrash::Over);
        assert_eq!(crashes.exited(crash(1, 5), Duration::from_millis(51)), again(50));
        let last = crashes.exited(crash(1, 9), Duration::from_millis(1));
        assert_eq!(last, AfterCrash::CrashLoop { starts: 2, first: crash(1, 5) });
    }
}
