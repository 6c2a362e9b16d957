//! The writer: the one thread that changes the journal. It makes what is [gathered](super::gather) one
//! transaction, and answers when that is durable; what arrives meanwhile is the next transaction.
//!
//! After a failure that leaves in doubt what is durable it refuses everything: it never tries a
//! commit again, because a second fsync after a failed one proves nothing.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, Statement};
use tidemill_core::limits::COMMIT_UNITS;
use tokio::sync::{mpsc, oneshot};

use super::{RunningClock, apply::Applier, fault, gather::Gather, known::Known, open, tally::Told};
use crate::{JournalError, Unit, UnitResult};

/// Commits that may wait for the writer; more wait at the door.
pub const QUEUE: usize = COMMIT_UNITS;

/// How many pages of changes collect in the log before they are carried over into the file: 16 MiB.
/// Many changes of one page are then written once, and the log stays within this, plus one commit,
/// plus what is committed while a reader is in the way. Carried over after the answers are out.
const CHECKPOINT_PAGES: u64 = 4096;

/// The same when nobody waits: 1 MiB. What purging gave back is then free soon, and counted so.
const IDLE_CHECKPOINT_PAGES: u64 = 256;

/// Pages that one step gives back to the file system: 1 MiB, or a millisecond.
const SHRINK_PAGES: u64 = 256;

/// Unused pages that the file keeps for the next backlog: 64 MiB.
const SPARE_PAGES: u64 = 16 << 10;

type Results = Vec<UnitResult>;

/// A commit and who waits for it.
pub struct Job {
    /// What to make durable.
    pub units: Arc<[Unit]>,
    /// About how many bytes it writes.
    pub bytes: usize,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Results, JournalError>>,
}

/// What others see of the writer.
#[derive(Default)]
pub struct Shared {
    /// Bytes in use as of the last commit.
    pub bytes: AtomicU64,
    /// Deliveries and dead letters as of the last commit.
    pub told: Arc<Told>,
    /// Why nothing more is taken.
    pub broken: OnceLock<JournalError>,
    /// What need not be looked up.
    pub known: Arc<Known>,
}

/// The writer's state.
pub struct Writer<'c> {
    conn: &'c Connection,
    file: PathBuf,
    /// The same for a person.
    path: String,
    clock: RunningClock,
    shared: Arc<Shared>,
    applier: Applier<'c>,
    /// Pages in the log, kept by SQLite's hook.
    log: Arc<AtomicU64>,
    /// The log's length at which it is carried over next.
    checkpoint_at: u64,
    page_size: u64,
    freelist: u64,
}

/// Runs until every sender of the queue is gone, and makes durable all that they sent. Tells `opened`
/// how many milliseconds engines ran on the journal before.
pub fn run(
    mut conn: Connection,
    file: PathBuf,
    clock: RunningClock,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    opened: impl FnOnce(rusqlite::Result<i64>),
) {
    let log = Arc::new(AtomicU64::new(0));
    let hooked = log.clone();
    let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
        hooked.store(pages as u64, Ordering::Relaxed);
        Ok(())
    };
    // The hook replaces the one by which SQLite carries the log over in the middle of a commit.
    if let Err(error) = conn.wal_hook(Some(hook)) {
        return opened(Err(error));
    }
    match Writer::new(&conn, file, clock, shared, log) {
        Ok(mut writer) => {
            opened(Ok(writer.applier.ran_before));
            writer.serve(queue);
            writer.close();
        }
        Err(error) => opened(Err(error)),
    }
}

