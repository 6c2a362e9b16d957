//! Where the outbox goes: each action to the connector that carries it out.

use tidemill_connectors::{bucket::BucketDestination, http::HttpDestination};
use tidemill_core::{
    BoxFuture,
    destination::{Destination, OutboxAction, PublishError},
    event::Event,
};

/// All destinations of a plan.
pub struct Destinations {
    /// Objects.
    pub buckets: BucketDestination,
    /// HTTP servers.
    pub http: HttpDestination,
}

impl Destination for Destinations {
    fn publish<'a>(
        &'a self,
        action: &'a OutboxAction,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        match action {
            OutboxAction::DeleteObject { .. }
            | OutboxAction::MoveObject { .. }
            | OutboxAction::PutObject { .. } => self.buckets.publish(action, event),
            OutboxAction::Post { .. }
            | OutboxAction::PublishAmqp { .. }
            | OutboxAction::PublishKafka { .. } => self.http.publish(action, event),
        }
    }
}
