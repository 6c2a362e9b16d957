//! What attempts do to each other: nothing.

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::*;
use tidemill_core::outcome::Outcome;
use tidemill_sandbox::{Keep, Limits, Spare};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_thousand_sleepers_share_one_thread() {
    let rig = rig_with(1000);
    let function = rig.load(&sleeper(500));
    let started = Instant::now();
    let mut attempts = JoinSet::new();
    for _ in 0..1000 {
        let function = function.clone();
        attempts.spawn(async move { run(&function, &event("any", "")).await.0 });
    }
    for finished in attempts.join_all().await {
        assert_eq!(finished.outcome, Outcome::Ok);
        assert!(finished.usage.wall_us >= 500_000, "{:?}", finished.usage);
    }
    // One after another they would take eight minutes.
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn attempts_beyond_the_instances_wait_for_one() {
    let rig = rig_with(6);
    // An instance of the second takes three memories of the pool.
    let functions = [
        rig.load(&sleeper(20)),
        rig.load(&sleeper_with(20, "(memory 1) (memory 1)")),
    ];
    let mut attempts = JoinSet::new();
    for n in 0..40 {
        let function = functions[n % 2].clone();
        attempts.spawn(async move { run(&function, &event("any", "")).await.0.outcome });
    }
    assert!(
        attempts
            .join_all()
            .await
            .iter()
            .all(|outcome| *outcome == Outcome::Ok)
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_healthy_event_is_not_kept_waiting_by_an_infinite_loop() {
    let rig = rig();
    let forever = Limits {
        timeout: Duration::from_secs(600),
        ..limits()
    };
    let looping = rig.load_with(&component(LOOP), forever);
    let healthy = rig.load(&component(OK));
    let looping = tokio::spawn(async move { run(&looping, &event("any", "")).await });
    // The loop has the only thread first.
    let healthy = tokio::spawn(async move {
        for _ in 0..20 {
            assert_eq!(
                run(&healthy, &event("any", "")).await.0.outcome,
                Outcome::Ok
            );
            tokio::task::yield_now().await;
        }
    });
    let started = Instant::now();
    healthy.await.unwrap();
    // A tick each, and not the 61 after which a busy runtime looks around.
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
    assert!(!looping.is_finished(), "the loop ended first");
    looping.abort();
    assert!(looping.await.unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "current_thread")]
async fn timeouts_are_punctual_where_loops_keep_the_thread_busy() {
    let rig = rig();
    let limit = Duration::from_millis(50);
    let looping = rig.load_with(
        &component(LOOP),
        Limits {
            timeout: limit,
            ..limits()
        },
    );
    let mut attempts = JoinSet::new();
    for _ in 0..3 {
        let looping = looping.clone();
        attempts.spawn(async move { run(&looping, &event("any", "")).await.0 });
    }
    for finished in attempts.join_all().await {
        assert_eq!(finished.outcome, Outcome::Timeout { limit });
        // A runtime that is never idle looks at its timers once in 61 polls: that would be 600 ms.
        assert!(finished.usage.wall_us < 400_000, "{:?}", finished.usage);
    }
}

#[tokio::test]
async fn a_dropped_attempt_frees_its_instance() {
    let rig = rig_with(1);
    let sleeper = rig.load(&sleeper(3_600_000));
    for _ in 0..3 {
        let (event, delivery) = (event("any", ""), delivery());
        let (host, spare) = (Arc::new(Memory::default()), Spare::default());
        let attempt = sleeper.run(&event, &delivery, host, &spare);
        assert!(
            tokio::time::timeout(Duration::from_millis(5), attempt)
                .await
                .is_err()
        );
    }
    let healthy = rig.load(&component(OK));
    assert_eq!(
        run(&healthy, &event("any", "")).await.0.outcome,
        Outcome::Ok
    );
}

/// Looks for a byte that is not zero in all of its memory, traps if there is one, and then fills it.
const SCANNER: &str = r#"
    (memory (export "memory") 1)
    (func $handle (param $event i32) (result i32)
        (local $at i32)
        (drop (memory.grow (i32.const 100)))
        ;; The event itself is below 64 KiB, and all else must be untouched.
        (local.set $at (i32.const 65536))
        (loop $scan
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $scan (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
        (memory.fill (i32.const 0) (i32.const 0x5a) (i32.mul (memory.size) (i32.const 65536)))
        ;; Except for the result: ok without a reply.
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 64))
        (i32.const 0))"#;

#[tokio::test]
async fn memory_of_one_event_is_never_visible_to_the_next() {
    let rig = rig_with(1);
    let scanners = [
        rig.load(&component(SCANNER)),
        rig.load(&component(&format!("{SCANNER}(func)"))),
    ];
    assert_ne!(scanners[0].digest(), scanners[1].digest());
    for round in 0..20 {
        // The same slot serves both functions, one after another.
        for scanner in &scanners {
            let (finished, _) = run(scanner, &event("any", vec![1; 1000])).await;
            assert_eq!(finished.outcome, Outcome::Ok, "round {round}");
            assert_eq!(finished.usage.memory, 101 << 16);
        }
    }
}

#[tokio::test]
async fn every_bad_end_leaves_the_next_event_unharmed() {
    let rig = rig_with(1);
    let healthy = rig.load(&component(OK));
    let brief = Limits {
        timeout: Duration::from_millis(20),
        ..limits()
    };
    for (bad, limits) in [
        (BROKEN, limits()),
        (DEEP, limits()),
        (GREEDY, limits()),
        (LOOP, brief),
    ] {
        let function = rig.load_with(&component(bad), limits);
        for _ in 0..3 {
            assert_ne!(
                run(&function, &event("any", "")).await.0.outcome,
                Outcome::Ok,
                "{bad}"
            );
            assert_eq!(
                run(&healthy, &event("any", "")).await.0.outcome,
                Outcome::Ok,
                "{bad}"
            );
        }
    }
}

#[tokio::test]
async fn instances_that_rest_take_no_turns() {
    let rig = rig();
    // It starts and answers for longer than a tick.
    let slow = r#"
        (memory (export "memory") 1)
        (func $work (local $n i32)
            (loop
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $n) (i32.const 10000000)))))
        (start $work)
        (func $handle (param i32) (result i32) (call $work) (i32.const 0))"#;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let keep = Keep {
        warm: cores + 1,
        reuse: true,
    };
    let function = rig.load(&component(slow)).keeping(keep);
    function.warm_up().await.unwrap();
    for _ in 0..2 {
        let finished = run(&function, &event("any", "")).await.0;
        assert_eq!(finished.outcome, Outcome::Ok);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_compute_all_the_time_hold_others_up_no_longer_than_a_few() {
    const EVENTS: usize = 50;
    let rig = rig();
    let limit = Duration::from_secs(3);
    let forever = Limits {
        timeout: limit,
        ..limits()
    };
    let looping = rig.load_with(&component(LOOP), forever);
    let healthy = rig.load(&component(OK));
    let started = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..90 {
        let looping = looping.clone();
        loops.spawn(async move { run(&looping, &event("any", "")).await.0.outcome });
    }
    // If each waited for a tick of all of them, it would take four times as long as they may run.
    let healthy = tokio::spawn(async move {
        for _ in 0..EVENTS {
            let finished = run(&healthy, &event("any", "")).await.0;
            assert_eq!(finished.outcome, Outcome::Ok);
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
        }
        started.elapsed()
    });
    let took = healthy.await.unwrap();
    assert!(took < limit, "{took:?}");
    for outcome in loops.join_all().await {
        assert!(matches!(outcome, Outcome::Timeout { .. }), "{outcome:?}");
    }
}
