//! An engine for tests of the dispatcher: the real sandbox and journal, with the tests as its sources.

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tidemill_core::{
    delivery::Seq,
    dispatch::Step,
    event::Event,
    hold::{Held, Holds, Position, Settlement},
    time::Timestamp,
};
use tidemill_journal::Journal as _;
use tidemill_sandbox::Compiler;
use tokio::{
    task::JoinHandle,
    time::{Instant, advance},
};
use tokio_util::sync::CancellationToken;

use super::{Drained, intake::EngineIntake};
use crate::{
    assemble::{Assembled, Selection, assemble},
    clock,
};

/// One attempt at a time of most, so that whoever sleeps keeps all others waiting.
const CONFIG: &str = r#"
[connections.broker]
amqp = "amqp://127.0.0.1"
[connections.log]
kafka = { brokers = ["127.0.0.1:9"] }
[functions.probe]
component = "PROBE"
concurrency = 1
timeout = "15m"
allow = { store = ["probe"] }
[functions.many]
component = "PROBE"
concurrency = 16
timeout = "15m"
allow = { store = ["probe"] }
[triggers.many]
function = "many"
amqp = { connection = "broker", queue = "many" }
[triggers.message]
function = "probe"
amqp = { connection = "broker", queue = "work" }
order_by = "$.key"
[triggers.record]
function = "probe"
kafka = { connection = "log", topics = ["work"], group = "work" }
"#;

/// How long the sleeper sleeps: less than its timeout, and more than anybody is held unstarted.
pub const ASLEEP: Duration = Duration::from_secs(13 * 60);

/// How long a test waits for what needs no clock.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An engine whose sources are the tests.
pub struct Engine {
    pub parts: Assembled,
    pub intake: Arc<EngineIntake>,
    pub stop: CancellationToken,
    pub driver: JoinHandle<Drained>,
}

impl Engine {
    pub async fn start(dir: &TempDir) -> Engine {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let probe = root.join("../functions/build/probe.wasm");
        let config = CONFIG.replace("PROBE", probe.to_str().unwrap());
        let loaded = tidemill_config::parse(&dir.path().join("tidemill.toml"), &config).unwrap();
        let stop = CancellationToken::new();
        let parts = assemble(&loaded.plan, Selection::All, Compiler::Here, &stop)
            .await
            .unwrap();
        let dispatcher = parts.dispatcher.clone();
        let driver = {
            let dispatcher = dispatcher.clone();
            tokio::spawn(async move { dispatcher.drive(Duration::ZERO).await })
        };
        Engine {
            parts,
            intake: Arc::new(EngineIntake::new(dispatcher, 0, CancellationToken::new())),
            stop,
            driver,
        }
    }

    /// Offers an event as its source does, which waits for what becomes of it.
    pub fn hold(&self, source: &str, id: &str, position: Option<Position>, data: String) -> Waits {
        let held = held(source, id, position, data);
        let intake = self.intake.clone();
        tokio::spawn(async move { intake.hold(held).await })
    }

    pub fn message(&self, id: &str, data: String) -> Waits {
        self.hold("amqp:broker/work", id, None, data)
    }

