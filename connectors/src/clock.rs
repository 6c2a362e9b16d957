//! The wall clock.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use tidemill_core::time::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    DateTime::<Utc>::from(SystemTime::now()).into()
}
