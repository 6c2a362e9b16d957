//! Buckets: folders whose files are objects.
//!
//! [`Bucket`] reads and writes objects. [`BucketConnector`] is the source: it watches and scans a
//! bucket and offers an event for every object that comes, changes or goes. [`AfterHandling`] is
//! the destination: it deletes or moves objects that were handled.
//!
//! What is promised of the source: every version of an object that was closed, or renamed into
//! place, and stayed, is offered exactly once, whatever is missed, repeated or interrupted on the
//! way, because the ledger moves in the commit of the event. Versions that were overwritten or
//! deleted before they were looked at may make no event.

mod after;
mod clock;
mod copy;
mod error;
mod guard;
mod health;
mod hints;
mod key;
mod list;
mod observe;
mod open;
mod pending;
mod plan;
mod report;
mod rescan;
mod scan;
mod source;
mod store;
mod tuning;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tidemill_core::intake::Intake;
use tokio_util::sync::CancellationToken;

pub use after::{AfterHandling, BeforeWrite};
pub use error::Error;
pub use health::{Health, State, Status};
pub use key::Refusal;
pub use open::OpenError;
pub use plan::Settings;
pub use store::Bucket;

use observe::Observer;
use source::Source;
use tuning::Tuning;

/// The source of a bucket's events.
#[derive(Debug)]
pub struct BucketConnector {
    bucket: Bucket,
    rescan: Duration,
    tuning: Tuning,
    health: Health,
}

impl BucketConnector {
    /// A connector that lists the whole bucket `rescan` after it last did.
    pub fn new(bucket: Bucket, rescan: Duration) -> BucketConnector {
        BucketConnector {
            bucket,
            rescan,
            tuning: Tuning::STANDARD,
            health: Health::new(),
        }
    }

    /// What the connector says of itself.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Offers events until `stop` is cancelled or the intake says that the engine stops. Offers that
    /// have no receipt by then may or may not be durable; the next run finds out.
    pub async fn run(self, intake: Arc<dyn Intake>, stop: CancellationToken) {
        let observer = Observer {
            bucket: self.bucket,
            intake,
            health: self.health,
            tuning: self.tuning,
        };
        Source::new(observer, self.rescan).run(stop).await;
    }
}
