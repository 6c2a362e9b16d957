//! Deliveries: one event on its way to one trigger's function, or out of the engine.

use serde::{Deserialize, Serialize};

use crate::{
    destination::OutboxAction, event::Event, identity::DeliveryId, outcome::OutcomeName,
    time::Timestamp,
};

/// The place of a delivery in the journal: counts up in the order of acceptance.
pub type Seq = i64;

/// What is to be done with the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Run the function of the trigger.
    Handle,
    /// Carry an effect out of the engine, after the commit that decided on it.
    Outbox(OutboxAction),
}

/// One delivery as the journal keeps it, with its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the journal.
    pub seq: Seq,
    /// Its identity.
    pub id: DeliveryId,
    /// The trigger that matched.
    pub trigger: String,
    /// What is to be done.
    pub work: Work,
    /// Attempts that have ended.
    pub attempts: u32,
    /// When the event was accepted; a redrive counts anew.
    pub accepted: Timestamp,
    /// Not to run before.
    pub due: Timestamp,
    /// Its lane, if its trigger is ordered: the deliveries of one trigger and lane run one after
    /// another, in the order of their places.
    pub lane: Option<String>,
    /// Its idempotency key, if it has one: of the deliveries of one trigger and key, one runs at a
    /// time.
    pub key: Option<String>,
    /// Whether its event came with [`crate::intake::Mark::Id`].
    pub remember: bool,
    /// Made from a dead letter.
    pub redrive: Option<Redrive>,
    /// What it delivers.
    pub event: Event,
}

/// How a delivery was made from a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The dead letter.
    pub of: DeliveryId,
    /// The object as it was, in place of as it is now.
    pub original: bool,
}

/// One ended attempt, for the history of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Counts from 1.
    pub attempt: u32,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended.
    pub outcome: OutcomeName,
    /// In words, at most [`crate::limits::REASON`] bytes.
    pub reason: String,
    /// The digest of the component that ran; absent for the outbox.
    pub digest: Option<String>,
}

/// Why a delivery was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The handler rejected the event.
    Rejected,
    /// The attempts were used up.
    Attempts,
    /// It grew too old.
    Age,
    /// The event came through more than [`crate::limits::HOPS`] writes of this engine.
    Loop,
    /// No trigger of the source matched, and the source keeps such events.
    Unmatched,
    /// The event's data is larger than its trigger takes.
    TooLarge,
}

impl Cause {
    /// Every cause there is.
    pub const ALL: [Cause; 6] = [
        Cause::Rejected,
        Cause::Attempts,
        Cause::Age,
        Cause::Loop,
        Cause::Unmatched,
        Cause::TooLarge,
    ];

    /// The kebab-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Rejected => "rejected",
            Cause::Attempts => "attempts",
            Cause::Age => "age",
            Cause::Loop => "loop",
            Cause::Unmatched => "unmatched",
            Cause::TooLarge => "too-large",
        }
    }

    /// The cause of that name.
    pub fn from_name(name: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

impl From<crate::retry::GiveUp> for Cause {
    fn from(why: crate::retry::GiveUp) -> Cause {
        match why {
            crate::retry::GiveUp::Rejected => Cause::Rejected,
            crate::retry::GiveUp::Attempts => Cause::Attempts,
            crate::retry::GiveUp::Age => Cause::Age,
        }
    }
}

/// A delivery given up: what `dead-letters show` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The delivery, with its event.
    pub delivery: Delivery,
    /// Why it was given up.
    pub cause: Cause,
    /// The reason of the last attempt, in words.
    pub reason: String,
    /// When it was given up.
    pub died: Timestamp,
    /// Every attempt, the first one first.
    pub history: Vec<AttemptRecord>,
}
