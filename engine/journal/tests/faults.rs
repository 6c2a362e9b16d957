//! A disk that fails: SQLite's own file functions, with faults that the tests switch on. They are
//! shared by the whole process, so the tests run one after another.

use std::{
    ffi::{c_int, c_void},
    path::Path,
    pin::Pin,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI32, AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
};

use rusqlite::ffi;
use tidemill_core::{delivery::Work, event::Event, identity::DeliveryId, time::Timestamp};
use tidemill_journal::{
    Accepted, Journal, JournalError, NewDelivery, OpenError, SqliteJournal, SqliteOptions, Unit,
    UnitResult,
};

/// What a call answers in place of being made; 0: it is made.
static LOG_WRITE: AtomicI32 = AtomicI32::new(0);
static LOG_SYNC: AtomicI32 = AtomicI32::new(0);
static FILE_WRITE: AtomicI32 = AtomicI32::new(0);
static FILE_SYNC: AtomicI32 = AtomicI32::new(0);
/// Calls of fsync on the log of changes.
static LOG_SYNCS: AtomicU32 = AtomicU32::new(0);
/// Holds up every fsync of the log while closed.
static GATE: Gate = Gate {
    state: Mutex::new((false, 0)),
    changed: Condvar::new(),
};

struct Gate {
    /// Closed, and how many wait.
    state: Mutex<(bool, u32)>,
    changed: Condvar,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        self.state.lock().unwrap().0 = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| state.0).unwrap();
        state.1 -= 1;
    }

    fn wait_until_someone_waits(&self) {
        let state = self.state.lock().unwrap();
        drop(
            self.changed
                .wait_while(state, |state| state.1 == 0)
                .unwrap(),
        );
    }
}

type Methods = ffi::sqlite3_io_methods;
type File = ffi::sqlite3_file;
type Open = unsafe extern "C" fn(
    *mut ffi::sqlite3_vfs,
    ffi::sqlite3_filename,
    *mut File,
    c_int,
    *mut c_int,
) -> c_int;

static REAL_OPEN: OnceLock<Open> = OnceLock::new();
static REAL: OnceLock<Methods> = OnceLock::new();

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut File,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite's own arguments for SQLite's own function.
    let result = unsafe { REAL_OPEN.get().unwrap()(vfs, name, file, flags, out) };
    let log = flags & ffi::SQLITE_OPEN_WAL != 0;
    if result == ffi::SQLITE_OK && (log || flags & ffi::SQLITE_OPEN_MAIN_DB != 0) {
        // SAFETY: the file was opened, so its table of methods is set; the copy lives for ever.
        unsafe {
            let real = *(*file).pMethods;
            // Files of both kinds are written by the same functions, and closed by others.
            REAL.get_or_init(|| real);
            let (write, sync): (Write, Sync) = if log {
                (log_write, log_sync)
            } else {
                (file_write, file_sync)
            };
            let methods = Methods {
                xWrite: Some(write),
                xSync: Some(sync),
                ..real
            };
            (*file).pMethods = Box::leak(Box::new(methods));
        }
    }
    result
}

type Write = unsafe extern "C" fn(*mut File, *const c_void, c_int, i64) -> c_int;
type Sync = unsafe extern "C" fn(*mut File, c_int) -> c_int;

unsafe fn write(fault: &AtomicI32, f: *mut File, data: *const c_void, n: c_int, at: i64) -> c_int {
    match fault.load(SeqCst) {
        // SAFETY: as called by SQLite.
        0 => unsafe { REAL.get().unwrap().xWrite.unwrap()(f, data, n, at) },
        fault => fault,
    }
}

unsafe extern "C" fn log_write(f: *mut File, data: *const c_void, n: c_int, at: i64) -> c_int {
    // SAFETY: as called by SQLite.
    unsafe { write(&LOG_WRITE, f, data, n, at) }
}

unsafe extern "C" fn file_write(f: *mut File, data: *const c_void, n: c_int, at: i64) -> c_int {
    // SAFETY: as called by SQLite.
    unsafe { write(&FILE_WRITE, f, data, n, at) }
}

unsafe extern "C" fn log_sync(f: *mut File, flags: c_int) -> c_int {
    GATE.pass();
    LOG_SYNCS.fetch_add(1, SeqCst);
    // SAFETY: as called by SQLite.
    unsafe { sync(&LOG_SYNC, f, flags) }
}

