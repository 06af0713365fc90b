//! Stopping as a small state machine: running → snapshot → asked → (the grace) → killed in rounds → proof. Only after the
//! proof may be recycled what the stopped ones had: ports, leases, folders.

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
    /// Look at everything as it still is, and write that down.
    Snapshot,
    /// Send the polite signal to everyone who has not had it.
    Ask,
    /// Kill everyone.
    Kill,
    /// It is over, and nothing is left: what they had may be recycled.
    Gone,
    /// It is over, and something is left.
    GiveUp,
}

/// So many signals to us end every grace.
const AT_ONCE: usize = 3;

/// The state of one stop.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    limits: StopLimits,
    snapshot: bool,
    asking_since: Option<Duration>,
    killing_since: Option<Duration>,
}

impl Stop {
    /// A stop that begins now.
    pub fn new(limits: StopLimits) -> Self {
        Self { limits, snapshot: false, asking_since: None, killing_since: None }
    }

    /// The same, with a snapshot before the first signal.
    pub fn with_snapshot(limits: StopLimits) -> Self {
        Self { snapshot: true, ..Self::new(limits) }
    }

    /// What to do, given what is seen. Killing, once begun, is never taken back.
    pub fn next(&mut self, seen: Seen) -> Move {
        // Who has pressed Ctrl-C three times wants no evidence.
        if std::mem::take(&mut self.snapshot) && seen.interrupts < AT_ONCE {
            return Move::Snapshot;
        }
        if seen.nothing_left {
            return Move::Gone;
        }
        // The time of the snapshot is not the grace's.
        let asking_since = *self.asking_since.get_or_insert(seen.elapsed);
        let asked_for = seen.elapsed.saturating_sub(asking_since);
        if self.killing_since.is_none() && asked_for >= self.grace(seen.interrupts) {
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
            AT_ONCE.. => Duration::ZERO,
            _ => self.limits.grace / 4,
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
        let mut stop = stop();
        let moves = [(0, 1), (99, 2), (100, 2)].map(|(ms, interrupts)| stop.next(seen(ms, interrupts)));
        assert_eq!(moves, [Move::Ask, Move::Ask, Move::Kill]);
        assert_eq!(Stop::new(stop.limits).next(seen(0, 3)), Move::Kill);
    }

    #[test]
    fn the_ceiling_counts_from_the_first_kill() {
        let mut stop = stop();
        let moves = [0, 100, 1099, 1100].map(|ms| stop.next(seen(ms, 2)));
        assert_eq!(moves, [Move::Ask, Move::Kill, Move::Kill, Move::GiveUp]);
    }

    #[test]
    fn the_snapshot_comes_before_the_first_signal_and_takes_nothing_of_the_grace() {
        let mut stop = Stop::with_snapshot(stop().limits);
        let moves = [0, 900, 1299, 1300].map(|ms| stop.next(seen(ms, 1)));
        assert_eq!(moves, [Move::Snapshot, Move::Ask, Move::Ask, Move::Kill]);
        // There may be nobody left to ask; what is seen then is evidence, too.
        let mut stop = Stop::with_snapshot(stop.limits);
        let gone = Seen { nothing_left: true, ..seen(0, 0) };
        assert_eq!([stop.next(gone), stop.next(gone)], [Move::Snapshot, Move::Gone]);
        assert_eq!(Stop::with_snapshot(stop.limits).next(seen(0, 3)), Move::Kill);
    }

    #[test]
    fn without_grace_nobody_is_asked() {
        assert_eq!(Stop::new(StopLimits::at_once()).next(seen(0, 0)), Move::Kill);
    }
}
