//! Which identities the journal may hold: of one that it certainly does not, nobody need ask SQLite. Almost all
//! that come are new, so this answers nearly every question whether an event came before.
//!
//! A Bloom filter in memory: what it says is new is new; of the rest, SQLite knows. It is filled by the
//! writer, before what it adds is durable, and at the start by a thread that reads what is there. Until that has
//! seen all, everything may be held. A filter does not forget and does not grow: when it has been
//! given too many, the next one is filled likewise and takes its place.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use fastbloom::AtomicBloomFilter;
use rusqlite::{Connection, params};
use tidemill_core::{identity::DeliveryId, limits};

use super::{lock, open, queries::Id, spawn};
use crate::{Settle, Unit};

/// How many the first filter is for, which takes 320 KiB; the next one is for twice as many as the last was given.
/// Tests outgrow theirs.
const FIRST: usize = if cfg!(test) { 64 } else { 1 << 18 };

/// Bits for each: of a hundred new ones, one is taken for one that may be held.
const BITS: usize = 10;

/// How many are read at a time: so that no reader keeps the log of changes from being carried over.
const PAGE: i64 = 4096;

/// The identities of all deliveries that the journal holds or remembers, and maybe of some that it does not.
#[derive(Default)]
pub struct Known {
    filters: RwLock<Filters>,
    scan: Mutex<Option<JoinHandle<()>>>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Filters {
    /// It was given all.
    whole: Option<Arc<Filter>>,
    /// It is being given what is there.
    next: Option<Arc<Filter>>,
}

impl Filters {
    /// For how many the next filter is to be, if it is time to begin it.
    fn wanted(&self) -> Option<usize> {
        match (&self.next, &self.whole) {
            (Some(_), _) => None,
            (None, None) => Some(FIRST),
            (None, Some(whole)) => whole.outgrown(),
        }
    }
}

struct Filter {
    bits: AtomicBloomFilter,
    /// How many it is for.
    size: usize,
    added: AtomicUsize,
    /// How many it had when it was given all.
    found: AtomicUsize,
}

impl Filter {
    fn new(size: usize) -> Filter {
        Filter {
            bits: AtomicBloomFilter::with_num_bits(size * BITS).expected_items(size),
            size,
            added: AtomicUsize::new(0),
            found: AtomicUsize::new(0),
        }
    }

    /// For how many the next one is to be, if it is time for that. There is no larger one than the largest: that is
    /// filled anew when as many were added as it had, for by then others may have expired.
    fn outgrown(&self) -> Option<usize> {
        let added = self.added.load(Ordering::Relaxed);
        let enough = match self.size < limits::KNOWN_IDS {
            true => self.size,
            false => self.size.max(2 * self.found.load(Ordering::Relaxed)),
        };
        (added > enough).then(|| (2 * added).min(limits::KNOWN_IDS))
    }

    fn add(&self, id: DeliveryId) {
        self.bits.insert(&id.0);
        self.added.fetch_add(1, Ordering::Relaxed);
    }
}

impl Known {
    /// Whether the journal may hold or remember this one.
    pub fn may_hold(&self, id: DeliveryId) -> bool {
        let whole = &self.read().whole;
        whole
            .as_ref()
            .is_none_or(|filter| filter.bits.contains(&id.0))
    }

    /// The journal is about to hold or remember what the unit adds.
    pub fn add(&self, unit: &Unit) {
        let accepted = unit.accept.iter().flat_map(|one| &one.deliveries);
        let redriven = unit.settle.iter().filter_map(|settle| match settle {
            Settle::Redrive { new, .. } => Some(new),
            _ => None,
        });
        let new = accepted.chain(redriven).map(|new| new.id);
        let remembered = unit.event_ids.iter().map(|id| id.delivery);
        let filters = self.read();
        for id in new.chain(remembered) {
            for filter in [&filters.whole, &filters.next].into_iter().flatten() {
                filter.add(id);
            }
        }
    }

    /// Begins the next filter, if the one there has had more than it is for, or there is none. To be called by
    /// whoever writes, and between what is written: all that is added afterwards goes to it, too.
    pub fn keep_up(self: &Arc<Known>, path: &Path) {
        let Some(size) = self.read().wanted() else {
            return;
        };
        // Nobody else begins one.
        let next = Arc::new(Filter::new(size));
        self.write().next = Some(next.clone());
        let (this, file) = (self.clone(), path.to_owned());
        let fill = move || this.fill(&next, &file);
        match spawn("journal-known", path, fill) {
            // The last one has ended, but for its return.
            Ok(thread) => drop(lock(&self.scan).replace(thread)),
            Err(error) => tracing::warn!(%error, "new events are looked up one by one"),
        }
    }

    /// Gives the filter what is there, and makes it the one that is asked.
    fn fill(&self, next: &Arc<Filter>, path: &Path) {
        let read = open::reader(path)
            .map_err(|error| error.to_string())
            .and_then(|conn| self.scan(&conn, next).map_err(|error| error.to_string()));
        match read {
            Ok(true) => {
                let mut filters = self.write();
                let found = next.added.load(Ordering::Relaxed);
                next.found.store(found, Ordering::Relaxed);
                filters.whole = filters.next.take();
            }
            Ok(false) => {}
            // It stays the next one, so that this is not tried with every commit.
            Err(error) => tracing::warn!(error, "new events are looked up one by one"),
        }
    }

    /// Reads what is there; false, if it is to stop. Deliveries first: what is moved meanwhile goes from there
    /// to the event ids.
    fn scan(&self, conn: &Connection, next: &Filter) -> rusqlite::Result<bool> {
        let mut deliveries =
            conn.prepare("SELECT seq, id FROM deliveries WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
        let mut last = Some(i64::MIN);
        while let Some(after) = last.take() {
            let mut rows = deliveries.query(params![after, PAGE])?;
            while let Some(row) = rows.next()? {
                next.add(row.get::<_, Id>(1)?.0);
                last = Some(row.get(0)?);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
        let sql = "SELECT delivery FROM event_ids WHERE delivery > ?1 ORDER BY delivery LIMIT ?2";
        let mut remembered = conn.prepare(sql)?;
        let mut last = Some(Vec::new());
        while let Some(after) = last.take() {
            let mut rows = remembered.query(params![after, PAGE])?;
            while let Some(row) = rows.next()? {
                let id = row.get::<_, Id>(0)?.0;
                next.add(id);
                last = Some(id.0.to_vec());
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a filter is being filled, or is to be.
    #[cfg(test)]
    pub fn is_behind(&self) -> bool {
        let filters = self.read();
        filters.next.is_some() || filters.whole.is_none()
    }

    /// Waits until nothing more is read. Blocks.
    pub fn close(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = lock(&self.scan).take() {
            _ = thread.join();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Filters> {
        self.filters.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Filters> {
        self.filters.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_not_filled_again_and_again() {
        let next = |size, found: usize, added: usize| {
            let filter = Filter {
                size,
                found: found.into(),
                added: added.into(),
                ..Filter::new(1)
            };
            filter.outgrown()
        };
        const MOST: usize = limits::KNOWN_IDS;
        assert_eq!(next(100, 10, 100), None);
        assert_eq!(next(100, 10, 101), Some(202));
        assert_eq!(next(MOST / 2, 10, MOST), Some(MOST));
        assert_eq!(next(MOST, 10, MOST), None);
        assert_eq!(next(MOST, 10, MOST + 1), Some(MOST));
        assert_eq!(next(MOST, 3 * MOST, 6 * MOST), None);
        assert_eq!(next(MOST, 3 * MOST, 6 * MOST + 1), Some(MOST));
    }
}
