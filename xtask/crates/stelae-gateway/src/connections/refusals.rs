//! What was refused, in the log: the first of a kind at once, and what follows within a second as a number. A client that is
//! refused a thousand times a second must not fill the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::serve::log;

/// A kind has one line in this time.
const EVERY: Duration = Duration::from_secs(1);

/// The refusals of one server.
#[derive(Debug)]
pub(crate) struct Refusals {
    source: &'static str,
    kinds: Mutex<BTreeMap<&'static str, Kind>>,
}

#[derive(Debug)]
struct Kind {
    told: Instant,
    more: u64,
}

/// A refusal that is told of, or was counted. It need not be waited for.
#[derive(Debug)]
pub(crate) struct Told(Option<JoinHandle<()>>);

impl Told {
    /// Until the line is in the log.
    pub(super) async fn wait(self) {
        if let Some(telling) = self.0 {
            telling.await.ok();
        }
    }
}

/// What to do with a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Note {
    /// Tell of it now.
    Tell,
    /// It is counted, and is the first that is: what is counted is to be told of later.
    CountFirst,
    /// It is counted.
    Count,
}

impl Refusals {
    /// None so far, of the server that logs as `source`.
    pub(crate) fn new(source: &'static str) -> Arc<Self> {
        Arc::new(Self { source, kinds: Mutex::default() })
    }

    /// One of `kind`, a plural that says what became of them. `text` is asked for only if it is told of, on a thread that may wait.
    pub(crate) fn note(
        self: &Arc<Self>,
        kind: &'static str,
        text: impl FnOnce() -> String + Send + 'static,
    ) -> Told {
        match self.decide(kind, Instant::now()) {
            Note::Tell => {
                let source = self.source;
                let telling = move || log::line(source, format_args!("{}", text()));
                return Told(Some(tokio::task::spawn_blocking(telling)));
            }
            Note::CountFirst => {
                let refusals = Arc::clone(self);
                tokio::spawn(async move {
                    sleep(EVERY).await;
                    refusals.tell_of(kind);
                });
            }
            Note::Count => {}
        }
        Told(None)
    }

    /// Tells of all that was counted and not told of.
    pub(crate) fn tell_of_all(&self) {
        let kinds: Vec<_> = self.kinds().keys().copied().collect();
        kinds.into_iter().for_each(|kind| self.tell_of(kind));
    }

    fn decide(&self, kind: &'static str, now: Instant) -> Note {
        let mut kinds = self.kinds();
        match kinds.get_mut(kind) {
            Some(Kind { told, more }) if now.saturating_duration_since(*told) < EVERY || *more > 0 => {
                *more += 1;
                if *more == 1 { Note::CountFirst } else { Note::Count }
            }
            _ => {
                kinds.insert(kind, Kind { told: now, more: 0 });
                Note::Tell
            }
        }
    }

    fn tell_of(&self, kind: &'static str) {
        let mut kinds = self.kinds();
        let Some(counted) = kinds.get_mut(kind).filter(|counted| counted.more > 0) else { return };
        log::line(self.source, format_args!("{} more: {kind}", counted.more));
        *counted = Kind { told: Instant::now(), more: 0 };
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<&'static str, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_is_told_and_the_others_of_a_second_are_counted() {
        let (refusals, now) = (Refusals::new("test"), Instant::now());
        assert_eq!(refusals.decide("ones", now), Note::Tell);
        assert_eq!(refusals.decide("ones", now), Note::CountFirst);
        assert_eq!(refusals.decide("others", now), Note::Tell, "each kind by itself");
        for _ in 0..100 {
            // What is counted is told of by a task: until then it is counted, however late.
            assert_eq!(refusals.decide("ones", now + 2 * EVERY), Note::Count);
        }
        refusals.tell_of("ones");
        assert_eq!(refusals.kinds()["ones"].more, 0);
        assert_eq!(refusals.decide("ones", Instant::now()), Note::CountFirst);
        refusals.tell_of("ones");
        assert_eq!(refusals.decide("ones", Instant::now() + EVERY), Note::Tell);
    }
}
