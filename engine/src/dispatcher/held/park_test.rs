//! Held deliveries that wait for too long, with the real sandbox and journal, on a clock that the tests
//! move.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use tidemill_core::{
    dispatch::Step,
    event::Event,
    hold::{Held, Holds, Partition, Position, Settlement},
    limits,
    time::Timestamp,
};
use tidemill_journal::Journal as _;
use tidemill_sandbox::Compiler;
use tokio::{
    task::JoinHandle,
    time::{Instant, advance},
};
use tokio_util::sync::CancellationToken;

use crate::{
    assemble::{Assembled, Selection, assemble},
    dispatcher::{Drained, intake::EngineIntake, row::Row},
};

use super::*;

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
const ASLEEP: Duration = Duration::from_secs(14 * 60);

/// How long a test waits for what needs no clock.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine whose sources are the tests.
struct Engine {
    parts: Assembled,
    intake: Arc<EngineIntake>,
    stop: CancellationToken,
    driver: JoinHandle<Drained>,
}

impl Engine {
    async fn start(dir: &TempDir) -> Engine {
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
    fn hold(&self, source: &str, id: &str, position: Option<Position>, data: String) -> Waits {
        let held = held(source, id, position, data);
        let intake = self.intake.clone();
        tokio::spawn(async move { intake.hold(held).await })
    }

    fn message(&self, id: &str, data: String) -> Waits {
        self.hold("amqp:broker/work", id, None, data)
    }

    /// The next of a lane.
    fn append(&self, lane: &str, n: usize) -> Waits {
        let order = format!(r#"{{ "do": "append", "key": "{lane}", "count": {n} }}"#);
        self.message(&format!("{lane}-{n}"), order)
    }

    /// Has an attempt sleep, and waits until it does.
    async fn sleeper(&self) -> Waits {
        let order = format!(r#"{{ "do": "sleep", "ms": {} }}"#, ASLEEP.as_millis());
        let waits = self.message("sleeper", order);
        until("it sleeps", || self.parts.dispatcher.running() == 1).await;
        waits
    }

    async fn pending(&self) -> u64 {
        self.parts.journal.stats().await.unwrap().pending
    }

    async fn until_pending(&self, count: u64) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.pending().await != count {
            assert!(std::time::Instant::now() < deadline, "not {count} pending");
        }
    }

    /// Stops at once: what runs is cut off.
    async fn stop(self) {
        self.stop.cancel();
        self.driver.await.unwrap();
        self.parts.journal.close();
    }
}

fn held(source: &str, id: &str, position: Option<Position>, data: String) -> Held {
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
type Waits = JoinHandle<Settlement>;

fn settled(waits: &[Waits]) -> usize {
    waits.iter().filter(|one| one.is_finished()).count()
}

/// Waits without moving the clock.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::task::yield_now().await;
    }
}

/// Keeps the clock from moving by itself, as it does whenever all tasks wait: the journal works in a
/// thread of its own. Until it is dropped.
struct StandsStill(
    #[expect(dead_code, reason = "its drop ends the wait")] std::sync::mpsc::Sender<()>,
);

impl StandsStill {
    fn new() -> StandsStill {
        let (sender, receiver) = std::sync::mpsc::channel();
        // tokio moves the clock only while no thread blocks.
        tokio::task::spawn_blocking(move || receiver.recv());
        StandsStill(sender)
    }
}

/// A value of the probe's store.
fn value(dir: &TempDir, key: &str) -> Option<String> {
    let journal = rusqlite::Connection::open(dir.path().join("data/journal.db")).unwrap();
    let sql = "SELECT CAST(value AS TEXT) FROM kv WHERE store = 'probe' AND key = ?1";
    journal.query_row(sql, [key], |row| row.get(0)).ok()
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_is_parked_and_keeps_its_order_through_a_restart() {
    let _clock = StandsStill::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(&dir).await;
    let sleeper = engine.sleeper().await;
    let lane: Vec<Waits> = (0..5).map(|n| engine.append("lane", n)).collect();
    // Without a lane it is behind nobody.
    let alone = engine.message("alone", r#"{ "do": "ok" }"#.to_owned());
    until("all stand in line", || {
        engine.intake.dispatcher.held.lock().deliveries.len() == 7
    })
    .await;
    advance(limits::HELD_IN_LINE - Duration::from_secs(1)).await;
    // Time for whoever would be wrong to be.
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert_eq!(engine.pending().await, 0);
    }
    advance(Duration::from_secs(2)).await;
    until("the lane is settled", || settled(&lane) == lane.len()).await;
    engine.until_pending(5).await;
    // The head of the lane too, as those behind it may not pass it.
    for waits in lane {
        assert_eq!(waits.await.unwrap(), Settlement::Settle);
    }
    assert!(!alone.is_finished());
    assert_eq!(value(&dir, "lane"), None);
    engine.stop().await;
    assert_eq!(sleeper.await.unwrap(), Settlement::Release);
    assert_eq!(alone.await.unwrap(), Settlement::Release);

    // Whoever comes after the restart is behind the parked.
    let engine = Engine::start(&dir).await;
    let last = engine.append("lane", 5);
    until("all are done", || {
        value(&dir, "lane").is_some_and(|list| list.ends_with("5 "))
    })
    .await;
    assert_eq!(value(&dir, "lane").as_deref(), Some("0 1 2 3 4 5 "));
    assert_eq!(last.await.unwrap(), Settlement::Settle);
    engine.until_pending(0).await;
    engine.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_begin_is_parked_before_its_broker_takes_it_back_and_a_record_never()
{
    let _clock = StandsStill::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(&dir).await;
    let begin = Instant::now();
    let sleeper = engine.sleeper().await;
    let message = engine.message(
        "alone",
        r#"{ "do": "count", "key": "", "type": "" }"#.to_owned(),
    );
    let partition = Partition {
        source: "kafka:log/work@work".to_owned(),
        group: "work".to_owned(),
        partition: "work/0".to_owned(),
    };
    engine.intake.take_up(&partition).await.unwrap();
    let position = Position {
        partition: Arc::new(partition.clone()),
        offset: 0,
        stamp: 0,
        key: None,
    };
    let order = r#"{ "do": "count", "key": "", "type": "" }"#.to_owned();
    let record = engine.hold(&partition.source, "record", Some(position), order);
    until("all stand in line", || {
        engine.intake.dispatcher.held.lock().deliveries.len() == 3
    })
    .await;
    // Each look of those who wait is one of these.
    while begin.elapsed() + limits::HELD_IN_LINE < limits::HELD_UNSTARTED {
        advance(limits::HELD_IN_LINE).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(engine.pending().await, 0, "after {:?}", begin.elapsed());
    }
    advance(limits::HELD_IN_LINE).await;
    until("it is parked", || message.is_finished()).await;
    engine.until_pending(1).await;
    assert!(!record.is_finished() && !sleeper.is_finished());
    assert_eq!(value(&dir, ":alone"), None);
    advance(ASLEEP - begin.elapsed()).await;
    until("the record is done", || record.is_finished()).await;
    until("the message is done", || value(&dir, ":alone").is_some()).await;
    assert_eq!(sleeper.await.unwrap(), Settlement::Settle);
    engine.until_pending(0).await;
    assert_eq!(value(&dir, ":record").as_deref(), Some("1"));
    engine.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_over_its_budget_waits_at_its_source_and_goes_on() {
    let _clock = StandsStill::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(&dir).await;
    let begin = Instant::now();
    let sleeper = engine.sleeper().await;
    let count = |n: usize| {
        let order = r#"{ "do": "count", "key": "lane", "type": "" }"#;
        engine.message(&n.to_string(), order.to_owned())
    };
    let parked: Vec<Waits> = (0..limits::LANE_PARKED).map(count).collect();
    let all = limits::LANE_PARKED + 1;
    until("all stand in line", || {
        engine.intake.dispatcher.held.lock().deliveries.len() == all
    })
    .await;
    advance(limits::HELD_IN_LINE).await;
    until("they are parked", || {
        settled(&parked) == limits::LANE_PARKED
    })
    .await;
    engine.until_pending(limits::LANE_PARKED as u64).await;

    // As many as are parked, and no more.
    let over: Vec<Waits> = (0..5).map(|n| count(limits::LANE_PARKED + n)).collect();
    until("they stand in line", || {
        engine.intake.dispatcher.held.lock().deliveries.len() == 6
    })
    .await;
    for _ in 0..3 {
        advance(limits::HELD_IN_LINE).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(engine.pending().await, limits::LANE_PARKED as u64);
    }
    assert_eq!(settled(&over), 0);

    advance(ASLEEP - begin.elapsed()).await;
    assert_eq!(sleeper.await.unwrap(), Settlement::Settle);
    let (mut left, mut since) = (u64::MAX, std::time::Instant::now());
    while settled(&over) < over.len() {
        let pending = engine.pending().await;
        if pending < left {
            (left, since) = (pending, std::time::Instant::now());
            // Those who wait for room look again now and then.
            advance(limits::HELD_LOOK).await;
        }
        assert!(since.elapsed() < PATIENCE, "{left} are left");
    }
    // They had no room before one was done, and are parked before all are.
    let done = |dir| value(dir, "lane").map_or(0, |done| done.parse().unwrap());
    let all = limits::LANE_PARKED + over.len();
    assert!((1..all).contains(&done(&dir)), "{}", done(&dir));
    engine.stop().await;
    let journal = rusqlite::Connection::open(dir.path().join("data/journal.db")).unwrap();
    let sql = "SELECT count(*) FROM deliveries WHERE died IS NULL";
    let pending = journal.query_row(sql, [], |row| row.get::<_, i64>(0));
    assert_eq!(
        done(&dir) + pending.unwrap() as usize,
        all,
        "each is done or parked"
    );
}

#[tokio::test]
async fn what_has_started_is_not_given_back_before_its_task_begins() {
    for give_back in [
        |dispatcher: &Dispatcher| dispatcher.release(false),
        |dispatcher: &Dispatcher| dispatcher.release_source(0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::start(&dir).await;
        let dispatcher = &engine.intake.dispatcher;
        let message = |id| held("amqp:broker/work", id, None, r#"{ "do": "ok" }"#.to_owned());
        let [first, second] = ["first", "second"].map(|id| engine.intake.hold(message(id)));
        // In place of the driver, which has had no turn since. One attempt at a time.
        let seq = loop {
            match dispatcher.lock().next(clock::now()) {
                Step::Start { seq, .. } => break seq,
                // What the journal has of other queues.
                Step::Load { .. } => {}
                step => panic!("{step:?}"),
            }
        };
        give_back(dispatcher);
        assert_eq!(second.await, Settlement::Release);
        let started = dispatcher.held.lock().deliveries.get(&seq).cloned();
        assert_eq!(started.unwrap().told.get(), None);
        drop(first);
        engine.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_in_a_row_waits_for_nobody_and_comes_to_its_own_end() {
    let _clock = StandsStill::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(&dir).await;
    let dispatcher = &engine.intake.dispatcher;
    let message = |n: usize, order: &str| {
        let source = "amqp:broker/many";
        engine
            .intake
            .hold(held(source, &n.to_string(), None, order.to_owned()))
    };
    let orders = [
        r#"{ "do": "sleep", "ms": 840000 }"#,
        r#"{ "do": "ok" }"#,
        r#"{ "do": "append", "key": "row", "count": 1 }"#,
        r#"{ "do": "reject", "text": "no" }"#,
        r#"{ "do": "ok" }"#,
        r#"{ "do": "trap", "text": "no" }"#,
        r#"{ "do": "ok" }"#,
    ];
    let orders = orders.iter().enumerate();
    let mut waits: Vec<_> = orders.map(|(n, order)| message(n, order)).collect();
    // In place of the driver, which has had no turn since.
    let (mut queue, mut seqs) = (0, Vec::new());
    while seqs.len() < waits.len() {
        match dispatcher.lock().next(clock::now()) {
            Step::Start { queue: of, seq } => {
                queue = of;
                seqs.push(seq);
            }
            Step::Load { .. } => {}
            step => panic!("{step:?}"),
        }
    }
    let trigger = dispatcher.table.load().trigger(queue).clone();
    dispatcher
        .clone()
        .run_row(Row { queue, seqs }, trigger)
        .await;
    let sleeper = waits.remove(0);
    for wait in waits {
        assert_eq!(wait.await, Settlement::Settle);
    }
    until("all but the sleeper have ended", || {
        dispatcher.running() == 1
    })
    .await;
    assert_eq!(value(&dir, "row").as_deref(), Some("1 "));
    let stats = engine.parts.journal.stats().await.unwrap();
    assert_eq!((stats.pending, stats.dead), (1, 1));
    drop(sleeper);
    engine.stop().await;
}
