//! What becomes durable together.

use std::time::Duration;

use bytes::Bytes;
use tidemill_core::{
    delivery::{AttemptRecord, Cause, Redrive, Seq, Work},
    event::Event,
    identity::DeliveryId,
    ledger::{BucketMove, LedgerEntry, LedgerMove},
    outcome::{Reply, Usage},
    schedule::CursorMove,
    time::Timestamp,
};

use crate::{Pending, Version};

/// Changes that happen all or not at all.
///
/// They are checked and applied in the order of the fields; the first that does not hold takes the
/// whole unit back and is its [`UnitResult`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unit {
    /// What becomes of deliveries. More than one only if all are done, each of another event.
    pub settle: Vec<Settle>,
    /// Keys that were read, which must not have changed since.
    pub reads: Vec<KvRead>,
    /// Keys to set or delete.
    pub writes: Vec<KvWrite>,
    /// Events to keep, with their deliveries: accepted, emitted, parked, or for the outbox.
    pub accept: Vec<Accepted>,
    /// Steps of the ledgers of buckets.
    pub ledger: Vec<LedgerMove>,
    /// Objects that go into a ledger without events.
    pub noted: Option<Noted>,
    /// Changes of what is known of buckets as a whole.
    pub buckets: Vec<BucketMove>,
    /// Objects that the engine itself wrote.
    pub written: Vec<WrittenObject>,
    /// Event ids to remember that no ledger, cursor or watermark covers.
    pub event_ids: Vec<EventId>,
    /// Idempotency keys that are completed with this unit.
    pub keys: Vec<KeyDone>,
    /// Steps of the cursors of schedules.
    pub cursors: Vec<CursorMove>,
    /// Partitions that are not what they were: all that was completed of them is forgotten.
    pub forget: Vec<PartitionOf>,
    /// Steps of partitions.
    pub offsets: Vec<OffsetsMove>,
    /// Added to the function's account of the day.
    pub usage: Option<UsageEntry>,
    /// What goes because it has expired.
    pub expire: Option<Expire>,
}

impl Unit {
    /// Whether there is anything to it but usage, and reads that decide nothing then.
    pub fn is_durable_matter(&self) -> bool {
        !(self.is_for_sources() && self.event_ids.is_empty() && self.offsets.is_empty())
    }

    /// Whether there is nothing to it but usage and what is done of events that their sources keep: nobody
    /// else waits for it.
    pub fn is_for_sources(&self) -> bool {
        let Unit {
            settle,
            reads: _,
            writes,
            accept,
            ledger,
            noted,
            buckets,
            written,
            event_ids: _,
            keys,
            cursors,
            forget,
            offsets: _,
            usage: _,
            expire,
        } = self;
        settle.is_empty()
            && writes.is_empty()
            && accept.is_empty()
            && ledger.is_empty()
            && noted.is_none()
            && expire.is_none()
            && buckets.is_empty()
            && written.is_empty()
            && keys.is_empty()
            && cursors.is_empty()
            && forget.is_empty()
    }
}

/// What has expired and goes with a unit; each commit removes a little besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expire {
    /// Idempotency keys up to here, by the wall clock.
    pub now: Timestamp,
    /// The usage of earlier days, in days since the Unix epoch, UTC.
    pub usage_before: i64,
    /// The most keys, and the most event ids, that go.
    pub limit: usize,
}

/// What becomes of a delivery that the journal keeps.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a unit has one, in place")]
pub enum Settle {
    /// A pending delivery is done and leaves the journal.
    Done {
        /// Which.
        delivery: Seq,
    },
    /// A pending delivery runs again.
    Retry {
        /// Which.
        delivery: Seq,
        /// Not before.
        due: Timestamp,
        /// The attempt that ended.
        record: AttemptRecord,
    },
    /// A pending delivery is given up and becomes a dead letter.
    Dead {
        /// Which.
        delivery: Seq,
        /// Why.
        cause: Cause,
        /// The attempt that ended.
        record: AttemptRecord,
    },
    /// A dead letter is replaced by a new delivery of the same event.
    Redrive {
        /// Which.
        delivery: Seq,
        /// In its place. Its `only_if_last` is not used.
        new: NewDelivery,
    },
    /// A dead letter is thrown away. An `only_if_last` of its event will never hold.
    Purge {
        /// Which.
        delivery: Seq,
    },
}

/// A key that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRead {
    /// The store.
    pub store: String,
    /// The key.
    pub key: String,
    /// The version that was seen.
    pub version: Version,
}

/// A key to set, or to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvWrite {
    /// The store.
    pub store: String,
    /// The key.
    pub key: String,
    /// The value; absent, the key goes.
    pub value: Option<Bytes>,
}

/// An event and its deliveries. Without deliveries the event itself is not kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The event.
    pub event: Event,
    /// What it becomes.
    pub deliveries: Vec<NewDelivery>,
}

