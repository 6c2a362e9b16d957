//! What is left of an engine that was killed: everything that it acknowledged, nothing by halves,
//! and no lock. The engine is this test's own program, started again.

use std::{
    collections::hash_map::RandomState,
    env,
    hash::{BuildHasher, Hasher},
    io::{BufRead, BufReader, Lines, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use tidemill_core::{
    delivery::Work,
    event::Event,
    identity::DeliveryId,
    ledger::{LedgerEntry, LedgerMove},
    time::Timestamp,
};
use tidemill_journal::{
    Accepted, DataLock, Journal, KvWrite, LockError, LockInfo, NewDelivery, Settle, SqliteJournal,
    SqliteOptions, Unit, UnitResult,
};

const FOLDER: &str = "TIDEMILL_TEST_FOLDER";
const ROUND: &str = "TIDEMILL_TEST_ROUND";
const KILLS: u64 = 10;
/// Commits under way at a time.
const IN_FLIGHT: u64 = 8;

/// An event, a value and a step of a ledger, all of one name.
fn unit(name: &str) -> Unit {
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
        data: vec![b'x'; 3000].into(),
    };
    let id = DeliveryId::derive("t", "s", name);
    let new = NewDelivery::new(id, "t", Work::Handle, Timestamp(0));
    let to = LedgerEntry {
        key: name.to_owned(),
        etag: Some("1".into()),
        size: 1,
        modified: Timestamp(0),
        deletes: 0,
    };
    let value = Some(name.to_owned().into());
    Unit {
        accept: vec![Accepted {
            event,
            deliveries: vec![new],
        }],
        writes: vec![KvWrite {
            store: "s".into(),
            key: name.to_owned(),
            value,
        }],
        ledger: vec![LedgerMove {
            bucket: "b".into(),
            from: None,
            to,
        }],
        ..Unit::default()
    }
}

fn open(folder: &Path) -> SqliteJournal {
    SqliteJournal::open(&folder.join("journal.db"), SqliteOptions::default()).unwrap()
}

/// Not a test of its own: what the started program does. It commits and says so until it is killed.
#[test]
fn engine() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let mut lock = DataLock::acquire(&folder, Timestamp(7)).unwrap();
    lock.set_admin("127.0.0.1:8081").unwrap();
    say("locked");
    let Ok(round) = env::var(ROUND) else {
        // Until the other end of the pipe is gone.
        std::io::stdin().lines().for_each(drop);
        return;
    };
    let journal = open(&folder);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    let journal = std::rc::Rc::new(journal);
    for lane in 0..IN_FLIGHT {
        let (journal, round) = (journal.clone(), round.clone());
        local.spawn_local(async move {
            for n in 0.. {
                let name = format!("{round}-{lane}-{n}");
                let results = journal.commit([unit(&name)].into()).await.unwrap();
                let UnitResult::Committed { added, .. } = &results[0] else {
                    panic!("{results:?}")
                };
                say(&format!("accepted {name}"));
                if n % 3 == 0 {
                    let settle = vec![Settle::Done {
                        delivery: added[0].seq,
                    }];
                    let done = Unit {
                        settle,
                        ..Unit::default()
                    };
                    journal.commit([done].into()).await.unwrap();
                    say(&format!("done {name}"));
                }
            }
        });
    }
    runtime.block_on(local);
}

fn say(line: &str) {
    // The test harness may have a line open.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes())
        .and_then(|()| out.flush())
        .unwrap();
}

struct Engine {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Engine {
    fn start(folder: &Path, round: Option<u64>) -> Engine {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "engine", "--nocapture", "--test-threads=1"]);
        command
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(round) = round {
            command.env(ROUND, round.to_string());
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut engine = Engine { child, lines };
        while engine.next().expect("it says when it is there") != "locked" {}
        engine
    }

    fn next(&mut self) -> Option<String> {
        self.lines.next().map(|line| line.expect("a pipe"))
    }

    /// Kills it, and returns what it had still said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.map_while(Result::ok).collect()
    }
}

#[tokio::test]
async fn everything_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (mut accepted, mut done) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        let random = RandomState::new().build_hasher().finish() % 400;
        println!("round {round}: killed after {random} lines");
        let mut engine = Engine::start(folder.path(), Some(round));
        let mut lines: Vec<_> = (0..random).map_while(|_| engine.next()).collect();
        lines.extend(engine.kill());
        for line in &lines {
            // A pipe takes a short line as a whole or not at all.
            match line.split_once(' ') {
                Some(("accepted", name)) => accepted.push(name.to_owned()),
                Some(("done", name)) => done.push(name.to_owned()),
                _ => {}
            }
        }

        let lock = DataLock::acquire(folder.path(), Timestamp(8)).unwrap();
        let journal = open(folder.path());
        check(&journal, &accepted, &done).await;
        drop((journal, lock));
    }
    assert!(
        !accepted.is_empty() && !done.is_empty(),
        "it was never killed at work"
    );
}

async fn check(journal: &SqliteJournal, accepted: &[String], done: &[String]) {
    let mut pending = Vec::new();
    for found in journal.pending("t", None, usize::MAX).await.unwrap() {
        let delivery = journal.delivery(found.seq).await.unwrap().unwrap();
        assert_eq!(delivery.event.data.len(), 3000);
        pending.push(delivery.event.id);
    }
    let keys = journal.kv_keys("s", None, usize::MAX).await.unwrap();
    let ledger = journal.ledger_page("b", None, usize::MAX).await.unwrap();
    let ledger: Vec<_> = ledger.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ledger, "parts of a unit are there without the others");
    for name in &pending {
        assert!(
            keys.binary_search(name).is_ok(),
            "only the delivery of {name} is there"
        );
    }
    for name in accepted {
        assert!(
            keys.binary_search(name).is_ok(),
            "{name} was acknowledged and is lost"
        );
    }
    for name in done {
        assert!(!pending.contains(name), "{name} was done and is back");
    }
}

#[test]
fn two_processes_contend_for_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path(), None);
    let holder = LockInfo {
        pid: engine.child.id(),
        admin: Some("127.0.0.1:8081".into()),
        started: Timestamp(7),
    };
    assert_eq!(
        LockInfo::read(folder.path()).unwrap().as_ref(),
        Some(&holder)
    );
    match DataLock::acquire(folder.path(), Timestamp(8)) {
        Err(LockError::Taken { holder: found, .. }) => assert_eq!(found, Some(holder)),
        other => panic!("{other:?}"),
    }
    engine.kill();
    assert_eq!(
        LockInfo::read(folder.path()).unwrap(),
        None,
        "the file is stale"
    );
    DataLock::acquire(folder.path(), Timestamp(8)).unwrap();
}