impl<'c> Writer<'c> {
    fn new(
        conn: &'c Connection,
        file: PathBuf,
        clock: RunningClock,
        shared: Arc<Shared>,
        log: Arc<AtomicU64>,
    ) -> rusqlite::Result<Self> {
        let applier = Applier::new(conn, shared.known.clone(), shared.told.clone())?;
        let page_size = conn.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))? as u64;
        let checkpoint_at = CHECKPOINT_PAGES;
        let mut writer = Writer {
            conn,
            path: file.display().to_string(),
            file,
            clock,
            shared,
            applier,
            log,
            checkpoint_at,
            page_size,
            freelist: 0,
        };
        writer.checkpoint_fully()?;
        writer.measure()?;
        Ok(writer)
    }

    fn serve(&mut self, mut queue: mpsc::Receiver<Job>) {
        self.shared.known.keep_up(&self.file);
        let mut gather = Gather::default();
        let mut first = queue.blocking_recv();
        while let Some(job) = first.take() {
            let (group, next) = gather.group(job, &mut queue, std::thread::sleep);
            self.commit(group);
            self.shared.known.keep_up(&self.file);
            self.checkpoint_if_longer(self.checkpoint_at);
            first = next;
            while first.is_none() && queue.is_empty() && self.shrink() {}
            if first.is_none() && queue.is_empty() {
                self.checkpoint_if_longer(IDLE_CHECKPOINT_PAGES);
            }
            first = first.or_else(|| queue.blocking_recv());
        }
    }

    /// Commits a group and answers it.
    fn commit(&mut self, group: Vec<Job>) {
        if let Err(error) = self.begin() {
            return refuse(group, &error);
        }
        match self.transaction(&group) {
            Ok(results) => {
                for (job, results) in group.into_iter().zip(results) {
                    _ = job.answer.send(Ok(results));
                }
            }
            // One commit that SQLite cannot take must not fail its neighbours.
            Err(JournalError::Failed { .. }) if group.len() > 1 => {
                for job in group {
                    self.commit(vec![job]);
                }
            }
            Err(error) => refuse(group, &error),
        }
    }

    /// Begins a transaction; waits a while for another program that has one open.
    fn begin(&mut self) -> Result<(), JournalError> {
        if let Some(broken) = self.shared.broken.get() {
            return Err(broken.clone());
        }
        let begun = self.applier.sql.begin.execute([]);
        begun.map(drop).map_err(|error| self.fault(&error))
    }

    /// Applies and commits all jobs of the group: durable as a whole, or nothing of it happened.
    fn transaction(&mut self, group: &[Job]) -> Result<Vec<Results>, JournalError> {
        match self.attempt(group) {
            Ok(results) => Ok(results),
            Err(error) => {
                let error = self.fault(&error);
                self.take_back();
                Err(error)
            }
        }
    }

    fn attempt(&mut self, group: &[Job]) -> rusqlite::Result<Vec<Results>> {
        let ran = ran(&self.clock);
        let mut results: Vec<Results> = Vec::with_capacity(group.len());
        for job in group {
            let each = job.units.iter().map(|unit| self.apply(unit, ran));
            results.push(each.collect::<rusqlite::Result<_>>()?);
        }
        let units = group.iter().flat_map(|job| job.units.iter());
        let written = units.zip(results.iter().flatten());
        let written = written.filter(|(_, result)| matches!(result, UnitResult::Committed { .. }));
        let written: Vec<&Unit> = written.map(|(unit, _)| unit).collect();
        self.applier.finish(&written, ran)?;
        // Asked within the transaction, which has the file's locks already.
        let size = self.size()?;
        self.applier.sql.commit.execute([])?;
        self.applier.committed();
        self.measured(size);
        Ok(results)
    }

    fn apply(&mut self, unit: &Unit, ran: i64) -> rusqlite::Result<UnitResult> {
        let result = self.applier.apply(unit, ran)?;
        if let UnitResult::Committed { .. } = result {
            self.shared.known.add(unit);
        }
        Ok(result)
    }

    /// What an error means. A broken journal stays broken.
    fn fault(&self, error: &rusqlite::Error) -> JournalError {
        let error = fault::classify(self.conn, &self.path, error);
        match &error {
            JournalError::Broken { .. } => {
                tracing::error!(%error, "the journal takes nothing more");
                _ = self.shared.broken.set(error.clone());
            }
            error => tracing::warn!(%error, "a commit failed"),
        }
        error
    }

    /// Takes an open transaction back. SQLite has done so itself after some errors.
    fn take_back(&mut self) {
        self.applier.taken_back();
        if !self.conn.is_autocommit()
            && let Err(error) = self.applier.sql.rollback.execute([])
        {
            let reason = format!(
                "a failed commit cannot be taken back: {}",
                fault::words(&error)
            );
            let broken = JournalError::Broken {
                path: self.path.clone(),
                reason,
            };
            tracing::error!(error = %broken, "the journal takes nothing more");
            _ = self.shared.broken.set(broken);
        }
    }

    /// The pages of the file, and how many of them are free.
    fn size(&mut self) -> rusqlite::Result<(u64, u64)> {
        let pages = number(&mut self.applier.sql.page_count)?;
        Ok((pages, number(&mut self.applier.sql.freelist_count)?))
    }

    /// Counts the bytes in use.
    fn measured(&mut self, (pages, free): (u64, u64)) {
        self.freelist = free;
        let used = pages - free + self.log.load(Ordering::Relaxed);
        self.shared
            .bytes
            .store(used * self.page_size, Ordering::Relaxed);
    }

    fn measure(&mut self) -> rusqlite::Result<()> {
        self.size().map(|size| self.measured(size))
    }

    fn checkpoint_if_longer(&mut self, pages: u64) {
        if self.log.load(Ordering::Relaxed) < pages || self.shared.broken.get().is_some() {
            return;
        }
        let done = self
            .applier
            .sql
            .checkpoint
            .query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        match done {
            // The next commit writes the log from its beginning again.
            Ok((frames, carried)) if frames == carried => {
                self.checkpoint_at = CHECKPOINT_PAGES;
                self.log.store(0, Ordering::Relaxed);
                if let Err(error) = self.measure() {
                    self.fault(&error);
                }
            }
            // A reader still needs the log; come back when it has grown by as much again.
            Ok((frames, _)) => self.checkpoint_at = frames as u64 + CHECKPOINT_PAGES,
            // The log keeps everything. With space lacking, commits fail by themselves.
            Err(error) => {
                self.checkpoint_at = self.log.load(Ordering::Relaxed) + CHECKPOINT_PAGES;
                self.fault(&error);
            }
        }
    }

    /// Carries the whole log over and cuts it to nothing: at start and at the end.
    fn checkpoint_fully(&mut self) -> rusqlite::Result<()> {
        self.conn
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    /// Gives some unused pages back to the file system, if there are far too many. Returns whether
    /// there may be more.
    fn shrink(&mut self) -> bool {
        if self.freelist < SPARE_PAGES + SHRINK_PAGES || self.shared.broken.get().is_some() {
            return false;
        }
        let shrunk = self
            .conn
            .execute_batch(&format!("PRAGMA incremental_vacuum({SHRINK_PAGES})"))
            .and_then(|()| self.measure());
        self.checkpoint_if_longer(self.checkpoint_at);
        shrunk.map_err(|error| self.fault(&error)).is_ok()
    }

    fn close(&mut self) {
        // This connection is to be the last one.
        self.shared.known.close();
        if self.shared.broken.get().is_some() {
            // What is true is for the next start to find out.
            if let Err(error) = open::leave_files(self.conn) {
                self.fault(&error);
            }
            return;
        }
        let ran = ran(&self.clock);
        let saved = self
            .applier
            .close(ran)
            .and_then(|()| self.checkpoint_fully());
        if let Err(error) = saved {
            self.fault(&error);
        }
    }
}

fn refuse(group: Vec<Job>, error: &JournalError) {
    for job in group {
        _ = job.answer.send(Err(error.clone()));
    }
}

fn number(pragma: &mut Statement<'_>) -> rusqlite::Result<u64> {
    pragma
        .query_row([], |row| row.get::<_, i64>(0))
        .map(|number| number as u64)
}

/// Milliseconds since the start of this engine.
pub fn ran(clock: &RunningClock) -> i64 {
    i64::try_from(clock().as_millis()).unwrap_or(i64::MAX)
}

/// A clock that starts now.
pub fn clock() -> RunningClock {
    let start = std::time::Instant::now();
    Arc::new(move || -> Duration { start.elapsed() })
}
