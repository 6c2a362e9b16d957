//! What keeps a message from being the CloudEvent that it says it is, in words for its sender.

use std::fmt;

use tidemill_core::limits;

/// How much of what was found is shown, in characters.
const SHOWN: usize = 64;

/// A message says that it is a CloudEvent, but it is not one that can be taken. Attributes are
/// named as they were in the message, such as `ce-id`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A required attribute is not there, or empty.
    #[error(
        "the CloudEvent has no `{0}`; specversion, id, source and type must be there and not be empty"
    )]
    Missing(&'static str),
    /// An attribute is not what it must be.
    #[error("`{attribute}` of the CloudEvent is {found}; expected {expected}")]
    Wrong {
        /// The attribute.
        attribute: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// An attribute is there more than once.
    #[error("the CloudEvent has more than one `{0}`; send each attribute once")]
    Twice(String),
    /// The name of an attribute is not one.
    #[error(
        "the CloudEvent has an attribute {}; names have lower-case letters a-z and digits only, at most {} of them, and none is `data`", Shown(.0), limits::ATTRIBUTE_NAME
    )]
    Name(String),
    /// An attribute is longer than [`limits::ATTRIBUTE`].
    #[error(
        "`{attribute}` of the CloudEvent has {length} bytes; expected at most {}",
        limits::ATTRIBUTE
    )]
    TooLong {
        /// The attribute.
        attribute: String,
        /// Its length in bytes.
        length: usize,
    },
    /// There are more than [`limits::EXTENSIONS`].
    #[error(
        "the CloudEvent has more than {} extension attributes",
        limits::EXTENSIONS
    )]
    TooMany,
    /// Data is there in both forms.
    #[error("the CloudEvent has both `data` and `data_base64`; expected one of them")]
    TwoData,
    /// The structured event is not a JSON object.
    #[error("the CloudEvent is not a JSON object: {0}")]
    Json(String),
    /// It is a batch.
    #[error("batches of CloudEvents are not taken; send each event in a message of its own")]
    Batch,
    /// The structured event is in a format that is not read.
    #[error(
        "CloudEvents in the format {} are not read; send application/cloudevents+json, or the attributes as headers", Shown(.0)
    )]
    Format(String),
}

impl Broken {
    pub(super) fn wrong(
        attribute: &str,
        found: impl fmt::Display,
        expected: &'static str,
    ) -> Broken {
        Broken::Wrong {
            attribute: attribute.to_owned(),
            found: found.to_string(),
            expected,
        }
    }
}

/// A text from outside in quotes, cut if it is long.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}
