//! How many deliveries are pending and how many are dead letters. They are counted when the journal is opened and
//! along with each commit from then on, because SQLite counts rows one by one: while a million wait, each look at
//! the metrics would take tens of milliseconds and read tens of megabytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rusqlite::{Connection, Result};

use super::queries;

/// The counts.
pub struct Tally {
    /// With the open transaction.
    now: Counts,
    /// As of the last commit.
    durable: Counts,
    told: Arc<Told>,
}

#[derive(Clone, Copy)]
struct Counts {
    pending: u64,
    dead: u64,
}

/// The counts as of the last commit, for others.
#[derive(Default)]
pub struct Told {
    /// Deliveries waiting or running.
    pub pending: AtomicU64,
    /// Dead letters.
    pub dead: AtomicU64,
}

impl Tally {
    /// Counts what the journal has.
    pub fn open(conn: &Connection, told: Arc<Told>) -> Result<Tally> {
        let now = Counts {
            pending: queries::count_pending(conn)?,
            dead: queries::count_dead(conn)?,
        };
        let durable = now;
        let mut tally = Tally { now, durable, told };
        tally.committed();
        Ok(tally)
    }

    /// A delivery came, as a dead letter or to run.
    pub fn came(&mut self, dead: bool) {
        *self.now.of(dead) += 1;
    }

    /// A dead letter, or a delivery that was pending, left.
    pub fn left(&mut self, dead: bool) {
        let count = self.now.of(dead);
        // A person with a shell may have added some that were not counted.
        *count = count.saturating_sub(1);
    }

    /// The transaction is durable.
    pub fn committed(&mut self) {
        self.durable = self.now;
        self.told.pending.store(self.now.pending, Relaxed);
        self.told.dead.store(self.now.dead, Relaxed);
    }

    /// The transaction was taken back.
    pub fn taken_back(&mut self) {
        self.now = self.durable;
    }
}

impl Counts {
    fn of(&mut self, dead: bool) -> &mut u64 {
        match dead {
            true => &mut self.dead,
            false => &mut self.pending,
        }
    }
}
