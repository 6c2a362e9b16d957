//! The conformance suite on the SQLite store, and what only this store has.

use std::{
    fs,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{
    EventId, KvWrite, NewDelivery, Settle,
    conformance::{self, Place, accepting, committed, conformance},
};

/// A folder, and a clock that the test moves.
struct Folder {
    dir: TempDir,
    millis: Arc<AtomicU64>,
}

impl Folder {
    fn new() -> Folder {
        Folder {
            dir: tempfile::tempdir().unwrap(),
            millis: Arc::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }

    fn journal(&self) -> SqliteJournal {
        let (millis, start) = (self.millis.clone(), self.millis.load(Ordering::Relaxed));
        let clock = move || Duration::from_millis(millis.load(Ordering::Relaxed) - start);
        let options = SqliteOptions {
            clock: Arc::new(clock),
            ..SqliteOptions::default()
        };
        SqliteJournal::open(&self.path(), options).unwrap()
    }

    fn sql(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// What there is if the engine is killed now.
    fn killed(&self) -> Folder {
        let left = Folder {
            millis: self.millis.clone(),
            ..Folder::new()
        };
        for file in ["journal.db", "journal.db-wal"] {
            fs::copy(self.dir.path().join(file), left.dir.path().join(file)).unwrap();
        }
        left
    }
}

impl Place for Folder {
    fn open(&self) -> Box<dyn Journal> {
        Box::new(self.journal())
    }

    fn run(&self, by: Duration) {
        self.millis
            .fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

conformance!(Folder::new);

fn refusal(folder: &Folder) -> OpenError {
    match SqliteJournal::open(&folder.path(), SqliteOptions::default()) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

/// Where the delivery is that was accepted.
fn seq(result: &UnitResult) -> Seq {
    match result {
        UnitResult::Committed { added, .. } => added[0].seq,
        refused => panic!("{refused:?}"),
    }
}

/// Gives each of these a place and a value's version, and says which the last ones were. Nothing is left of the
/// deliveries.
async fn numbers(journal: &SqliteJournal, these: Range<usize>) -> (i64, i64) {
    let unit = |n: usize| {
        let value = KvWrite {
            store: "s".into(),
            key: "k".into(),
            value: Some(n.to_string().into()),
        };
        Unit {
            writes: vec![value],
            ..accepting(&n.to_string())
        }
    };
    let results = journal.commit(these.map(unit).collect()).await.unwrap();
    let seqs: Vec<_> = results.iter().map(seq).collect();
    let done = seqs.iter().map(|seq| conformance::done(*seq)).collect();
    journal.commit(done).await.unwrap();
    let value = journal.kv_get("s", "k").await.unwrap().unwrap();
    (*seqs.last().unwrap(), value.version)
}

#[tokio::test]
async fn no_number_is_given_twice_whenever_the_engine_is_killed() {
    let folder = Folder::new();
    let journal = folder.journal();
    let first = numbers(&journal, 0..1).await;
    assert_eq!(numbers(&journal, 1..2).await, (first.0 + 1, first.1 + 1));
    numbers(&journal, 2..1015).await;
    let mut last = (0, 0);
    for n in 1015..1035 {
        last = numbers(&journal, n..n + 1).await;
        let next = numbers(&folder.killed().journal(), 0..1).await;
        assert!(next.0 > last.0 && next.1 > last.1, "{next:?} {last:?}");
    }
    drop(journal);
    let next = numbers(&folder.journal(), 0..1).await;
    let none_left_out = (last.0 + 1, last.1 + 1);
    assert_eq!(next, none_left_out, "after an orderly end");
}

#[tokio::test]
async fn less_than_a_second_is_not_counted_when_the_engine_is_killed() {
    let folder = Folder::new();
    let journal = folder.journal();
    let ran = |folder: &Folder| folder.journal().ran_before;
    for n in 0..20 {
        folder.run(Duration::from_millis(130));
        numbers(&journal, n..n + 1).await;
        let counted = ran(&folder.killed());
        assert!(
            (n as i64 * 130 - 870..=(n as i64 + 1) * 130).contains(&counted),
            "{n}: {counted}"
        );
    }
    drop(journal);
    assert_eq!(ran(&folder), 2_600);
}

#[test]
fn a_newer_journal_is_refused() {
    let folder = Folder::new();
    drop(folder.journal());
    folder
        .sql()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = refusal(&folder);
    assert!(
        matches!(error, OpenError::Newer { found: 99, .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("99") && text.contains("up to 4") && text.contains("journal.db"),
        "{text}"
    );
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    let folder = Folder::new();
    folder
        .sql()
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    assert!(matches!(
        refusal(&folder),
        OpenError::Foreign { found: 0, .. }
    ));
    let mode: String = folder
        .sql()
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "delete");

    fs::write(
        folder.path(),
        "not a database, but long enough to be taken for one ".repeat(99),
    )
    .unwrap();
    let before = fs::read(folder.path()).unwrap();
    let error = refusal(&folder);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(
        error.to_string().contains("restore it from a backup"),
        "{error}"
    );
    assert_eq!(fs::read(folder.path()).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let folder = Folder::new();
    let journal = folder.journal();
    journal
        .commit(
            (0..200)
                .map(|n| accepting(&n.to_string()))
                .collect::<Vec<_>>()
                .into(),
        )
        .await
        .unwrap();
    drop(journal);
    let mut bytes = fs::read(folder.path()).unwrap();
    let length = bytes.len();
    bytes[4096 * 3..length - 4096].fill(0x5a);
    fs::write(folder.path(), &bytes).unwrap();
    assert!(matches!(refusal(&folder), OpenError::Damaged { .. }));

    bytes.truncate(length / 2);
    fs::write(folder.path(), &bytes).unwrap();
    assert!(matches!(refusal(&folder), OpenError::Damaged { .. }));
}

/// Damage that appears while the engine runs: nothing is committed from then on.
#[tokio::test]
async fn damage_found_later_stops_the_journal() {
    let folder = Folder::new();
    let journal = folder.journal();
    // More than the writer keeps in memory.
    let body = bytes::Bytes::from(vec![1; 1 << 20]);
    let mut seqs = Vec::new();
    for n in 0..80 {
        let mut unit = accepting(&n.to_string());
        unit.accept[0].event.data = body.clone();
        let results = journal.commit([unit].into()).await.unwrap();
        seqs.push(seq(&results[0]));
    }
    drop(journal);
    let journal = folder.journal();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path())
        .unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    for page in 2..pages {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 4096], page * 4096).unwrap();
    }
    let error = journal
        .commit([conformance::done(seqs[40])].into())
        .await
        .unwrap_err();
    assert!(matches!(error, JournalError::Broken { .. }), "{error}");
    assert_eq!(journal.commit([Unit::default()].into()).await, Err(error));
}

#[test]
fn says_what_is_in_the_way() {
    let folder = Folder::new();
    fs::create_dir(folder.path()).unwrap();
    let error = refusal(&folder);
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    let error = SqliteJournal::open(&folder.path().join("a/b/c"), SqliteOptions::default()).err();
    assert!(
        matches!(error, Some(OpenError::NotWritable { .. })),
        "{error:?}"
    );
}

/// What version 1 wrote, every later version reads.
#[tokio::test]
async fn a_journal_of_version_1_opens() {
    let folder = Folder::new();
    folder
        .sql()
        .execute_batch(include_str!("../../tests/journal-v1.sql"))
        .unwrap();
    let journal = folder.journal();
    let found = journal.delivery(7).await.unwrap().unwrap();
    assert_eq!((found.event.id.as_str(), found.attempts), ("e-7", 1));
    let letter = journal
        .dead_letter(DeliveryId([8; 16]))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (letter.history.len(), letter.reason.as_str()),
        (1, "the handler broke")
    );
    assert_eq!(journal.kv_get("s", "k").await.unwrap().unwrap().version, 4);
    assert_eq!(journal.ledger_page("b", None, 9).await.unwrap().len(), 1);
    assert_eq!(journal.hops("b", "own.jpg", "9").await.unwrap(), Some(2));
    let cursor = Cursor {
        at: Timestamp(500),
        definition: String::new(),
    };
    assert_eq!(journal.cursor("nightly").await.unwrap(), Some(cursor));
    let known = journal.find(DeliveryId([5; 16])).await.unwrap();
    assert_eq!(known, Some(Found::Remembered(None)));
    let partition = PartitionOf {
        trigger: "t".into(),
        group: "g".into(),
        partition: "p/0".into(),
    };
    let progress = Progress {
        watermark: 5,
        stamp: None,
        completed: vec![7],
    };
    let found = journal.progress(&partition).await.unwrap();
    assert_eq!(found, Some(progress));
    let key = journal
        .key_done("t", "k", Timestamp(0))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(key.reply.unwrap().status, Some(200));
    assert_eq!(
        journal.usage(UsageFilter::default()).await.unwrap()[0].invocations,
        3
    );

    // What was pending may run, and whoever comes now in its lane waits for it.
    let pending = journal.pending("t", None, 9).await.unwrap();
    assert_eq!(pending.iter().map(|one| one.seq).collect::<Vec<_>>(), [7]);
    let next = NewDelivery {
        lane: Some("lane".into()),
        ..conformance::new("t", "new")
    };
    let results = journal.commit(
        [
            conformance::accepted("new", vec![next]),
            conformance::done(7),
        ]
        .into(),
    );
    let results = results.await.unwrap();
    let UnitResult::Committed { added, .. } = &results[0] else {
        panic!("{results:?}")
    };
    assert_eq!(
        (added[0].seq, added[0].blocked),
        (10, true),
        "the counter goes on"
    );
    let UnitResult::Committed { released, .. } = &results[1] else {
        panic!("{results:?}")
    };
    assert_eq!(*released, journal.pending("t", None, 9).await.unwrap());
    assert_eq!(released[0].seq, 10);
}

#[tokio::test]
async fn reads_beside_a_running_engine() {
    let folder = Folder::new();
    let options = || SqliteOptions {
        read_only: true,
        ..SqliteOptions::default()
    };
    let missing = SqliteJournal::open(&folder.path(), options()).err();
    assert!(
        matches!(missing, Some(OpenError::Missing { .. })),
        "{missing:?}"
    );

    let journal = folder.journal();
    let beside = SqliteJournal::open(&folder.path(), options()).unwrap();
    assert!(committed(
        &journal.commit([accepting("a")].into()).await.unwrap()[0]
    ));
    assert_eq!(beside.pending("t", None, 9).await.unwrap().len(), 1);
    assert!(beside.stats().await.unwrap().bytes > 0);
    let error = beside.commit([Unit::default()].into()).await.unwrap_err();
    assert!(error.to_string().contains("read only"), "{error}");
}

#[tokio::test]
async fn a_closed_journal_says_so() {
    let folder = Folder::new();
    let journal = folder.journal();
    journal.commit([accepting("a")].into()).await.unwrap();
    journal.close();
    journal.close();
    assert_eq!(
        journal.commit([accepting("b")].into()).await,
        Err(JournalError::Closed)
    );
    assert_eq!(journal.stats().await, Err(JournalError::Closed));
    let left: Vec<_> = fs::read_dir(folder.dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "the log is carried over: {left:?}");
}

/// What SQLite cannot take fails alone, though it shares its transaction.
#[tokio::test]
async fn a_unit_that_sqlite_refuses_fails_alone() {
    let folder = Folder::new();
    let journal = folder.journal();
    let trap = "CREATE TRIGGER trap BEFORE INSERT ON events WHEN new.id = 'bad' \
        BEGIN SELECT raise(ABORT, 'trapped'); END";
    folder.sql().execute_batch(trap).unwrap();
    let ids = ["a", "bad", "b", "bad", "c"];
    let results = futures(ids.map(|id| journal.commit([accepting(id)].into()))).await;
    for (id, result) in ids.into_iter().zip(results) {
        match id {
            "bad" => assert!(
                matches!(result, Err(JournalError::Failed { .. })),
                "{result:?}"
            ),
            _ => assert!(committed(&result.unwrap()[0])),
        }
    }
    assert_eq!(journal.pending("t", None, 9).await.unwrap().len(), 3);
    assert_eq!(journal.stats().await.unwrap().pending, 3);
}

#[tokio::test]
async fn a_shell_with_an_open_transaction_is_waited_for() {
    let folder = Folder::new();
    let journal = folder.journal();
    let shell = folder.sql();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut commits = vec![journal.commit([accepting("a")].into())];
    std::future::poll_fn(|context| {
        assert!(commits[0].as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    shell.execute_batch("COMMIT").unwrap();
    assert!(committed(&commits.remove(0).await.unwrap()[0]));
}

/// The log stays short however much is committed, and unused pages go back in the end.
#[tokio::test]
async fn files_stay_small() {
    let folder = Folder::new();
    let journal = folder.journal();
    let body = bytes::Bytes::from(vec![1; 1 << 20]);
    let mut longest = 0;
    let mut seqs = Vec::new();
    for n in 0..100 {
        let mut unit = accepting(&n.to_string());
        unit.accept[0].event.data = body.clone();
        let results = journal.commit([unit].into()).await.unwrap();
        seqs.push(seq(&results[0]));
        let log = folder.dir.path().join("journal.db-wal");
        longest = longest.max(fs::metadata(log).unwrap().len());
    }
    assert!(longest < 24 << 20, "{longest}");
    let full = journal.bytes();
    assert!(full > 100 << 20, "{full}");
    for seq in seqs {
        journal
            .commit([conformance::done(seq)].into())
            .await
            .unwrap();
    }
    journal.close();
    assert!(journal.bytes() < 20 << 20, "{}", journal.bytes());
    let kept = fs::metadata(folder.path()).unwrap().len();
    assert!(kept < 90 << 20, "the file keeps {kept}");
}

/// Polls them all at once.
async fn futures<T, const N: usize>(all: [BoxFuture<'_, T>; N]) -> Vec<T> {
    let mut all = all.map(|future| (future, None));
    std::future::poll_fn(|context| {
        for (future, result) in &mut all {
            if result.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *result = Some(ready);
            }
        }
        if all.iter().all(|(_, result)| result.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    all.into_iter().filter_map(|(_, result)| result).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_needs_no_look_and_what_is_known_is_known() {
    let folder = Folder::new();
    let journal = folder.journal();
    let ids = |range: Range<usize>| range.map(|n| conformance::id("t", &format!("n{n}")));
    let until = async |what: &str, reached: &(dyn Fn() -> bool + Sync)| {
        let ends = tokio::time::Instant::now() + Duration::from_secs(60);
        while !reached() {
            assert!(tokio::time::Instant::now() < ends, "never {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let whole = async |journal: &SqliteJournal| {
        let known = &journal.shared.known;
        until("whole", &|| !known.is_behind()).await;
    };
    // Many times as many as the first filter is for; every other one leaves, and is remembered.
    for n in 0..1000 {
        let units = [accepting(&format!("n{n}"))];
        let results = journal.commit(units.into()).await.unwrap();
        let UnitResult::Committed { added, .. } = &results[0] else {
            panic!("{results:?}");
        };
        if n % 2 == 0 {
            let leaving = Unit {
                settle: vec![Settle::Done {
                    delivery: added[0].seq,
                }],
                event_ids: vec![EventId {
                    delivery: added[0].id,
                    fingerprint: None,
                    window: Duration::from_secs(60),
                }],
                ..Unit::default()
            };
            assert!(committed(
                &journal.commit([leaving].into()).await.unwrap()[0]
            ));
        }
        for id in ids(0..n + 1) {
            assert!(journal.shared.known.may_hold(id), "{n}: {id}");
        }
    }
    whole(&journal).await;
    let news = |journal: &SqliteJournal| {
        let known = &journal.shared.known;
        ids(2000..3000).filter(|id| !known.may_hold(*id)).count()
    };
    assert!(news(&journal) > 900, "{}", news(&journal));
    drop(journal);

    let journal = folder.journal();
    whole(&journal).await;
    for id in ids(0..1000) {
        assert!(journal.shared.known.may_hold(id), "{id}");
        assert!(journal.find(id).await.unwrap().is_some(), "{id}");
    }
    assert!(
        journal
            .find(conformance::id("t", "n1000"))
            .await
            .unwrap()
            .is_none()
    );
    // The first filter was given more than it is for; after the next commit a larger one is begun.
    assert!(committed(
        &journal
            .commit([accepting("one more")].into())
            .await
            .unwrap()[0]
    ));
    until("larger", &|| news(&journal) > 900).await;
}
