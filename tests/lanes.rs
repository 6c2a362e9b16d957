//! Lanes and idempotency keys: what runs one after another, and what runs once.

use std::{collections::BTreeMap, fs, thread};

use crate::harness::{Client, Engine, Site};

/// How many lanes, and how many events in each.
const LANES: usize = 1000;
const EVENTS: usize = 5;

#[test]
fn a_thousand_lanes_keep_their_order_through_failures() {
    let site = Site::new(
        r#"
[functions.probe]
component = "PROBE"
allow = { store = ["probe"] }
[triggers.append]
function = "probe"
http = { path = "/append" }
order_by = "$.key"
retry = { attempts = 100, first = "1ms", max = "20ms" }
"#,
    );
    let engine = site.start();
    let address = engine.http().expect("an address");
    // Each sender has lanes of its own, and sends the next of a lane once the one before it is
    // accepted: so the order of arrival is the order of the numbers.
    const SENDERS: usize = 8;
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let client = Client::new(&address);
            scope.spawn(move || {
                for n in 0..EVENTS {
                    for lane in (sender..LANES).step_by(SENDERS) {
                        let order = format!(
                            r#"{{"do": "append", "key": "lane-{lane}", "count": {n}, "chance": 25}}"#
                        );
                        assert_eq!(client.post("/append", &[], order).status, 202);
                    }
                }
            });
        }
    });
    // Whatever it was doing is cut off: nothing of the order is only in memory.
    let retries = |engine: &Engine| engine.metric("tidemill_attempts_total", "outcome=\"retry\"");
    let mut failed = retries(&engine);
    engine.kill();
    let engine = site.start();
    engine.wait_idle();
    let expected: String = (0..EVENTS).map(|n| format!("{n} ")).collect();
    for lane in 0..LANES {
        let list = site.key("probe", &format!("lane-{lane}"));
        assert_eq!(list.as_deref(), Some(&*expected), "lane {lane}");
    }
    failed += retries(&engine);
    assert!(
        failed > 500.0,
        "a good part of 5,000 failed at first: {failed}"
    );
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

#[test]
fn a_dead_letter_frees_its_lane_and_a_redrive_joins_the_tail() {
    let site = Site::new(
        r#"
[functions.probe]
component = "PROBE"
allow = { store = ["probe"] }
[triggers.append]
function = "probe"
http = { path = "/append" }
order_by = "header:Lane"
retry = { attempts = 2, first = "200ms" }
"#,
    );
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    let send = |n: u32, chance: u32| {
        let order = format!(r#"{{"do": "append", "count": {n}, "chance": {chance}}}"#);
        let replied = client.post("/append", &[("Lane", "a")], order);
        assert_eq!(replied.status, 202, "{replied:?}");
    };
    send(1, 0);
    send(2, 100);
    send(3, 0);
    engine.wait_idle();
    assert_eq!(site.key("probe", "key").as_deref(), Some("1 3 "));
    assert_eq!(site.dead_letters(), 1);

    // Whoever has no lane waits for nobody.
    let order = r#"{"do": "append", "key": "free", "count": 1}"#;
    assert_eq!(client.post("/append", &[], order).status, 202);
    assert_eq!(
        site.succeeds(&["dead-letters", "redrive", "--all"]),
        "1 redriven\n"
    );
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 1, "by its chance it fails again");
    assert_eq!(site.key("probe", "free").as_deref(), Some("1 "));
    engine.stop();
}

