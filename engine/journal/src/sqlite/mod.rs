//! The journal in one SQLite file: a thread that writes, a few that read.
//!
//! Nothing here decides; a unit is checked, applied, and durable or refused. Whoever opens a journal
//! to write holds the [`crate::DataLock`] of its folder: that is not checked here.

mod apply;
mod check;
mod contents;
mod counters;
mod fault;
mod gather;
mod known;
mod moves;
mod open;
mod queries;
mod reader;
mod statements;
mod tally;
mod turns;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use tidemill_core::{
    BoxFuture,
    delivery::{DeadLetter, Delivery, Seq},
    identity::DeliveryId,
    ledger::{BucketState, Gone, LedgerCount, LedgerEntry},
    schedule::Cursor,
    time::Timestamp,
    turn::Turn,
    watermark::Progress,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Contents, DeadLetterFilter, DeadLetterLine, Found, Journal, JournalError, KeyDone, Noted,
    PartitionOf, Pending, Stats, Unit, UnitResult, UsageEntry, UsageFilter, Versioned,
};
pub use open::OpenError;
use reader::Readers;
use writer::{Job, Shared};

/// How long this engine has run; it never goes back.
pub type RunningClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// How to open a journal.
#[derive(Clone)]
pub struct SqliteOptions {
    /// Only read: for commands beside a running engine. Every commit fails.
    pub read_only: bool,
    /// Measures the windows of event ids.
    pub clock: RunningClock,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions {
            read_only: false,
            clock: writer::clock(),
        }
    }
}

/// The journal in one SQLite file. When dropped it makes durable what was committed, carries the log
/// of changes over into the file and closes it; that blocks for as long as it takes.
pub struct SqliteJournal {
    path: String,
    shared: Arc<Shared>,
    readers: Readers,
    /// Gone when closed, or opened to read only.
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    read_only: bool,
    clock: RunningClock,
    /// Engine running time up to the start of this engine, in milliseconds; 0 if it may only read.
    ran_before: i64,
}

impl SqliteJournal {
    /// Opens the journal at `path`, or makes it. Blocks: it may have to go through the log of
    /// changes that a killed engine left.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<SqliteJournal, OpenError> {
        let name = path.display().to_string();
        let shared = Arc::<Shared>::default();
        let mut queue = None;
        let mut thread = None;
        let mut ran_before = 0;
        if !options.read_only {
            let conn = open::writer(path)?;
            let (sender, receiver) = mpsc::channel(writer::QUEUE);
            let (opened, result) = std::sync::mpsc::sync_channel(1);
            let (name, shared, clock) = (name.clone(), shared.clone(), options.clock.clone());
            let file = path.to_owned();
            let body = move || {
                let broken = Mourner(shared.clone(), name.clone());
                writer::run(conn, file, clock, shared, receiver, |result| {
                    _ = opened.send(result);
                });
                drop(broken);
            };
            thread = Some(spawn("journal-writer", path, body)?);
            ran_before = result
                .recv()
                .map_err(|_| failed(path, "the writer did not start, which is a bug".to_owned()))?
                .map_err(|error| open::explain(path, &error))?;
            queue = Some(sender);
        }
        let readers = Readers::open(path)?;
        let (queue, writer) = (Mutex::new(queue), Mutex::new(thread));
        Ok(SqliteJournal {
            path: name,
            shared,
            readers,
            queue,
            writer,
            read_only: options.read_only,
            clock: options.clock,
            ran_before,
        })
    }

    /// Takes no more commits, waits until those under way are answered, and closes the file. What
    /// comes later is [`JournalError::Closed`]. Blocks; a second call does nothing.
    pub fn close(&self) {
        // The writer's connection is the last one: closing it puts the files in order.
        self.readers.close();
        drop(lock(&self.queue).take());
        if let Some(thread) = lock(&self.writer).take() {
            _ = thread.join();
        }
    }

    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, JournalError>> {
        Box::pin(self.readers.run(query))
    }

    /// The same for a few rows by their keys.
    fn look<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, JournalError>> {
        Box::pin(self.readers.look(query))
    }

    /// Why a commit was not answered.
    fn gone(&self) -> JournalError {
        self.shared
            .broken
            .get()
            .cloned()
            .unwrap_or(JournalError::Closed)
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.close();
    }
}

