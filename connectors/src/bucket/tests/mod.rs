//! The connector against real folders and a ledger in memory. No test sleeps for luck: they wait
//! for what they expect, or for a scan that began later.

mod fake;
mod faults;
mod known;
mod notice;
mod notify;
mod odd;
mod random;
mod remote;
mod settle;
mod store;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Bucket, BucketConnector, Health, Settings, State, tuning::Tuning};
use fake::Ledger;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits as short as they can be and still tell a writer's pause from its end.
const QUICK: Tuning = Tuning {
    still: Duration::from_millis(150),
    missing: Duration::from_millis(20),
    retry: (Duration::from_millis(5), Duration::from_millis(50)),
    ..Tuning::STANDARD
};

/// Never within a test.
const NEVER: Duration = Duration::from_secs(3600);

/// A folder that is a bucket, another one on the same file system, and a ledger that outlives the
/// connectors.
struct World {
    dir: tempfile::TempDir,
    ledger: Arc<Ledger>,
}

/// A running connector.
struct Running {
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bucket")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        World {
            dir,
            ledger: Arc::default(),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.path().join("bucket").join(key)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join("outside").join(name)
    }

    fn bucket(&self) -> Bucket {
        Bucket::open("b", &self.path(""), true).unwrap()
    }

    fn write(&self, key: &str, content: &str) {
        let path = self.path(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs a connector until its first scan is done.
    async fn start(&self) -> Running {
        self.start_with(QUICK, NEVER).await
    }

    async fn start_with(&self, tuning: Tuning, rescan: Duration) -> Running {
        let running = self.launch(tuning, rescan);
        running.reached(|_, ready| ready).await;
        running
    }

    fn launch(&self, tuning: Tuning, rescan: Duration) -> Running {
        let mut connector = BucketConnector::new(self.bucket(), rescan);
        connector.tuning = tuning;
        let (health, stop) = (connector.health(), CancellationToken::new());
        let task = tokio::spawn(connector.run(self.ledger.clone(), stop.clone()));
        Running { health, stop, task }
    }

    /// Waits until exactly these events were accepted, since the last time, in any order.
    async fn expect(&self, events: &[&str]) {
        self.ledger.expect(events).await;
    }

    /// Waits until the ledger has been told everything up to now: an object made now is the last.
    async fn drain(&self) {
        self.write("~last", "");
        self.ledger
            .wait("the last file", |l| {
                l.events.iter().any(|e| e == "created ~last")
            })
            .await;
    }

    /// Waits until everything that stands still by now has done so for long enough: a linked file
    /// makes no close, so that it has to stand still as well.
    async fn stillness(&self, name: &str) {
        fs::write(self.outside(name), "x").unwrap();
        fs::hard_link(self.outside(name), self.path(name)).unwrap();
        self.expect(&[&format!("created {name}")]).await;
    }

    /// The ledger and the folder agree.
    async fn agree(&self) {
        let bucket = self.bucket();
        let listed = bucket.list("", None, usize::MAX).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|o| (o.key, o.etag)).collect();
        assert_eq!(self.ledger.objects(), listed);
    }
}

impl Running {
    async fn reached(&self, wanted: impl FnMut(&State, bool) -> bool) {
        let reached = self.health.reached(wanted);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("still {:?}", self.health.status()));
    }

    /// Waits until so many files were reported.
    async fn refused(&self, count: u64) {
        let reported = async {
            while self.health.status().refused < count {
                tokio::task::yield_now().await;
            }
        };
        let reported = tokio::time::timeout(PATIENCE, reported).await;
        reported.unwrap_or_else(|_| panic!("reported {:?}", self.health.status()));
    }

    /// Waits until so many events were taken.
    async fn offered(&self, count: u64) {
        let taken = async {
            while self.health.status().offered < count {
                tokio::task::yield_now().await;
            }
        };
        let taken = tokio::time::timeout(PATIENCE, taken).await;
        taken.unwrap_or_else(|_| panic!("took {:?}", self.health.status()));
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        assert_eq!(self.health.status().state, State::Stopped);
    }
}

/// Makes a file older than any wait for stillness.
fn age(path: &Path) {
    let old = std::time::SystemTime::now() - Duration::from_secs(600);
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(old)
        .unwrap();
}
