//! Many events in one call: an answer for each, whose effects are whose, and every way a batch can go wrong.

mod common;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use common::*;
use insta::assert_snapshot;
use tidemill_core::{
    event::Event,
    outcome::{Outcome, Reply},
};
use tidemill_sandbox::{Answered, DeliveryInfo, Entry, FinishedBatch, Function, Limits};

static RIG: LazyLock<Rig> = LazyLock::new(rig);

/// The probe, which handles each event of a batch by its own order.
fn each(limits: Limits) -> Function {
    RIG.load_with(&guest("probe"), limits)
}

/// The probe that handles a batch as a whole.
fn whole() -> Function {
    RIG.load(&guest("batch-probe"))
}

/// Events `event-0`, `event-1`, ... with these data.
async fn run(function: &Function, data: &[&str]) -> (FinishedBatch, Arc<Memory>) {
    let host = Arc::new(Memory::default());
    let events: Vec<(Event, DeliveryInfo)> = data
        .iter()
        .enumerate()
        .map(|(n, data)| {
            let event = Event {
                id: format!("event-{n}"),
                ..event("probe", (*data).to_owned())
            };
            let info = DeliveryInfo {
                id: format!("delivery-{n}"),
                ..delivery()
            };
            (event, info)
        })
        .collect();
    let borrowed: Vec<_> = events.iter().map(|(event, info)| (event, info)).collect();
    (function.run_batch(&borrowed, host.clone()).await, host)
}

