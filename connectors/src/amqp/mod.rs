//! AMQP 0-9-1: the messages of a queue are events, held by their broker until they are settled, and
//! exchanges are destinations.
//!
//! [`AmqpConnector`] consumes a queue, gives each message to the intake, and acknowledges it when the
//! engine says so, never before. [`AmqpDestination`] publishes events. [`check()`] tries the brokers of a
//! plan.
//!
//! What a user of AMQP should know:
//!
//! - A message's event has the message's `message-id` as its id, its `type` (else `amqp.message`), its
//!   routing key as the subject, its `timestamp` (else the time it came), its `content-type`, its
//!   headers with lower-case names, and its body as the data. A message without an id gets one that
//!   nobody else knows: if it is delivered again, it is another event.
//! - More headers say the rest: `amqp-exchange`, `amqp-routing-key`, `amqp-redelivered`, and if the
//!   message has them, `amqp-message-id`, `amqp-correlation-id`, `amqp-reply-to`, `amqp-app-id`,
//!   `amqp-user-id`, `amqp-expiration`, `amqp-priority`, `amqp-timestamp`, `content-encoding`. The data
//!   stays encoded as it is. Values that are no text are written as JSON; bytes that are not UTF-8, in
//!   base64.
//! - A CloudEvent, in binary or structured mode, keeps its own attributes. A message that claims to be
//!   one and is not is an event of a plain message, and the header `tidemill-broken-cloudevent` says why.
//! - What is acknowledged: a message whose deliveries are all done or durable in the journal. Until
//!   then it stays in the queue, unacknowledged, and is delivered again, in its place, if the connection
//!   is lost or the engine stops. So `prefetch` is how many messages are under way at a time, and with
//!   the size of the messages it is the memory that they take.
//! - Messages of any size are taken that the broker takes (RabbitMQ: `max_message_size`). One that the
//!   function has no memory for ends as a dead letter.
//! - lapin's thread reads nested headers by recursion. The engine gives such threads a stack of 256 MiB of
//!   address space (`RUST_MIN_STACK`), which is enough for all that fits a frame of 128 KiB.
//! - A connection that is lost is made anew, after half a second at first and half a minute at most;
//!   passwords that are read from files or the environment are looked up again each time. What has not
//!   begun by then is forgotten, since the broker has it; what has begun runs to its end, and its message
//!   is settled when it comes again, if it has an id.
//! - The queue must be there, unless `declare = true`: then it is made, if it is not there, as a durable
//!   quorum queue whose dead letters go to the exchange `<queue>.dead`, and from it to the quorum queue
//!   of the same name. A queue that is there is taken as it is.
//!
//! lapin's own recovery is not used: each session begins anew, with a new connection, channel and look
//! at the queue. So there is one way to begin, no tag of an old channel can meet a new one, and the end
//! of a session always has a reason that can be told.

mod acks;
mod broker;
mod check;
mod connector;
mod destination;
mod error;
mod event;
mod health;
mod publish;
mod session;
mod topology;
mod value;

#[cfg(test)]
mod tests;

pub use check::check;
pub use connector::AmqpConnector;
pub use destination::AmqpDestination;
pub use error::Unusable;
pub use health::{Health, Status};

use tidemill_config::plan::AmqpSource;

/// The header that says why a message is no CloudEvent, though it claims to be one.
pub const BROKEN: &str = "tidemill-broken-cloudevent";

/// What the triggers of a queue listen to, and the source attribute of its events.
pub fn source(plan: &AmqpSource) -> String {
    format!("amqp:{}/{}", plan.connection, plan.queue)
}