/// A delivery to keep.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDelivery {
    /// Its identity; the journal keeps no two deliveries with the same one.
    pub id: DeliveryId,
    /// Its trigger.
    pub trigger: String,
    /// What is to be done.
    pub work: Work,
    /// When the event was accepted.
    pub accepted: Timestamp,
    /// Not to run before.
    pub due: Timestamp,
    /// Its lane, if its trigger is ordered. While a delivery of the same trigger and lane that came
    /// before is pending, this one is blocked.
    pub lane: Option<String>,
    /// Its idempotency key, if it has one; it blocks likewise.
    pub key: Option<String>,
    /// Whether its id is to be remembered when it leaves the journal. The journal only keeps this.
    pub remember: bool,
    /// Attempts that ended before it came here, the first one first: of a parked delivery.
    pub history: Vec<AttemptRecord>,
    /// Already given up, for this cause and reason: kept as a dead letter, which died when the last
    /// attempt of its history ended, or else when its event was accepted.
    pub dead: Option<(Cause, String)>,
    /// Made from a dead letter.
    pub redrive: Option<Redrive>,
    /// Kept only if the unit settles this delivery as [`Settle::Done`], no other delivery of its
    /// event is pending or dead, and none was purged: for what may follow only when all went well.
    pub only_if_last: Option<Seq>,
}

impl NewDelivery {
    /// A delivery accepted at `now` and due at once, without lane, key or past.
    pub fn new(id: DeliveryId, trigger: impl Into<String>, work: Work, now: Timestamp) -> Self {
        NewDelivery {
            id,
            trigger: trigger.into(),
            work,
            accepted: now,
            due: now,
            lane: None,
            key: None,
            remember: false,
            history: Vec::new(),
            dead: None,
            redrive: None,
            only_if_last: None,
        }
    }
}

/// Objects that go into the ledger of a bucket without events. Keys that it knows are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The bucket's name in the plan.
    pub bucket: String,
    /// What is known of them from now on.
    pub objects: Vec<LedgerEntry>,
}

/// An object that the engine itself wrote, and after how many hops. The journal keeps the last one
/// of a key until the key's ledger moves to its etag; of buckets without a ledger, tell it nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenObject {
    /// The bucket's name in the plan.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The etag it got.
    pub etag: String,
    /// The hops of the event that led to it, and one.
    pub hops: u32,
}

/// An event id to remember. It is a duplicate if the journal remembers it already, or holds its
/// delivery and this unit neither settles nor accepts that delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The delivery derived from it.
    pub delivery: DeliveryId,
    /// How long, in running time of the engine.
    pub window: Duration,
    /// [`tidemill_core::identity::fingerprint`] of its event.
    pub fingerprint: Option<[u8; 32]>,
}

/// An idempotency key that is completed.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDone {
    /// The trigger.
    pub trigger: String,
    /// The key.
    pub key: String,
    /// The delivery that completed it.
    pub delivery: DeliveryId,
    /// When it was completed. An entry that has expired by then is replaced.
    pub completed: Timestamp,
    /// When the key may be used anew.
    pub expires: Timestamp,
    /// A digest of the request, to tell a repetition from another request with the same key.
    pub fingerprint: Option<[u8; 32]>,
    /// The handler's reply, for whoever asks again.
    pub reply: Option<Reply>,
}

/// A partition of a log, as a trigger reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionOf {
    /// The trigger.
    pub trigger: String,
    /// The consumer group.
    pub group: String,
    /// Topic and partition.
    pub partition: String,
}

/// A step of a partition of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsMove {
    /// Of which.
    pub of: PartitionOf,
    /// All offsets below are completed.
    pub watermark: i64,
    /// The broker's timestamp of the last record below the watermark, in milliseconds since the Unix
    /// epoch.
    pub stamp: Option<i64>,
    /// The offsets that the unit itself completes, whether the watermark passes them or not: by
    /// these a rerun is known for a [`UnitResult::Duplicate`]. They are added to those known, of
    /// which those below the watermark are forgotten. The watermark never goes back: a lower one
    /// than the journal's is no conflict, as long as it comes with offsets that are new.
    pub completed: Vec<i64>,
}

/// An addition to a function's account, or its account of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEntry {
    /// The function.
    pub function: String,
    /// Days since the Unix epoch, UTC.
    pub day: i64,
    /// Attempts.
    pub invocations: u64,
    /// Their use, summed; `memory` is in KiB times milliseconds here.
    pub used: Usage,
}

impl UsageEntry {
    /// Adds that of other attempts of this function on this day.
    pub fn add(&mut self, other: &UsageEntry) {
        self.invocations += other.invocations;
        self.used.wall_us += other.used.wall_us;
        self.used.busy_us += other.used.busy_us;
        self.used.memory += other.used.memory;
    }
}

/// What became of a unit. Only `Committed` changed anything.
#[derive(Clone, Debug, PartialEq)]
pub enum UnitResult {
    /// All of it is durable.
    Committed {
        /// The deliveries that it added, in its order; those of `only_if_last` that did not hold
        /// are missing.
        added: Vec<Added>,
        /// Deliveries that were blocked by the one that the unit settled, and are not any more. None
        /// of them is among `added`.
        released: Vec<Pending>,
    },
    /// A key that was read has changed since.
    Conflict {
        /// The store.
        store: String,
        /// The key.
        key: String,
    },
    /// The journal has a delivery, event id, idempotency key, or step of a ledger, cursor or
    /// partition of this unit already, or has gone past it.
    Duplicate,
    /// The delivery to settle is not there, or not in the state to be settled so.
    Gone,
}

/// A delivery that a unit added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its place.
    pub seq: Seq,
    /// Its identity.
    pub id: DeliveryId,
    /// Whether it waits for another delivery of its lane or key: it comes as released, some day.
    pub blocked: bool,
}
