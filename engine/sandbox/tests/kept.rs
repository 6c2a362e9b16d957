//! Instances that serve many events, and those that are ready before the first.

mod common;

use std::{sync::Arc, time::Duration};

use common::*;
use tidemill_core::{limits as bounds, outcome::Outcome};
use tidemill_sandbox::{Finished, Function, Keep, Limits, Problem};

const REUSED: Keep = Keep {
    warm: 0,
    reuse: true,
};

/// A handler that answers with 200 and how many events its instance has served. The length of the event's
/// type says what else it does: 4, it traps; 5, it grows by 37 MiB; 6, it rejects; 7, it loops for ever.
const COUNT: &str = r#"
    (memory (export "memory") 64)
    (global $served (mut i32) (i32.const 0))
    (func $handle (param $event i32) (result i32) (local $length i32)
        (local.set $length (i32.load offset=20 (local.get $event)))
        (global.set $served (i32.add (global.get $served) (i32.const 1)))
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 64))
        (if (i32.eq (local.get $length) (i32.const 4)) (then (unreachable)))
        (if (i32.eq (local.get $length) (i32.const 5))
            (then (drop (memory.grow (i32.const 600)))))
        (if (i32.eq (local.get $length) (i32.const 6)) (then
            (i32.store8 (i32.const 0) (i32.const 1))
            (i32.store8 (i32.const 8) (i32.const 1))
            (return (i32.const 0))))
        (if (i32.eq (local.get $length) (i32.const 7)) (then (loop (br 0))))
        (i32.store8 (i32.const 8) (i32.const 1))
        (i32.store8 (i32.const 12) (i32.const 1))
        (i32.store16 (i32.const 14) (i32.add (i32.const 200) (global.get $served)))
        (i32.const 0))"#;

fn counting(rig: &Rig, keep: Keep) -> Function {
    let limits = Limits {
        memory: 64 * MIB,
        timeout: Duration::from_millis(500),
        ..limits()
    };
    rig.load_with(&component(COUNT), limits).keeping(keep)
}

async fn finished(function: &Function, kind: &str) -> Finished {
    run(function, &event(kind, "")).await.0
}

/// How many events the instance has served that serves this one.
async fn served(function: &Function) -> u16 {
    let finished = finished(function, "one").await;
    let status = finished.reply.and_then(|reply| reply.status);
    status.expect("it answers") - 200
}

#[tokio::test]
async fn every_event_has_a_fresh_instance_unless_told_otherwise() {
    let rig = rig();
    let function = counting(&rig, Keep::default());
    assert_eq!(function.keeps(), Keep::default());
    for _ in 0..3 {
        assert_eq!(served(&function).await, 1);
    }
}

#[tokio::test]
async fn what_a_reused_instance_keeps_lasts_until_it_breaks() {
    let rig = rig();
    let function = counting(&rig, REUSED);
    for n in 1..=3 {
        assert_eq!(served(&function).await, n);
    }
    // An answer that is a failure is an answer.
    let rejected = finished(&function, "reject").await.outcome;
    assert!(matches!(rejected, Outcome::Reject { .. }), "{rejected:?}");
    assert_eq!(served(&function).await, 5);
    let trapped = finished(&function, "trap").await.outcome;
    assert!(matches!(trapped, Outcome::Trap { .. }), "{trapped:?}");
    assert_eq!(served(&function).await, 1);
    let late = finished(&function, "forever").await.outcome;
    assert!(matches!(late, Outcome::Timeout { .. }), "{late:?}");
    assert_eq!(served(&function).await, 1);
    // One whose event is given up by the engine is at an unknown place.
    let event = event("forever", "");
    let given_up = tokio::time::timeout(Duration::from_millis(50), run(&function, &event));
    assert!(given_up.await.is_err());
    assert_eq!(served(&function).await, 1);
}

