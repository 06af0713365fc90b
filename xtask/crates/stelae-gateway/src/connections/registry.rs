//! The connections that there are, and which of them gives way to a new one.
//!
//! The oldest that waits for a request goes first, then those whose request is not complete, then event streams, whose clients
//! can resume them. A connection with a call under way never does. Other users' connections, who have a token to show, have a
//! share, and take the place of no connection of the gateway's own user.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Overdue, Stage};
use crate::peer_user::PeerUser;
use crate::serve::body::looked_at;

/// How much of `all` other users may have together.
pub(crate) fn share_of_others(all: usize) -> usize {
    (all / 4).max(1)
}

/// The connections.
#[derive(Debug)]
pub(super) struct Registry {
    most: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    next: u64,
    entries: BTreeMap<u64, Arc<Entry>>,
}

/// What is known of one.
#[derive(Debug)]
struct Entry {
    user: PeerUser,
    activity: Mutex<Activity>,
    gives_way: CancellationToken,
    unread: AtomicBool,
}

impl Entry {
    fn is_of_others(&self) -> bool {
        self.user != PeerUser::Same
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The one that gives way, among those that `may`.
    fn first(&self, may: impl Fn(&Entry) -> bool) -> Option<u64> {
        let candidates = self.entries.iter().filter(|(_, entry)| may(entry)).filter_map(|(id, entry)| {
            let Activity { stage, since, .. } = *entry.activity();
            (stage < Stage::Call).then_some((!entry.is_of_others(), stage, since, *id))
        });
        candidates.min().map(|(.., id)| id)
    }

    fn remove(&mut self, id: Option<u64>) -> bool {
        let Some(entry) = id.and_then(|id| self.entries.remove(&id)) else { return false };
        entry.gives_way.cancel();
        true
    }
}

impl Registry {
    /// Room for `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// One more, of `user`; nothing if there is no room and none gives way.
    pub(super) fn enter(self: &Arc<Self>, user: PeerUser) -> Option<Connection> {
        let mut known = self.known();
        let of_others = user != PeerUser::Same;
        let others = known.entries.values().filter(|entry| entry.is_of_others()).count();
        if of_others && others >= share_of_others(self.most) {
            let first = known.first(Entry::is_of_others);
            known.remove(first).then_some(())?;
        } else if known.entries.len() >= self.most {
            let first = known.first(|entry| !of_others || entry.is_of_others());
            known.remove(first).then_some(())?;
        }
        known.next += 1;
        let id = known.next;
        let entry = Arc::new(Entry {
            user,
            activity: Mutex::new(Activity::new(Instant::now())),
            gives_way: CancellationToken::new(),
            unread: AtomicBool::new(false),
        });
        known.entries.insert(id, Arc::clone(&entry));
        Some(Connection { id, entry, registry: Arc::downgrade(self) })
    }

    /// There is no room in the process: one gives way, if one may.
    pub(super) fn make_room(&self) {
        let mut known = self.known();
        let first = known.first(|_| true);
        known.remove(first);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection. When it is dropped, it is over.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    entry: Arc<Entry>,
    registry: Weak<Registry>,
}

impl Connection {
    /// Waits until it has to make room for another one.
    pub(super) async fn gives_way(&self) {
        self.entry.gives_way.cancelled().await;
    }

    /// What is too late `now`.
    pub(super) fn overdue(&self, now: Instant) -> Option<Overdue> {
        self.entry.activity().overdue(now)
    }

    /// When to look again.
    pub(super) fn look_at(&self, now: Instant, every: Duration) -> Instant {
        self.entry.activity().look_at(now, every)
    }

    /// Bytes have come.
    pub(super) fn has_read(&self) {
        self.entry.activity().has_read(Instant::now());
    }

    /// Its client does not read.
    pub(super) fn is_unread(&self) {
        self.entry.unread.store(true, Ordering::Relaxed);
    }

    /// Whether its client did not read.
    pub(super) fn was_unread(&self) -> bool {
        self.entry.unread.load(Ordering::Relaxed)
    }

