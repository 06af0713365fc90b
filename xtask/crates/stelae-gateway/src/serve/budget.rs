//! The memory that requests may take, all together.
//!
//! A request takes its text's length before it is read, and what its values take before they are made. Which of both it waits
//! for, those that hold it never wait for the other way round: each can go on in the end. It is given back when the request was
//! relayed, or refused: rmcp hands a request's extensions through to the handler, and drops them with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::limits::REQUEST_BYTES;
use crate::connections::share_of_others;
use crate::peer_user::PeerUser;

/// What is counted at once.
const UNIT: usize = 1_024;
/// Texts up to this length are not counted, nor is what becomes of so much: there are at most as many as connections.
pub(super) const FREE: usize = 64 * UNIT;
/// A request that finds no room waits for this long: others are relayed meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// The memory of all requests.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    texts: Part,
    values: Part,
    patience: Duration,
}

#[derive(Clone, Debug)]
struct Part {
    all: Arc<Semaphore>,
    /// What other users' requests may take of it, with a token.
    others: Arc<Semaphore>,
}

impl Part {
    fn new() -> Self {
        let units = |bytes: usize| Arc::new(Semaphore::new(bytes / UNIT));
        Self { all: units(REQUEST_BYTES), others: units(share_of_others(REQUEST_BYTES)) }
    }

    async fn take(&self, user: PeerUser, bytes: usize, patience: Duration) -> Result<Permits, NoRoom> {
        let units = u32::try_from(bytes.saturating_sub(FREE).div_ceil(UNIT)).map_err(|_| NoRoom)?;
        let mut permits = Permits::default();
        if units == 0 {
            return Ok(permits);
        }
        // The smaller part first: what waits for it holds nothing of the whole.
        for from in (user != PeerUser::Same).then_some(&self.others).into_iter().chain([&self.all]) {
            let taken = timeout(patience, Arc::clone(from).acquire_many_owned(units)).await;
            permits.0.push(taken.map_err(|_| NoRoom)?.map_err(|_| NoRoom)?);
        }
        Ok(permits)
    }
}

#[derive(Debug, Default)]
struct Permits(Vec<OwnedSemaphorePermit>);

impl Permits {
    /// Gives back what is more than `bytes` need.
    fn shrink_to(&mut self, bytes: usize) {
        let units = bytes.saturating_sub(FREE).div_ceil(UNIT);
        for permit in &mut self.0 {
            let more = permit.num_permits().saturating_sub(units);
            drop(permit.split(more));
        }
    }
}

impl Budget {
    /// All of it is free.
    pub(super) fn new() -> Self {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> Self {
        Self { texts: Part::new(), values: Part::new(), patience }
    }

    /// For a request of `user`: nothing so far.
    pub(super) fn begin(&self, user: PeerUser) -> Taken {
        Taken { budget: self.clone(), user, text: Permits::default(), values: Permits::default() }
    }
}

/// What a request has taken. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Taken {
    budget: Budget,
    user: PeerUser,
    text: Permits,
    values: Permits,
}

/// There is no room for a request, and there was none for a while.
#[derive(Debug)]
pub(super) struct NoRoom;

impl Taken {
    /// Takes what a text takes that has `bytes` at the most. Once for each request.
    pub(super) async fn text(&mut self, bytes: usize) -> Result<(), NoRoom> {
        self.text = self.budget.texts.take(self.user, bytes, self.budget.patience).await?;
        Ok(())
    }

    /// Takes what its values take, now that it has `text` bytes and no more.
    pub(super) async fn values(&mut self, text: usize, values: usize) -> Result<(), NoRoom> {
        self.text.shrink_to(text);
        self.values = self.budget.values.take(self.user, values, self.budget.patience).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn free(budget: &Budget) -> [usize; 4] {
        let of = |part: &Part| [part.all.available_permits(), part.others.available_permits()];
        [of(&budget.texts), of(&budget.values)].concat().try_into().unwrap()
    }

    #[tokio::test]
    async fn what_is_taken_is_given_back_and_there_is_no_more_than_there_is() {
        let budget = Budget::with_patience(SHORT);
        let nothing_taken = free(&budget);
        let mut small = budget.begin(PeerUser::Same);
        small.text(FREE).await.unwrap();
        small.values(FREE, FREE).await.unwrap();
        assert_eq!(free(&budget), nothing_taken);
        let mut all = budget.begin(PeerUser::Same);
        all.text(REQUEST_BYTES + FREE).await.unwrap();
        assert_eq!(free(&budget)[0], 0);
        assert!(budget.begin(PeerUser::Same).text(FREE + UNIT).await.is_err());
        let waits = Budget { patience: Duration::from_secs(60), ..budget.clone() };
        let waiting = tokio::spawn(async move { waits.begin(PeerUser::Same).text(2 * FREE).await.is_ok() });
        tokio::task::yield_now().await;
        // It was shorter than it might have been.
        all.values(3 * FREE, 2 * FREE).await.unwrap();
        assert!(waiting.await.unwrap(), "what is given back goes to one that waits");
        let [texts, _, values, _] = free(&budget);
        assert_eq!((nothing_taken[0] - texts, nothing_taken[2] - values), (2 * FREE / UNIT, FREE / UNIT));
        drop(all);
        assert_eq!(free(&budget), nothing_taken);
    }

    #[tokio::test]
    async fn other_users_have_a_part_of_it() {
        let budget = Budget::with_patience(SHORT);
        let mut other = budget.begin(PeerUser::Other { uid: 7, inode: 7 });
        other.text(share_of_others(REQUEST_BYTES) + FREE).await.unwrap();
        let mut another = budget.begin(PeerUser::Unknown("why"));
        assert!(another.text(FREE + UNIT).await.is_err());
        budget.begin(PeerUser::Same).text(REQUEST_BYTES / 2).await.unwrap();
    }
}
