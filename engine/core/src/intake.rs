//! The intake: where connectors offer events to the engine.

use std::time::Duration;

use crate::{
    BoxFuture,
    event::Event,
    identity::DeliveryId,
    ledger::{BucketMove, BucketState, Gone, LedgerEntry, LedgerMove},
    outcome::Reply,
    schedule::{Cursor, CursorMove},
    time::Timestamp,
};

/// An event for the journal to keep.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What the triggers listen to, such as `bucket:uploads`. It is the event's own source, unless
    /// the event is a CloudEvent that was made elsewhere.
    pub source: String,
    /// The event.
    pub event: Event,
    /// How the event is known again.
    pub mark: Mark,
    /// Not to run before; absent, at once.
    pub due: Option<Timestamp>,
}

/// How an event that is offered a second time is known again.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "an offer has one, in place")]
pub enum Mark {
    /// By the step of a bucket's ledger, taken in the same commit.
    Ledger(LedgerMove),
    /// By the step of a schedule's cursor, taken in the same commit.
    Cursor(CursorMove),
    /// By its id, which the engine remembers for [`crate::limits::EVENT_IDS`].
    Id,
    /// Not at all: its id was made for it here, and nobody will say it again.
    Fresh,
}

/// Proof that an event is durable in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It became so many deliveries; none, if no trigger matched.
    Accepted {
        /// How many.
        deliveries: usize,
    },
    /// The journal had it already.
    Duplicate,
    /// The journal had another event with this id: by [`crate::identity::fingerprint`] it is not
    /// the same one. This one is not kept.
    Reused,
}

/// The event was not accepted; its source keeps it and offers it again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopping,
    /// The journal has reached its limit or its disk is full.
    #[error("the journal is full: {0}")]
    Full(String),
    /// More waits already than may.
    #[error("too much waits already")]
    Busy,
    /// The journal failed.
    #[error("the journal failed: {0}")]
    Failed(String),
}

/// An event whose client waits for the handler's answer: held by the client, kept by nobody else.
#[derive(Clone, Debug)]
pub struct Call {
    /// The trigger.
    pub trigger: String,
    /// The event.
    pub event: Event,
    /// Whether the client gave the event its id, and so may send it again ([`Mark::Id`]), or not
    /// ([`Mark::Fresh`]).
    pub stable: bool,
}

/// What became of a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The handler replied. If its status is 500 or more, its effects were thrown away.
    Replied(Reply),
    /// The handler replied so when this event, or one of the same idempotency key, came before.
    Stored(Reply),
    /// The filter of the trigger does not let the event through: nothing ran.
    Unmatched,
    /// One of the same identity is running.
    InFlight,
    /// The identity belongs to another event; see [`Receipt::Reused`].
    Reused,
    /// The handler asks the client to come again, after so long if it says so.
    Retry(Option<Duration>),
    /// The handler gives the event up.
    Rejected {
        /// The handler's words.
        reason: String,
    },
    /// The handler ran longer than it may.
    Timeout,
    /// The handler broke, or an effect of it failed; the log says more under this id.
    Failed(DeliveryId),
}

/// What connectors see of the engine. The engine implements it.
pub trait Intake: Send + Sync {
    /// Offers one event. Resolves when it is durable, with what it caused.
    fn offer(&self, offer: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>>;
}

/// The intake for clients that wait for an answer.
pub trait Calls: Intake {
    /// Runs the trigger's function once.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, IntakeError>>;
}

/// The intake for buckets.
pub trait Ledgers: Intake {
    /// What the ledger of the bucket knows of these keys; unknown keys are missing in the answer.
    fn ledger(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>>;

    /// The next `limit` entries of objects that the ledger believes to exist, by key, after `after`.
    fn ledger_page(
        &self,
        bucket: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>>;

    /// The next `limit` entries of the ledger, whether their objects exist or not, by key, after
    /// `after` and up to `until`; absent, from its beginning, and to its end.
    fn ledger_range(
        &self,
        bucket: &str,
        after: Option<String>,
        until: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>>;

    /// Takes objects into the ledger without events: they are no news. Keys that the ledger knows
    /// are left out.
    fn note(
        &self,
        bucket: &str,
        objects: Vec<LedgerEntry>,
    ) -> BoxFuture<'_, Result<(), IntakeError>>;

    /// What is known of the bucket; absent, it was never listened to.
    fn bucket(&self, bucket: &str) -> BoxFuture<'_, Result<Option<BucketState>, IntakeError>>;

    /// Changes what is known of a bucket.
    fn move_bucket(&self, step: BucketMove) -> BoxFuture<'_, Result<(), IntakeError>>;

    /// The keys of the bucket that the ledger saw go before, the oldest `limit`.
    fn gone(
        &self,
        bucket: &str,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Gone, IntakeError>>;
}

/// The intake for schedules.
pub trait Cursors: Intake {
    /// Where a schedule stands.
    fn cursor(&self, schedule: &str) -> BoxFuture<'_, Result<Option<Cursor>, IntakeError>>;

    /// Moves a cursor without an event: a new schedule, or ticks left out. False, if it did not
    /// stand at `from`.
    fn move_cursor(&self, step: CursorMove) -> BoxFuture<'_, Result<bool, IntakeError>>;

    /// Whether a delivery of this trigger waits or runs.
    fn is_busy(&self, trigger: &str) -> BoxFuture<'_, Result<bool, IntakeError>>;
}
