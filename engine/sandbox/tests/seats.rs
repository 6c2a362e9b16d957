//! What an attempt leaves for the one that runs right after it.

mod common;

use std::{sync::Arc, time::Duration};

use common::*;
use tidemill_core::outcome::Outcome;
use tidemill_sandbox::{Finished, Function, Limits, Spare};

/// A handler that answers with 200 and the pages of its memory. The length of the event's type says what else it
/// does: 4, it traps; 5, it loops for ever; 6, it grows by 1 MiB first.
const GROWS: &str = r#"
    (memory (export "memory") 1)
    (func $handle (param $event i32) (result i32) (local $length i32)
        (local.set $length (i32.load offset=20 (local.get $event)))
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 64))
        (if (i32.eq (local.get $length) (i32.const 4)) (then (unreachable)))
        (if (i32.eq (local.get $length) (i32.const 5)) (then (loop (br 0))))
        (if (i32.eq (local.get $length) (i32.const 6))
            (then (drop (memory.grow (i32.const 16)))))
        (i32.store8 (i32.const 8) (i32.const 1))
        (i32.store8 (i32.const 12) (i32.const 1))
        (i32.store16 (i32.const 14) (i32.add (i32.const 200) (memory.size)))
        (i32.const 0))"#;

const PAGE: u64 = 64 << 10;

fn growing(rig: &Rig) -> Function {
    let timeout = Duration::from_millis(50);
    rig.load_with(
        &component(GROWS),
        Limits {
            timeout,
            ..limits()
        },
    )
}

async fn finished(function: &Function, kind: &str, spare: &Spare) -> Finished {
    let host = Arc::new(Memory::default());
    let event = event(kind, "");
    function.run(&event, &delivery(), host, spare).await
}

/// How many pages of memory the handler had.
async fn pages(function: &Function, kind: &str, spare: &Spare) -> u16 {
    let finished = finished(function, kind, spare).await;
    assert_eq!(finished.outcome, Outcome::Ok);
    let status = finished.reply.and_then(|reply| reply.status);
    status.expect("it answers") - 200
}

#[tokio::test]
async fn a_seat_serves_one_after_the_other_however_each_ends() {
    // One instance: another seat than the one that is left would not be there.
    let rig = rig_with(1);
    let (function, spare) = (growing(&rig), Spare::open());
    assert_eq!(pages(&function, "one", &spare).await, 1);
    assert_eq!(rig.sandbox.memory(), PAGE, "what it had is left");
    assert_eq!(pages(&function, "growth", &spare).await, 17);
    assert_eq!(rig.sandbox.memory(), 17 * PAGE);
    assert_eq!(pages(&function, "one", &spare).await, 1, "it is fresh");
    let trap = finished(&function, "trap", &spare).await.outcome;
    assert!(matches!(trap, Outcome::Trap { .. }), "{trap:?}");
    let timeout = finished(&function, "loops", &spare).await.outcome;
    assert!(matches!(timeout, Outcome::Timeout { .. }), "{timeout:?}");
    assert_eq!(pages(&function, "one", &spare).await, 1);
    assert_eq!(
        rig.sandbox.memory(),
        17 * PAGE,
        "the most that one of them had"
    );
}

#[tokio::test]
async fn a_seat_that_is_given_back_is_free_for_others() {
    let rig = rig_with(1);
    let (function, spare, closed) = (growing(&rig), Spare::open(), Spare::default());
    pages(&function, "one", &spare).await;
    {
        let mut other = Box::pin(pages(&function, "one", &closed));
        let waits = tokio::time::timeout(Duration::from_millis(5), &mut other).await;
        assert!(waits.is_err(), "the seat is taken");
        spare.empty();
        assert_eq!(other.await, 1);
    }
    assert_eq!(rig.sandbox.memory(), 0, "nothing is left where nothing may");
    pages(&function, "one", &spare).await;
    spare.close();
    assert_eq!(rig.sandbox.memory(), 0);
    pages(&function, "one", &spare).await;
    assert_eq!(rig.sandbox.memory(), 0, "nothing is taken any more");
    pages(&function, "one", &closed).await;
}

#[tokio::test]
async fn a_seat_is_not_handed_on_while_others_wait_for_memory() {
    let rig = rig_of(10, PAGE);
    let (function, spare, closed) = (growing(&rig), Spare::open(), Spare::default());
    pages(&function, "one", &spare).await;
    let mut other = Box::pin(pages(&function, "one", &closed));
    let waits = tokio::time::timeout(Duration::from_millis(5), &mut other).await;
    assert!(waits.is_err(), "there is no memory left");
    pages(&function, "one", &spare).await;
    assert_eq!(other.await, 1);
}
