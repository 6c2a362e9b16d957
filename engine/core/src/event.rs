//! Events: immutable facts with the attributes of CloudEvents 1.0.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A name and its value. Names of incoming headers are lower-case.
pub type Field = (String, String);

/// Headers of this prefix are the engine's own: what comes in with it from outside is dropped.
pub const OWN: &str = "tidemill-";
/// The header with the method of an HTTP request.
pub const METHOD: &str = "tidemill-method";
/// The header with the query of an HTTP request, as it was sent, without the question mark.
pub const QUERY: &str = "tidemill-query";
/// Headers with the path parameters of an HTTP request: this and the parameter's name.
pub const PATH_PARAMETER: &str = "tidemill-path-";
/// The header by which the hops go along with what the engine sends to HTTP servers. It is taken
/// from outside too, and then kept in [`Event::hops`] alone.
pub const HOPS: &str = "tidemill-hops";

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
    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

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
