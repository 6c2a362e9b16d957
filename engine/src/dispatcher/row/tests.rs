//! Rows: how they are made, and how each delivery of one comes to its end.

use std::collections::HashMap;

use tempfile::TempDir;
use tidemill_core::{
    dispatch::QueueSettings,
    hold::{Held, Holds, Settlement},
    intake::{Intake, Mark, Offer},
};
use tidemill_journal::{Journal as _, Settle};
use tidemill_sandbox::Spare;

use super::*;
use crate::dispatcher::testing::{Engine, StandsStill, held, until, value};

/// The queues of two triggers; of those of the first that are held, so many wait.
fn dispatch(waiting: u64) -> (Dispatch, usize) {
    let settings = QueueSettings {
        gate: 0,
        rate: None,
        held: true,
        batch: None,
    };
    let mut dispatch = Dispatch::new(&[settings; 6], &[1000], 1000);
    let queue = Queue::Held.of(0);
    for n in 0..waiting {
        let (seq, due, size) = (2 * n as Seq + 1, Timestamp(0), 1);
        dispatch.arrived(queue, Waiting { seq, due, size });
    }
    (dispatch, queue)
}

/// How many start by each look, until all that wait have.
fn sizes(waiting: u64) -> Vec<usize> {
    let (mut dispatch, _) = dispatch(waiting);
    let mut sizes = Vec::new();
    loop {
        let (rows, step) = Row::next(&mut dispatch, Timestamp(0), 2);
        sizes.extend(rows.iter().map(|row| row.seqs.len()));
        match step {
            None => {}
            Some(Step::Start { .. }) => sizes.push(1),
            Some(step) => {
                assert_eq!(step, Step::Wait(None));
                return sizes;
            }
        }
    }
}

