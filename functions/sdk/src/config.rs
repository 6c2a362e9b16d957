//! The function's `env` and `secrets` from the configuration. Only these: no environment variable of the engine is
//! seen.

use std::fmt;

use crate::bindings::wasi::config::store;

/// The value of `name` in the function's `env` or `secrets`.
///
/// # Errors
///
/// The engine could not resolve it, such as a secret whose file is gone.
pub fn get(name: &str) -> Result<Option<String>, Error> {
    store::get(name).map_err(Error)
}

/// All names and values.
///
/// # Errors
///
/// As [`get`].
pub fn get_all() -> Result<Vec<(String, String)>, Error> {
    store::get_all().map_err(Error)
}

/// A value that the engine could not resolve.
#[derive(Clone, Debug)]
pub struct Error(store::Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (store::Error::Upstream(reason) | store::Error::Io(reason)) = &self.0;
        write!(f, "cannot read the function's configuration: {reason}")
    }
}

impl std::error::Error for Error {}
