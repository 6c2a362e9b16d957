//! Time. `std::time::SystemTime::now` and `Instant::now` do not exist in the sandbox; these do.

use std::time::Duration;

use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};

/// The time of day, since the Unix epoch. It may jump when the machine's clock is set.
pub fn now() -> Duration {
    let now = wall_clock::now();
    Duration::new(now.seconds, now.nanoseconds)
}

/// The time since some moment in the past. It never goes back, so differences of it measure.
pub fn monotonic() -> Duration {
    Duration::from_nanos(monotonic_clock::now())
}

/// Waits. The engine runs other handlers meanwhile; the function's `timeout` goes on.
pub fn sleep(time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    monotonic_clock::subscribe_duration(nanos).block();
}