/// Marks the journal as broken when the writer panics, so that nobody takes it for closed.
struct Mourner(Arc<Shared>, String);

impl Drop for Mourner {
    fn drop(&mut self) {
        if thread::panicking() {
            let reason = "the writer panicked, which is a bug".to_owned();
            _ = self.0.broken.set(JournalError::Broken {
                path: self.1.clone(),
                reason,
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(
    name: &str,
    path: &Path,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| failed(path, format!("no thread for it: {error}")))
}

fn failed(path: &Path, reason: String) -> OpenError {
    OpenError::Failed {
        path: path.to_owned(),
        reason,
    }
}

impl Noted {
    fn weight(&self) -> usize {
        let each =
            |entry: &LedgerEntry| entry.key.len() + entry.etag.as_ref().map_or(0, String::len);
        self.objects.iter().map(each).sum()
    }
}

/// About how many bytes a unit writes.
fn weight(unit: &Unit) -> usize {
    let values = unit.writes.iter().filter_map(|write| write.value.as_ref());
    let replies = unit.keys.iter().filter_map(|key| key.reply.as_ref());
    unit.accept
        .iter()
        .map(|accepted| accepted.event.size())
        .sum::<usize>()
        + values.map(|value| value.len()).sum::<usize>()
        + replies.map(|reply| reply.body.len()).sum::<usize>()
        + unit.noted.iter().map(Noted::weight).sum::<usize>()
}

impl Journal for SqliteJournal {
    fn commit(&self, units: Arc<[Unit]>) -> BoxFuture<'_, Result<Vec<UnitResult>, JournalError>> {
        Box::pin(async move {
            if self.read_only {
                let reason = "it was opened to read only".to_owned();
                return Err(JournalError::Failed {
                    path: self.path.clone(),
                    reason,
                });
            }
            let Some(queue) = lock(&self.queue).clone() else {
                return Err(JournalError::Closed);
            };
            let bytes = units.iter().map(weight).sum();
            let (answer, answered) = oneshot::channel();
            let job = Job {
                units,
                bytes,
                answer,
            };
            queue.send(job).await.map_err(|_| self.gone())?;
            drop(queue);
            answered.await.map_err(|_| self.gone())?
        })
    }

    fn pending(
        &self,
        trigger: &str,
        after: Option<(Timestamp, Seq)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Pending>, JournalError>> {
        let trigger = trigger.to_owned();
        self.read(move |conn| queries::pending(conn, &trigger, after, limit))
    }

    fn pending_triggers(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, JournalError>> {
        self.read(queries::pending_triggers)
    }

    fn is_busy(&self, trigger: &str) -> BoxFuture<'_, Result<bool, JournalError>> {
        let trigger = trigger.to_owned();
        self.read(move |conn| queries::is_busy(conn, &trigger))
    }

    fn ahead(
        &self,
        trigger: &str,
        turn: &Turn,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, JournalError>> {
        let (trigger, turn) = (trigger.to_owned(), turn.clone());
        self.look(move |conn| queries::ahead(conn, &trigger, &turn, limit))
    }

    fn find(&self, id: DeliveryId) -> BoxFuture<'_, Result<Option<Found>, JournalError>> {
        if !self.shared.known.may_hold(id) {
            return Box::pin(std::future::ready(Ok(None)));
        }
        let running = self.ran_before.saturating_add(writer::ran(&self.clock));
        self.look(move |conn| queries::find(conn, id, running))
    }

    fn deliveries(
        &self,
        seqs: &[Seq],
    ) -> BoxFuture<'_, Result<Vec<Option<Delivery>>, JournalError>> {
        let seqs = seqs.to_vec();
        self.look(move |conn| queries::deliveries(conn, &seqs))
    }

    fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        after: Option<Seq>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetterLine>, JournalError>> {
        self.read(move |conn| queries::dead_letters(conn, &filter, after, limit))
    }

    fn dead_letter(
        &self,
        id: DeliveryId,
    ) -> BoxFuture<'_, Result<Option<DeadLetter>, JournalError>> {
        self.read(move |conn| queries::dead_letter(conn, id))
    }

    fn kv_get(
        &self,
        store: &str,
        key: &str,
    ) -> BoxFuture<'_, Result<Option<Versioned>, JournalError>> {
        let (store, key) = (store.to_owned(), key.to_owned());
        self.look(move |conn| queries::kv_get(conn, &store, &key))
    }

    fn kv_keys(
        &self,
        store: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<String>, JournalError>> {
        let store = store.to_owned();
        self.read(move |conn| queries::kv_keys(conn, &store, after.as_deref(), limit))
    }

    fn ledger(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, JournalError>> {
        let bucket = bucket.to_owned();
        self.read(move |conn| queries::ledger(conn, &bucket, keys))
    }

    fn ledger_page(
        &self,
        bucket: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, JournalError>> {
        let bucket = bucket.to_owned();
        self.read(move |conn| queries::ledger_page(conn, &bucket, after.as_deref(), limit))
    }

    fn ledger_range(
        &self,
        bucket: &str,
        after: Option<String>,
        until: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, JournalError>> {
        let bucket = bucket.to_owned();
        self.read(move |conn| queries::ledger_range(conn, &bucket, after, until, limit))
    }

    fn bucket(&self, bucket: &str) -> BoxFuture<'_, Result<Option<BucketState>, JournalError>> {
        let bucket = bucket.to_owned();
        self.look(move |conn| queries::bucket(conn, &bucket))
    }

    fn gone(
        &self,
        bucket: &str,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Gone, JournalError>> {
        let bucket = bucket.to_owned();
        self.read(move |conn| queries::gone(conn, &bucket, before, limit))
    }

    fn ledger_count(&self, bucket: &str) -> BoxFuture<'_, Result<LedgerCount, JournalError>> {
        let bucket = bucket.to_owned();
        self.read(move |conn| queries::ledger_count(conn, &bucket))
    }

    fn hops(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
    ) -> BoxFuture<'_, Result<Option<u32>, JournalError>> {
        let object = [bucket.to_owned(), key.to_owned(), etag.to_owned()];
        self.look(move |conn| queries::hops(conn, object))
    }

    fn cursor(&self, schedule: &str) -> BoxFuture<'_, Result<Option<Cursor>, JournalError>> {
        let schedule = schedule.to_owned();
        self.read(move |conn| queries::cursor(conn, &schedule))
    }

    fn progress(&self, of: &PartitionOf) -> BoxFuture<'_, Result<Option<Progress>, JournalError>> {
        let of = of.clone();
        self.read(move |conn| queries::progress(conn, &of))
    }

    fn key_done(
        &self,
        trigger: &str,
        key: &str,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<KeyDone>, JournalError>> {
        let (trigger, key) = (trigger.to_owned(), key.to_owned());
        self.look(move |conn| queries::key_done(conn, &trigger, &key, now))
    }

    fn usage(&self, filter: UsageFilter) -> BoxFuture<'_, Result<Vec<UsageEntry>, JournalError>> {
        self.read(move |conn| queries::usage(conn, &filter))
    }

    fn has_expired(
        &self,
        now: Timestamp,
        usage_before: i64,
    ) -> BoxFuture<'_, Result<bool, JournalError>> {
        let running = self.ran_before.saturating_add(writer::ran(&self.clock));
        self.look(move |conn| queries::has_expired(conn, now, running, usage_before))
    }

    fn contents(&self) -> BoxFuture<'_, Result<Contents, JournalError>> {
        self.read(contents::contents)
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, JournalError>> {
        Box::pin(async move {
            if self.read_only {
                return self.readers.run(queries::stats).await;
            }
            if lock(&self.queue).is_none() {
                return Err(JournalError::Closed);
            }
            Ok(Stats {
                pending: self.shared.told.pending.load(Ordering::Relaxed),
                dead: self.shared.told.dead.load(Ordering::Relaxed),
                bytes: self.bytes(),
            })
        })
    }

    fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}