    /// The next of a lane.
    pub fn append(&self, lane: &str, n: usize) -> Waits {
        let order = format!(r#"{{ "do": "append", "key": "{lane}", "count": {n} }}"#);
        self.message(&format!("{lane}-{n}"), order)
    }

    /// Has an attempt sleep, and waits until it has started.
    pub async fn sleeper(&self) -> Waits {
        let order = format!(r#"{{ "do": "sleep", "ms": {} }}"#, ASLEEP.as_millis());
        let waits = self.message("sleeper", order);
        until("it sleeps", || self.parts.dispatcher.running() == 1).await;
        waits
    }

    pub async fn pending(&self) -> u64 {
        // Looked up in the file, for which a test that asks again and again waits, and leaves all others their turn.
        let triggers = self.parts.journal.pending_triggers().await.unwrap();
        triggers.into_iter().map(|(_, pending)| pending).sum()
    }

    pub async fn until_pending(&self, count: u64) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.pending().await != count {
            assert!(std::time::Instant::now() < deadline, "not {count} pending");
        }
    }

    /// Nothing starts any more but what the test does.
    pub async fn without_driver(dir: &TempDir) -> Engine {
        let engine = Engine::start(dir).await;
        engine.driver.abort();
        engine
    }

    /// What starts next, so many of one queue.
    pub async fn starts(&self, count: usize) -> (usize, Vec<Seq>) {
        let dispatcher = &self.parts.dispatcher;
        let (mut of, mut seqs) = (0, Vec::new());
        while seqs.len() < count {
            let step = dispatcher.lock().next(clock::now());
            match step {
                Step::Start { queue, seq } => {
                    of = queue;
                    seqs.push(seq);
                }
                Step::Load {
                    queue,
                    after,
                    limit,
                } => {
                    let name = dispatcher.table.load().queue_name(queue);
                    let loads = dispatcher.clone();
                    loads.load(queue, &name, after, limit).await;
                }
                step => panic!("{step:?}"),
            }
        }
        (of, seqs)
    }

    /// Stops at once: what runs is cut off.
    pub async fn stop(self) {
        self.stop.cancel();
        match self.driver.await {
            Err(error) if error.is_cancelled() => {}
            driven => drop(driven.unwrap()),
        }
        self.parts.journal.close();
    }
}

pub fn held(source: &str, id: &str, position: Option<Position>, data: String) -> Held {
    Held {
        source: source.to_owned(),
        event: Event {
            id: id.to_owned(),
            source: source.to_owned(),
            kind: "test".to_owned(),
            subject: None,
            time: Timestamp(0),
            datacontenttype: Some("application/json".to_owned()),
            traceparent: None,
            hops: 0,
            headers: Vec::new(),
            data: data.into(),
        },
        stable: position.is_none(),
        position,
    }
}

/// A source that waits for what becomes of its event.
pub type Waits = JoinHandle<Settlement>;

pub fn settled(waits: &[Waits]) -> usize {
    waits.iter().filter(|one| one.is_finished()).count()
}

/// Waits without moving the clock.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::task::yield_now().await;
    }
}

/// Moves the clock until a [sleeper](Engine::sleeper) that started then has ended.
pub async fn wake(sleeper: Waits, started: Instant) -> Settlement {
    advance(ASLEEP.saturating_sub(started.elapsed())).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        assert!(
            std::time::Instant::now() < deadline,
            "the sleeper never wakes"
        );
        let look = std::time::Instant::now() + Duration::from_millis(100);
        while std::time::Instant::now() < look {
            if sleeper.is_finished() {
                return sleeper.await.unwrap();
            }
            tokio::task::yield_now().await;
        }
        // It fell asleep when its handler had come so far, perhaps after the clock was moved for the first time.
        advance(Duration::from_secs(1)).await;
    }
}

/// Keeps the clock from moving by itself, as it does whenever all tasks wait: the journal works in a
/// thread of its own. Until it is dropped.
pub struct StandsStill(
    #[expect(dead_code, reason = "its drop ends the wait")] std::sync::mpsc::Sender<()>,
);

impl StandsStill {
    pub fn new() -> StandsStill {
        let (sender, receiver) = std::sync::mpsc::channel();
        // tokio moves the clock only while no thread blocks.
        tokio::task::spawn_blocking(move || receiver.recv());
        StandsStill(sender)
    }
}

/// A value of the probe's store.
pub fn value(dir: &TempDir, key: &str) -> Option<String> {
    let journal = rusqlite::Connection::open(dir.path().join("data/journal.db")).unwrap();
    let sql = "SELECT CAST(value AS TEXT) FROM kv WHERE store = 'probe' AND key = ?1";
    journal.query_row(sql, [key], |row| row.get(0)).ok()
}