/// So many events for the probe that handles a batch as a whole.
async fn form(form: &str, events: usize) -> (FinishedBatch, Arc<Memory>) {
    let order = format!(r#"{{"form":"{form}"}}"#);
    run(&whole(), &vec![order.as_str(); events]).await
}

fn ok(text: &str) -> (Outcome, Option<String>) {
    (Outcome::Ok, Some(text.into()))
}

fn rejected(reason: &str) -> (Outcome, Option<String>) {
    let reason = reason.into();
    (Outcome::Reject { reason }, None)
}

fn answers(finished: FinishedBatch) -> Vec<(Outcome, Option<String>)> {
    let text = |reply: Reply| String::from_utf8(reply.body.to_vec()).unwrap();
    let answers = finished.answers.unwrap().into_iter();
    answers
        .map(|Answered { outcome, reply }| (outcome, reply.map(text)))
        .collect()
}

/// The outcome of the whole call, and the index of the event that was begun last.
fn broken(finished: FinishedBatch) -> (Outcome, Option<usize>) {
    (finished.answers.unwrap_err(), finished.begun)
}

fn trap(finished: FinishedBatch) -> String {
    match broken(finished).0 {
        Outcome::Trap { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_event_has_an_answer_of_its_own() {
    let orders = [
        r#"{"do":"status","text":"zero"}"#,
        r#"{"do":"reject","text":"never"}"#,
        r#"{"do":"ok"}"#,
        r#"{"do":"retry-after","text":"later","ms":1500}"#,
        r#"{"do":"status","text":"four"}"#,
    ];
    let (finished, host) = run(&each(limits()), &orders).await;
    assert_eq!(finished.begun, Some(4));
    assert!(finished.usage.memory > 0 && finished.usage.wall_us > 0);
    let expected = [
        ok("zero"),
        rejected("never"),
        (Outcome::Ok, None),
        (
            Outcome::Retry {
                after: Some(Duration::from_millis(1500)),
                reason: "later".into(),
            },
            None,
        ),
        ok("four"),
    ];
    assert_eq!(answers(finished), expected);
    let acts = [
        "begin 0",
        "begin 1",
        "discard 1",
        "begin 2",
        "begin 3",
        "discard 3",
        "begin 4",
    ];
    assert_eq!(host.acts(), acts);
}

#[tokio::test]
async fn each_event_arrives_whole() {
    let orders = [r#"{"do":"event","n":0}"#, r#"{"do":"event","n":1}"#];
    let (finished, _) = run(&each(limits()), &orders).await;
    for (n, (_, reply)) in answers(finished).into_iter().enumerate() {
        let seen: serde_json::Value = serde_json::from_str(&reply.unwrap()).unwrap();
        let expected = serde_json::json!({
            "id": format!("event-{n}"),
            "source": "test",
            "type": "probe",
            "subject": "subject",
            "time_ms": 1_700_000_000_000_u64,
            "datacontenttype": "text/plain",
            "traceparent": null,
            "headers": [["color", "green"]],
            "data": orders[n],
            "delivery": format!("delivery-{n}"),
            "trigger": "trigger",
            "attempt": 3,
        });
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn effects_come_between_the_event_they_belong_to_and_the_next() {
    let orders = [
        r#"{"do":"emit","count":2}"#,
        r#"{"do":"kv-set","key":"k","text":"v"}"#,
        r#"{"do":"emit-then-reject"}"#,
        r#"{"do":"write","key":"o"}"#,
        r#"{"do":"kv-get","key":"k"}"#,
    ];
    let (finished, host) = run(&each(limits()), &orders).await;
    assert_eq!(answers(finished)[4], ok(r#""v""#));
    let acts = [
        "begin 0",
        "emit 0",
        "emit 1",
        "begin 1",
        "set k",
        "begin 2",
        "emit 0",
        "discard 2",
        "begin 3",
        "write o",
        "begin 4",
    ];
    assert_eq!(host.acts(), acts);
}

#[tokio::test]
async fn a_handler_may_go_to_and_fro() {
    let (finished, host) = form("to-and-fro", 2).await;
    assert_eq!(finished.begun, Some(0));
    assert_eq!(
        answers(finished),
        [(Outcome::Ok, None), (Outcome::Ok, None)]
    );
    let once = ["begin 1", "emit event-1", "begin 0", "emit event-0"];
    assert_eq!(host.acts(), [once, once].concat());
}

#[tokio::test]
async fn reads_may_come_before_an_event_has_begun() {
    let (finished, _) = form("early-read", 2).await;
    assert_eq!(
        answers(finished),
        [(Outcome::Ok, None), (Outcome::Ok, None)]
    );
}

#[tokio::test]
async fn effects_may_not() {
    let reason = trap(form("early-emit", 2).await.0);
    assert_snapshot!(reason, @"it emits or writes before it has begun an event of the batch; let it call `batch.begin` with the index of the event that this is for");
    for early in ["early-set", "early-write"] {
        let (finished, host) = form(early, 2).await;
        assert_eq!(finished.begun, None);
        assert_eq!(trap(finished), reason, "{early}");
        assert_eq!(host.acts(), [""; 0], "{early}");
    }
}

#[tokio::test]
async fn an_event_that_the_batch_does_not_have_is_refused() {
    assert_snapshot!(trap(form("begin-beyond", 2).await.0), @"it calls `batch.begin` for event 2, and the batch has 2 events, counted from 0");
    assert_snapshot!(trap(form("discard-beyond", 2).await.0), @"it calls `batch.discard` for event 2, and the batch has 2 events, counted from 0");
}

#[tokio::test]
async fn one_event_by_itself_is_no_batch() {
    let outer = r#"
        (import "tidemill:function/batch@0.1.0" (instance $batch
            (export "begin" (func (param "event" u32)))))
        (core func $begin (canon lower (func $batch "begin")))
        (core instance $io (export "begin" (func $begin)))"#;
    let body = r#"
        (import "io" "begin" (func $begin (param i32)))
        (memory (export "memory") 1)
        (func $handle (param i32) (result i32) (call $begin (i32.const 0)) (i32.const 0))"#;
    let function = RIG.load(&parts(outer, r#"(with "io" (instance $io))"#, body));
    let (finished, host) = common::run(&function, &event("any", "")).await;
    let expected = "it calls `batch.begin`, and was called for one event, not for a batch";
    let expected = Outcome::Trap {
        reason: expected.into(),
    };
    assert_eq!(finished.outcome, expected);
    assert_eq!(host.acts(), [""; 0]);
}

#[tokio::test]
async fn every_event_is_answered_once() {
    let (few, _) = form("few", 3).await;
    let outcome = few.answers.unwrap_err();
    assert_snapshot!(outcome.to_string(), @"the batch handler gave 2 answers to 3 events; let it answer each event once, in their order");
    let expected = Outcome::Miscounted {
        events: 3,
        answers: 2,
    };
    assert_eq!(outcome, expected);
    let (many, _) = form("many", 3).await;
    let expected = Outcome::Miscounted {
        events: 3,
        answers: 4,
    };
    assert_eq!(many.answers.unwrap_err(), expected);
}

#[tokio::test]
async fn a_batch_of_none_is_no_trouble() {
    for function in [each(limits()), whole()] {
        let (finished, host) = run(&function, &[]).await;
        assert_eq!(finished.begun, None);
        assert_eq!(answers(finished), []);
        assert_eq!(host.acts(), [""; 0]);
    }
}

#[tokio::test]
async fn the_whole_form_answers_each_and_fails_all() {
    let (finished, host) = form("halves", 3).await;
    // The host of these tests throws nothing away.
    assert_eq!(
        answers(finished),
        [ok(""), rejected("every second"), ok("1")]
    );
    let acts = [
        "begin 0",
        "set key",
        "emit event-0",
        "begin 1",
        "set key",
        "emit event-1",
        "discard 1",
        "begin 2",
        "set key",
        "emit event-2",
    ];
    assert_eq!(host.acts(), acts);

    let (finished, host) = form("all-fail", 3).await;
    let retry = || {
        let reason = "all".into();
        (
            Outcome::Retry {
                after: None,
                reason,
            },
            None,
        )
    };
    assert_eq!(answers(finished), [rejected("the first"), retry(), retry()]);
    let acts = [
        "begin 0",
        "emit first",
        "discard 0",
        "begin 1",
        "emit second",
    ];
    assert_eq!(host.acts(), acts);
}

#[tokio::test]
async fn one_that_breaks_breaks_all_and_is_named() {
    let ok = r#"{"do":"emit"}"#;
    let cases = [
        r#"{"do":"trap","text":"the mill wheel broke"}"#,
        r#"{"do":"stack-overflow"}"#,
        r#"{"do":"memory-bomb"}"#,
        r#"{"do":"spin"}"#,
        r#"{"do":"emit-big","bytes":900000}"#,
    ];
    let limits = Limits {
        timeout: Duration::from_secs(2),
        output: 800_000,
        ..limits()
    };
    let function = each(limits);
    for order in cases {
        let (finished, _) = run(&function, &[ok, order, ok]).await;
        let (outcome, begun) = broken(finished);
        assert_eq!(begun, Some(1), "{order}");
        match (order, outcome) {
            (order, Outcome::Trap { reason }) if order.contains("trap") => {
                assert!(reason.contains("the mill wheel broke, at "), "{reason}");
            }
            (order, Outcome::Trap { reason }) if order.contains("stack") => {
                assert!(reason.contains("stack overflow"), "{reason}");
            }
            (order, Outcome::OutOfMemory { limit }) if order.contains("memory") => {
                assert_eq!(limit, limits.memory);
            }
            (order, Outcome::Timeout { limit }) if order.contains("spin") => {
                assert_eq!(limit, limits.timeout);
            }
            (order, Outcome::TooMuchOutput { limit }) if order.contains("big") => {
                assert_eq!(limit, limits.output);
            }
            (order, other) => panic!("{order}: {other:?}"),
        }
    }
    // What another event said is not why this one broke.
    let (finished, _) = run(&function, &[r#"{"do":"log"}"#, cases[1]]).await;
    let reason = trap(finished);
    assert!(reason.starts_with("stack overflow"), "{reason}");

    let (finished, host) = form("unfinished", 3).await;
    assert_eq!(finished.begun, Some(1));
    assert!(trap(finished).contains("at `event-1`"));
    let acts = ["begin 0", "emit first", "begin 1"];
    assert_eq!(host.acts(), acts);
}

#[tokio::test]
async fn the_output_limit_is_that_of_all_and_the_payload_that_of_each() {
    let limits = Limits {
        output: 100_000,
        payload: 50_000,
        ..limits()
    };
    let function = each(limits);
    let reply = |bytes| format!(r#"{{"do":"reply-big","bytes":{bytes}}}"#);
    let (small, large) = (reply(40_000), reply(60_000));

    let (finished, _) = run(&function, &[&small, &large, &small]).await;
    let outcomes: Vec<_> = answers(finished)
        .into_iter()
        .map(|(outcome, reply)| (outcome, reply.map(|text| text.len())))
        .collect();
    let expected = [
        (Outcome::Ok, Some(40_000)),
        (Outcome::TooMuchOutput { limit: 50_000 }, None),
        (Outcome::Ok, Some(40_000)),
    ];
    assert_eq!(outcomes, expected);

    let (finished, _) = run(&function, &[&small, &small, &small]).await;
    let expected = Outcome::TooMuchOutput { limit: 100_000 };
    assert_eq!(broken(finished), (expected, Some(2)));
}

#[tokio::test]
async fn events_that_do_not_fit_are_out_of_memory() {
    let limits = Limits {
        memory: 4 * MIB,
        ..limits()
    };
    let large = format!(r#"{{"do":"ok","x":"{}"}}"#, "x".repeat(MIB as usize));
    let (finished, _) = run(&each(limits), &[large.as_str(); 8]).await;
    let expected = Outcome::OutOfMemory { limit: 4 * MIB };
    assert_eq!(broken(finished), (expected, None));
}

#[tokio::test]
async fn each_event_may_log_as_much() {
    // Five lines each, which are more than one event may have, and then more than a batch may.
    for (events, lines) in [(500, 2500), (2500, 10_001)] {
        let orders = vec![r#"{"do":"log","text":"t"}"#; events];
        let (finished, host) = run(&each(limits()), &orders).await;
        assert_eq!(answers(finished).len(), events);
        assert_eq!(host.lines().len(), lines);
        let last = host.lines().pop().unwrap();
        if lines > 10_000 {
            assert_snapshot!(last, @"2500 more lines of this attempt's log were dropped; an attempt may log 10000 lines and 1048576 bytes");
        }
    }
}

#[tokio::test]
async fn a_component_is_called_for_what_it_exports() {
    let (one, many) = (RIG.load(&guest("announce")), whole());
    one.check(Entry::One).unwrap();
    many.check(Entry::Batch).unwrap();
    for entry in [Entry::One, Entry::Batch] {
        each(limits()).check(entry).unwrap();
    }
    assert_snapshot!(one.check(Entry::Batch).unwrap_err(), @"exports no `tidemill:function/batch-handler@0.1.0`, which a trigger with `batch` calls; export it too (in Rust by `batch_handler!`, in JavaScript by `defineBatch`), or take `batch` off the trigger");
    assert_snapshot!(many.check(Entry::One).unwrap_err(), @"exports no `tidemill:function/handler@0.1.0`, which is called for one event; export it too (in Rust by `handler!` or `batch_handler!(each = ...)`), or give the trigger a `batch`");

    // And if nobody asked.
    let (finished, _) = run(&one, &["{}"]).await;
    assert_snapshot!(finished.answers.unwrap_err(), @"the function cannot start: its component exports no `tidemill:function/batch-handler@0.1.0`, which a trigger with `batch` calls; export it too (in Rust by `batch_handler!`, in JavaScript by `defineBatch`), or take `batch` off the trigger");
    let (finished, _) = common::run(&many, &event("any", "")).await;
    assert!(matches!(finished.outcome, Outcome::Unavailable { .. }));
}

#[tokio::test]
async fn a_guest_in_javascript_answers_each_event_too() {
    let function = RIG.load(&guest("batch-js"));
    let orders = ["ok", "reply", "reject", "retry", "throw", "reply"];
    let (finished, host) = run(&function, &orders).await;
    let answers = answers(finished);
    assert_eq!(answers[0], (Outcome::Ok, None));
    assert_eq!(answers[1], ok(r#"{"index":1}"#));
    assert_eq!(answers[2], rejected("as ordered"));
    let retry = Outcome::Retry {
        after: Some(Duration::from_millis(1500)),
        reason: "as ordered".into(),
    };
    assert_eq!(answers[3], (retry, None));
    let unforeseen = match &answers[4].0 {
        Outcome::Retry {
            after: None,
            reason,
        } => reason,
        other => panic!("{other:?}"),
    };
    assert!(unforeseen.starts_with("unforeseen\n"), "{unforeseen}");
    assert_eq!(answers[5], ok(r#"{"index":5}"#));
    let acts = [
        "begin 0",
        "begin 1",
        "emit 1",
        "begin 2",
        "emit 2",
        "discard 2",
        "begin 3",
        "emit 3",
        "discard 3",
        "begin 4",
        "emit 4",
        "discard 4",
        "begin 5",
        "emit 5",
    ];
    assert_eq!(host.acts(), acts);
}

/// A change record of a new row, as Debezium writes it.
fn record(id: u64, lsn: u64) -> String {
    serde_json::json!({
        "before": null,
        "after": { "id": id, "seen": lsn },
        "source": { "db": "shop", "schema": "public", "table": "customers", "lsn": lsn, "ts_ms": 5 },
        "op": "c",
    })
    .to_string()
}

#[tokio::test]
async fn the_example_keeps_the_latest_row_of_a_batch() {
    let function = RIG.load(&guest("debezium"));
    let host = Arc::new(Memory::default());
    let messages = [
        (1, record(1, 10)),
        (2, record(2, 30)),
        (1, record(1, 40)),
        (2, record(2, 20)),
        (1, String::new()),
    ];
    let events: Vec<Event> = messages
        .iter()
        .map(|(id, record)| Event {
            subject: Some(format!(r#"{{"id":{id}}}"#)),
            ..event("kafka.message", record.clone())
        })
        .collect();
    let info = delivery();
    let borrowed: Vec<_> = events.iter().map(|event| (event, &info)).collect();
    let finished = function.run_batch(&borrowed, host.clone()).await;
    assert_eq!(answers(finished), vec![(Outcome::Ok, None); 5]);

    let row = |id| {
        let key = format!(r#"shop.public.customers {{"id":{id}}}"#);
        let kept = host.kv.lock().unwrap()[&("rows".to_owned(), key)].clone();
        let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        kept["row"]["seen"].as_u64().unwrap()
    };
    assert_eq!((row(1), row(2)), (40, 30));
    let emitted = host.emitted.lock().unwrap();
    let told: Vec<serde_json::Value> = emitted
        .iter()
        .map(|event| serde_json::from_slice(&event.data).unwrap())
        .collect();
    let seen: Vec<_> = told
        .iter()
        .map(|data| data["after"]["seen"].as_u64().unwrap())
        .collect();
    assert_eq!(seen, [10, 30, 40], "the late one is not told");
    assert_eq!(told[0]["op"], "created");
}
