//! What a handler answers. Without a waiting client the body goes to the trigger's `on_success`.

use crate::bindings::tidemill::function::types;

/// An answer with a body: to the client of a sync HTTP trigger, otherwise to `on_success`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// A reply without a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// A reply with this body.
    pub fn of(body: impl Into<Vec<u8>>) -> Self {
        Self::new().body(body)
    }

    /// A reply with `value` as JSON, and the header that says so.
    ///
    /// # Errors
    ///
    /// A value that JSON cannot hold, such as a map whose keys are not strings.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let reply = Self::of(serde_json::to_vec(value)?);
        Ok(reply.header("content-type", "application/json"))
    }

    /// Sets the HTTP status. Default 200, and 204 without a body.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

impl From<Reply> for types::Reply {
    fn from(
        Reply {
            status,
            headers,
            body,
        }: Reply,
    ) -> Self {
        Self {
            status,
            headers,
            body,
        }
    }
}

/// What a handler may return: nothing, a [`Reply`], perhaps a reply, text or bytes.
pub trait IntoReply {
    /// The reply, if there is one.
    fn into_reply(self) -> Option<Reply>;
}

impl IntoReply for () {
    fn into_reply(self) -> Option<Reply> {
        None
    }
}

impl IntoReply for Reply {
    fn into_reply(self) -> Option<Reply> {
        Some(self)
    }
}

impl<T: IntoReply> IntoReply for Option<T> {
    fn into_reply(self) -> Option<Reply> {
        self.and_then(T::into_reply)
    }
}

impl IntoReply for Vec<u8> {
    fn into_reply(self) -> Option<Reply> {
        Some(Reply::of(self).header("content-type", "application/octet-stream"))
    }
}

impl IntoReply for String {
    fn into_reply(self) -> Option<Reply> {
        Some(Reply::of(self).header("content-type", "text/plain; charset=utf-8"))
    }
}

impl IntoReply for &str {
    fn into_reply(self) -> Option<Reply> {
        self.to_owned().into_reply()
    }
}
