//! Notifications: what an object store tells of its changes, so that nobody has to wait for the next
//! listing. [`record`] reads what it says, [`sqs`] fetches it, and by [`hook`] other connectors hand it
//! over.
//!
//! A notification is a hint, and nothing more: whatever it says, the object is looked at and compared
//! with the ledger, as a listing does. So notifications may come late, twice, in any order or never,
//! and an object that both tell of runs once. What was overwritten before it was looked at is one event.
//! A notification is settled when all that it tells of is in the ledger and the journal.

mod aws;
mod hook;
pub(super) mod record;
mod sqs;
mod tally;

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, PoisonError},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tidemill_core::{
    BoxFuture,
    ledger::{LedgerEntry, NoticedBy},
};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    error::Error,
    observe::{Observer, Outcome},
    pending::Need,
    remote::Remote,
    report::Reports,
    tuning::{LOOKS, REPORTS, UNREACHABLE},
};
use record::{Kind, Record, Strange};

pub(super) use hook::{Catch, hook};
pub use hook::{Hook, Verdict};
pub(super) use tally::Tally;
pub use tally::Told;

pub(super) use sqs::Sqs;

/// What brings notifications.
#[derive(Debug)]
pub(super) enum Feed {
    Sqs(Sqs),
    Hook(Catch),
}

/// How many notifications are worked on at a time.
const MESSAGES: usize = 128;

impl Feed {
    /// Takes notifications until `stop` is cancelled.
    pub(super) async fn run(self, notices: Notices, stop: CancellationToken) {
        notices.tally().begins();
        match self {
            Feed::Sqs(sqs) => sqs.run(&notices, stop).await,
            Feed::Hook(catch) => catch.run(&notices, stop).await,
        }
    }
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// All it tells of is in the ledger and the journal.
    Done,
    /// It is not from an object store.
    Strange(Strange),
    /// The engine is stopping.
    Stopping,
}

/// Takes notifications of one bucket, of whatever origin.
pub(super) struct Notices {
    observer: Arc<Observer>,
    remote: Remote,
    /// How many objects are looked at at a time.
    looks: Semaphore,
    reports: Mutex<Reports>,
    /// The strange messages that were told about.
    strangers: std::sync::Mutex<HashSet<String>>,
}

impl Notices {
    pub(super) fn new(observer: Arc<Observer>, remote: Remote) -> Notices {
        Notices {
            observer,
            remote,
            looks: Semaphore::new(LOOKS),
            reports: Mutex::default(),
            strangers: std::sync::Mutex::default(),
        }
    }

    pub(super) fn bucket(&self) -> &str {
        self.remote.name()
    }

    pub(super) fn tally(&self) -> &Tally {
        self.observer.health.tally()
    }

    /// Takes a message and resolves when all that it tells of is durable: while the store or the
    /// journal does not answer, it waits.
    async fn take(&self, body: &[u8]) -> Taken {
        let message = match record::parse(body) {
            Ok(message) => message,
            Err(strange) => {
                self.tally().strange();
                return Taken::Strange(strange);
            }
        };
        let told = message.records.len();
        let own = message.records.into_iter().filter_map(|r| self.own(r));
        let own = own.collect::<Vec<_>>();
        let elsewhere = told - own.len();
        let own = record::latest(own);
        let mut looks = FuturesUnordered::new();
        for record in &own {
            // Boxed, for the compiler.
            let look: BoxFuture<'_, _> = Box::pin(self.look(record));
            looks.push(look);
        }
        while let Some(look) = looks.next().await {
            if look.is_none() {
                return Taken::Stopping;
            }
        }
        self.tally()
            .took(told - elsewhere, elsewhere, message.others);
        Taken::Done
    }

    /// Tells once about a message that no object store wrote, and what becomes of it.
    fn tell_strange(&self, from: &str, why: &Strange, fate: &str) {
        let told = &self.strangers;
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < REPORTS && told.insert(from.to_owned()) {
            let bucket = self.bucket();
            tracing::warn!(
                bucket,
                "message {from} is from no object store ({why}); {fate}"
            );
        }
    }

    /// The record with the key that the object has in the plan's bucket, if it is there.
    fn own(&self, record: Record) -> Option<Record> {
        if record.bucket != self.remote.there() {
            return None;
        }
        let own = |key: &str| self.remote.own(key).map(str::to_owned);
        Some(Record {
            key: own(&record.key)?,
            plain: record.plain.as_deref().and_then(own),
            ..record
        })
    }

    /// Looks at the object of a record; nothing, if the engine is stopping.
    async fn look(&self, record: &Record) -> Option<()> {
        for key in [Some(&record.key), record.plain.as_ref()]
            .into_iter()
            .flatten()
        {
            // What consoles make to show an empty folder.
            if !key.is_empty() && !key.ends_with('/') {
                self.look_at(key, record).await?;
            }
        }
        Some(())
    }

    async fn look_at(&self, key: &str, record: &Record) -> Option<()> {
        let mut wait = self.observer.tuning.missing;
        loop {
            match self.observe(key, record).await? {
                Outcome::Known | Outcome::Folder | Outcome::NotYet(_) | Outcome::FolderMissing => {
                    break;
                }
                Outcome::Refused(why) => {
                    let mut reports = self.reports.lock().await;
                    reports.refused(self.bucket(), Path::new(key), &why);
                    break;
                }
                // It may be another's for ever, and must not hold up all that come after it.
                Outcome::Failed(error @ Error::Forbidden { .. }) => {
                    let bucket = self.bucket();
                    tracing::warn!(bucket, "{}; the next listing tries again", error.chain());
                    break;
                }
                Outcome::Failed(error) => {
                    self.tally().looks_in_vain(self.bucket(), &error.chain());
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(UNREACHABLE);
                    continue;
                }
                Outcome::Stopping => return None,
            }
        }
        self.tally().looked(self.bucket());
        Some(())
    }

    async fn observe(&self, key: &str, record: &Record) -> Option<Outcome> {
        let _alone = self.observer.alone(key).await;
        // The semaphore lives as long as this, and nobody closes it.
        let _look = self.looks.acquire().await.ok()?;
        let known = self.observer.ledger(vec![key.to_owned()]).await?;
        let known = known.into_iter().next();
        if is_known(record, known.as_ref()) {
            return Some(Outcome::Known);
        }
        let by = NoticedBy::Notification;
        let outcome = self.observer.observe(key, known, Need::Nothing, by).await;
        Some(outcome)
    }
}

/// Whether the ledger is where the record leads to, so that nobody has to be asked. If it has gone
/// further since, another record tells, or the next listing.
fn is_known(record: &Record, known: Option<&LedgerEntry>) -> bool {
    let etag = known.and_then(|entry| entry.etag.as_ref());
    match record.kind {
        Kind::Created => record.etag.is_some() && record.etag.as_ref() == etag,
        Kind::Deleted => etag.is_none(),
    }
}
