//! The durable store: one trait, [`Journal`], its stores, and one conformance suite for them all.
//!
//! A [`Unit`] is what becomes durable together. Every unit is atomic by itself, all units of a
//! commit share one fsync, and one unit's conflict fails no other. This crate stores and compares;
//! what a unit holds is decided elsewhere.

#[cfg(test)]
mod conformance;
mod lock;
mod sqlite;
mod unit;

use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::{
    BoxFuture,
    delivery::{Cause, DeadLetter, Delivery, Seq},
    event::Event,
    identity::DeliveryId,
    ledger::{BucketState, Gone, LedgerCount, LedgerEntry},
    schedule::Cursor,
    time::Timestamp,
    turn::Turn,
    watermark::Progress,
};

pub use lock::{DataLock, LockError, LockInfo};
pub use sqlite::{OpenError, RunningClock, SqliteJournal, SqliteOptions};
pub use unit::{
    Accepted, Added, EventId, Expire, KeyDone, KvRead, KvWrite, NewDelivery, Noted, OffsetsMove,
    PartitionOf, Settle, Unit, UnitResult, UsageEntry, WrittenObject,
};

/// The version of a key's value: never used twice, 0 for a key that is not there.
pub type Version = i64;

/// Why the journal could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// No space; nothing of the commit happened, and the journal goes on once there is space.
    #[error("no space left for {path}: free some, and the engine goes on by itself")]
    Full {
        /// The journal's file.
        path: String,
    },
    /// The disk or the file failed; whether the commit is durable cannot be known. The journal
    /// takes nothing more: what is true is what a new start finds.
    #[error("{path} failed ({reason}): check the disk, then start the engine again")]
    Broken {
        /// The journal's file.
        path: String,
        /// The store's words.
        reason: String,
    },
    /// Another failure; nothing of the commit happened.
    #[error("{path}: {reason}")]
    Failed {
        /// The journal's file.
        path: String,
        /// The store's words.
        reason: String,
    },
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
}

/// A pending delivery without its event: what the dispatcher plans with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its place.
    pub seq: Seq,
    /// Its identity.
    pub id: DeliveryId,
    /// Its trigger.
    pub trigger: String,
    /// Not to run before.
    pub due: Timestamp,
    /// About how many bytes its event has.
    pub size: usize,
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// Its version.
    pub version: Version,
}

/// What the journal knows of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its delivery is pending or a dead letter; its event.
    Kept(Box<Event>),
    /// It has left the journal, and its id is remembered, with the fingerprint of its event.
    Remembered(Option<[u8; 32]>),
}

/// Which dead letters to list. Empty fields match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Of one of these triggers.
    pub triggers: Vec<String>,
    /// Given up for one of these causes.
    pub causes: Vec<Cause>,
    /// Whose reason contains this text.
    pub reason: Option<String>,
    /// Given up at or after.
    pub since: Option<Timestamp>,
    /// Given up before.
    pub until: Option<Timestamp>,
}

/// Which usage to list. Empty fields match all; days count from the Unix epoch, UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Of this function.
    pub function: Option<String>,
    /// The first day.
    pub since: Option<i64>,
    /// The last day.
    pub until: Option<i64>,
}

/// A dead letter in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterLine {
    /// Its place, to continue a list after it.
    pub seq: Seq,
    /// The delivery.
    pub id: DeliveryId,
    /// Its trigger.
    pub trigger: String,
    /// Its event's source.
    pub source: String,
    /// Its event's subject.
    pub subject: Option<String>,
    /// Why it was given up.
    pub cause: Cause,
    /// The last attempt's reason.
    pub reason: String,
    /// Attempts in all.
    pub attempts: u32,
    /// When it was given up.
    pub died: Timestamp,
}

/// What is in the journal, for metrics and `/readyz`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Deliveries waiting or running.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes in use, the freelist left out and the log of changes included.
    pub bytes: u64,
}

/// All that is in the journal, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The deliveries of each trigger, and of each outbox, by name.
    pub deliveries: Vec<DeliveriesOf>,
    /// Event ids that are remembered.
    pub event_ids: u64,
    /// Idempotency keys that are remembered, by trigger.
    pub keys: Vec<(String, u64)>,
    /// The stores of key-value state, by name.
    pub stores: Vec<StoreOf>,
    /// The objects, and the keys that went, of each bucket's ledger, by name.
    pub ledgers: Vec<(String, LedgerCount)>,
    /// Records that are completed above the watermarks of their partitions.
    pub completed: u64,
    /// Functions and days of which the usage is kept.
    pub usage: u64,
    /// Bytes of the file in all.
    pub file: u64,
    /// Bytes of it that are unused.
    pub unused: u64,
}

/// The deliveries of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveriesOf {
    /// Its name; behind a slash, `outbox`.
    pub trigger: String,
    /// Waiting or running.
    pub pending: u64,
    /// Those of them that wait for another one of their lane or key.
    pub blocked: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of their events, about.
    pub bytes: u64,
    /// When the oldest pending one was accepted.
    pub oldest: Option<Timestamp>,
    /// When the first of the dead letters was given up.
    pub died: Option<Timestamp>,
}

