//! The attributes of a CloudEvent as they are read, one by one, and the rules that they follow.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tidemill_core::{
    event::{Event, Field},
    limits,
    time::Timestamp,
};

use super::{Broken, EXTENSION, broken::Shown, traceparent};

/// A CloudEvent that is being put together. Its version is 1.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The identity of the event at its source.
    pub id: Option<String>,
    /// Where it comes from.
    pub source: Option<String>,
    /// What happened.
    pub kind: Option<String>,
    /// What it happened to.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// The media type of the data.
    pub datacontenttype: Option<String>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// Attributes without a place of their own, by their names.
    pub extensions: Vec<Field>,
    /// The payload.
    pub data: Bytes,
}

impl Draft {
    /// The event, with these headers besides. Fails if it lacks what every CloudEvent has.
    pub fn finish(self, mut headers: Vec<Field>, received: Timestamp) -> Result<Event, Broken> {
        let extensions = self.extensions.into_iter();
        headers.extend(extensions.map(|(name, value)| (format!("{EXTENSION}{name}"), value)));
        Ok(Event {
            id: self.id.ok_or(Broken::Missing("id"))?,
            source: self.source.ok_or(Broken::Missing("source"))?,
            kind: self.kind.ok_or(Broken::Missing("type"))?,
            subject: self.subject,
            time: self.time.unwrap_or(received),
            datacontenttype: self.datacontenttype,
            traceparent: self.traceparent,
            hops: 0,
            headers,
            data: self.data,
        })
    }

    /// Takes an attribute; `at` is its name as it was in the message.
    pub(super) fn set(&mut self, name: &str, at: &str, value: String) -> Result<(), Broken> {
        check_text(at, &value)?;
        let slot = match name {
            "specversion" => {
                if value != "1.0" {
                    return Err(Broken::wrong(at, Shown(&value), "\"1.0\""));
                }
                return Ok(());
            }
            "time" => {
                // An empty one counts as absent, as below.
                if value.is_empty() {
                    return Ok(());
                }
                let time = time(at, &value)?;
                return put(&mut self.time, at, time);
            }
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "datacontenttype" => &mut self.datacontenttype,
            "traceparent" if traceparent(&value).is_some() => &mut self.traceparent,
            _ => return self.extend(name, at, value),
        };
        if value.is_empty() {
            return Ok(());
        }
        put(slot, at, value)
    }

    fn extend(&mut self, name: &str, at: &str, value: String) -> Result<(), Broken> {
        if !is_name(name) {
            return Err(Broken::Name(at.to_owned()));
        }
        if self.extensions.iter().any(|(there, _)| there == name) {
            return Err(Broken::Twice(at.to_owned()));
        }
        if self.extensions.len() == limits::EXTENSIONS {
            return Err(Broken::TooMany);
        }
        self.extensions.push((name.to_owned(), value));
        Ok(())
    }
}

/// Whether an attribute without a place of its own may have this name.
pub(super) fn is_name(name: &str) -> bool {
    const TAKEN: [&str; 8] = [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "data",
    ];
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=limits::ATTRIBUTE_NAME).contains(&name.len())
        && name.bytes().all(legal)
        && !TAKEN.contains(&name)
}

fn put<T>(slot: &mut Option<T>, at: &str, value: T) -> Result<(), Broken> {
    match slot.replace(value) {
        Some(_) => Err(Broken::Twice(at.to_owned())),
        None => Ok(()),
    }
}

fn check_text(at: &str, value: &str) -> Result<(), Broken> {
    if value.len() > limits::ATTRIBUTE {
        return Err(Broken::TooLong {
            attribute: at.to_owned(),
            length: value.len(),
        });
    }
    if value.chars().any(char::is_control) {
        return Err(Broken::wrong(
            at,
            Shown(value),
            "a text without control characters",
        ));
    }
    Ok(())
}

fn time(at: &str, value: &str) -> Result<Timestamp, Broken> {
    let time = DateTime::parse_from_rfc3339(value).map_err(|_| {
        let expected = "a time of RFC 3339, such as \"2018-04-05T17:31:00Z\"";
        Broken::wrong(at, Shown(value), expected)
    })?;
    Ok(time.with_timezone(&Utc).into())
}
