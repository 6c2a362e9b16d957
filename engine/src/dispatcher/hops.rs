//! The hops of objects on their way from a handler's write to the event that the write becomes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The objects that the engine is writing or has just written, with their hops, until the commit
/// has brought them to the ledger. A watcher may notice an object before its commit.
#[derive(Default)]
pub struct HopMemory(Mutex<HashMap<(String, String), u32>>);

impl HopMemory {
    /// Remembers an object that is about to be written.
    pub fn announce(&self, bucket: &str, key: &str, hops: u32) {
        self.lock()
            .insert((bucket.to_owned(), key.to_owned()), hops);
    }

    /// Forgets it: the ledger has it.
    pub fn forget(&self, bucket: &str, key: &str) {
        self.lock().remove(&(bucket.to_owned(), key.to_owned()));
    }

    /// The hops of an object, if the engine is writing it.
    pub fn get(&self, bucket: &str, key: &str) -> Option<u32> {
        self.lock()
            .get(&(bucket.to_owned(), key.to_owned()))
            .copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
