//! One message to an exchange, and what the broker's answer means for it, in words for whoever reads
//! the history of a delivery.

use lapin::{
    BasicProperties, Channel, Confirmation,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable, ShortString},
};
use tidemill_config::plan::AmqpDestination as To;
use tidemill_core::{
    destination::PublishError,
    event::{self, Event, Field},
    limits,
};

use crate::cloudevent::{self, Binding, Message};

use super::{
    error,
    topology::{NOT_FOUND, PRECONDITION_FAILED},
};

/// A message that is kept on disk.
const PERSISTENT: u8 = 2;

/// Publishes an event, on a channel that carries nothing else meanwhile, and waits for the confirmation.
pub(super) async fn publish(channel: &Channel, to: &To, event: &Event) -> Result<(), PublishError> {
    let message = cloudevent::encode_binary(Binding::AMQP, event);
    let properties = properties(event, &message)?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let sent = channel
        .basic_publish(
            to.exchange.as_str().into(),
            to.routing_key.as_str().into(),
            options,
            &message.body,
            properties,
        )
        .await;
    let confirmation = match sent {
        Ok(confirmation) => confirmation.await,
        Err(error) => Err(error),
    };
    let to = shown(to);
    match confirmation {
        Ok(Confirmation::Ack(None)) => Ok(()),
        Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
            Err(PublishError::Failed(format!(
                "{to} leads to no queue: the broker returned the message ({}); bind a queue to the exchange for this routing key",
                returned.reply_text
            )))
        }
        Ok(Confirmation::Nack(None)) => Err(PublishError::Failed(format!(
            "a queue behind {to} did not take the message; it may be full, or the log of the broker says why"
        ))),
        Ok(Confirmation::NotRequested) => Err(PublishError::Failed(format!(
            "publishing to {to} was not confirmed; the broker does not confirm what it gets"
        ))),
        Err(error) => Err(failure(&to, message.body.len(), &error)),
    }
}

/// An exchange and a routing key, as they are shown.
pub(super) fn shown(to: &To) -> String {
    let To {
        connection,
        exchange,
        routing_key,
    } = to;
    match exchange.as_str() {
        "" => format!("the queue `{routing_key}` of connection `{connection}`"),
        _ => format!(
            "the exchange `{exchange}` of connection `{connection}` with routing key `{routing_key}`"
        ),
    }
}

fn failure(to: &str, size: usize, error: &lapin::Error) -> PublishError {
    let words = error::words(error);
    match error::code(error) {
        PRECONDITION_FAILED if words.contains("size") => PublishError::Rejected(format!(
            "{to}: the broker does not take a message of {size} bytes, which another try would not change: {words}; raise `max_message_size` there"
        )),
        NOT_FOUND => PublishError::Failed(format!(
            "{to} is not there: {words}; make it, or correct the name in the plan"
        )),
        0 => PublishError::Failed(format!(
            "the connection was lost before {to} confirmed the message: {words}; the broker may have it nevertheless, and gets it again under the same message-id"
        )),
        code => PublishError::Failed(format!(
            "the broker refused the message to {to}: {words} ({code})"
        )),
    }
}

fn properties(event: &Event, message: &Message) -> Result<BasicProperties, PublishError> {
    let mut headers = FieldTable::default();
    let mut size = 0;
    let mut put = |name: &str, value: AMQPValue, length: usize| {
        // Names of attributes are shorter, and the engine's own too.
        if let Ok(name) = ShortString::try_new(name) {
            size += name.as_str().len() + length + 6;
            headers.insert(name, value);
        }
    };
    let own = |(name, _): &&Field| name.starts_with(event::OWN);
    let own = event.headers.iter().filter(own);
    for (name, value) in own.chain(&message.headers) {
        put(
            name,
            AMQPValue::LongString(value.as_str().into()),
            value.len(),
        );
    }
    if let Some(context) = &event.traceparent {
        let value = AMQPValue::LongString(context.as_str().into());
        put("traceparent", value, context.len());
    }
    put(event::HOPS, AMQPValue::LongUInt(event.hops), 4);
    if size > limits::AMQP_HEADERS {
        return Err(PublishError::Rejected(format!(
            "the event's attributes have {size} bytes as headers, but AMQP has room for {} in a message; make its extensions smaller",
            limits::AMQP_HEADERS
        )));
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers);
    // Id and type are in the headers too, whatever their length.
    let short = |text: &str| ShortString::try_new(text).ok();
    if let Some(id) = short(&event.id) {
        properties = properties.with_message_id(id);
    }
    if let Some(kind) = short(&event.kind) {
        properties = properties.with_type(kind);
    }
    if let Some(content_type) = message.content_type.as_deref().and_then(short) {
        properties = properties.with_content_type(content_type);
    }
    Ok(properties)
}
