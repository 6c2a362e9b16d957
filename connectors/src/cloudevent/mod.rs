//! CloudEvents 1.0: events in the form in which other systems send and take them.
//!
//! The same for every transport: a [`Message`] goes in and an event comes out, and the other way
//! round. What differs between transports is a [`Binding`]. Nothing here does I/O.
//!
//! In binary mode the attributes are headers and the body is the data; in structured mode all of it
//! is one JSON text. A message is taken for a CloudEvent if its content type says so, if it has a
//! `specversion`, or if it has an `id`, a `source` and a `type`. What is taken for one has to be one.
//!
//! - Attributes that an event has no place for (extensions, `dataschema`) become headers
//!   `ce-<name>`, whatever the transport, and are attributes again when it is sent.
//! - `traceparent` is the extension of that name, if it is a trace context; if not, it is an
//!   extension like others.
//! - An optional attribute that is empty counts as absent.
//! - JSON data stays as it was written: no number is rounded, no field moved.
//! - Batches are refused: an event has a receipt of its own.

mod broken;
mod draft;
mod header;
mod json;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use tidemill_core::{
    event::{Event, Field},
    time::Timestamp,
};

pub use broken::Broken;
pub use draft::Draft;
pub use json::encode_structured;

/// What the names of headers begin with that are attributes without a place of their own.
pub const EXTENSION: &str = "ce-";

/// The media type of a structured event.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// How a transport writes attributes into headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What their names begin with; the first is written, all are read.
    prefixes: &'static [&'static str],
    /// Whether their values are percent-encoded.
    percent: bool,
}

impl Binding {
    /// HTTP requests and responses.
    pub const HTTP: Binding = Binding {
        prefixes: &["ce-"],
        percent: true,
    };
    /// AMQP messages: their application properties, or the headers of AMQP 0.9.1.
    pub const AMQP: Binding = Binding {
        prefixes: &["cloudEvents_", "cloudEvents:"],
        percent: false,
    };
    /// Kafka records.
    pub const KAFKA: Binding = Binding {
        prefixes: &["ce_"],
        percent: false,
    };

    /// The attribute that a header of this name holds, in lower case.
    fn attribute(&self, header: &str) -> Option<String> {
        self.prefixes.iter().find_map(|prefix| {
            let (start, name) = header.split_at_checked(prefix.len())?;
            let is_one = start.eq_ignore_ascii_case(prefix);
            is_one.then(|| name.to_ascii_lowercase())
        })
    }
}

/// A message of any transport. The content type is here alone, if the transport keeps it among the
/// headers too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The media type of the body.
    pub content_type: Option<String>,
    /// Its headers.
    pub headers: Vec<Field>,
    /// Its body.
    pub body: Bytes,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A CloudEvent. Headers that are no attributes are the event's. It has no hops.
    Event(Event),
    /// None, and here it is again.
    Plain(Message),
}

/// Reads a message. An event without a time of its own has the time at which it was `received`.
pub fn decode(binding: Binding, message: Message, received: Timestamp) -> Result<Decoded, Broken> {
    match form(binding, &message)? {
        Form::Plain => Ok(Decoded::Plain(message)),
        Form::Structured => {
            let draft = Draft::from_json(&message.body)?;
            let other = |(name, _): &Field| binding.attribute(name).is_none();
            let headers = message.headers.into_iter().filter(other).collect();
            draft.finish(headers, received).map(Decoded::Event)
        }
        Form::Binary => {
            let (draft, headers) = header::decode(binding, message)?;
            draft.finish(headers, received).map(Decoded::Event)
        }
    }
}

/// The event in binary mode. Of its headers only those go along that are attributes.
pub fn encode_binary(binding: Binding, event: &Event) -> Message {
    Message {
        content_type: event.datacontenttype.clone(),
        headers: header::encode(binding, event),
        body: event.data.clone(),
    }
}

/// The trace context of the W3C, if the text is one.
pub fn traceparent(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let mut hex = |length| {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let part = parts.next().filter(|part| part.len() == length);
        part.filter(|part| part.bytes().all(digit))
    };
    let (version, trace, span, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    // What later versions of the standard add is behind a further hyphen.
    let end = parts.next().is_none() || version != "00";
    (version != "ff" && !zero(trace) && !zero(span) && end).then_some(text)
}

enum Form {
    Plain,
    Binary,
    Structured,
}

fn form(binding: Binding, message: &Message) -> Result<Form, Broken> {
    let media_type = message.content_type.as_deref().map(json::essence);
    match media_type.as_deref() {
        Some(STRUCTURED) => return Ok(Form::Structured),
        Some(batch) if batch.starts_with("application/cloudevents-batch") => {
            return Err(Broken::Batch);
        }
        Some(other)
            if other == "application/cloudevents"
                || other.starts_with("application/cloudevents+") =>
        {
            return Err(Broken::Format(other.to_owned()));
        }
        _ => {}
    }
    let has = |wanted: &str| {
        let mut names = message.headers.iter().map(|(name, _)| name);
        names.any(|name| binding.attribute(name).is_some_and(|name| name == wanted))
    };
    if has("specversion") || ["id", "source", "type"].into_iter().all(has) {
        return Ok(Form::Binary);
    }
    Ok(Form::Plain)
}
