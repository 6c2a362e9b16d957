//! Usage of attempts that had nothing to commit: kept in memory and written now and then, so that a
//! request that changes nothing costs no fsync. A crash loses the last seconds of the account.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tidemill_journal::{Unit, UsageEntry};
use tokio::sync::Notify;

use super::Dispatcher;

/// How long usage waits for more of it.
const FLUSH: Duration = Duration::from_secs(10);

/// The entries, by function and day.
#[derive(Default)]
pub(super) struct SpareUsage {
    entries: Mutex<BTreeMap<(String, i64), UsageEntry>>,
    /// There is some.
    some: Notify,
}

impl SpareUsage {
    pub(super) fn add(&self, new: UsageEntry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (new.function.clone(), new.day);
        entries
            .entry(place)
            .and_modify(|sum| sum.add(&new))
            .or_insert(new);
        self.some.notify_one();
    }

    fn take(&self) -> Vec<UsageEntry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *entries).into_values().collect()
    }
}

impl Dispatcher {
    /// Writes spare usage a while after there is some, until the engine stops.
    pub(super) async fn account(&self) {
        let wait = async {
            self.spare_usage.some.notified().await;
            tokio::time::sleep(FLUSH).await;
        };
        if self.stop.run_until_cancelled(wait).await.is_some() {
            self.write_usage().await;
        }
    }

    /// Writes the spare usage there is.
    pub(super) async fn write_usage(&self) {
        for entry in self.spare_usage.take() {
            self.commit(Unit {
                usage: Some(entry),
                ..Unit::default()
            })
            .await;
        }
    }
}
