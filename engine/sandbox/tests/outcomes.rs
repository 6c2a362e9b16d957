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
    assert!(finished.usage.busy_us < 200_000, "{:?}", finished.usage);
}

#[tokio::test]
async fn refused_memory_is_out_of_memory() {
    let rig = rig();
    let function = rig.load(&component(GREEDY));
    let (finished, _) = run(&function, &event("any", "")).await;
    assert_eq!(finished.outcome, Outcome::OutOfMemory { limit: 32 * MIB });
    assert_eq!(finished.usage.memory, 31 * MIB + (64 << 10));
}

#[tokio::test]
async fn a_guest_that_exits_is_a_trap_that_says_so() {
    let outer = r#"
        (import "wasi:cli/exit@0.2.12" (instance $exit
            (export "exit" (func (param "status" (result))))))
        (core func $exit (canon lower (func $exit "exit")))
        (core instance $host (export "exit" (func $exit)))"#;
    let body = r#"
        (import "host" "exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func $handle (param i32) (result i32) (call $exit (i32.const 1)) (unreachable))"#;
    let rig = rig();
    let function = rig.load(&parts(outer, r#"(with "host" (instance $host))"#, body));
    let reason = "it exited with status 1".to_owned();
    assert_eq!(
        outcome(&function, &event("any", "")).await,
        Outcome::Trap { reason }
    );
}

#[tokio::test]
async fn a_guest_that_breaks_while_it_starts_is_a_trap() {
    let rig = rig();
    let function = rig.load(&component(&format!(
        "{OK} (func $start (unreachable)) (start $start)"
    )));
    let reason = "wasm trap: wasm `unreachable` instruction executed".to_owned();
    assert_eq!(
        outcome(&function, &event("any", "")).await,
        Outcome::Trap { reason }
    );
}

#[tokio::test]
async fn a_second_memory_counts_against_the_same_limit() {
    let rig = rig();
    let bytes = component(&format!("{OK} (memory 10)"));
    let enough = rig.load_with(
        &bytes,
        Limits {
            memory: 11 << 16,
            ..limits()
        },
    );
    let (finished, _) = run(&enough, &event("any", "")).await;
    assert_eq!(
        (finished.outcome, finished.usage.memory),
        (Outcome::Ok, 10 << 16)
    );
    let short = rig.load_with(
        &bytes,
        Limits {
            memory: 10 << 16,
            ..limits()
        },
    );
    let expected = Outcome::OutOfMemory { limit: 10 << 16 };
    assert_eq!(outcome(&short, &event("any", "")).await, expected);
}
