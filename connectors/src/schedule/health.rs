//! What a schedule's connector says of itself, for readiness and metrics. Reading it costs nothing
//! to the connector.

use std::sync::Arc;

use tidemill_core::time::Timestamp;
use tokio::sync::watch;

/// A schedule's connector at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it runs, and has dealt with what was due when it began.
    pub ready: bool,
    /// Why it does not tick at the moment.
    pub trouble: Option<String>,
    /// Its next tick, before jitter; absent, there is none, or it is not known yet.
    pub next: Option<Timestamp>,
    /// Ticks that the intake took.
    pub offered: u64,
    /// Ticks that were left out because the one before was not done.
    pub skipped: u64,
    /// Ticks that were missed and do not run; of many at a time, the first are not counted.
    pub missed: u64,
}

/// A handle on the status of a connector. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<Status>>);

impl Health {
    pub(super) fn new() -> Health {
        Health(Arc::new(watch::Sender::new(Status::default())))
    }

    /// The status now.
    pub fn status(&self) -> Status {
        self.0.borrow().clone()
    }

    /// Waits until the status is as wanted.
    pub async fn reached(&self, mut wanted: impl FnMut(&Status) -> bool) {
        // The sender lives as long as this handle.
        let _ = self.0.subscribe().wait_for(|status| wanted(status)).await;
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        self.0.send_modify(change);
    }
}
