//! One observation of one key: look at the object, compare it with the ledger, offer the event.
//! Whatever interrupts it, the ledger has moved with the event or has not moved at all, so that
//! the next observation repeats nothing and skips nothing.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tidemill_core::{
    BoxFuture,
    intake::{IntakeError, Ledgers, Mark, Offer, Receipt},
    ledger::{self, LedgerEntry, NoticedBy},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use crate::clock;

use super::{
    error::Error,
    health::Health,
    key::Refusal,
    pending::{Need, NotYet},
    store::{Bucket, Look},
    tuning::Tuning,
};

/// How often the journal may call an offer a duplicate and yet leave the ledger where it is.
const DUPLICATES: u32 = 3;

/// What all observations of a bucket share.
#[derive(Clone)]
pub(super) struct Observer {
    pub(super) bucket: Bucket,
    pub(super) intake: Arc<dyn Ledgers>,
    pub(super) health: Health,
    pub(super) tuning: Tuning,
    /// Whether what was there before the bucket was listened to is no news.
    pub(super) only_new: bool,
    /// Where the count of deletions begins for keys that the ledger does not know.
    pub(super) forgotten: Arc<AtomicU32>,
    pub(super) turns: Arc<Turns>,
}

/// Lets observations of one key follow each other, if more than one asks for them. Keys share a turn by
/// chance.
pub(super) struct Turns {
    hasher: RandomState,
    turns: [Mutex<()>; TURNS],
}

/// So many that few keys under observation share one.
const TURNS: usize = 1024;

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            hasher: RandomState::new(),
            turns: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

/// How an observation ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The ledger knows what is there.
    Known,
    /// A folder is there.
    Folder,
    /// The file is not finished.
    NotYet(NotYet),
    /// It is no object.
    Refused(Refusal),
    /// The folder of the bucket is missing.
    FolderMissing,
    /// The store failed; the next scan tries again.
    Failed(Error),
    /// The engine is stopping.
    Stopping,
}

impl Observer {
    /// By whom an object is noticed that a listing finds now.
    pub(super) fn by_listing(&self) -> NoticedBy {
        match self.health.ready() {
            true => NoticedBy::Listing,
            false => NoticedBy::FirstListing,
        }
    }

    /// Observes `key`, of which the ledger knew `known`, for the one who noticed it. Waits as long as
    /// the journal takes no events.
    pub(super) async fn observe(
        &self,
        key: &str,
        mut known: Option<LedgerEntry>,
        need: Need,
        by: NoticedBy,
    ) -> Outcome {
        let mut duplicates = 0;
        let mut backoff = Backoff::new(&self.tuning);
        loop {
            let look = match self.bucket.look(key).await {
                Ok(look) => look,
                Err(Error::FolderMissing { .. }) => return Outcome::FolderMissing,
                Err(Error::Refused { why, .. }) => return Outcome::Refused(why),
                Err(Error::Denied { .. }) => return Outcome::Refused(Refusal::Unreadable),
                Err(error) => return Outcome::Failed(error),
            };
            let now = clock::now();
            let (seen, hops, otherwise) = match look {
                Look::Object(object, hops) => (Some(object), hops, Outcome::Known),
                Look::Folder => (None, 0, Outcome::Folder),
                Look::Absent => (None, 0, Outcome::Known),
            };
            let bucket = self.bucket.name();
            let forgotten = self.forgotten.load(Relaxed);
            let news = ledger::observe(bucket, key, known.as_ref(), forgotten, seen.as_ref(), now);
            let Some((step, mut event)) = news else {
                return otherwise;
            };
            event.hops = hops;
            if let Some(object) = &seen
                && let Err(not_yet) = need.check(object, now, Instant::now(), &self.tuning)
            {
                return Outcome::NotYet(not_yet);
            }
            let offer = Offer {
                source: ledger::source(bucket),
                event,
                mark: Mark::Ledger(step),
                due: None,
            };
            match self.intake.offer(offer).await {
                Ok(Receipt::Accepted { .. }) => {
                    let written = seen.as_ref().map(|object| object.modified);
                    let age = written.map(|written| clock::now().since(written));
                    self.health.offered(by, age);
                    return otherwise;
                }
                Ok(Receipt::Duplicate | Receipt::Reused) => duplicates += 1,
                Err(IntakeError::Stopping) => return Outcome::Stopping,
                Err(error) => self.sit_out(&error, &mut backoff).await,
            }
            // The ledger may have moved, here or elsewhere, and so may the object.
            let Some(entry) = self.ledger(vec![key.to_owned()]).await else {
                return Outcome::Stopping;
            };
            let entry = entry.into_iter().next();
            if duplicates >= DUPLICATES && entry == known {
                tracing::warn!(
                    bucket,
                    key,
                    "the journal knows the event but its ledger does not; the next scan tries again"
                );
                return otherwise;
            }
            known = entry;
        }
    }

    /// Waits until nobody else observes this key, if all who do so ask here first.
    pub(super) async fn alone(&self, key: &str) -> MutexGuard<'_, ()> {
        let turn = self.turns.hasher.hash_one(key) as usize % TURNS;
        self.turns.turns[turn].lock().await
    }

    /// What the ledger knows of these keys; absent, the engine is stopping.
    pub(super) async fn ledger(&self, keys: Vec<String>) -> Option<Vec<LedgerEntry>> {
        self.persist(|| self.intake.ledger(self.bucket.name(), keys.clone()))
            .await
    }

    /// The next page of the objects that the ledger believes to exist.
    pub(super) async fn ledger_page(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Option<Vec<LedgerEntry>> {
        self.persist(|| {
            self.intake
                .ledger_page(self.bucket.name(), after.clone(), limit)
        })
        .await
    }

    /// The next of what the ledger knows of keys after `after` up to `until`, whether they are there
    /// or not.
    pub(super) async fn ledger_range(
        &self,
        after: Option<String>,
        until: Option<String>,
        limit: usize,
    ) -> Option<Vec<LedgerEntry>> {
        let bucket = self.bucket.name();
        self.persist(|| {
            self.intake
                .ledger_range(bucket, after.clone(), until.clone(), limit)
        })
        .await
    }

    pub(super) async fn persist<'a, T>(
        &self,
        ask: impl Fn() -> BoxFuture<'a, Result<T, IntakeError>>,
    ) -> Option<T> {
        let mut backoff = Backoff::new(&self.tuning);
        loop {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(IntakeError::Stopping) => return None,
                Err(error) => self.sit_out(&error, &mut backoff).await,
            }
        }
    }

    async fn sit_out(&self, error: &IntakeError, backoff: &mut Backoff) {
        let _waiting = self.health.wait();
        let wait = backoff.next();
        tracing::debug!(bucket = self.bucket.name(), %error, ?wait, "waiting for the journal");
        tokio::time::sleep(wait).await;
    }
}

/// Waits that double.
struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    fn new(tuning: &Tuning) -> Backoff {
        let (next, most) = tuning.retry;
        Backoff { next, most }
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        wait
    }
}
