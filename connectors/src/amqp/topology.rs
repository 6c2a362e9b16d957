//! The queue and what belongs to it: looked at before it is consumed, and made if the plan says so.

use lapin::{
    Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tidemill_config::plan::AmqpSource;

use super::{
    Unusable,
    connector::AmqpConnector,
    error::{self, Trouble},
};

/// What is put behind the name of a queue to name the exchange and the queue of its dead letters.
const DEAD: &str = ".dead";

/// The broker does not allow it.
const ACCESS_REFUSED: u16 = 403;
/// There is no such thing.
pub(super) const NOT_FOUND: u16 = 404;
/// Somebody has it for himself.
const RESOURCE_LOCKED: u16 = 405;
/// It is there, but is another one.
pub(super) const PRECONDITION_FAILED: u16 = 406;

/// Whether AMQP has room for the names of what is to be made.
pub(super) fn check_names(source: &AmqpSource) -> Result<(), Unusable> {
    let AmqpSource { queue, declare, .. } = source;
    match *declare && queue.len() + DEAD.len() > 255 {
        true => Err(Unusable::TooLong(queue.clone())),
        false => Ok(()),
    }
}

/// Sees that the queue is there, or makes it.
pub(super) async fn prepare(of: &AmqpConnector, connection: &Connection) -> Result<(), Trouble> {
    match is_there(connection, &of.queue).await {
        Ok(()) => Ok(()),
        Err(error) if of.declare && error::code(&error) == NOT_FOUND => {
            let made = make(connection, &of.queue).await;
            made.map_err(|error| of.lost(&error))?;
            tracing::info!(source = of.source, "made the queue `{}`", of.queue);
            Ok(())
        }
        Err(error) => Err(of.lost(&error)),
    }
}

/// Whether the queue is there. Asked on a channel of its own: the answer no closes it.
pub(super) async fn is_there(connection: &Connection, queue: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let look = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let found = channel.queue_declare(queue.into(), look, FieldTable::default());
    found.await?;
    channel.close(200, "OK".into()).await
}

/// Makes the queue, and before it what takes its dead letters, so that none is lost.
async fn make(connection: &Connection, queue: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let dead = format!("{queue}{DEAD}");
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let kind = ExchangeKind::Fanout;
    channel
        .exchange_declare(dead.as_str().into(), kind, durable, FieldTable::default())
        .await?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), text("quorum"));
    channel
        .queue_declare(dead.as_str().into(), durable, quorum.clone())
        .await?;
    channel
        .queue_bind(
            dead.as_str().into(),
            dead.as_str().into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    quorum.insert("x-dead-letter-exchange".into(), text(&dead));
    channel.queue_declare(queue.into(), durable, quorum).await?;
    channel.close(200, "OK".into()).await
}

/// The consumer was cancelled.
pub(super) fn cancelled(connection: &str, queue: &str) -> Trouble {
    Trouble::new(
        format!(
            "the broker of connection `{connection}` ended the consumer of the queue `{queue}`"
        ),
        "the queue was deleted, or the node that had it is gone; it is looked for again",
    )
}

/// What an error about a queue means.
pub(super) fn trouble(connection: &str, queue: &str, error: &lapin::Error) -> Trouble {
    let words = error::words(error);
    let on = format!("on connection `{connection}`");
    match error::code(error) {
        NOT_FOUND => Trouble::new(
            format!("there is no queue `{queue}` {on}"),
            "correct the name, make the queue, or set `declare = true` in the trigger",
        ),
        ACCESS_REFUSED => Trouble::new(
            format!("the broker does not allow what the queue `{queue}` {on} needs: {words}"),
            "give the user the permission with `rabbitmqctl set_permissions`",
        ),
        RESOURCE_LOCKED => Trouble::new(
            format!("another connection has the queue `{queue}` {on} for itself: {words}"),
            "end the exclusive consumer, or make the queue without `exclusive`",
        ),
        PRECONDITION_FAILED if words.contains("timed out") => Trouble::new(
            format!("the broker took a message of the queue `{queue}` {on} back: {words}"),
            "a handler ran longer than the broker waits: raise `consumer_timeout` there, or lower `timeout` here",
        ),
        PRECONDITION_FAILED => Trouble::new(
            format!("the broker refuses what the queue `{queue}` {on} needs: {words}"),
            "something of this name is there and is another one; delete it, or set `declare = false`",
        ),
        0 => Trouble::new(
            format!(
                "the connection `{connection}` was lost, by which the queue `{queue}` is consumed: {words}"
            ),
            "it is made anew by itself; the log of the broker may say why",
        ),
        code => Trouble::new(
            format!(
                "the broker of connection `{connection}` ended the session of the queue `{queue}`: {words} ({code})"
            ),
            "it begins anew by itself; the log of the broker may say why",
        ),
    }
}
