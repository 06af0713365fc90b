//! Calls that were given up, and that the server may still be at work on: a cancellation is a wish.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::peer::Asker;

/// For so long a question may still be of a call that was given up. A server that heeds a cancellation never answers, as the
/// protocol wants it, so that its answer cannot be waited for for ever; and a person is not asked for longer than this, either.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
/// So many are remembered; of more, the oldest are not: a server that answers nothing must not fill our memory.
const MOST: usize = 4_096;

/// Such calls, by the number of the request.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    calls: BTreeMap<u64, (Asker, Instant)>,
}

impl Forgotten {
    /// `asker` has given up the call `id`.
    pub(super) fn put(&mut self, id: u64, asker: Asker, now: Instant) {
        while let Some((_, (_, since))) = self.calls.first_key_value()
            && (self.calls.len() >= MOST || now.duration_since(*since) >= REMEMBERED)
        {
            self.calls.pop_first();
        }
        self.calls.insert(id, (asker, now));
    }

    /// The server has answered it all the same: nothing more is to come of it.
    pub(super) fn answered(&mut self, id: u64) {
        self.calls.remove(&id);
    }

    /// The connection is over, and everything with it.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }

    /// The sessions whose calls the server may still be at work on.
    pub(super) fn askers(&self, now: Instant) -> impl Iterator<Item = Asker> {
        let fresh = self.calls.values().filter(move |(_, since)| now.duration_since(*since) < REMEMBERED);
        fresh.map(|(asker, _)| *asker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_remembered_until_it_is_answered_or_long_ago() {
        let (mut forgotten, begun) = (Forgotten::default(), Instant::now());
        forgotten.put(1, 7, begun);
        forgotten.put(2, 8, begun);
        forgotten.answered(1);
        let after = |forgotten: &Forgotten, time| forgotten.askers(begun + time).collect::<Vec<_>>();
        assert_eq!(after(&forgotten, REMEMBERED / 2), [8]);
        assert_eq!(after(&forgotten, REMEMBERED), Vec::<Asker>::new());
        forgotten.put(3, 9, begun + REMEMBERED);
        assert_eq!(forgotten.calls.len(), 1, "what is long ago costs no memory");
    }

    #[test]
    fn a_server_that_never_answers_costs_bounded_memory_and_the_newest_are_known() {
        let (mut forgotten, now) = (Forgotten::default(), Instant::now());
        for id in 0..2 * MOST as u64 {
            forgotten.put(id, id, now);
        }
        assert_eq!((forgotten.calls.len(), forgotten.askers(now).last()), (MOST, Some(2 * MOST as u64 - 1)));
    }
}
