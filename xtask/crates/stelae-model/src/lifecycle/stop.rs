//! Stopping as a small state machine: ask, wait the grace, kill in rounds, until there is proof or no more time.

use std::time::Duration;

/// How long stopping may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopLimits {
    /// Between the polite signal and the first kill.
    pub grace: Duration,
    /// From the first kill until we give up and name the survivors.
    pub ceiling: Duration,
}

impl Default for StopLimits {
    /// Five seconds to say goodbye, five more until it is called a survivor.
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), ceiling: Duration::from_secs(5) }
    }
}

impl StopLimits {
    /// From the polite signal to the end, whatever comes.
    pub fn longest(self) -> Duration {
        self.grace.saturating_add(self.ceiling)
    }

    /// No grace at all: for what has had its chance.
    pub fn at_once() -> Self {
        Self { grace: Duration::ZERO, ..Self::default() }
    }
}

/// What is seen between two moves.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Since stopping began.
    pub elapsed: Duration,
    /// Signals that we have got since we were started: the second shortens the grace, the third ends it.
    pub interrupts: usize,
    /// Nothing that should go is left.
    pub nothing_left: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Send the polite signal to everyone who has not had it.
    Ask,
    /// Kill everyone.
    Kill,
    /// It is over, and nothing is left.
    Gone,
    /// It is over, and something is left.
    GiveUp,
}

/// The state of one stop.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    limits: StopLimits,
    killing_since: Option<Duration>,
}

impl Stop {
    /// A stop that begins now.
    pub fn new(limits: StopLimits) -> Self {
        Self { limits, killing_since: None }
    }

    /// What to do, given what is seen. Killing, once begun, is never taken back.
    pub fn next(&mut self, seen: Seen) -> Move {
        if seen.nothing_left {
            return Move::Gone;
        }
        if self.killing_since.is_none() && seen.elapsed >= self.grace(seen.interrupts) {
            self.killing_since = Some(seen.elapsed);
        }
        match self.killing_since {
            None => Move::Ask,
            Some(since) if seen.elapsed.saturating_sub(since) >= self.limits.ceiling => Move::GiveUp,
            Some(_) => Move::Kill,
        }
    }

    fn grace(&self, interrupts: usize) -> Duration {
        match interrupts {
            0 | 1 => self.limits.grace,
            2 => self.limits.grace / 4,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ms: u64, interrupts: usize) -> Seen {
        Seen { elapsed: Duration::from_millis(ms), interrupts, nothing_left: false }
    }

    fn stop() -> Stop {
        Stop::new(StopLimits { grace: Duration::from_millis(400), ceiling: Duration::from_millis(1000) })
    }

    #[test]
    fn asks_then_kills_then_gives_up() {
        let mut stop = stop();
        let moves = [0, 399, 400, 1399, 1400].map(|ms| stop.next(seen(ms, 1)));
        assert_eq!(moves, [Move::Ask, Move::Ask, Move::Kill, Move::Kill, Move::GiveUp]);
    }

    #[test]
    fn proof_ends_it_in_every_phase() {
        for ms in [0, 500, 5000] {
            assert_eq!(stop().next(Seen { nothing_left: true, ..seen(ms, 0) }), Move::Gone);
        }
    }

    #[test]
    fn the_second_signal_shortens_the_grace_and_the_third_ends_it() {
        assert_eq!(stop().next(seen(99, 2)), Move::Ask);
        assert_eq!(stop().next(seen(100, 2)), Move::Kill);
        assert_eq!(stop().next(seen(0, 3)), Move::Kill);
    }

    #[test]
    fn the_ceiling_counts_from_the_first_kill() {
        let mut stop = stop();
        assert_eq!(stop.next(seen(100, 2)), Move::Kill);
        assert_eq!(stop.next(seen(1099, 2)), Move::Kill);
        assert_eq!(stop.next(seen(1100, 2)), Move::GiveUp);
    }

    #[test]
    fn without_grace_nobody_is_asked() {
        assert_eq!(Stop::new(StopLimits::at_once()).next(seen(0, 0)), Move::Kill);
    }
}
