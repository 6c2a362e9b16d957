//! A real guest, made with the SDK: every import it has, and every way it can misbehave.

mod common;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use common::*;
use tidemill_core::{
    host::LogLevel,
    limits,
    outcome::{Outcome, Reply},
};
use tidemill_sandbox::{Finished, Function, Limits, Spare};

/// The probe, compiled once for all tests of this file.
static RIG: LazyLock<Rig> = LazyLock::new(|| {
    let rig = rig();
    rig.load(&guest("probe"));
    rig
});

fn probe_with(limits: Limits) -> Function {
    RIG.load_with(&guest("probe"), limits)
}

async fn order_to(function: &Function, order: &str) -> (Finished, Arc<Memory>) {
    run(function, &event("probe", order.to_owned())).await
}

async fn order(order: &str) -> (Finished, Arc<Memory>) {
    order_to(&probe_with(limits()), order).await
}

fn text(reply: Option<Reply>) -> String {
    String::from_utf8(reply.expect("a reply").body.to_vec()).unwrap()
}

/// Runs an order that must end well on an engine that may already hold something.
async fn answer_on(host: &Arc<Memory>, order: &str) -> String {
    let event = event("probe", order.to_owned());
    let finished = probe_with(limits())
        .run(&event, &delivery(), host.clone(), &Spare::default())
        .await;
    assert_eq!(finished.outcome, Outcome::Ok, "{order}");
    text(finished.reply)
}

async fn reason(order: &str) -> String {
    match self::order(order).await.0.outcome {
        Outcome::Retry { reason, .. } | Outcome::Reject { reason } => reason,
        other => panic!("{order}: {other:?}"),
    }
}

