//! AMQP 0-9-1: the messages of a queue are events, held by their broker until they are settled, and
//! exchanges are destinations.

use tidemill_config::plan::AmqpSource;

/// What the triggers of a queue listen to, and the source attribute of its events.
pub fn source(plan: &AmqpSource) -> String {
    format!("amqp:{}/{}", plan.connection, plan.queue)
}
