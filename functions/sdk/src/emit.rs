//! Events that the handler makes. They become real, once, when the handler has answered ok.

use std::fmt;

use crate::bindings::tidemill::function::emit;

/// Begins an event of this type; [`send`](NewEvent::send) ends it.
///
/// ```no_run
/// # fn handler() -> Result<(), tidemill_sdk::Failure> {
/// tidemill_sdk::emit::event("thumbnail.made").subject("a.jpg").data("tiny").send()?;
/// # Ok(()) }
/// ```
pub fn event(event_type: impl Into<String>) -> NewEvent {
    NewEvent(Ok(emit::NewEvent {
        type_: event_type.into(),
        subject: None,
        datacontenttype: None,
        headers: Vec::new(),
        data: Vec::new(),
    }))
}

/// An event in the making.
#[derive(Clone, Debug)]
#[must_use = "an event is emitted by `send`"]
pub struct NewEvent(Result<emit::NewEvent, Error>);

impl NewEvent {
    fn with(mut self, change: impl FnOnce(&mut emit::NewEvent)) -> Self {
        if let Ok(event) = &mut self.0 {
            change(event);
        }
        self
    }

    /// What it happened to.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.with(|event| event.subject = Some(subject.into()))
    }

    /// The media type of the data.
    pub fn datacontenttype(self, media_type: impl Into<String>) -> Self {
        self.with(|event| event.datacontenttype = Some(media_type.into()))
    }

    /// Adds a header.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|event| event.headers.push((name.into(), value.into())))
    }

    /// The payload.
    pub fn data(self, data: impl Into<Vec<u8>>) -> Self {
        self.with(|event| event.data = data.into())
    }

    /// The payload as JSON, and the media type that says so.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(data) => self.data(data).datacontenttype("application/json"),
            Err(error) => Self(self.0.and(Err(Error::Json(error.to_string())))),
        }
    }

    /// Emits the event and gives its id.
    ///
    /// # Errors
    ///
    /// The type is not granted (`allow.emit`), a limit of the engine, or a value that JSON cannot hold.
    pub fn send(self) -> Result<String, Error> {
        Ok(emit::emit(&self.0?)?)
    }
}

/// Why an event was not emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The function lacks the grant; the text says which line of the configuration would give it.
    Denied(String),
    /// A limit of the engine; the text names it.
    TooLarge(String),
    /// The value cannot be written as JSON.
    Json(String),
}

impl From<emit::Error> for Error {
    fn from(error: emit::Error) -> Self {
        match error {
            emit::Error::Denied(line) => Self::Denied(line),
            emit::Error::TooLarge(limit) => Self::TooLarge(limit),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => write!(f, "the event may not be emitted: {reason}"),
            Self::TooLarge(reason) => write!(f, "the event is too large: {reason}"),
            Self::Json(reason) => write!(f, "the event's data cannot be JSON: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
