//! How long to wait before a server is started again.

use std::time::Duration;

/// The wait after the first death.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait. A program that cannot be executed waits this long at once: nothing that happens within
/// milliseconds makes a file appear, and a person who repairs it is faster with a reload than with any back-off.
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// A server that was ready for this long has shown that its next death is a new story.
const STEADY: Duration = Duration::from_secs(10);

/// Doubles from [`FIRST`] to [`LONGEST`].
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The wait after a life in which the server was ready for `ready`; zero if it never was.
    pub(super) fn after(&mut self, ready: Duration) -> Duration {
        if ready >= STEADY {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_longest_and_starts_anew_after_a_steady_life() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after(STEADY - Duration::from_millis(1)), LONGEST);
        assert_eq!(backoff.after(STEADY), FIRST);
        assert_eq!(backoff.after(Duration::ZERO), FIRST * 2);
    }
}
