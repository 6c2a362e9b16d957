//! Destinations: where the outbox carries effects that leave the engine.

use serde::{Deserialize, Serialize};

use crate::{BoxFuture, event::Event};

/// An effect outside the engine, decided in a commit and carried out after it, at least once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutboxAction {
    /// Delete the object that triggered, if it is still the same one.
    DeleteObject {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
        /// The object as it was handled.
        etag: String,
    },
    /// Move the object that triggered, if it is still the same one.
    MoveObject {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
        /// The object as it was handled.
        etag: String,
        /// The bucket it goes to.
        to_bucket: String,
        /// The key it gets there.
        to_key: String,
    },
    /// Write the event's data to an object.
    PutObject {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// Send the event to an HTTP server. The address and its secrets are not kept: they are those
    /// that the plan has when it is sent.
    Post {
        /// The trigger.
        trigger: String,
        /// Which of its destinations.
        role: Role,
    },
    /// Publish the event to an AMQP exchange; of its address, as above.
    PublishAmqp {
        /// The trigger.
        trigger: String,
        /// Which of its destinations.
        role: Role,
    },
    /// Publish the event to a Kafka topic; of its address, as above.
    PublishKafka {
        /// The trigger.
        trigger: String,
        /// Which of its destinations.
        role: Role,
    },
}

/// What a destination of a trigger is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// `on_success`: the handler's replies.
    OnSuccess,
    /// `dead_letter`: what was given up.
    DeadLetter,
}

/// The destination could not take it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Another attempt may succeed.
    #[error("{0}")]
    Failed(String),
    /// No attempt will ever succeed.
    #[error("{0}")]
    Rejected(String),
}

/// Something that carries out outbox actions. Connectors implement it, the dispatcher calls it.
pub trait Destination: Send + Sync {
    /// Carries out the action for the event; doing it twice has the effect of doing it once.
    fn publish<'a>(
        &'a self,
        action: &'a OutboxAction,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), PublishError>>;
}
