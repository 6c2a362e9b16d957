//! Events: immutable facts with the attributes of CloudEvents 1.0.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A name and its value. Names of incoming headers are lower-case.
pub type Field = (String, String);

/// An immutable fact. Cheap to clone but for its strings: `data` is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The identity of the event at its source.
    pub id: String,
    /// Where it comes from, such as `bucket:uploads`.
    pub source: String,
    /// What happened, such as `object.created`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to, such as the key of an object.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    /// The media type of `data`.
    pub datacontenttype: Option<String>,
    /// The W3C trace context it belongs to.
    pub traceparent: Option<String>,
    /// How many writes of this engine led here from the first event of the chain.
    /// Past [`crate::limits::HOPS`] the event is a loop that feeds itself.
    pub hops: u32,
    /// The headers of its message or request.
    pub headers: Vec<Field>,
    /// The payload.
    pub data: Bytes,
}

impl Event {
    /// About how many bytes the event holds in memory and in the journal.
    pub fn size(&self) -> usize {
        let text = self.id.len()
            + self.source.len()
            + self.kind.len()
            + self.subject.as_deref().map_or(0, str::len);
        let headers: usize = self.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        text + headers + self.data.len()
    }
}
