//! The key-value stores that the function was granted (`allow.store`). Writes take effect, all at once, when the
//! handler has answered ok; if a key that was read has been written by another delivery meanwhile, the engine runs
//! the handler again, so that plain reading and writing is safe.

use std::fmt;

use crate::bindings::wasi::keyvalue::{atomics, batch, store};

/// Opens a store.
///
/// # Errors
///
/// See [`Error`]; so for all that follow.
pub fn open(name: &str) -> Result<Store, Error> {
    let handle = store::open(name).map_err(|error| Error::new(name, error))?;
    Ok(Store {
        name: name.to_owned(),
        handle,
    })
}

/// A key and its value, `None` if there is none.
pub type Found = (String, Option<Vec<u8>>);

/// A store; see [`open`].
#[derive(Debug)]
pub struct Store {
    name: String,
    handle: store::Bucket,
}

impl Store {
    /// The value of a key, `None` if there is none.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.check(self.handle.get(key))
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.check(self.handle.set(key, value.as_ref()))
    }

    /// Deletes a key. One that is not there is no error.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.check(self.handle.delete(key))
    }

    /// Whether a key is there.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.check(self.handle.exists(key))
    }

    /// Adds `delta` to the number that a key holds, 0 if there is none, and gives the sum.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        self.check(atomics::increment(&self.handle, key, delta))
    }

    /// The values of many keys, in one call and in their order.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Found>, Error> {
        self.check(batch::get_many(&self.handle, keys))
    }

    /// Sets many keys in one call.
    pub fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Error> {
        self.check(batch::set_many(&self.handle, pairs))
    }

    /// Deletes many keys in one call.
    pub fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        self.check(batch::delete_many(&self.handle, keys))
    }

    /// All keys, page by page, in no order.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.check(self.handle.list_keys(cursor.as_deref()))?;
            keys.extend(page.keys);
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(keys),
            }
        }
    }

    /// Begins to compare and swap: the handle stands for the value that the key has now.
    pub fn cas(&self, key: &str) -> Result<Cas<'_>, Error> {
        let handle = self.check(atomics::Cas::new(&self.handle, key))?;
        Ok(Cas {
            store: self,
            handle,
        })
    }

    /// Makes the value of a key out of the one it has, again until no one came in between.
    ///
    /// ```no_run
    /// # fn handler() -> Result<(), tidemill_sdk::Failure> {
    /// tidemill_sdk::kv::open("notes")?.update("log", |old| [old.unwrap_or_default(), b"more".to_vec()].concat())?;
    /// # Ok(()) }
    /// ```
    pub fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<(), Error> {
        let mut cas = self.cas(key)?;
        loop {
            let value = change(cas.current()?);
            match cas.swap(&value)? {
                Swap::Done => return Ok(()),
                Swap::Stale(fresh) => cas = fresh,
            }
        }
    }

    fn check<T>(&self, result: Result<T, store::Error>) -> Result<T, Error> {
        result.map_err(|error| Error::new(&self.name, error))
    }
}

/// A compare-and-swap in progress; see [`Store::cas`].
#[derive(Debug)]
pub struct Cas<'a> {
    store: &'a Store,
    handle: atomics::Cas,
}

impl<'a> Cas<'a> {
    /// The value that the key has, `None` if there is none.
    pub fn current(&self) -> Result<Option<Vec<u8>>, Error> {
        self.store.check(self.handle.current())
    }

    /// Sets the key to `value` if no one has written it since this handle was made.
    pub fn swap(self, value: &[u8]) -> Result<Swap<'a>, Error> {
        match atomics::swap(self.handle, value) {
            Ok(()) => Ok(Swap::Done),
            Err(atomics::CasError::CasFailed(handle)) => Ok(Swap::Stale(Cas {
                store: self.store,
                handle,
            })),
            Err(atomics::CasError::StoreError(error)) => self.store.check(Err(error)),
        }
    }
}

/// How a [`Cas::swap`] ended.
#[derive(Debug)]
#[must_use = "a swap may not have been done"]
pub enum Swap<'a> {
    /// The value was set.
    Done,
    /// Someone else wrote the key; with the handle for another try.
    Stale(Cas<'a>),
}

/// Why a store did not do what it was asked. Each names the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The engine knows no store of that name.
    NoSuchStore(String),
    /// The function was not granted the store.
    Denied(String),
    /// The store failed: its name and the reason.
    Failed(String, String),
}

impl Error {
    fn new(name: &str, error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchStore(name.to_owned()),
            store::Error::AccessDenied => Self::Denied(name.to_owned()),
            store::Error::Other(reason) => Self::Failed(name.to_owned(), reason),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStore(name) => write!(f, "no store `{name}`"),
            Self::Denied(name) => write!(
                f,
                "the store `{name}` may not be used: add it to the function's allow.store"
            ),
            Self::Failed(name, reason) => write!(f, "the store `{name}` failed: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
