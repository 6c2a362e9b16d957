//! Held events: their source keeps them until it is told that they are settled, so that the journal
//! need not.

use std::sync::Arc;

use crate::{
    BoxFuture,
    event::Event,
    intake::{Intake, IntakeError},
    watermark::Progress,
};

/// An event that its source keeps until [`Holds::hold`] says what to do.
#[derive(Clone, Debug)]
pub struct Held {
    /// What the triggers listen to, such as `amqp:orders/invoices`. It is the event's own source,
    /// unless the event is a CloudEvent that was made elsewhere.
    pub source: String,
    /// The event.
    pub event: Event,
    /// Whether its sender gave it its id, and so may send it again: the engine then remembers the id
    /// for [`crate::limits::EVENT_IDS`].
    pub stable: bool,
    /// Where it stands in a log; absent, its source is none.
    pub position: Option<Position>,
}

/// The place of a record in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub partition: Arc<Partition>,
    /// The offset.
    pub offset: i64,
    /// The broker's timestamp, in milliseconds since the Unix epoch.
    pub stamp: i64,
    /// The record's key, by which logs are ordered: as text, or in hexadecimal digits after `0x` if it
    /// is none.
    pub key: Option<String>,
}

/// What a source is to do with an event that it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Let it go: each of its deliveries is done, or durable in the journal. Acknowledge it, store
    /// its offset.
    Settle,
    /// Keep it, and offer it again: the engine stops.
    Release,
}

/// A partition of a log that this engine reads for the triggers of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// As in [`Held::source`].
    pub source: String,
    /// The consumer group.
    pub group: String,
    /// `<topic>/<number>`.
    pub partition: String,
}

/// The intake for sources that hold their events.
pub trait Holds: Intake {
    /// Takes an event and resolves when its source may settle it, however long that takes: while the
    /// journal is full or fails, it waits. Events that share a lane run in the order of the calls.
    /// If the future is dropped, a delivery that has not begun never does, and one that has runs to
    /// its end. An event that is offered again meanwhile joins the one that runs.
    fn hold(&self, held: Held) -> BoxFuture<'_, Settlement> {
        let all = self.hold_all(vec![held]);
        let mut all = all.into_iter();
        all.next()
            .unwrap_or_else(|| Box::pin(std::future::pending()))
    }

    /// The same for several, in their order, which costs less than one after the other: a future for each.
    fn hold_all(&self, all: Vec<Held>) -> Vec<BoxFuture<'_, Settlement>>;

    /// Begins to read a partition: what the journal has of it, of the trigger that is the farthest
    /// behind; none, if no trigger has completed any of it. To be called before [`Holds::hold`] with
    /// a position in it. Records that a trigger has completed already are settled for it without
    /// running.
    fn take_up(
        &self,
        partition: &Partition,
    ) -> BoxFuture<'_, Result<Option<Progress>, IntakeError>>;

    /// Forgets durably what was completed of a partition that is not the same one any more, such as
    /// that of a topic which was deleted and made anew.
    fn forget(&self, partition: &Partition) -> BoxFuture<'_, Result<(), IntakeError>>;

    /// Ends the reading of a partition. What the journal has of it stays.
    fn let_go(&self, partition: &Partition);
}