#[tokio::test]
async fn a_reused_instance_that_has_grown_or_served_enough_is_replaced() {
    let rig = rig();
    let function = counting(&rig, REUSED);
    assert_eq!(served(&function).await, 1);
    let grown = finished(&function, "large").await;
    assert_eq!(grown.outcome, Outcome::Ok);
    assert!(grown.usage.memory > bounds::REUSE_GROWTH);
    assert_eq!(served(&function).await, 1);
    for _ in 1..bounds::REUSE_EVENTS {
        finished(&function, "one").await;
    }
    assert_eq!(served(&function).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_reused_instance_that_rests_for_long_is_dropped_unless_it_is_to_be_warm() {
    let rig = rig();
    let long = bounds::REUSE_IDLE + Duration::from_secs(2);
    for (warm, left) in [(0, 1), (1, 2)] {
        let function = counting(&rig, Keep { warm, reuse: true });
        function.warm_up().await.unwrap();
        assert_eq!(served(&function).await, 1);
        tokio::time::sleep(bounds::REUSE_IDLE / 2).await;
        assert_eq!(served(&function).await, 2);
        tokio::time::sleep(bounds::REUSE_IDLE / 2).await;
        assert_eq!(served(&function).await, 3);
        tokio::time::sleep(long).await;
        assert_eq!(served(&function).await, if left == 1 { 1 } else { 4 });
    }
}

/// A handler that takes its time to start, but not to answer.
const SLOW_TO_START: &str = r#"
    (memory (export "memory") 1)
    (global $left (mut i32) (i32.const 30000000))
    (func $start
        (loop
            (global.set $left (i32.sub (global.get $left) (i32.const 1)))
            (br_if 0 (i32.gt_s (global.get $left) (i32.const 0)))))
    (start $start)
    (func $handle (param i32) (result i32) (i32.const 0))"#;

#[tokio::test]
async fn a_warm_instance_has_started_before_its_event_comes_and_another_one_follows() {
    let rig = rig();
    let cold = rig.load(&component(SLOW_TO_START));
    let start = finished(&cold, "one").await.usage.wall_us;
    for reuse in [false, true] {
        let warm = cold.keeping(Keep { warm: 2, reuse });
        warm.warm_up().await.unwrap();
        for _ in 0..2 {
            let took = finished(&warm, "one").await.usage.wall_us;
            assert!(took < start / 2, "{took} us, and {start} us to start");
        }
        // Each event may come too early for the next one that is made.
        let mut tries = 0;
        while finished(&warm, "one").await.usage.wall_us >= start / 2 {
            tries += 1;
            assert!(tries < 1000, "no other one is ever ready");
        }
    }
}

#[tokio::test]
async fn a_component_that_does_not_start_is_told_of_before_its_first_event() {
    let rig = rig();
    let broken = r#"
        (memory (export "memory") 1)
        (func $start (unreachable))
        (start $start)
        (func $handle (param i32) (result i32) (i32.const 0))"#;
    let keep = Keep {
        warm: 1,
        reuse: false,
    };
    let function = rig.load(&component(broken)).keeping(keep);
    let problem = function.warm_up().await.unwrap_err();
    assert!(matches!(problem, Problem::Start(_)), "{problem:?}");
}

#[tokio::test]
async fn each_event_of_a_reused_instance_has_its_own_host_and_limits() {
    let rig = rig();
    let function = rig.load(&guest("probe")).keeping(REUSED);
    let log = event("log", r#"{ "do": "log", "text": "hello" }"#);
    for _ in 0..2 {
        let (finished, host) = run(&function, &log).await;
        assert_eq!(finished.outcome, Outcome::Ok);
        assert!(!host.lines().is_empty(), "its own log has its lines");
        // Nobody else has it any more.
        assert_eq!(Arc::strong_count(&host), 1);
    }
    // Of 8 MiB each.
    let large = event("large", r#"{ "do": "write-big", "bytes": 5000000 }"#);
    for _ in 0..3 {
        let (finished, host) = run(&function, &large).await;
        assert_eq!(finished.outcome, Outcome::Ok);
        assert_eq!(host.objects.lock().unwrap().len(), 1);
    }
}
