//! The engine's clock: the only place that reads the time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidemill_core::time::Timestamp;

/// Now, by the clock of the machine.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
