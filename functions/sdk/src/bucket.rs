//! Objects in the buckets that the function was granted (`allow.read`, `allow.write`). Writes and deletes are done
//! after the handler has answered ok, at least once; reads of the same attempt see them at once.

use std::{fmt, ops::Range};

use crate::bindings::tidemill::function::bucket;
pub use crate::{bindings::tidemill::function::bucket::Object, reader::Reader};

/// The bucket of that name in the configuration. Whether the function may use it shows at the first call.
pub fn open(name: impl Into<String>) -> Bucket {
    Bucket { name: name.into() }
}

/// A bucket; see [`open`].
#[derive(Clone, Debug)]
pub struct Bucket {
    name: String,
}

impl Bucket {
    /// The name of the bucket.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of an object without reading it.
    ///
    /// # Errors
    ///
    /// See [`Error`]; so for all that follow.
    pub fn head(&self, key: &str) -> Result<Object, Error> {
        bucket::head(&self.name, key).map_err(|error| self.error(key, error))
    }

    /// Reads a whole object.
    pub fn read(&self, key: &str) -> Result<Vec<u8>, Error> {
        bucket::read(&self.name, key, None).map_err(|error| self.error(key, error))
    }

    /// Reads the bytes from `range.start` to `range.end`, cut at the end of the object.
    pub fn read_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let length = range.end.saturating_sub(range.start);
        let range = bucket::Range {
            offset: range.start,
            length,
        };
        bucket::read(&self.name, key, Some(range)).map_err(|error| self.error(key, error))
    }

    /// A reader of an object that may be larger than the function's memory.
    pub fn reader(&self, key: impl Into<String>) -> Result<Reader, Error> {
        let key = key.into();
        let object = self.head(&key)?;
        Ok(Reader::new(self.clone(), key, object.size))
    }

    /// Writes an object.
    pub fn write(&self, key: &str, content: &[u8]) -> Result<(), Error> {
        bucket::write(&self.name, key, content).map_err(|error| self.error(key, error))
    }

    /// Deletes an object. One that is not there is no error.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        bucket::delete(&self.name, key).map_err(|error| self.error(key, error))
    }

    /// The objects whose keys start with `prefix`, in the order of their keys, without those written in this attempt.
    pub fn list(&self, prefix: impl Into<String>) -> impl Iterator<Item = Result<Object, Error>> {
        List {
            bucket: self.clone(),
            prefix: prefix.into(),
            page: Vec::new().into_iter(),
            next: Next::First,
        }
    }

    fn error(&self, key: &str, error: bucket::Error) -> Error {
        let object = || format!("{}/{key}", self.name);
        match error {
            bucket::Error::NotFound => Error::NotFound(object()),
            bucket::Error::Changed => Error::Changed(object()),
            bucket::Error::Denied(reason) => Error::Denied(reason),
            bucket::Error::TooLarge(reason) => Error::TooLarge(reason),
            bucket::Error::Failed(reason) => Error::Failed(reason),
        }
    }
}

struct List {
    bucket: Bucket,
    prefix: String,
    page: std::vec::IntoIter<Object>,
    next: Next,
}

enum Next {
    First,
    After(String),
    Done,
}

impl Iterator for List {
    type Item = Result<Object, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(object) = self.page.next() {
            return Some(Ok(object));
        }
        let after = match std::mem::replace(&mut self.next, Next::Done) {
            Next::First => None,
            Next::After(key) => Some(key),
            Next::Done => return None,
        };
        match bucket::list(&self.bucket.name, &self.prefix, after.as_deref()) {
            Ok(page) => {
                // A page may be shorter than the engine's limit without being the last, so only an empty one ends.
                if let Some(last) = page.last() {
                    self.next = Next::After(last.key.clone());
                }
                self.page = page.into_iter();
                self.page.next().map(Ok)
            }
            Err(error) => Some(Err(self.bucket.error(&self.prefix, error))),
        }
    }
}

/// Why a bucket did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such object; its bucket and key.
    NotFound(String),
    /// The object that triggered this event is no longer the one that the event tells of; its bucket and key.
    Changed(String),
    /// The function lacks the grant; the text says which line of the configuration would give it.
    Denied(String),
    /// A limit of the engine; the text names it.
    TooLarge(String),
    /// The store failed.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(object) => write!(f, "no object `{object}`"),
            Self::Changed(object) => {
                write!(f, "the object `{object}` has changed since the event")
            }
            Self::Denied(reason) => write!(f, "the bucket may not be used: {reason}"),
            Self::TooLarge(reason) => write!(f, "the object is too large: {reason}"),
            Self::Failed(reason) => write!(f, "the bucket failed: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
