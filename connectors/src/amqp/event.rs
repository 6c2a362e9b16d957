//! The event that a message becomes.

use bytes::Bytes;
use chrono::DateTime;
use lapin::{message::Delivery, protocol::basic::AMQPProperties};
use tidemill_core::{
    event::{self, Event, Field},
    limits,
    time::Timestamp,
};
use ulid::Ulid;

use crate::cloudevent::{self, Binding, Broken, Decoded, Message};

use super::{BROKEN, value};

const CONTENT_TYPE: &str = "content-type";

/// The type of messages that do not say theirs.
const KIND: &str = "amqp.message";

/// A message as the engine takes it.
#[derive(Debug)]
pub(super) struct Taken {
    pub event: Event,
    /// Whether its sender gave it its id.
    pub stable: bool,
    /// Why it is no CloudEvent, although it says so.
    pub broken: Option<Broken>,
}

/// Makes an event of a message of this source.
pub(super) fn event(source: &str, mut delivery: Delivery, now: Timestamp) -> Taken {
    let body = Bytes::from(std::mem::take(&mut delivery.data));
    let properties = &delivery.properties;
    let mut broken = None;
    let decoded = cloudevent::decode(Binding::AMQP, message(properties, body.clone()), now);
    let (mut event, stable) = match decoded {
        Ok(Decoded::Event(event)) => (event, true),
        Ok(Decoded::Plain(message)) => plain(source, &delivery, message, now),
        Err(why) => {
            let message = message(properties, body);
            let (mut event, stable) = plain(source, &delivery, message, now);
            event
                .headers
                .insert(0, (BROKEN.to_owned(), why.to_string()));
            broken = Some(why);
            (event, stable)
        }
    };
    let header = |name: &str| {
        let table = properties.headers().as_ref()?.inner();
        table.get(name).map(value::text)
    };
    let hops = header(event::HOPS).and_then(|hops| hops.parse::<u32>().ok());
    // Beyond the last one, one is as good as another.
    event.hops = hops.unwrap_or(0).min(limits::HOPS + 1);
    if event.traceparent.is_none() {
        let given = header("traceparent");
        event.traceparent = given.filter(|text| cloudevent::traceparent(text).is_some());
    }
    event.headers.splice(..0, told(&delivery));
    Taken {
        event,
        stable,
        broken,
    }
}

/// The event of a message that is no CloudEvent, and whether its sender gave it its id.
fn plain(source: &str, delivery: &Delivery, message: Message, now: Timestamp) -> (Event, bool) {
    let properties = &delivery.properties;
    let filled = |text: &Option<lapin::types::ShortString>| {
        let text = text.as_ref().map(|text| text.as_str().to_owned());
        text.filter(|text| !text.is_empty())
    };
    let id = filled(properties.message_id());
    let stable = id.is_some();
    let mut headers = message.headers;
    if let Some(content_type) = &message.content_type {
        headers.push((CONTENT_TYPE.to_owned(), content_type.clone()));
    }
    let routing_key = delivery.routing_key.as_str();
    let event = Event {
        id: id.unwrap_or_else(|| Ulid::generate().to_string()),
        source: source.to_owned(),
        kind: filled(properties.kind()).unwrap_or_else(|| KIND.to_owned()),
        subject: Some(routing_key.to_owned()).filter(|key| !key.is_empty()),
        time: properties.timestamp().and_then(instant).unwrap_or(now),
        datacontenttype: message.content_type,
        traceparent: None,
        hops: 0,
        headers,
        data: message.body,
    };
    (event, stable)
}

/// The message as all transports have it. Headers of the engine's own are dropped.
fn message(properties: &AMQPProperties, body: Bytes) -> Message {
    let content_type = properties.content_type().as_ref();
    let table = properties.headers().as_ref().into_iter().flatten();
    let headers = table.map(|(name, value)| (name.as_str().to_lowercase(), value::text(value)));
    Message {
        content_type: content_type
            .map(|text| text.as_str().to_owned())
            .filter(|text| !text.is_empty()),
        headers: headers
            .filter(|(name, _)| !name.starts_with(event::OWN) && name != CONTENT_TYPE)
            .collect(),
        body,
    }
}

/// What else the message says of itself, and the broker of it, as headers.
fn told(delivery: &Delivery) -> Vec<Field> {
    let properties = &delivery.properties;
    let texts = [
        ("amqp-message-id", properties.message_id()),
        ("amqp-correlation-id", properties.correlation_id()),
        ("amqp-reply-to", properties.reply_to()),
        ("amqp-app-id", properties.app_id()),
        ("amqp-user-id", properties.user_id()),
        ("amqp-expiration", properties.expiration()),
        ("content-encoding", properties.content_encoding()),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| {
        let text = text.as_ref()?.as_str().to_owned();
        Some((name, text))
    });
    let numbers = [
        ("amqp-priority", properties.priority().map(u64::from)),
        ("amqp-timestamp", *properties.timestamp()),
    ];
    let numbers = numbers
        .into_iter()
        .filter_map(|(name, number)| Some((name, number?.to_string())));
    let of_broker = [
        ("amqp-exchange", delivery.exchange.as_str().to_owned()),
        ("amqp-routing-key", delivery.routing_key.as_str().to_owned()),
        ("amqp-redelivered", delivery.redelivered.to_string()),
    ];
    let all = of_broker.into_iter().chain(texts).chain(numbers);
    all.map(|(name, text)| (name.to_owned(), text)).collect()
}

/// An instant in seconds, if it is one before the year 10000: some senders write milliseconds.
fn instant(seconds: u64) -> Option<Timestamp> {
    let at = DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?;
    (chrono::Datelike::year(&at) < 10_000).then(|| at.into())
}
