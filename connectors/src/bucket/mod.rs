//! Buckets: folders whose files are objects, and buckets of object stores.
//!
//! [`Bucket`] reads and writes objects. [`BucketConnector`] is the source: it watches and scans a
//! bucket and offers an event for every object that comes, changes or goes. [`BucketDestination`] is
//! the destination: it deletes or moves objects that were handled, and writes replies and dead letters.
//!
//! What is promised of the source: every version of an object that was closed, or renamed into
//! place, and stayed, is offered exactly once, whatever is missed, repeated or interrupted on the
//! way, because the ledger moves in the commit of the event. Versions that were overwritten or
//! deleted before they were looked at may make no event.
//!
//! What a user of `s3://`, `gs://` and `az://` buckets should know:
//!
//! - They are listed every `rescan`, which is how objects are found that came, changed or went. A
//!   listing costs one request for each 1,000 objects, and each object that is news one more.
//! - With `notify`, an `s3://` bucket also takes the event records that its store sends: an object is
//!   handled as soon as it is told of. A record is only a hint where to look, so it may come
//!   late, twice, out of order or never: the listing finds what nobody told of. Objects that change
//!   between two looks make one event.
//! - A version is an etag: the same bytes written over themselves are no news.
//! - Keys are paths of names joined by single slashes: object_store cannot ask for others, such as
//!   `/a`, `a//b` or `a/../b`. They are reported once. Keys that end in a slash stand for folders
//!   in consoles, and are passed over.
//! - The hop count travels with each object that the engine writes, in its metadata.
//!
//! What a user of `file:` buckets should know:
//!
//! - A file is offered when its writer closes it or renames it into place. Otherwise (it was there
//!   before, came with a folder, is a link) when its size and modification time stood still for 2 s;
//!   if somebody was seen to write it and has not closed it, for 60 s.
//! - Every regular file is an object, hidden and temporary names included. Writers that do not want
//!   half of a file handled keep it open, or write elsewhere and rename.
//! - Two versions of equal length written in place within one tick of the kernel's clock (at most
//!   10 ms) are one version. Writers that replace by rename are told apart always.
//! - A file written by another of its hard-linked names is noticed by the next rescan.
//! - Symlinks to files inside the bucket are objects; those to folders are not entered, and those
//!   that lead out are refused. Pipes, sockets and devices are no objects. All are reported once.
//! - Folders are not objects and make no events; deleting the last object of one leaves it.
//! - Network file systems tell nobody of changes made elsewhere: there, rescans do the work.
//! - A rescan of 200,000 files costs about 2 s of one core; `rescan` counts from its end.

mod copy;
mod destination;
mod error;
mod folder;
mod guard;
mod health;
mod hints;
mod key;
mod known;
mod lag;
mod list;
mod notice;
mod notify;
mod observe;
mod open;
mod pending;
mod plan;
mod poll;
mod remote;
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

use tidemill_config::plan::Notify;
use tidemill_core::intake::Ledgers;
use tokio_util::sync::CancellationToken;

pub use destination::{BeforeWrite, BucketDestination};
pub use error::Error;
pub use health::{Delay, Health, Noticed, State, Status};
pub use key::Refusal;
pub use lag::Lag;
pub use notify::{Hook, Told, Verdict};
pub use open::OpenError;
pub use plan::{Place, Settings};
pub use remote::{ProfileError, RemoteSettings, Traffic};
pub use store::Bucket;

use notify::{Feed, Notices, Sqs, hook};
use observe::Observer;
use poll::Poll;
use source::Source;
use tuning::Tuning;

/// The source of a bucket's events.
#[derive(Debug)]
pub struct BucketConnector {
    bucket: Bucket,
    rescan: Duration,
    only_new: bool,
    feed: Option<Feed>,
    tuning: Tuning,
    health: Health,
}

impl BucketConnector {
    /// A connector that lists the whole bucket `rescan` after it last did.
    pub fn new(bucket: Bucket, rescan: Duration) -> BucketConnector {
        BucketConnector {
            bucket,
            rescan,
            only_new: false,
            feed: None,
            tuning: Tuning::STANDARD,
            health: Health::new(),
        }
    }

    /// Whether what is there when the bucket is listened to for the first time is no news: it goes
    /// into the ledger without events.
    pub fn only_new(self, only_new: bool) -> BucketConnector {
        BucketConnector { only_new, ..self }
    }

    /// The same, which also fetches the notifications that the store sends to a queue of SQS. Looks
    /// references of the plan up; asks nobody.
    pub fn notified(mut self, notify: &Notify) -> Result<BucketConnector, OpenError> {
        if let (Some(remote), Notify::Sqs { queue, region }) = (self.bucket.remote(), notify) {
            self.feed = Some(Feed::Sqs(Sqs::new(remote, queue, region.as_ref())?));
        }
        Ok(self)
    }

    /// The same, which also takes the notifications that are handed over by the hook.
    pub fn hooked(mut self) -> (BucketConnector, Hook) {
        let (hook, catch) = hook();
        self.feed = Some(Feed::Hook(catch));
        (self, hook)
    }

    /// Tries the queue that its notifications come by, if it fetches them itself; an error is in words.
    pub async fn try_out(&self) -> Result<(), String> {
        match &self.feed {
            Some(Feed::Sqs(sqs)) => sqs.try_out().await,
            Some(Feed::Hook(_)) | None => Ok(()),
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// What the connector says of itself.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Offers events until `stop` is cancelled or the intake says that the engine stops. Offers that
    /// have no receipt by then may or may not be durable; the next run finds out.
    pub async fn run(self, intake: Arc<dyn Ledgers>, stop: CancellationToken) {
        let observer = Observer {
            bucket: self.bucket.clone(),
            intake,
            health: self.health,
            tuning: self.tuning,
            only_new: self.only_new,
            forgotten: Arc::default(),
            turns: Arc::default(),
        };
        if let Some(folder) = self.bucket.folder() {
            let source = Source::new(observer, folder.clone(), self.rescan);
            source.run(stop).await;
        } else if let Some(remote) = self.bucket.remote() {
            let poll = Poll::new(observer, remote.clone(), self.rescan);
            let Some(feed) = self.feed else {
                return poll.run(stop).await;
            };
            let notices = Notices::new(poll.observer(), remote.clone());
            let stopped = stop.child_token();
            let polled = async {
                poll.run(stop).await;
                stopped.cancel();
            };
            tokio::join!(polled, feed.run(notices, stopped.clone()));
        }
    }
}
