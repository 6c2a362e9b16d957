//! The event that a record becomes.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::Headers;
use tidemill_core::{
    event::{self, Event},
    hold::{Held, Partition, Position},
    limits,
    time::Timestamp,
};

use crate::{
    clock,
    cloudevent::{self, Binding, Broken, Decoded, Message},
};

/// Whose records they are.
pub(super) struct Origin {
    /// What the triggers listen to.
    pub source: String,
    pub connection: String,
    pub group: String,
}

/// The event of a record, and why it is no CloudEvent if it claims to be one.
pub(super) fn held(
    origin: &Origin,
    partition: Arc<Partition>,
    record: &impl rdkafka::Message,
) -> (Held, Option<Broken>) {
    let stamp = stamp(record);
    let received = match stamp {
        -1 => clock::now(),
        stamp => Timestamp(stamp),
    };
    let key = record.key().map(text);
    // librdkafka reads them anew for each who asks, also if there are none.
    let headers = record.headers();
    let decoded = cloudevent::decode(Binding::KAFKA, message(record, headers), received);
    let (mut event, stable, broken) = match decoded {
        Ok(Decoded::Event(event)) => (event, true, None),
        Ok(Decoded::Plain(message)) => (plain(origin, record, message, received), false, None),
        Err(broken) => {
            let mut event = plain(origin, record, message(record, headers), received);
            event
                .headers
                .push((super::BROKEN.to_owned(), broken.to_string()));
            (event, false, Some(broken))
        }
    };
    event.hops = hops(headers);
    if event.traceparent.is_none() {
        let given = header(headers, TRACEPARENT).map(text);
        event.traceparent = given.filter(|given| cloudevent::traceparent(given).is_some());
    }
    if record.payload().is_none() {
        event
            .headers
            .push((super::TOMBSTONE.to_owned(), "true".to_owned()));
    }
    let held = Held {
        source: origin.source.clone(),
        event,
        stable,
        position: Some(Position {
            partition,
            offset: record.offset(),
            stamp,
            key,
        }),
    };
    (held, broken)
}

/// The broker's timestamp of a record, in milliseconds; -1, if it has none.
pub(super) fn stamp(record: &impl rdkafka::Message) -> i64 {
    record.timestamp().to_millis().unwrap_or(-1)
}

const CONTENT_TYPE: &str = "content-type";
const TRACEPARENT: &str = "traceparent";

fn plain(
    origin: &Origin,
    record: &impl rdkafka::Message,
    message: Message,
    time: Timestamp,
) -> Event {
    let mut headers = message.headers;
    if let Some(content_type) = &message.content_type {
        headers.push((CONTENT_TYPE.to_owned(), content_type.clone()));
    }
    Event {
        id: format!(
            "{}:{}@{}",
            record.partition(),
            record.offset(),
            stamp(record)
        ),
        source: ["kafka:", &origin.connection, "/", record.topic()].concat(),
        kind: "kafka.message".to_owned(),
        subject: record.key().map(text),
        time,
        datacontenttype: message.content_type,
        traceparent: None,
        hops: 0,
        headers,
        data: message.body,
    }
}

/// The record without what the engine itself says in headers.
fn message(record: &impl rdkafka::Message, headers: Option<&impl Headers>) -> Message {
    let mut message = Message {
        body: Bytes::copy_from_slice(record.payload().unwrap_or_default()),
        ..Message::default()
    };
    for header in headers.into_iter().flat_map(Headers::iter) {
        let name = header.key.to_ascii_lowercase();
        if name.starts_with(event::OWN) {
            continue;
        }
        let value = text(header.value.unwrap_or_default());
        if name == CONTENT_TYPE && message.content_type.is_none() {
            message.content_type = Some(value);
        } else {
            message.headers.push((name, value));
        }
    }
    message
}

fn header<'h>(headers: Option<&'h impl Headers>, wanted: &str) -> Option<&'h [u8]> {
    let mut headers = headers.into_iter().flat_map(Headers::iter);
    let found = headers.find(|header| header.key.eq_ignore_ascii_case(wanted));
    found.and_then(|header| header.value)
}

/// What is no number counts as none: a record cannot be refused.
fn hops(headers: Option<&impl Headers>) -> u32 {
    let value = header(headers, event::HOPS).and_then(|value| str::from_utf8(value).ok());
    let hops = value.and_then(|value| value.trim().parse::<u32>().ok());
    // Beyond the last one, one is as good as another.
    hops.unwrap_or_default().min(limits::HOPS + 1)
}

/// A key or the value of a header: as text, or in hexadecimal digits after `0x` if it is none.
fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let mut text = String::with_capacity(2 + 2 * bytes.len());
            text.push_str("0x");
            for byte in bytes {
                let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
                text.push(digit(byte >> 4));
                text.push(digit(byte & 15));
            }
            text
        }
    }
}