#[test]
fn rows_grow_with_what_runs_and_waits() {
    // Enough for all cores comes first.
    assert_eq!(sizes(4), [1; 4]);
    assert_eq!(sizes(12), [3, 3, 3, 3]);
    let sizes = sizes(500);
    assert_eq!(sizes.iter().sum::<usize>(), 500);
    assert!(sizes.contains(&MOST), "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= MOST), "{sizes:?}");
}

#[test]
fn rows_of_several_triggers_grow_side_by_side() {
    let (mut dispatch, queue) = dispatch(40);
    let (due, other) = (Timestamp(0), Queue::Held.of(1));
    for n in 0..40 {
        let (seq, size) = (1001 + 2 * n, 1);
        dispatch.arrived(other, Waiting { seq, due, size });
    }
    // Less than all that wait, and more than a turn of each queue.
    let mut started = HashMap::new();
    for _ in 0..20 {
        let Step::Start { queue, .. } = dispatch.next(due) else {
            panic!("all wait to start");
        };
        *started.entry(queue).or_default() += 1;
    }
    let (rows, step) = Row::next(&mut dispatch, due, 1);
    assert_eq!((rows.len(), step), (2, None), "{rows:?}");
    for row in &rows {
        *started.entry(row.queue).or_default() += row.seqs.len();
    }
    assert_eq!(started.values().sum::<usize>(), 60);
    assert!(
        started[&queue].abs_diff(started[&other]) <= 8,
        "{started:?}"
    );
}

#[test]
fn a_call_is_in_no_row() {
    let (mut dispatch, queue) = dispatch(40);
    let due = Timestamp(0);
    for _ in 0..32 {
        dispatch.next(due);
    }
    let call = Waiting {
        seq: 80,
        due,
        size: 1,
    };
    dispatch.arrived(queue, call);
    let (rows, step) = Row::next(&mut dispatch, due, 2);
    let seqs = (32..40).map(|n| 2 * n + 1).collect();
    assert_eq!(rows, [Row { queue, seqs }]);
    assert_eq!(step, Some(Step::Start { queue, seq: 80 }));
}

const ORDERS: [&str; 7] = [
    r#"{ "do": "sleep", "ms": 840000 }"#,
    r#"{ "do": "ok" }"#,
    r#"{ "do": "append", "key": "row", "count": 1 }"#,
    r#"{ "do": "reject", "text": "no" }"#,
    r#"{ "do": "ok" }"#,
    r#"{ "do": "trap", "text": "no" }"#,
    r#"{ "do": "ok" }"#,
];

/// Runs what starts next as a row, and waits until all but the sleeper have ended, each as it should: three are
/// ok, one is too and wrote a key, one is rejected, and one is to run again.
async fn run_orders(engine: &Engine, dir: &TempDir, pending: u64) {
    let dispatcher = &engine.parts.dispatcher;
    let (queue, seqs) = engine.starts(ORDERS.len()).await;
    let trigger = dispatcher.table.load().trigger(queue).clone();
    dispatcher
        .clone()
        .run_row(
            Row { queue, seqs },
            trigger,
            RowGuard::new(dispatcher.clone()),
        )
        .await;
    until("all but the sleeper have ended", || {
        dispatcher.running() == 1
    })
    .await;
    assert_eq!(value(dir, "row").as_deref(), Some("1 "));
    let stats = engine.parts.journal.stats().await.unwrap();
    assert_eq!((stats.pending, stats.dead), (pending, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_in_a_row_waits_for_nobody_and_comes_to_its_own_end() {
    let _clock = StandsStill::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::without_driver(&dir).await;
    let orders = ORDERS.iter().enumerate();
    let hold = |(n, order): (usize, &&str)| engine.intake.hold(message(n, order));
    let mut waits: Vec<_> = orders.map(hold).collect();
    // The one to run again is parked.
    run_orders(&engine, &dir, 1).await;
    let sleeper = waits.remove(0);
    for wait in waits {
        assert_eq!(wait.await, Settlement::Settle);
    }
    drop(sleeper);
    engine.stop().await;
}

#[tokio::test(start_paused = true)]
async fn those_that_the_journal_keeps_make_rows_too() {
    let _clock = StandsStill::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::without_driver(&dir).await;
    accept(&engine, &ORDERS).await;
    // The sleeper, and the one to run again.
    run_orders(&engine, &dir, 2).await;
    engine.stop().await;
}

#[tokio::test]
async fn if_one_was_settled_elsewhere_the_others_of_its_row_are_completed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::without_driver(&dir).await;
    let dispatcher = &engine.parts.dispatcher;
    accept(&engine, &[r#"{ "do": "ok" }"#; 3]).await;
    let (queue, seqs) = engine.starts(3).await;
    let trigger = dispatcher.table.load().trigger(queue).clone();
    let mut all = Vec::new();
    for (&seq, taken) in seqs.iter().zip(dispatcher.take_all(&seqs).await) {
        let start = Start::new(queue, seq);
        let what = What::Journaled(Box::new(taken));
        let member = dispatcher.begin_turn(Turn { start, what }, &trigger).await;
        let Ok(member) = member else {
            panic!("it does not run");
        };
        let running = [member.running(start, &trigger)];
        let tools = dispatcher.tools(&trigger.function, Spare::default());
        let attempt = dispatcher.attempt(tools, &running, BTreeSet::new()).await;
        let Ok(attempt) = attempt else {
            panic!("there is no answer");
        };
        all.push(Finished {
            start,
            member,
            attempt,
        });
    }
    let settled = Unit {
        settle: vec![Settle::Done { delivery: seqs[1] }],
        ..Unit::default()
    };
    dispatcher.commit(settled).await.unwrap();
    assert_eq!(engine.pending().await, 2);
    dispatcher.complete_together(&trigger, all).await;
    assert_eq!(engine.pending().await, 0);
    assert_eq!(dispatcher.running(), 0);
    engine.stop().await;
}

#[tokio::test]
async fn what_comes_while_all_cores_have_rows_waits_for_one_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(&dir).await;
    let dispatcher = &engine.parts.dispatcher;
    let rows = (0..dispatcher.cores).map(|_| RowGuard::new(dispatcher.clone()));
    let mut rows: Vec<RowGuard> = rows.collect();
    let order = r#"{ "do": "ok" }"#;
    let waits = engine.hold("amqp:broker/many", "1", None, order.to_owned());
    // Time for whoever would be wrong to be.
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(dispatcher.running(), 0);
    drop(rows.pop());
    assert_eq!(waits.await.unwrap(), Settlement::Settle);
    drop(rows);
    engine.stop().await;
}

fn message(n: usize, order: &str) -> Held {
    held("amqp:broker/many", &n.to_string(), None, order.to_owned())
}

/// Has the journal keep these.
async fn accept(engine: &Engine, orders: &[&str]) {
    for (n, order) in orders.iter().enumerate() {
        let Held { source, event, .. } = message(n, order);
        let offer = Offer {
            source,
            event,
            mark: Mark::Fresh,
            due: None,
        };
        engine.intake.offer(offer).await.unwrap();
    }
}