#[test]
fn events_of_one_meaning_run_once() {
    let site = Site::new(
        r#"
[buckets.in]
url = "file:buckets/in"
[functions.probe]
component = "PROBE"
concurrency = 8
allow = { store = ["probe"] }
[triggers.paid]
function = "probe"
http = { path = "/paid" }
idempotency = { key = "$.order", window = "1h" }
retry = { attempts = 2, first = "1ms" }
[functions.follow]
component = "PROBE"
env = { ORDER = '{ "do": "follow" }' }
allow = { read = ["in"], store = ["probe"] }
[triggers.file]
function = "follow"
bucket = { name = "in" }
idempotency = { key = "attr:type" }
"#,
    );
    let inbox = site.bucket("in");
    let engine = site.start();
    let address = engine.http().expect("an address");
    let paid = |order: u32, what: &str| {
        let body = format!(r#"{{"do": "{what}", "key": "order-{order}", "order": {order}}}"#);
        let replied = Client::new(&address).post("/paid", &[], body);
        assert_eq!(replied.status, 202, "{replied:?}");
    };
    // Many of the same order at once, each an event of its own.
    thread::scope(|scope| {
        for n in 0..64 {
            scope.spawn(move || paid(n % 4, "append"));
        }
    });
    engine.wait_idle();
    for order in 0..4 {
        let runs = site.key("probe", &format!("order-{order}"));
        assert_eq!(runs.as_deref(), Some("1 "), "order {order}");
    }
    let settled = |result: &str| {
        let label = format!("trigger=\"paid\",result=\"{result}\"");
        engine.metric("tidemill_deliveries_settled_total", &label)
    };
    assert_eq!((settled("ok"), settled("duplicate")), (4.0, 60.0));

    // A dead letter frees its key for the next one; an event without the key is itself alone.
    paid(9, "reject");
    paid(9, "append");
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 1);
    assert_eq!(site.key("probe", "order-9").as_deref(), Some("1 "));
    for _ in 0..2 {
        let client = Client::new(&address);
        client.post("/paid", &[], r#"{"do": "append", "key": "none"}"#);
    }
    engine.wait_idle();
    assert_eq!(site.key("probe", "none").as_deref(), Some("1 1 "));
    let missing = engine.metric(
        "tidemill_idempotency_keys_missing_total",
        "trigger=\"paid\"",
    );
    assert_eq!(missing, 2.0);

    // Every source has it: of two objects, the first is the one.
    let probe = r#"{"do": "append", "key": "file"}"#;
    fs::write(inbox.join("a"), probe).expect("it is written");
    fs::write(inbox.join("b"), probe).expect("it is written");
    let label = "trigger=\"file\",result=\"duplicate\"";
    crate::harness::wait_until("one of them is a duplicate", || {
        engine.metric("tidemill_deliveries_settled_total", label) == 1.0
    });
    assert_eq!(site.key("probe", "file").as_deref(), Some("1 "));
    engine.stop();
}

/// Posts to the path with each header value in turn, and tells how often the handler ran.
fn runs(filter: &str, requests: &[(&str, &str)]) -> BTreeMap<String, usize> {
    let site = Site::new(&format!(
        r#"
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.some]
function = "probe"
http = {{ path = "/some" }}
filter = {filter}
unmatched = "dead-letter"
"#
    ));
    let engine = site.start();
    let client = Client::new(&engine.http().expect("an address"));
    for (kind, body) in requests {
        let replied = client.post("/some", &[("X-Kind", kind)], body);
        assert_eq!(replied.status, 202, "{replied:?}");
    }
    engine.wait_idle();
    let counts = BTreeMap::from([
        (
            "ran".to_owned(),
            site.key("probe", "key")
                .map_or(0, |n| n.parse().expect("a number")),
        ),
        ("dead".to_owned(), site.dead_letters()),
        (
            "unmatched".to_owned(),
            engine.metric("tidemill_events_unmatched_total", "") as usize,
        ),
    ]);
    engine.stop();
    counts
}

#[test]
fn a_filter_decides_what_runs_and_what_does_not_is_kept_if_told() {
    let filter = r#"{ headers = { X-Kind = ["push", { prefix = "pull" }] }, data = { n = [{ numeric = [">", 5] }] } }"#;
    let requests = [
        ("push", r#"{"n": 6}"#),
        ("pull_request", r#"{"n": 7}"#),
        ("push", r#"{"n": 5}"#),
        ("fork", r#"{"n": 9}"#),
        ("push", "no JSON"),
    ];
    let expected = [("dead", 3), ("ran", 2), ("unmatched", 3)];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(runs(filter, &requests), BTreeMap::from(expected));
}