#[tokio::test]
async fn a_guest_sees_its_whole_event() {
    let (finished, _) = order(r#"{"do":"event"}"#).await;
    let seen: serde_json::Value = serde_json::from_str(&text(finished.reply)).unwrap();
    let expected = serde_json::json!({
        "id": "event-1",
        "source": "test",
        "type": "probe",
        "subject": "subject",
        "time_ms": 1_700_000_000_000_u64,
        "datacontenttype": "text/plain",
        "traceparent": null,
        "headers": [["color", "green"]],
        "data": r#"{"do":"event"}"#,
        "delivery": "delivery-1",
        "trigger": "trigger",
        "attempt": 3,
    });
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn replies_pass_unchanged() {
    let (finished, _) = order(r#"{"do":"status","status":418,"text":"teapot"}"#).await;
    let expected = Reply {
        status: Some(418),
        headers: vec![("x-probe".into(), "1".into())],
        body: "teapot".into(),
    };
    assert_eq!(finished.reply, Some(expected));

    let data: Vec<u8> = (0..900_000_u32).map(|n| n as u8).collect();
    let (finished, _) = run(&probe_with(limits()), &event("echo", data.clone())).await;
    assert_eq!(finished.reply.unwrap().body, data);

    let (finished, _) = order(r#"{"do":"ok"}"#).await;
    assert_eq!((finished.outcome, finished.reply), (Outcome::Ok, None));
}

#[tokio::test]
async fn failures_keep_their_words() {
    let reason = || "because".to_owned();
    let cases = [
        (
            r#"{"do":"retry","text":"because"}"#,
            Outcome::Retry {
                after: None,
                reason: reason(),
            },
        ),
        (
            r#"{"do":"retry-after","text":"because","ms":1500}"#,
            Outcome::Retry {
                after: Some(Duration::from_millis(1500)),
                reason: reason(),
            },
        ),
        (
            r#"{"do":"reject","text":"because"}"#,
            Outcome::Reject { reason: reason() },
        ),
    ];
    for (order, expected) in cases {
        assert_eq!(self::order(order).await.0.outcome, expected);
    }
}

#[tokio::test]
async fn reasons_are_cut_between_characters() {
    let long = "ü".repeat(limits::REASON);
    let cut = reason(&format!(r#"{{"do":"reject","text":"{long}"}}"#)).await;
    assert!(
        cut.len() <= limits::REASON && cut.len() > limits::REASON - 4,
        "{}",
        cut.len()
    );
    assert!(cut.ends_with("ü…"));
}

#[tokio::test]
async fn a_panic_says_its_message_and_where() {
    let (finished, host) = order(r#"{"do":"trap","text":"the mill wheel broke"}"#).await;
    let Outcome::Trap { reason } = finished.outcome else {
        panic!("{:?}", finished.outcome)
    };
    let (words, what) = reason.split_once(" (").expect("words, then the trap");
    assert!(
        words.contains("the mill wheel broke, at tests/probe/src/lib.rs:"),
        "{reason}"
    );
    assert_eq!(what, "wasm trap: wasm `unreachable` instruction executed)");
    let log = host.log.lock().unwrap();
    let (_, line, fields) = log.last().unwrap();
    assert_eq!(*line, format!("the handler broke: {reason}"));
    assert_eq!(fields[0].0, "backtrace");
}

#[tokio::test]
async fn an_overflow_of_the_guest_s_own_stack_is_a_trap_that_says_so() {
    let (finished, host) = order(r#"{"do":"stack-overflow"}"#).await;
    let Outcome::Trap { reason } = finished.outcome else {
        panic!("{:?}", finished.outcome)
    };
    assert_eq!(
        reason,
        "stack overflow, most likely: it reached below its memory (wasm trap: out of bounds memory \
         access)"
    );
    let log = host.log.lock().unwrap();
    let frames: Vec<&str> = log[0].2[0].1.lines().collect();
    assert!(
        frames.len() == 8 && frames[0].starts_with("0: "),
        "{frames:?}"
    );
}

#[tokio::test]
async fn time_is_bounded_awake_and_asleep() {
    let limit = Duration::from_millis(100);
    let function = probe_with(Limits {
        timeout: limit,
        ..limits()
    });
    for order in [
        r#"{"do":"spin"}"#,
        r#"{"do":"sleep","ms":60000}"#,
        r#"{"do":"busy","ms":60000}"#,
    ] {
        assert_eq!(
            order_to(&function, order).await.0.outcome,
            Outcome::Timeout { limit }
        );
        assert_eq!(
            order_to(&function, r#"{"do":"ok"}"#).await.0.outcome,
            Outcome::Ok
        );
    }
}

#[tokio::test]
async fn sleeping_is_not_busy() {
    let (finished, _) = order(r#"{"do":"sleep","ms":400}"#).await;
    assert_eq!(finished.outcome, Outcome::Ok);
    assert!(finished.usage.wall_us >= 400_000, "{:?}", finished.usage);
    assert!(finished.usage.busy_us < 200_000, "{:?}", finished.usage);
}

#[tokio::test]
async fn memory_is_bounded() {
    let function = probe_with(limits());
    for _ in 0..3 {
        let (finished, _) = order_to(&function, r#"{"do":"memory-bomb"}"#).await;
        assert_eq!(finished.outcome, Outcome::OutOfMemory { limit: 32 * MIB });
        assert!(finished.usage.memory > 24 * MIB, "{:?}", finished.usage);
        assert_eq!(
            order_to(&function, r#"{"do":"ok"}"#).await.0.outcome,
            Outcome::Ok
        );
    }
}

/// `memory.grow` changes the page tables of the whole process: what an event costs without it is the
/// point of the SDK's allocator.
#[tokio::test]
async fn a_small_event_does_not_grow_its_memory() {
    let (finished, _) = order(r#"{"do":"memory"}"#).await;
    let answer: serde_json::Value = serde_json::from_str(&text(finished.reply)).unwrap();
    assert_eq!(answer["before"], answer["after"]);
    assert_eq!(
        answer["before"].as_u64().unwrap() << 16,
        finished.usage.memory
    );

    let (large, _) = order(r#"{"do":"allocate","bytes":8000000}"#).await;
    assert_eq!(large.outcome, Outcome::Ok);
    assert!(
        large.usage.memory > finished.usage.memory + 6 * MIB,
        "a large one does"
    );
}

#[tokio::test]
async fn output_is_bounded() {
    let tight = probe_with(Limits {
        output: 100_000,
        payload: 100_000,
        ..limits()
    });
    for order in ["reply-big", "write-big"] {
        let within = format!(r#"{{"do":"{order}","bytes":90000}}"#);
        assert_eq!(
            order_to(&tight, &within).await.0.outcome,
            Outcome::Ok,
            "{order}"
        );
        let beyond = format!(r#"{{"do":"{order}","bytes":100001}}"#);
        let expected = Outcome::TooMuchOutput { limit: 100_000 };
        assert_eq!(
            order_to(&tight, &beyond).await.0.outcome,
            expected,
            "{order}"
        );
        assert_eq!(
            order_to(&tight, r#"{"do":"ok"}"#).await.0.outcome,
            Outcome::Ok
        );
    }
    let many = r#"{"do":"kv-many","count":200,"text":"0123456789012345678901234567890123456789"}"#;
    assert_eq!(order_to(&tight, many).await.0.outcome, Outcome::Ok);
    let many = many.replace("200", "3000");
    let expected = Outcome::TooMuchOutput { limit: 100_000 };
    assert_eq!(order_to(&tight, &many).await.0.outcome, expected);
}

#[tokio::test]
async fn one_event_and_the_reply_are_bounded_by_the_payload() {
    let (finished, _) = order(r#"{"do":"reply-big","bytes":1048577}"#).await;
    assert_eq!(finished.outcome, Outcome::TooMuchOutput { limit: MIB });

    let (finished, host) = order(r#"{"do":"emit-big","bytes":1048000}"#).await;
    assert_eq!(finished.outcome, Outcome::Ok);
    assert_eq!(host.emitted.lock().unwrap()[0].data.len(), 1_048_000);
    let refusal = reason(r#"{"do":"emit-big","bytes":1048577}"#).await;
    assert!(
        refusal.contains("the event has 1048587 bytes; an event may have 1048576"),
        "{refusal}"
    );
}

#[tokio::test]
async fn emitted_events_arrive_whole() {
    let host = Arc::new(Memory::default());
    let order = r#"{"do":"emit","count":2,"type":"tide.turned","text":"low"}"#;
    assert_eq!(
        answer_on(&host, order).await,
        r#"["emitted-1","emitted-2"]"#
    );
    let refusal = reason(r#"{"do":"emit","type":"forbidden"}"#).await;
    assert!(refusal.contains("allow.emit"), "{refusal}");
    let emitted = host.emitted.lock().unwrap();
    assert_eq!(emitted[1].kind, "tide.turned");
    assert_eq!(emitted[1].subject.as_deref(), Some("1"));
    assert_eq!(emitted[1].data, "low");
}

#[tokio::test]
async fn keys_and_values() {
    let host = Arc::new(Memory::default());
    let expected = [
        (r#"{"do":"kv-get"}"#, "null"),
        (r#"{"do":"kv-exists"}"#, "false"),
        (r#"{"do":"kv-set","text":"41"}"#, "null"),
        (r#"{"do":"kv-get"}"#, r#""41""#),
        (r#"{"do":"kv-exists"}"#, "true"),
        (r#"{"do":"increment"}"#, "42"),
        (r#"{"do":"increment","count":100}"#, "142"),
        (r#"{"do":"update"}"#, "143"),
        (r#"{"do":"increment","key":"fresh","count":7}"#, "7"),
        (r#"{"do":"counter"}"#, "1"),
        (r#"{"do":"kv-keys"}"#, r#"["fresh","key","subject"]"#),
        (r#"{"do":"kv-delete"}"#, "null"),
        (r#"{"do":"kv-get"}"#, "null"),
        (
            r#"{"do":"kv-many","count":2,"key":"k","text":"v"}"#,
            r#"[["k0","v"],["k1","v"]]"#,
        ),
        (r#"{"do":"kv-keys"}"#, r#"["fresh","k1","subject"]"#),
    ];
    for (order, answer) in expected {
        assert_eq!(answer_on(&host, order).await, answer, "{order}");
    }
}

#[tokio::test]
async fn all_keys_are_listed_page_by_page() {
    let host = Arc::new(Memory::default());
    for n in 0..2000 {
        let at = ("probe".to_owned(), format!("{n:04}"));
        host.kv.lock().unwrap().insert(at, "".into());
    }
    let keys = answer_on(&host, r#"{"do":"kv-keys"}"#).await;
    let keys: Vec<String> = serde_json::from_str(&keys).unwrap();
    assert_eq!(keys.len(), 2000);
    assert!(keys.is_sorted());
}

#[tokio::test]
async fn an_increment_of_something_else_says_so() {
    let host = Arc::new(Memory::default());
    answer_on(&host, r#"{"do":"kv-set","text":"a word"}"#).await;
    let event = event("probe", r#"{"do":"increment"}"#);
    let finished = probe_with(limits())
        .run(&event, &delivery(), host, &Spare::default())
        .await;
    let said = finished.outcome.to_string();
    assert!(
        said.contains("the key `key` does not hold a decimal number"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_not_granted_is_refused() {
    let (finished, host) = order(r#"{"do":"kv-get","store":"forbidden"}"#).await;
    assert!(!matches!(
        finished.outcome,
        Outcome::Ok | Outcome::Trap { .. }
    ));
    assert!(
        host.lines()
            .iter()
            .any(|line| line.contains(r#"add "forbidden" to allow.store"#)),
        "the line that would grant it is in the log"
    );
    let refusal = reason(r#"{"do":"read","bucket":"forbidden"}"#).await;
    assert!(refusal.contains("allow.store"), "{refusal}");
    reason(r#"{"do":"kv-get","store":"missing"}"#).await;
    reason(r#"{"do":"read","bucket":"missing"}"#).await;
}

#[tokio::test]
async fn long_names_are_refused_before_the_engine_sees_them() {
    let long = "n".repeat(limits::NAME + 1);
    for order in [
        r#"{"do":"kv-get","key":"LONG"}"#,
        r#"{"do":"kv-set","key":"LONG"}"#,
        r#"{"do":"kv-delete","key":"LONG"}"#,
        r#"{"do":"kv-exists","key":"LONG"}"#,
        r#"{"do":"increment","key":"LONG"}"#,
        r#"{"do":"update","key":"LONG"}"#,
        r#"{"do":"kv-get","store":"LONG"}"#,
        r#"{"do":"emit","type":"LONG"}"#,
        r#"{"do":"read","key":"LONG"}"#,
        r#"{"do":"head","key":"LONG"}"#,
        r#"{"do":"list","key":"LONG"}"#,
        r#"{"do":"write","key":"LONG"}"#,
        r#"{"do":"delete","key":"LONG"}"#,
        r#"{"do":"write","bucket":"LONG"}"#,
    ] {
        let refusal = reason(&order.replace("LONG", &long)).await;
        assert!(
            refusal.contains("has 1025 bytes; a name may have 1024"),
            "{order}: {refusal}"
        );
    }
}

#[tokio::test]
async fn objects() {
    let host = Arc::new(Memory::default());
    assert_eq!(
        answer_on(&host, r#"{"do":"write-read","key":"a/1","text":"tide"}"#).await,
        "tide"
    );
    assert_eq!(
        answer_on(
            &host,
            r#"{"do":"read-range","key":"a/1","from":1,"bytes":2}"#
        )
        .await,
        "id"
    );
    assert_eq!(
        answer_on(&host, r#"{"do":"head","key":"a/1"}"#).await,
        r#"{"etag":"1","key":"a/1","modified_ms":0,"size":4}"#
    );
    assert_eq!(
        answer_on(&host, r#"{"do":"stream","key":"a/1"}"#).await,
        r#"{"size":4,"sum":422}"#
    );
    let listed = answer_on(&host, r#"{"do":"list","key":"a/"}"#).await;
    assert!(listed.contains(r#""key":"a/1""#), "{listed}");
    answer_on(&host, r#"{"do":"delete","key":"a/1"}"#).await;
    assert!(host.objects.lock().unwrap().is_empty());
    reason(r#"{"do":"read","key":"a/1"}"#).await;
}

#[tokio::test]
async fn config_is_the_function_s() {
    let host = Arc::new(Memory::default());
    assert_eq!(
        answer_on(&host, r#"{"do":"config","key":"COLOR"}"#).await,
        r#""blue""#
    );
    assert_eq!(
        answer_on(&host, r#"{"do":"config","key":"SIZE"}"#).await,
        "null"
    );
    assert_eq!(
        answer_on(&host, r#"{"do":"config"}"#).await,
        r#"[["COLOR","blue"]]"#
    );
}

#[tokio::test]
async fn log_lines_keep_level_and_fields() {
    let (_, host) = order(r#"{"do":"log","text":"high water"}"#).await;
    let levels = [
        LogLevel::Trace,
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Warn,
        LogLevel::Error,
    ];
    let expected: Vec<_> = (0..)
        .zip(levels)
        .map(|(n, level): (u32, _)| {
            (
                level,
                "high water".to_owned(),
                vec![("n".to_owned(), n.to_string())],
            )
        })
        .collect();
    assert_eq!(*host.log.lock().unwrap(), expected);
}

#[tokio::test]
async fn clocks_run_and_random_numbers_differ() {
    let host = Arc::new(Memory::default());
    let first = answer_on(&host, r#"{"do":"random"}"#).await;
    assert_ne!(first, answer_on(&host, r#"{"do":"random"}"#).await);
    let time: serde_json::Value =
        serde_json::from_str(&answer_on(&host, r#"{"do":"time"}"#).await).unwrap();
    assert!(time["wall"].as_u64() > Some(1_700_000_000_000), "{time}");
}
