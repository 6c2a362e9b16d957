//! The intake: where connectors offer events to the engine.

use crate::{
    BoxFuture,
    event::Event,
    ledger::{LedgerEntry, LedgerMove},
};

/// An event for the journal to keep, with the step of the ledger that it comes from.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The event.
    pub event: Event,
    /// Taken in the same commit. Whoever offers the same step again offers a duplicate.
    pub ledger: Option<LedgerMove>,
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
    /// The journal failed.
    #[error("the journal failed: {0}")]
    Failed(String),
}

/// What connectors see of the engine. The engine implements it.
pub trait Intake: Send + Sync {
    /// Offers one event. Resolves when it is durable, with what it caused.
    fn offer(&self, offer: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>>;

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
}
