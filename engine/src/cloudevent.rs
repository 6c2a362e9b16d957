//! Events from JSON: CloudEvents in structured form, or plain data.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_core::event::Event;

use crate::{clock, trace};

/// The attributes of an event that is made by hand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Made {
    /// Its identity.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its subject.
    pub subject: Option<String>,
    /// Its payload.
    pub data: String,
}

/// A CloudEvent in structured JSON form.
#[derive(Deserialize)]
struct Structured {
    #[serde(rename = "specversion")]
    _specversion: String,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    subject: Option<String>,
    #[serde(default)]
    data: serde_json::Value,
}

impl Made {
    /// The event that this text stands for: a CloudEvent if it is one, whose attributes give way to
    /// those that are named; otherwise the text is the data.
    pub fn from_text(
        text: String,
        kind: Option<String>,
        source: Option<String>,
        subject: Option<String>,
    ) -> Made {
        let found = serde_json::from_str::<Structured>(&text).ok();
        let (id, own_source, own_kind, own_subject, data) = match found {
            None => (None, None, None, None, text),
            Some(event) => {
                let data = match event.data {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                };
                (event.id, event.source, event.kind, event.subject, data)
            }
        };
        Made {
            id: id.unwrap_or_else(|| format!("{:016x}", fastrand::u64(..))),
            source: source.or(own_source).unwrap_or_else(|| "invoke".into()),
            kind: kind.or(own_kind).unwrap_or_else(|| "invoke".into()),
            subject: subject.or(own_subject),
            data,
        }
    }

    /// The event.
    pub fn into_event(self) -> Event {
        let json = serde_json::from_str::<serde::de::IgnoredAny>(&self.data).is_ok();
        Event {
            id: self.id,
            source: self.source,
            kind: self.kind,
            subject: self.subject,
            time: clock::now(),
            datacontenttype: json.then(|| "application/json".into()),
            traceparent: Some(trace::new_traceparent()),
            hops: 0,
            headers: Vec::new(),
            data: Bytes::from(self.data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_event_or_plain_data() {
        let text = r#"{"specversion":"1.0","id":"7","type":"t","source":"s","data":{"a":1}}"#;
        let event = Made::from_text(text.into(), None, Some("mine".into()), None).into_event();
        assert_eq!(
            (
                event.id.as_str(),
                event.source.as_str(),
                event.kind.as_str()
            ),
            ("7", "mine", "t")
        );
        assert_eq!(event.data, r#"{"a":1}"#);
        let event = Made::from_text("hello".into(), None, None, None).into_event();
        assert_eq!(
            (event.kind.as_str(), &event.data[..]),
            ("invoke", &b"hello"[..])
        );
        assert_eq!(event.datacontenttype, None);
    }
}
