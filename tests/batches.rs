//! Triggers with `batch`: several events in one call of their handler, each with an end of its own.

use crate::harness::{Client, Engine, Site, wait_until};

/// A site whose trigger `work` takes requests in batches.
fn site(function: &str, rest: &str) -> Site {
    Site::new(&format!(
        r#"
[functions.handler]
component = "{function}"
allow = {{ store = ["probe"], emit = ["probe.made"] }}
timeout = "2s"
[triggers.work]
function = "handler"
http = {{ path = "/work" }}
{rest}
"#
    ))
}

/// Posts these, by their ids, and waits until all are accepted.
fn post(engine: &Engine, orders: impl IntoIterator<Item = (String, String)>) {
    let client = Client::new(&engine.http().expect("an address"));
    for (id, order) in orders {
        let replied = client.post("/work", &[("Idempotency-Key", &id)], order);
        assert_eq!(replied.status, 202, "{id}");
    }
}

fn count() -> String {
    r#"{ "do": "count", "key": "n", "type": "" }"#.to_owned()
}

fn of_form(form: &str) -> String {
    format!(r#"{{ "form": "{form}" }}"#)
}

/// How often the handler was called.
fn calls(engine: &Engine) -> f64 {
    engine.metric("tidemill_attempt_duration_seconds_count", "")
}

#[test]
fn events_that_come_together_run_together() {
    let site = site("PROBE", r#"batch = { max = 10, wait = "10s" }"#);
    let engine = site.start();
    post(&engine, (0..30).map(|n| (format!("id-{n}"), count())));
    engine.wait_idle();
    assert_eq!(calls(&engine), 3.0, "three full batches");
    let ok = engine.metric("tidemill_attempts_total", "outcome=\"ok\"");
    assert_eq!(ok, 30.0, "each event has an outcome");
    engine.stop();
    let counts = site.counters("n:");
    assert_eq!(counts.len(), 30);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    // All of them add to one counter, and each sees what the one before it wrote.
    assert_eq!(site.counters("n").get(""), Some(&30));
}

#[test]
fn one_alone_waits_no_longer_than_it_must() {
    let site = site("PROBE", r#"batch = { max = 10, wait = "300ms" }"#);
    let engine = site.start();
    post(&engine, [("alone".to_owned(), count())]);
    wait_until("it is done", || site.count("n:") == 1);
    assert_eq!(calls(&engine), 1.0);
    engine.stop();
}

#[test]
fn a_batch_that_breaks_is_split_until_the_culprit_stands_alone() {
    for culprit in ["trap", "spin", "memory-bomb"] {
        let site = site(
            "PROBE",
            r#"
            batch = { max = 20, wait = "10s" }
            retry = { attempts = 2, first = "1ms" }
            "#,
        );
        let engine = site.start();
        post(
            &engine,
            (0..20).map(|n| match n {
                7 => (
                    "culprit".to_owned(),
                    format!(r#"{{ "do": "{culprit}", "text": "of its own" }}"#),
                ),
                _ => (format!("id-{n}"), count()),
            }),
        );
        wait_until("it is a dead letter", || site.dead_letters() == 1);
        wait_until("the others are done", || site.count("n:") == 19);
        // The whole, what came before it, itself twice, and what came after.
        assert!(calls(&engine) <= 6.0, "{culprit}: {}", calls(&engine));
        engine.stop();
        let counts = site.counters("n:");
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        let letter = site.succeeds(&["dead-letters", "list", "--json"]);
        let letter: serde_json::Value = serde_json::from_str(&letter).expect("JSON");
        assert_eq!(letter["attempts"], 2);
        let shown = site.succeeds(&[
            "dead-letters",
            "show",
            letter["id"].as_str().expect("an id"),
        ]);
        assert!(shown.contains("culprit"), "{shown}");
    }
}

#[test]
fn each_event_has_an_end_of_its_own() {
    let site = site(
        "PROBE",
        r#"
        batch = { max = 4, wait = "10s" }
        retry = { attempts = 2, first = "1ms" }
        "#,
    );
    let engine = site.start();
    let order = |id: &str, order: &str| (id.to_owned(), order.to_owned());
    post(
        &engine,
        [
            order("fine", &count()),
            order("rejected", r#"{ "do": "reject", "text": "no such order" }"#),
            order("late", r#"{ "do": "fail-until", "count": 2 }"#),
            order("undone", r#"{ "do": "emit-then-reject" }"#),
        ],
    );
    wait_until("two are dead", || site.dead_letters() == 2);
    // The retry waits for others in vain.
    let retried = || engine.metric("tidemill_attempts_total", "outcome=\"retry\"");
    wait_until("one runs again", || retried() == 1.0);
    engine.stop();
    let letters = site.succeeds(&["dead-letters", "list", "--json"]);
    let mut reasons: Vec<String> = letters
        .lines()
        .map(|line| {
            let letter: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(letter["cause"], "rejected");
            letter["reason"].as_str().expect("a reason").to_owned()
        })
        .collect();
    reasons.sort();
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("as ordered"), "{reasons:?}");
    assert!(reasons[1].contains("no such order"), "{reasons:?}");
    assert_eq!(site.count("n:"), 1);
}

#[test]
fn what_was_done_for_a_failed_event_is_gone_with_it() {
    let site = site(
        "BATCH-PROBE",
        r#"
        batch = { max = 6, wait = "10s" }
        [functions.probe]
        component = "PROBE"
        env = { ORDER = '{ "do": "count", "key": "", "type": "" }' }
        allow = { store = ["probe"] }
        [triggers.made]
        function = "probe"
        event = { type = "probe.made" }
        "#,
    );
    let engine = site.start();
    // For each event it sets `key` to its index and emits; every second one then fails.
    post(
        &engine,
        (0..6).map(|n| (format!("id-{n}"), of_form("halves"))),
    );
    wait_until("three are dead", || site.dead_letters() == 3);
    engine.wait_idle();
    engine.stop();
    assert_eq!(site.key("probe", "key").as_deref(), Some("4"));
    assert_eq!(site.count(":"), 3, "what the failed ones emitted is gone");
}

#[test]
fn a_handler_that_breaks_the_rules_is_named_and_harms_nobody() {
    for (form, reason) in [
        ("few", "gave 0 answers to 1 events"),
        ("early-emit", "before it has begun an event"),
        ("begin-beyond", "the batch has 1 events"),
    ] {
        let site = site(
            "BATCH-PROBE",
            r#"
            batch = { max = 3, wait = "10s" }
            retry = { attempts = 1 }
            "#,
        );
        let engine = site.start();
        // What the handler does is said by the first event of its batch.
        post(&engine, (0..3).map(|n| (format!("id-{n}"), of_form(form))));
        wait_until("all are dead", || site.dead_letters() == 3);
        engine.stop();
        let letters = site.succeeds(&["dead-letters", "list", "--json"]);
        assert!(letters.contains(reason), "{form}: {letters}");
    }
}

#[test]
fn events_of_one_meaning_never_share_a_batch() {
    let site = site(
        "PROBE",
        r#"
        batch = { max = 10, wait = "300ms" }
        idempotency = { key = "$.meaning", window = "1h" }
        "#,
    );
    let engine = site.start();
    post(
        &engine,
        (0..20).map(|n| {
            let order = count().replace('}', &format!(r#", "meaning": {} }}"#, n % 5));
            (format!("id-{n}"), order)
        }),
    );
    engine.wait_idle();
    let duplicates = engine.metric("tidemill_deliveries_settled_total", "result=\"duplicate\"");
    assert_eq!(duplicates, 15.0);
    engine.stop();
    assert_eq!(site.count("n:"), 5);
}

#[test]
fn attempts_that_change_the_same_keys_count_right() {
    let site = site("PROBE", r#"batch = { max = 5, wait = "0s" }"#);
    let engine = site.start();
    std::thread::scope(|scope| {
        for sender in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                post(
                    engine,
                    (0..50).map(|n| (format!("id-{sender}-{n}"), count())),
                );
            });
        }
    });
    engine.wait_idle();
    engine.stop();
    assert_eq!(site.counters("n").get(""), Some(&200));
    assert_eq!(site.count("n:"), 200);
    assert_eq!(site.dead_letters(), 0);
}

#[test]
fn a_function_for_batches_alone_is_invoked_by_hand() {
    let site = site("BATCH-PROBE", r#"batch = {}"#);
    site.succeeds(&["invoke", "handler", "--data", &of_form("halves")]);
    assert_eq!(site.key("probe", "key").as_deref(), Some("0"));
}

#[test]
fn the_handler_must_be_there() {
    let site = Site::new(
        r#"
[functions.one]
component = "THUMBNAIL"
[functions.many]
component = "BATCH-PROBE"
[triggers.together]
function = "one"
http = { path = "/together" }
batch = { max = 10 }
[triggers.alone]
function = "many"
http = { path = "/alone" }
"#,
    );
    let (code, text) = site.refuses_to_run();
    assert_eq!(code, 1, "{text}");
    insta::assert_snapshot!(text);
}
