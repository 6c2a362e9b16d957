//! What a handler is given: the event and its object, if it is about one. Only reads; nothing here calls the engine.

use std::time::Duration;

use crate::{Failure, bindings::tidemill::function::types, bucket::Bucket};

/// An immutable fact, with the attributes of CloudEvents 1.0.
#[derive(Clone, Debug)]
pub struct Event(types::Event);

impl Event {
    /// The identity of the event at its source.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Where it comes from, such as `bucket:uploads`.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What happened, such as `object.created`: the attribute `type`.
    pub fn event_type(&self) -> &str {
        &self.0.type_
    }

    /// What it happened to, such as the key of an object.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// When it happened, since the Unix epoch.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.0.time_ms)
    }

    /// The media type of the data.
    pub fn datacontenttype(&self) -> Option<&str> {
        self.0.datacontenttype.as_deref()
    }

    /// The W3C trace context that the event belongs to.
    pub fn traceparent(&self) -> Option<&str> {
        self.0.traceparent.as_deref()
    }

    /// All headers, in their order; names are lower-case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
    }

    /// The first header of that name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The payload.
    pub fn data(&self) -> &[u8] {
        &self.0.data
    }

    /// The payload, without a copy.
    pub fn into_data(self) -> Vec<u8> {
        self.0.data
    }

    /// The payload as text.
    ///
    /// # Errors
    ///
    /// Bytes that are not UTF-8; by `?` the event is rejected.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0.data)
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    ///
    /// Not JSON, or of another shape; by `?` the event is rejected.
    #[cfg(feature = "json")]
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0.data)
    }

    /// The same over all attempts of this delivery and after every crash: fit to de-duplicate effects outside.
    pub fn delivery(&self) -> &str {
        &self.0.delivery.id
    }

    /// The trigger that matched.
    pub fn trigger(&self) -> &str {
        &self.0.delivery.trigger
    }

    /// Which run of the delivery this is, counted from 1.
    pub fn attempt(&self) -> u32 {
        self.0.delivery.attempt
    }

    /// The object that the event is about.
    ///
    /// # Errors
    ///
    /// Rejects an event that does not come from a bucket.
    pub fn object(&self) -> Result<ObjectEvent<'_>, Failure> {
        match (self.source().strip_prefix("bucket:"), self.subject()) {
            (Some(bucket), Some(key)) => Ok(ObjectEvent { bucket, key }),
            _ => Err(Failure::reject(format_args!(
                "expected an event of a bucket, got `{}` from `{}`",
                self.event_type(),
                self.source()
            ))),
        }
    }
}

impl From<types::Event> for Event {
    fn from(event: types::Event) -> Self {
        Self(event)
    }
}

/// An object in a bucket that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectEvent<'a> {
    /// The name of the bucket, as in the configuration.
    pub bucket: &'a str,
    /// The key of the object.
    pub key: &'a str,
}

impl ObjectEvent<'_> {
    /// The bucket that the object is in.
    pub fn bucket(&self) -> Bucket {
        crate::bucket::open(self.bucket)
    }

    /// Reads the whole object. For one that may be larger than the memory of the function there is
    /// [`Bucket::reader`].
    ///
    /// # Errors
    ///
    /// [`Changed`](crate::bucket::Error::Changed) if the object is no longer the one that the event tells of, and all
    /// others of [`Bucket::read`].
    pub fn read(&self) -> Result<Vec<u8>, crate::bucket::Error> {
        self.bucket().read(self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(source: &str, subject: Option<&str>) -> Event {
        Event(types::Event {
            id: "1".into(),
            source: source.into(),
            type_: "object.created".into(),
            subject: subject.map(Into::into),
            time_ms: 1_500,
            datacontenttype: None,
            traceparent: None,
            headers: vec![("x-a".into(), "1".into()), ("x-a".into(), "2".into())],
            data: br#"{"n":7}"#.to_vec(),
            delivery: types::Delivery {
                id: "d".into(),
                trigger: "t".into(),
                attempt: 2,
            },
        })
    }

    #[test]
    fn an_object_is_named_by_source_and_subject() {
        let event = event("bucket:uploads", Some("a/b.jpg"));
        let expected = ObjectEvent {
            bucket: "uploads",
            key: "a/b.jpg",
        };
        assert_eq!(event.object(), Ok(expected));
    }

    #[test]
    fn an_event_of_another_source_has_no_object() {
        for event in [event("http:/x", Some("a")), event("bucket:uploads", None)] {
            assert!(matches!(event.object(), Err(Failure::Reject(_))));
        }
    }

    #[test]
    fn the_first_header_wins_in_any_case() {
        let event = event("http:/x", None);
        assert_eq!(event.header("X-A"), Some("1"));
        assert_eq!(event.header("x-b"), None);
    }

    #[cfg(feature = "json")]
    #[test]
    fn data_of_another_shape_is_rejected() {
        let event = event("http:/x", None);
        let map: std::collections::BTreeMap<&str, u32> = event.json().unwrap();
        assert_eq!(map["n"], 7);
        let wrong = event.json::<Vec<u8>>().unwrap_err();
        assert!(matches!(Failure::from(wrong), Failure::Reject(_)));
    }
}
