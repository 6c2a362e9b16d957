//! What a bucket's connector says of itself, for readiness and metrics. Reading it costs nothing
//! to the connector.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tidemill_core::{ledger::NoticedBy, time::Timestamp};
use tokio::sync::watch;

use super::{
    lag::{Lag, Lags},
    notify::{Tally, Told},
};

/// How new objects are found at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The connector does not run.
    Stopped,
    /// The first scan is under way; changes are noticed already.
    FirstScan,
    /// Changes are noticed at once.
    Watching,
    /// Changes are found by scans only, or some are; the text says why and what to do.
    RescansOnly(String),
    /// An object store: changes are found by listing it, as they always are there.
    Listing,
    /// The object store does not answer, or not as it should; in words. It is asked again.
    Unreachable(String),
    /// The folder is missing. Its objects are not taken for deleted; it is looked for.
    FolderMissing,
}

/// The objects that were noticed since the connector started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// First by a notification.
    pub by_notification: u64,
    /// First by a listing. Those of the first listing are among them.
    pub by_listing: u64,
    /// First by a listing, although there was to be a notification.
    pub missed: u64,
    /// How late objects were noticed after they were written, by the store's clock; the first
    /// listing left out. Absent, there were none.
    pub lag: Option<Lag>,
}

/// A bucket's connector at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How new objects are found.
    pub state: State,
    /// Whether the first scan is done.
    pub ready: bool,
    /// Objects that the last scan found, or the one that is under way has found so far.
    pub objects: u64,
    /// Events that the intake took from this connector.
    pub offered: u64,
    /// How late objects that came or changed were told of.
    pub told_after: Delay,
    /// How late listings found them, but for the first one, which finds what is old.
    pub listed_after: Delay,
    /// Files that cannot be objects, as of the last scan; the log names them.
    pub refused: u64,
    /// Offers that wait because the journal could not take them.
    pub waiting: u64,
    /// What notifications told; absent, none are taken.
    pub told: Option<Told>,
    /// When the last scan ended.
    pub last_scan: Option<Timestamp>,
    /// How long it took.
    pub took: Duration,
    /// What was noticed, and how.
    pub noticed: Noticed,
}

/// How long after they were written objects became events. Stores tell that time in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// How many objects.
    pub objects: u64,
    /// The sum over all of them.
    pub total: Duration,
}

/// A handle on the status of a connector. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: watch::Sender<(State, bool)>,
    objects: AtomicU64,
    offered: AtomicU64,
    told_after: Late,
    listed_after: Late,
    refused: AtomicU64,
    waiting: AtomicU64,
    last_scan: AtomicI64,
    took_ms: AtomicU64,
    by_notification: AtomicU64,
    by_listing: AtomicU64,
    missed: AtomicU64,
    lags: Lags,
    tally: Tally,
}

const NEVER: i64 = i64::MIN;

impl Health {
    pub(super) fn new() -> Health {
        Health(Arc::new(Inner {
            state: watch::Sender::new((State::Stopped, false)),
            objects: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            told_after: Late::default(),
            listed_after: Late::default(),
            refused: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            last_scan: AtomicI64::new(NEVER),
            took_ms: AtomicU64::new(0),
            by_notification: AtomicU64::new(0),
            by_listing: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            lags: Lags::default(),
            tally: Tally::default(),
        }))
    }

    /// The status now.
    pub fn status(&self) -> Status {
        let (state, ready) = self.0.state.borrow().clone();
        let last_scan = self.0.last_scan.load(Relaxed);
        Status {
            state,
            ready,
            objects: self.0.objects.load(Relaxed),
            offered: self.0.offered.load(Relaxed),
            told_after: self.0.told_after.delay(),
            listed_after: self.0.listed_after.delay(),
            refused: self.0.refused.load(Relaxed),
            waiting: self.0.waiting.load(Relaxed),
            told: self.0.tally.told(),
            last_scan: (last_scan != NEVER).then_some(Timestamp(last_scan)),
            took: Duration::from_millis(self.0.took_ms.load(Relaxed)),
            noticed: Noticed {
                by_notification: self.0.by_notification.load(Relaxed),
                by_listing: self.0.by_listing.load(Relaxed),
                missed: self.0.missed.load(Relaxed),
                lag: self.0.lags.lag(),
            },
        }
    }

    /// Whether the first listing is through.
    pub(super) fn ready(&self) -> bool {
        self.0.state.borrow().1
    }

    /// Waits until state and readiness are as wanted.
    pub async fn reached(&self, mut wanted: impl FnMut(&State, bool) -> bool) {
        let mut changes = self.0.state.subscribe();
        // The sender lives as long as this handle.
        let _ = changes
            .wait_for(|(state, ready)| wanted(state, *ready))
            .await;
    }

    /// Sets the state; returns whether it is another one.
    pub(super) fn set(&self, state: State) -> bool {
        self.0.state.send_if_modified(|(now, _)| {
            let other = *now != state;
            *now = state;
            other
        })
    }

    pub(super) fn scanned(&self, at: Timestamp, took: Duration, refused: u64) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.0.took_ms.store(took, Relaxed);
        self.0.refused.store(refused, Relaxed);
        self.0.last_scan.store(at.0, Relaxed);
        self.0
            .state
            .send_if_modified(|(_, ready)| !std::mem::replace(ready, true));
    }

    pub(super) fn found(&self, objects: u64) {
        self.0.objects.store(objects, Relaxed);
    }

    /// Counts an event that was taken: of an object that was written so long ago, if it is there.
    pub(super) fn offered(&self, by: NoticedBy, age: Option<Duration>) {
        self.0.offered.fetch_add(1, Relaxed);
        let Some(age) = age else { return };
        let watching = self.0.state.borrow().0 == State::Watching;
        match by {
            NoticedBy::Notification => {
                self.0.by_notification.fetch_add(1, Relaxed);
                self.0.told_after.add(age);
            }
            NoticedBy::FirstListing => {
                self.0.by_listing.fetch_add(1, Relaxed);
                return;
            }
            NoticedBy::Listing => {
                self.0.by_listing.fetch_add(1, Relaxed);
                self.0.listed_after.add(age);
                let told = watching || self.0.tally.told().is_some();
                self.0.missed.fetch_add(told.into(), Relaxed);
            }
        }
        self.0.lags.add(age);
    }

    pub(super) fn refused(&self) {
        self.0.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Counts an offer as waiting until the guard is dropped.
    pub(super) fn wait(&self) -> Waiting {
        self.0.waiting.fetch_add(1, Relaxed);
        Waiting(self.clone())
    }
}

/// The makings of a [`Delay`].
#[derive(Debug, Default)]
struct Late {
    objects: AtomicU64,
    millis: AtomicU64,
}

impl Late {
    fn add(&self, age: Duration) {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.objects.fetch_add(1, Relaxed);
        self.millis.fetch_add(millis, Relaxed);
    }

    fn delay(&self) -> Delay {
        Delay {
            objects: self.objects.load(Relaxed),
            total: Duration::from_millis(self.millis.load(Relaxed)),
        }
    }
}

/// An offer that waits.
pub(super) struct Waiting(Health);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Relaxed);
    }
}
