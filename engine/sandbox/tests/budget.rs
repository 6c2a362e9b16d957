//! The memory that all attempts share.

mod common;

use std::sync::Arc;

use common::*;
use tidemill_core::outcome::Outcome;
use tokio::task::JoinSet;

const MIB: u64 = 1 << 20;

/// A handler that sleeps a little between each of four steps by which it grows: 16 MiB in all, and 64 KiB
/// to begin with.
fn grower() -> Vec<u8> {
    let grow = "(drop (memory.grow (i32.const 64)))";
    let steps = format!("{grow} (call $block (call $subscribe (i64.const 1000000)))").repeat(4);
    sleeper_doing(0, "", &steps)
}

/// Runs so many at once, and returns the most memory that they had together.
async fn peak(rig: &Rig, count: usize) -> u64 {
    let function = rig.load(&grower());
    let mut attempts = JoinSet::new();
    for _ in 0..count {
        let function = function.clone();
        attempts.spawn(async move { run(&function, &event("any", "")).await.0 });
    }
    let sandbox = Arc::new(rig.sandbox.clone());
    let mut peak = 0;
    while !attempts.is_empty() {
        peak = peak.max(sandbox.memory());
        tokio::task::yield_now().await;
        while let Some(finished) = attempts.try_join_next() {
            let finished = finished.unwrap();
            assert_eq!(finished.outcome, Outcome::Ok, "nobody is refused");
            assert_eq!(finished.usage.memory, 16 * MIB + (64 << 10));
        }
    }
    assert_eq!((sandbox.memory(), sandbox.waiting()), (0, 0));
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_wait_for_memory_in_place_of_running_out() {
    let rig = rig_of(100, 64 * MIB);
    let together = peak(&rig, 40).await;
    // When all wait, one of them may have all of its own.
    assert!(together <= 64 * MIB + 17 * MIB, "{} MiB", together / MIB);
    assert!(together >= 32 * MIB, "{} MiB", together / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_need_more_than_there_is_run_one_after_another() {
    let rig = rig_of(100, MIB);
    let together = peak(&rig, 10).await;
    assert!(
        together <= 18 * MIB + 10 * MIB / 16,
        "{} MiB",
        together / MIB
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_room_for_all_they_grow_together() {
    let rig = rig_of(100, 1 << 40);
    assert!(peak(&rig, 40).await > 64 * MIB);
}
