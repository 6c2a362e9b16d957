//! What is counted of notifications.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What came of notifications so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Records of changes of the bucket's objects.
    pub records: u64,
    /// Records of other buckets, or of what lies outside the prefix of the bucket's URL.
    pub elsewhere: u64,
    /// Records of what changes no object, and messages with which a store tries whether it may send.
    pub others: u64,
    /// Messages that no object store wrote.
    pub strange: u64,
    /// Why none come at the moment; in words.
    pub trouble: Option<String>,
}

#[derive(Debug, Default)]
pub(in crate::bucket) struct Tally {
    records: AtomicU64,
    elsewhere: AtomicU64,
    others: AtomicU64,
    strange: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether notifications are taken.
    on: bool,
    /// What keeps them from coming.
    coming: Option<String>,
    /// What keeps the objects that they tell of from being looked at.
    looking: Option<String>,
}

impl Tally {
    /// The counts now; absent, no notifications are taken.
    pub(in crate::bucket) fn told(&self) -> Option<Told> {
        let state = self.state();
        state.on.then(|| Told {
            records: self.records.load(Relaxed),
            elsewhere: self.elsewhere.load(Relaxed),
            others: self.others.load(Relaxed),
            strange: self.strange.load(Relaxed),
            trouble: state.coming.clone().or_else(|| state.looking.clone()),
        })
    }

    pub(super) fn begins(&self) {
        self.state().on = true;
    }

    pub(super) fn took(&self, records: usize, elsewhere: usize, others: usize) {
        self.records.fetch_add(records as u64, Relaxed);
        self.elsewhere.fetch_add(elsewhere as u64, Relaxed);
        self.others.fetch_add(others as u64, Relaxed);
    }

    pub(super) fn strange(&self) {
        self.strange.fetch_add(1, Relaxed);
    }

    /// Notes what keeps notifications from coming, and tells if it is news.
    pub(super) fn none_come(&self, bucket: &str, why: &str) {
        let trouble = &mut self.state().coming;
        if trouble.as_deref() != Some(why) {
            tracing::warn!(
                bucket,
                "notifications: {why}; it is tried again, and listings find what they miss"
            );
            *trouble = Some(why.to_owned());
        }
    }

    /// Notes that they come.
    pub(super) fn they_come(&self, bucket: &str) {
        if self.state().coming.take().is_some() {
            tracing::info!(bucket, "notifications come again");
        }
    }

    /// Notes what keeps objects from being looked at, and tells of the first one.
    pub(super) fn looks_in_vain(&self, bucket: &str, why: &str) {
        let trouble = &mut self.state().looking;
        if trouble.is_none() {
            tracing::warn!(
                bucket,
                "{why}; until the store answers, its notifications wait"
            );
        }
        *trouble = Some(why.to_owned());
    }

    /// Notes that one was looked at.
    pub(super) fn looked(&self, bucket: &str) {
        if self.state().looking.take().is_some() {
            tracing::info!(bucket, "the store answers again");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
