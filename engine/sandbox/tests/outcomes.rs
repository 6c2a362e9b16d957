//! Every way an attempt can end, and that the next event on the same function is unharmed.

mod common;

use std::time::Duration;

use common::*;
use tidemill_core::{event::Event, outcome::Outcome};
use tidemill_sandbox::{Function, Limits};

async fn outcome(function: &Function, event: &Event) -> Outcome {
    run(function, event).await.0.outcome
}

#[tokio::test]
async fn ok() {
    let rig = rig();
    let function = rig.load(&component(OK));
    let (finished, _) = run(&function, &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::Ok);
    assert_eq!(finished.reply, None);
    assert_eq!(finished.usage.memory, 64 << 10);
    assert!(finished.usage.wall_us >= finished.usage.busy_us);
}

#[tokio::test]
async fn a_trap_says_what_and_where() {
    let rig = rig();
    let function = rig.load(&component(BROKEN));
    let (finished, host) = run(&function, &event("any", "")).await;
    let reason = "wasm trap: wasm `unreachable` instruction executed".to_owned();
    assert_eq!(
        finished.outcome,
        Outcome::Trap {
            reason: reason.clone()
        }
    );
    let log = host.log.lock().unwrap();
    let [(_, line, fields)] = &log[..] else {
        panic!("{log:?}")
    };
    assert_eq!(*line, format!("the handler broke: {reason}"));
    assert!(fields[0].1.contains("!handle"), "{fields:?}");
}

#[tokio::test]
async fn a_stack_overflow_is_a_trap_that_says_so() {
    let rig = rig();
    let function = rig.load(&component(DEEP));
    let reason = "stack overflow: it calls itself too deep".to_owned();
    assert_eq!(
        outcome(&function, &event("any", "")).await,
        Outcome::Trap { reason }
    );
}

#[tokio::test]
async fn a_loop_times_out() {
    let rig = rig();
    let limit = Duration::from_millis(100);
    let function = rig.load_with(
        &component(LOOP),
        Limits {
            timeout: limit,
            ..limits()
        },
    );
    let (finished, _) = run(&function, &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::Timeout { limit });
    assert!(finished.usage.wall_us >= 100_000, "{:?}", finished.usage);
    assert!(finished.usage.busy_us >= 50_000, "{:?}", finished.usage);
}

#[tokio::test]
async fn a_sleeper_times_out_asleep() {
    let rig = rig();
    let limit = Duration::from_millis(50);
    let function = rig.load_with(
        &sleeper(3_600_000),
        Limits {
            timeout: limit,
            ..limits()
        },
    );
    let (finished, _) = run(&function, &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::Timeout { limit });
    assert!(finished.usage.busy_us < 40_000, "{:?}", finished.usage);
}

#[tokio::test]
async fn refused_memory_is_out_of_memory() {
    let rig = rig();
    let function = rig.load(&component(GREEDY));
    let (finished, _) = run(&function, &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::OutOfMemory { limit: 32 * MIB });
    assert_eq!(finished.usage.memory, 31 * MIB + (64 << 10));
}
