//! What a connection is at, and since when.

use std::time::Duration;

use tokio::time::Instant;

/// A connection on which nothing was ever sent.
const SILENT: Duration = Duration::from_secs(30);
/// One that waits for its next request: longer than the pools of clients keep theirs, so that they are the ones that close.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// From the first byte of a request to the end of its headers.
const HEAD: Duration = Duration::from_secs(10);

/// What a connection is at. The order is that in which connections give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It waits for a request.
    Idle,
    /// A request has begun to come, and its headers are not complete.
    Head,
    /// Its headers are, and its body is not.
    Body,
    /// An event stream that is no answer to a call (GET): its client can resume it.
    Stream,
    /// A call is under way.
    Call,
}

/// What is too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing was asked for a long time.
    Idle,
    /// A request that has begun.
    Request,
}

/// What a connection is at, since when, and whether it ever asked for anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    pub(super) stage: Stage,
    pub(super) since: Instant,
    silent: bool,
}

impl Activity {
    /// That of a new connection.
    pub(super) fn new(now: Instant) -> Self {
        Self { stage: Stage::Idle, since: now, silent: true }
    }

    /// It is at something else now.
    pub(super) fn is_at(&mut self, stage: Stage, now: Instant) {
        (self.stage, self.since) = (stage, now);
        self.silent &= stage == Stage::Idle;
    }

    /// Bytes have come.
    pub(super) fn has_read(&mut self, now: Instant) {
        if self.stage == Stage::Idle {
            self.is_at(Stage::Head, now);
        }
    }

    /// A piece of an event stream has left: it is not the one that is silent for the longest time.
    pub(super) fn has_told(&mut self, now: Instant) {
        if self.stage == Stage::Stream {
            self.since = now;
        }
    }

    /// When it is too late for what is to come next; nothing where that has a limit of its own, or none.
    fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Idle if self.silent => Some(self.since + SILENT),
            Stage::Idle => Some(self.since + IDLE),
            Stage::Head => Some(self.since + HEAD),
            Stage::Body | Stage::Stream | Stage::Call => None,
        }
    }

    /// What is too late `now`.
    pub(super) fn overdue(&self, now: Instant) -> Option<Overdue> {
        let late = self.due().is_some_and(|due| now >= due);
        late.then_some(if self.stage == Stage::Idle { Overdue::Idle } else { Overdue::Request })
    }

    /// When to look again, `every` so often at least: what it is at may change meanwhile.
    pub(super) fn look_at(&self, now: Instant, every: Duration) -> Instant {
        self.due().map_or(now + every, |due| due.min(now + every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_has_to_come_and_what_is_answered_may_take_its_time() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut activity = Activity::new(begun);
        assert_eq!(activity.overdue(at(29)), None);
        assert_eq!(activity.overdue(at(30)), Some(Overdue::Idle));
        activity.has_read(at(20));
        // A byte a second does not make it younger.
        activity.has_read(at(29));
        assert_eq!((activity.overdue(at(29)), activity.overdue(at(30))), (None, Some(Overdue::Request)));
        for stage in [Stage::Body, Stage::Stream, Stage::Call] {
            activity.is_at(stage, at(31));
            activity.has_read(at(32));
            assert_eq!(activity.overdue(at(31 + 60 * 60 * 24)), None, "{stage:?}");
        }
        activity.is_at(Stage::Idle, at(100));
        assert_eq!((activity.overdue(at(399)), activity.overdue(at(400))), (None, Some(Overdue::Idle)));
    }

    #[test]
    fn it_is_looked_at_when_something_is_due_or_may_have_changed() {
        let now = Instant::now();
        let (every, mut activity) = (Duration::from_secs(5), Activity::new(now));
        assert_eq!(activity.look_at(now, every), now + every);
        activity.has_read(now);
        let later = now + Duration::from_secs(8);
        assert_eq!(activity.look_at(later, every), now + HEAD);
    }

    #[test]
    fn a_stream_that_tells_is_younger_than_one_that_is_silent() {
        let now = Instant::now();
        let mut activity = Activity::new(now);
        activity.is_at(Stage::Stream, now);
        activity.has_told(now + HEAD);
        assert_eq!(activity.since, now + HEAD);
        activity.is_at(Stage::Call, now);
        activity.has_told(now + HEAD);
        assert_eq!(activity.since, now);
    }
}