/// A store of key-value state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOf {
    /// Its name.
    pub store: String,
    /// How many keys it has.
    pub keys: u64,
    /// The bytes of its keys and values.
    pub bytes: u64,
}

/// The durable store.
pub trait Journal: Send + Sync {
    /// Makes units durable: resolves after the fsync. The results stand in the order of the units.
    /// An error means that nothing of any of them happened, unless it is [`JournalError::Broken`].
    /// A commit whose future is dropped may happen or not.
    fn commit(&self, units: Arc<[Unit]>) -> BoxFuture<'_, Result<Vec<UnitResult>, JournalError>>;

    /// The next pending deliveries of a trigger that sort after `after` by (due, seq), in that order.
    /// Blocked ones are left out: of a lane or a key, only the first that came is here.
    fn pending(
        &self,
        trigger: &str,
        after: Option<(Timestamp, Seq)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Pending>, JournalError>>;

    /// The triggers that have pending deliveries, with their number.
    fn pending_triggers(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, JournalError>>;

    /// Whether a delivery of the trigger is pending, blocked or not.
    fn is_busy(&self, trigger: &str) -> BoxFuture<'_, Result<bool, JournalError>>;

    /// How many deliveries of the trigger are pending in the lane or with the key of this turn; counts
    /// no further than `limit`.
    fn ahead(
        &self,
        trigger: &str,
        turn: &Turn,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, JournalError>>;

    /// Where the delivery with this identity is, if the journal knows it.
    fn find(&self, id: DeliveryId) -> BoxFuture<'_, Result<Option<Found>, JournalError>>;

    /// Pending deliveries with their events, in the order in which they are asked for; none in place of one
    /// that is not pending.
    fn deliveries(
        &self,
        seqs: &[Seq],
    ) -> BoxFuture<'_, Result<Vec<Option<Delivery>>, JournalError>>;

    /// One of them.
    fn delivery(&self, seq: Seq) -> BoxFuture<'_, Result<Option<Delivery>, JournalError>> {
        let one = self.deliveries(&[seq]);
        Box::pin(async move { Ok(one.await?.pop().flatten()) })
    }

    /// A page of dead letters, the oldest first, after the place `after`.
    fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        after: Option<Seq>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetterLine>, JournalError>>;

    /// One dead letter.
    fn dead_letter(
        &self,
        id: DeliveryId,
    ) -> BoxFuture<'_, Result<Option<DeadLetter>, JournalError>>;

    /// The value of a key.
    fn kv_get(
        &self,
        store: &str,
        key: &str,
    ) -> BoxFuture<'_, Result<Option<Versioned>, JournalError>>;

    /// The next keys of a store after `after`, in order.
    fn kv_keys(
        &self,
        store: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<String>, JournalError>>;

    /// What the ledger of a bucket knows of these keys.
    fn ledger(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, JournalError>>;

    /// The next entries of objects that exist by the ledger, by key, after `after`.
    fn ledger_page(
        &self,
        bucket: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, JournalError>>;

    /// The next entries of the ledger, of objects that exist or not, by key, after `after` and up to
    /// `until`.
    fn ledger_range(
        &self,
        bucket: &str,
        after: Option<String>,
        until: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, JournalError>>;

    /// What is known of a bucket as a whole.
    fn bucket(&self, bucket: &str) -> BoxFuture<'_, Result<Option<BucketState>, JournalError>>;

    /// The keys of a bucket that went before, the oldest `limit`.
    fn gone(
        &self,
        bucket: &str,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Gone, JournalError>>;

    /// Counts the keys of a bucket's ledger; takes longer the more there are.
    fn ledger_count(&self, bucket: &str) -> BoxFuture<'_, Result<LedgerCount, JournalError>>;

    /// The hops of an object that the engine itself wrote.
    fn hops(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
    ) -> BoxFuture<'_, Result<Option<u32>, JournalError>>;

    /// The cursor of a schedule.
    fn cursor(&self, schedule: &str) -> BoxFuture<'_, Result<Option<Cursor>, JournalError>>;

    /// What is completed of a partition.
    fn progress(&self, of: &PartitionOf) -> BoxFuture<'_, Result<Option<Progress>, JournalError>>;

    /// What became of an idempotency key that was completed and has not expired at `now`.
    fn key_done(
        &self,
        trigger: &str,
        key: &str,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<KeyDone>, JournalError>>;

    /// The stored usage, by function and day.
    fn usage(&self, filter: UsageFilter) -> BoxFuture<'_, Result<Vec<UsageEntry>, JournalError>>;

    /// Whether there is something to [expire](Expire) at this time.
    fn has_expired(
        &self,
        now: Timestamp,
        usage_before: i64,
    ) -> BoxFuture<'_, Result<bool, JournalError>>;

    /// Counts all that is there; reads all of it.
    fn contents(&self) -> BoxFuture<'_, Result<Contents, JournalError>>;

    /// Counts what is there; takes longer the more that is.
    fn stats(&self) -> BoxFuture<'_, Result<Stats, JournalError>>;

    /// The bytes in use as of the last commit; costs nothing.
    fn bytes(&self) -> u64;
}
