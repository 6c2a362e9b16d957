//! Where the outbox goes: each action to the connector that carries it out.

use std::sync::Arc;

use tidemill_connectors::{
    amqp::AmqpDestination, bucket::BucketDestination, http::HttpDestination,
    kafka::KafkaDestination,
};
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
    /// AMQP exchanges.
    pub amqp: Arc<AmqpDestination>,
    /// Kafka topics.
    pub kafka: Arc<KafkaDestination>,
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
            OutboxAction::Post { .. } => self.http.publish(action, event),
            OutboxAction::PublishAmqp { .. } => self.amqp.publish(action, event),
            OutboxAction::PublishKafka { .. } => self.kafka.publish(action, event),
        }
    }
}
