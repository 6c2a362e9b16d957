//! Sources and destinations: what turns the world into events.

pub mod amqp;
pub mod bucket;
pub mod check;
pub mod cloudevent;
pub mod http;
pub mod kafka;
pub mod schedule;

mod client;
mod clock;
#[cfg(test)]
mod fake_holds;
#[cfg(all(test, feature = "kafka-tls"))]
#[allow(
    dead_code,
    reason = "Kafka is the only broker here that a test has for itself"
)]
#[path = "../../tests/services/private.rs"]
mod private;
#[cfg(test)]
#[path = "../../tests/services/addresses.rs"]
mod services;
