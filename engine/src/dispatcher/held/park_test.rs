//! Held deliveries that wait for too long, with the real sandbox and journal, on a clock that the tests
//! move.

use std::time::Duration;

use tidemill_core::{
    dispatch::Step,
    hold::{Holds, Partition, Position, Settlement},
    limits,
};
use tokio::time::{Instant, advance};

use crate::dispatcher::testing::{
    Engine, PATIENCE, StandsStill, Waits, held, settled, until, value, wake,
};

use super::*;

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
    advance(Duration::from_secs(1) + WATCH).await;
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
    assert_eq!(wake(sleeper, begin).await, Settlement::Settle);
    until("the record is done", || record.is_finished()).await;
    until("the message is done", || value(&dir, ":alone").is_some()).await;
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

    assert_eq!(wake(sleeper, begin).await, Settlement::Settle);
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
