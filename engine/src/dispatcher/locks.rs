//! Locks on keys, for attempts whose reads were overtaken.
//!
//! Attempts run without locks; the journal notices at the commit when a key changed between read
//! and write. An attempt that lost such a race runs again holding the locks of the keys it touched,
//! and every attempt without locks waits for them before it reads such a key. Whoever waits while
//! reading holds nothing, and whoever acquires does so in the order of the keys, so nobody waits in
//! a circle.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// A store and a key.
pub type StoreKey = (String, String);

type Table = Mutex<HashMap<StoreKey, Arc<AsyncMutex<()>>>>;

/// All locks that somebody holds or waits for.
#[derive(Clone, Default)]
pub struct KeyLocks {
    table: Arc<Table>,
}

/// Locks held; they go when it is dropped.
pub struct HeldKeys {
    table: Arc<Table>,
    held: Vec<(StoreKey, OwnedMutexGuard<()>)>,
}

impl KeyLocks {
    /// Waits until all these keys are free, and takes them.
    pub async fn acquire(&self, keys: BTreeSet<StoreKey>) -> HeldKeys {
        let mut all = HeldKeys {
            table: self.table.clone(),
            held: Vec::new(),
        };
        for key in keys {
            let lock = lock_table(&self.table)
                .entry(key.clone())
                .or_default()
                .clone();
            all.held.push((key, lock.lock_owned().await));
        }
        all
    }

    /// Waits until nobody holds the key.
    pub async fn until_free(&self, store: &str, key: &str) {
        let lock = {
            let table = lock_table(&self.table);
            if table.is_empty() {
                return;
            }
            table.get(&(store.to_owned(), key.to_owned())).cloned()
        };
        if let Some(lock) = lock {
            drop(lock.lock().await);
        }
    }
}

impl Drop for HeldKeys {
    fn drop(&mut self) {
        let mut table = lock_table(&self.table);
        for (key, guard) in self.held.drain(..) {
            drop(guard);
            // One reference is the table's own; without another nobody waits.
            if table
                .get(&key)
                .is_some_and(|lock| Arc::strong_count(lock) == 1)
            {
                table.remove(&key);
            }
        }
    }
}

fn lock_table(table: &Table) -> std::sync::MutexGuard<'_, HashMap<StoreKey, Arc<AsyncMutex<()>>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<StoreKey> {
        names
            .iter()
            .map(|name| ("store".to_owned(), (*name).to_owned()))
            .collect()
    }

    #[tokio::test]
    async fn excludes_and_leaves_nothing_behind() {
        let locks = KeyLocks::default();
        let inside = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..100 {
            let (locks, inside) = (locks.clone(), inside.clone());
            tasks.spawn(async move {
                let wanted = if n % 2 == 0 {
                    keys(&["a", "b"])
                } else {
                    keys(&["b", "c"])
                };
                let _held = locks.acquire(wanted).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "`b` is held once");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert!(lock_table(&locks.table).is_empty());
    }

    #[tokio::test]
    async fn a_reader_waits_for_the_holder() {
        let locks = KeyLocks::default();
        let held = locks.acquire(keys(&["a"])).await;
        locks.until_free("store", "b").await;
        let reader = locks.clone();
        let reading = tokio::spawn(async move { reader.until_free("store", "a").await });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        drop(held);
        reading.await.unwrap();
    }
}
