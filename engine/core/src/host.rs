//! What a sandboxed handler may ask of the engine.

use bytes::Bytes;

use crate::{BoxFuture, event::Field, ledger::Object};

/// Bytes `offset` to `offset + length` of an object, cut at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// An event that a handler makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its type.
    pub kind: String,
    /// Its subject.
    pub subject: Option<String>,
    /// The media type of `data`.
    pub datacontenttype: Option<String>,
    /// Its headers.
    pub headers: Vec<Field>,
    /// Its payload.
    pub data: Bytes,
}

/// How much a line of a handler's log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Why a host call failed; the handler is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No such object, or no such store.
    #[error("there is no such thing")]
    NotFound,
    /// The object that triggered is no longer the one that the event tells of.
    #[error("the object changed since the event")]
    Changed,
    /// The function lacks the grant; the text says which line would give it.
    #[error("{0}")]
    Denied(String),
    /// A limit; the text names it.
    #[error("{0}")]
    TooLarge(String),
    /// The store failed.
    #[error("{0}")]
    Failed(String),
}

/// The host side of one attempt. The engine implements it, the sandbox calls it.
///
/// Writes are kept with the attempt until it ends, and reads see them. The sandbox counts what a
/// handler writes against its output limit before it calls.
pub trait HostCalls: Send + Sync {
    /// Whether the function may use this key-value store.
    fn kv_open(&self, store: &str) -> Result<(), HostError>;
    /// The value of a key.
    fn kv_get<'a>(
        &'a self,
        store: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HostError>>;
    /// Sets a key, or deletes it.
    fn kv_set(&self, store: &str, key: &str, value: Option<Bytes>) -> Result<(), HostError>;
    /// The next 1,000 keys that sort after `after`, in order; fewer only if there are no more.
    fn kv_keys<'a>(
        &'a self,
        store: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>, HostError>>;

    /// Describes an object.
    fn object_head<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Object, HostError>>;
    /// Reads an object, of at most `limit` bytes.
    fn object_read<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, HostError>>;
    /// Writes an object, or deletes it.
    fn object_write(
        &self,
        bucket: &str,
        key: &str,
        content: Option<Bytes>,
    ) -> Result<(), HostError>;
    /// At most 1,000 objects with this prefix that sort after `after`, in order.
    fn object_list<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Object>, HostError>>;

    /// Emits an event; returns its id.
    fn emit(&self, event: NewEvent) -> Result<String, HostError>;
    /// Writes a line to the log.
    fn log(&self, level: LogLevel, message: &str, fields: &[Field]);
}

/// The host side of one call for a batch of events. Events are named by their index in the batch.
///
/// Every call of [`HostCalls`] belongs to the event that was begun last. Before the first, the sandbox
/// lets only reads and the log through, and they belong to all events. It lets no index beyond the
/// batch through.
pub trait BatchCalls: HostCalls {
    /// From here on the handler is at this event, which it may have begun before.
    fn begin(&self, event: usize);
    /// Throws away what was emitted and written for this event so far; reads see it no more.
    fn discard(&self, event: usize);
}