unsafe extern "C" fn file_sync(f: *mut File, flags: c_int) -> c_int {
    // SAFETY: as called by SQLite.
    unsafe { sync(&FILE_SYNC, f, flags) }
}

unsafe fn sync(fault: &AtomicI32, f: *mut File, flags: c_int) -> c_int {
    match fault.load(SeqCst) {
        // SAFETY: as called by SQLite.
        0 => unsafe { REAL.get().unwrap().xSync.unwrap()(f, flags) },
        fault => fault,
    }
}

/// Keeps other tests out, with no fault switched on.
struct Disk {
    _alone: MutexGuard<'static, ()>,
    folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Disk {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        REAL_OPEN.get_or_init(|| {
            // SAFETY: the table of the default file functions is writable and lives for ever; no
            // other thread uses SQLite before the first test holds the lock.
            unsafe {
                let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
                (*vfs).xOpen.replace(open).expect("every VFS opens files")
            }
        });
        Disk {
            _alone: alone,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn open(&self) -> Result<SqliteJournal, OpenError> {
        SqliteJournal::open(&self.path().join("journal.db"), SqliteOptions::default())
    }

    /// A journal that has "a".
    async fn journal(&self) -> SqliteJournal {
        let journal = self.open().unwrap();
        assert!(matches!(journal.commit([unit("a", 1)].into()).await, Ok(r) if taken(&r)));
        journal
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for fault in [&LOG_WRITE, &LOG_SYNC, &FILE_WRITE, &FILE_SYNC] {
            fault.store(0, SeqCst);
        }
        GATE.set_closed(false);
    }
}

fn taken(results: &[UnitResult]) -> bool {
    results
        .iter()
        .all(|result| matches!(result, UnitResult::Committed { .. }))
}

fn unit(name: &str, size: usize) -> Unit {
    let event = Event {
        id: name.to_owned(),
        source: "s".into(),
        kind: "k".into(),
        subject: None,
        time: Timestamp(0),
        datacontenttype: None,
        traceparent: None,
        hops: 0,
        headers: Vec::new(),
        data: vec![b'x'; size].into(),
    };
    let id = DeliveryId::derive("t", "s", name);
    let new = NewDelivery::new(id, "t", Work::Handle, Timestamp(0));
    Unit {
        accept: vec![Accepted {
            event,
            deliveries: vec![new],
        }],
        ..Unit::default()
    }
}

async fn names(journal: &SqliteJournal) -> Vec<String> {
    let mut names = Vec::new();
    for pending in journal.pending("t", None, 1000).await.unwrap() {
        names.push(
            journal
                .delivery(pending.seq)
                .await
                .unwrap()
                .unwrap()
                .event
                .id,
        );
    }
    names
}

#[tokio::test]
async fn what_queues_up_during_an_fsync_shares_the_next() {
    let disk = Disk::new();
    let journal = disk.journal().await;
    GATE.set_closed(true);
    let before = LOG_SYNCS.load(SeqCst);
    type Commit<'a> =
        Pin<Box<dyn Future<Output = Result<Vec<UnitResult>, JournalError>> + Send + 'a>>;
    let mut commits: Vec<Commit<'_>> = (0..500)
        .map(|n| journal.commit([unit(&n.to_string(), 1)].into()))
        .collect();
    // Tokio would make a task that queues so many at once wait for others.
    let queue = async |commits: &mut [Commit<'_>]| {
        let all = std::future::poll_fn(|context| {
            let mut each = commits
                .iter_mut()
                .map(|commit| commit.as_mut().poll(context));
            assert!(
                each.all(|answer| answer.is_pending()),
                "answered before its fsync"
            );
            Poll::Ready(())
        });
        tokio::task::unconstrained(all).await;
    };
    queue(&mut commits[..1]).await;
    GATE.wait_until_someone_waits();
    queue(&mut commits[1..]).await;
    GATE.set_closed(false);
    for commit in commits {
        assert!(taken(&commit.await.unwrap()));
    }
    assert_eq!(LOG_SYNCS.load(SeqCst) - before, 2);
}

#[tokio::test]
async fn a_failed_fsync_stops_the_journal() {
    let disk = Disk::new();
    let journal = disk.journal().await;
    LOG_SYNC.store(ffi::SQLITE_IOERR_FSYNC, SeqCst);
    let error = journal.commit([unit("b", 1)].into()).await.unwrap_err();
    assert!(matches!(error, JournalError::Broken { .. }), "{error}");
    LOG_SYNC.store(0, SeqCst);
    let syncs = LOG_SYNCS.load(SeqCst);
    assert_eq!(journal.commit([unit("c", 1)].into()).await, Err(error));
    drop(journal);
    assert_eq!(LOG_SYNCS.load(SeqCst), syncs, "nothing was tried again");
    let left = names(&disk.open().unwrap()).await;
    assert!(left == ["a"] || left == ["a", "b"], "{left:?}");
}

#[tokio::test]
async fn a_failed_write_of_the_log_stops_the_journal() {
    let disk = Disk::new();
    let journal = disk.journal().await;
    LOG_WRITE.store(ffi::SQLITE_IOERR_WRITE, SeqCst);
    let error = journal.commit([unit("b", 1)].into()).await.unwrap_err();
    assert!(matches!(error, JournalError::Broken { .. }), "{error}");
    LOG_WRITE.store(0, SeqCst);
    assert_eq!(journal.commit([unit("c", 1)].into()).await, Err(error));
    drop(journal);
    assert_eq!(names(&disk.open().unwrap()).await, ["a"]);
}

#[tokio::test]
async fn goes_on_when_there_is_space_again() {
    let disk = Disk::new();
    let journal = disk.journal().await;
    // The larger one does not fit into memory and is written before its commit.
    for size in [1, 100 << 20] {
        LOG_WRITE.store(ffi::SQLITE_FULL, SeqCst);
        let bytes = journal.bytes();
        let error = journal
            .commit([unit("b", 1), unit("c", size)].into())
            .await
            .unwrap_err();
        assert!(matches!(error, JournalError::Full { .. }), "{error}");
        assert_eq!(names(&journal).await, ["a"]);
        assert_eq!(journal.bytes(), bytes);
    }
    LOG_WRITE.store(0, SeqCst);
    assert!(taken(
        &journal
            .commit([unit("b", 1), unit("c", 1)].into())
            .await
            .unwrap()
    ));
    drop(journal);
    assert_eq!(names(&disk.open().unwrap()).await, ["a", "b", "c"]);
}

/// The log cannot be carried over into the file for lack of space: it keeps everything meanwhile.
#[tokio::test]
async fn the_log_waits_for_space_in_the_file() {
    let disk = Disk::new();
    let journal = disk.journal().await;
    FILE_WRITE.store(ffi::SQLITE_FULL, SeqCst);
    for n in 0..40 {
        assert!(taken(
            &journal
                .commit([unit(&n.to_string(), 1 << 20)].into())
                .await
                .unwrap()
        ));
    }
    let grown = journal.bytes();
    FILE_WRITE.store(0, SeqCst);
    for n in 40..60 {
        assert!(taken(
            &journal
                .commit([unit(&n.to_string(), 1 << 20)].into())
                .await
                .unwrap()
        ));
    }
    assert!(
        journal.bytes() < grown + (20 << 20),
        "the log was carried over"
    );
    assert_eq!(names(&journal).await.len(), 61);
    drop(journal);
    assert_eq!(names(&disk.open().unwrap()).await.len(), 61);
}

/// After a failed fsync of the file, the log must not be cut: nothing proves that the file has it.
#[tokio::test]
async fn a_failed_fsync_of_the_file_loses_nothing() {
    let disk = Disk::new();
    let journal = disk.journal().await;
    FILE_SYNC.store(ffi::SQLITE_IOERR_FSYNC, SeqCst);
    let mut committed = 1;
    let error = loop {
        match journal
            .commit([unit(&committed.to_string(), 1 << 20)].into())
            .await
        {
            Ok(results) => assert!(taken(&results)),
            Err(error) => break error,
        }
        committed += 1;
        assert!(committed < 100, "the log is never carried over");
    };
    assert!(matches!(error, JournalError::Broken { .. }), "{error}");
    drop(journal);
    FILE_SYNC.store(0, SeqCst);
    assert_eq!(names(&disk.open().unwrap()).await.len(), committed);
}

#[test]
fn a_new_journal_needs_space() {
    let disk = Disk::new();
    FILE_WRITE.store(ffi::SQLITE_FULL, SeqCst);
    LOG_WRITE.store(ffi::SQLITE_FULL, SeqCst);
    let error = disk.open().err();
    assert!(matches!(error, Some(OpenError::Full { .. })), "{error:?}");
    FILE_WRITE.store(0, SeqCst);
    LOG_WRITE.store(0, SeqCst);
    disk.open().unwrap();
}