    /// A request begins to be answered. Gives it with the peer's user, and what has to watch over its answer.
    pub(super) fn asks(&self, mut request: Request) -> (Request, Answering) {
        request.extensions_mut().insert(self.entry.user);
        let then = if request.method() == Method::GET { Stage::Stream } else { Stage::Call };
        let answering = Answering(Arc::clone(&self.entry));
        if request.body().is_end_stream() {
            self.entry.activity().is_at(then, Instant::now());
            return (request, answering);
        }
        self.entry.activity().is_at(Stage::Body, Instant::now());
        let coming = Coming { entry: Arc::clone(&self.entry), then };
        let request = request.map(|body| {
            looked_at(body, move |_| {
                let _until_it_is_read = &coming;
            })
        });
        (request, answering)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.known().entries.remove(&self.id);
        }
    }
}

/// The body of a request that has not come to its end.
struct Coming {
    entry: Arc<Entry>,
    then: Stage,
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut activity = self.entry.activity();
        if activity.stage == Stage::Body {
            activity.is_at(self.then, Instant::now());
        }
    }
}

/// A request that is not answered.
pub(super) struct Answering(Arc<Entry>);

impl Answering {
    /// The same answer; when its last piece is handed over, the connection is idle.
    pub(super) fn watch(self, answer: Response) -> Response<Body> {
        answer.map(|body| looked_at(body, move |_| self.0.activity().has_told(Instant::now())))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.activity().is_at(Stage::Idle, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: PeerUser = PeerUser::Other { uid: 7, inode: 7 };

    fn at(connection: &Connection, stage: Stage) {
        connection.entry.activity().is_at(stage, Instant::now());
    }

    fn gave_way(connections: &[Connection]) -> Vec<usize> {
        let gave = |connection: &Connection| connection.entry.gives_way.is_cancelled();
        (0..connections.len()).filter(|index| gave(&connections[*index])).collect()
    }

    #[test]
    fn the_oldest_idle_one_gives_way_and_one_with_a_call_never_does() {
        let registry = Arc::new(Registry::new(5));
        let mut all: Vec<_> = (0..5).map(|_| registry.enter(PeerUser::Same).unwrap()).collect();
        let stages = [Stage::Call, Stage::Stream, Stage::Body, Stage::Head, Stage::Idle];
        all.iter().zip(stages).for_each(|(connection, stage)| at(connection, stage));
        for expected in [4, 3, 2, 1] {
            let new = registry.enter(PeerUser::Same).unwrap();
            at(&new, Stage::Call);
            all.push(new);
            assert!(gave_way(&all).contains(&expected), "{expected}: {:?}", gave_way(&all));
        }
        assert_eq!(gave_way(&all), [1, 2, 3, 4]);
        assert!(registry.enter(PeerUser::Same).is_none(), "each has a call");
        all.pop();
        assert!(registry.enter(PeerUser::Same).is_some(), "one is over");
    }

    #[test]
    fn other_users_have_a_share_and_take_the_place_of_none_but_their_own() {
        let registry = Arc::new(Registry::new(8));
        let ours: Vec<_> = (0..6).map(|_| registry.enter(PeerUser::Same).unwrap()).collect();
        let mut others: Vec<_> = (0..2).map(|_| registry.enter(OTHER).unwrap()).collect();
        others.push(registry.enter(OTHER).unwrap());
        assert_eq!((gave_way(&ours), gave_way(&others)), (vec![], vec![0]));
        others.iter().for_each(|other| at(other, Stage::Call));
        assert!(registry.enter(OTHER).is_none());
        // Full of our own: another user's does not get in, and ours takes the place of an idle one of another user first.
        let new = registry.enter(PeerUser::Same).unwrap();
        assert_eq!(gave_way(&ours), [0]);
        at(&others[1], Stage::Stream);
        let newer = registry.enter(PeerUser::Same).unwrap();
        assert_eq!((gave_way(&ours), gave_way(&others)), (vec![0], vec![0, 1]));
        drop((new, newer));
    }

    #[test]
    fn where_the_process_has_no_room_one_gives_way() {
        let registry = Arc::new(Registry::new(8));
        let all = [registry.enter(PeerUser::Same).unwrap(), registry.enter(PeerUser::Same).unwrap()];
        registry.make_room();
        assert_eq!(gave_way(&all), [0]);
        at(&all[1], Stage::Call);
        registry.make_room();
        assert_eq!(gave_way(&all), [0]);
    }
}
