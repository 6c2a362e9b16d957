//! Handlers that fail, in every way there is, and what the engine makes of it.

use std::{collections::BTreeMap, fs};

use crate::harness::{Site, wait_until};

/// Each file dropped into the bucket is an order for the probe.
const CONFIG: &str = r#"
[buckets.in]
url = "file:buckets/in"
[buckets.out]
url = "file:buckets/out"
[buckets.private]
url = "file:buckets/private"

[functions.probe]
component = "PROBE"
memory = "16MiB"
timeout = "1s"
output = "1MiB"
concurrency = 8
env = { ORDER = '{ "do": "follow" }' }
allow = { read = ["in"], write = ["out"], store = ["probe"], emit = ["probe.made"] }

[triggers.arrived]
function = "probe"
bucket = { name = "in" }
retry = { attempts = 2, first = "10ms" }
"#;

fn site() -> Site {
    let site = Site::new(CONFIG);
    for bucket in ["in", "out", "private"] {
        site.bucket(bucket);
    }
    site
}

fn order(site: &Site, key: &str, order: &str) {
    // Written aside and renamed in, so that nothing half-written is ever handled.
    fs::write(site.path("aside"), order).expect("it is written");
    fs::rename(site.path("aside"), site.path("buckets/in").join(key)).expect("it is renamed");
}

/// The dead letters: their cause, attempts and reason by subject.
fn dead_letters(site: &Site) -> BTreeMap<String, String> {
    let list = site.succeeds(&["dead-letters", "list", "--json"]);
    let lines = list
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let told = lines.map(|line| {
        let text = |name: &str| line[name].as_str().expect("text").to_owned();
        (
            text("subject"),
            format!(
                "{} after {}: {}",
                text("cause"),
                line["attempts"],
                text("reason")
            ),
        )
    });
    told.collect()
}

#[test]
fn every_failure_has_a_name_and_harms_nobody_else() {
    let site = site();
    let engine = site.start();
    let failures = [
        ("trap", r#"{"do": "trap", "text": "the sky is falling"}"#),
        ("spin", r#"{"do": "spin"}"#),
        ("sleep", r#"{"do": "sleep", "ms": 60000}"#),
        ("memory-bomb", r#"{"do": "memory-bomb"}"#),
        ("stack-overflow", r#"{"do": "stack-overflow"}"#),
        ("reply-big", r#"{"do": "reply-big", "bytes": 2000000}"#),
        (
            "write-big",
            r#"{"do": "write-big", "bucket": "out", "bytes": 2000000}"#,
        ),
        ("reject", r#"{"do": "reject", "text": "not for me"}"#),
        ("retry", r#"{"do": "retry", "text": "not now"}"#),
        (
            "private",
            r#"{"do": "write", "bucket": "private", "text": "x"}"#,
        ),
    ];
    for (n, (key, text)) in failures.iter().enumerate() {
        order(&site, key, text);
        order(
            &site,
            &format!("healthy {n}"),
            r#"{"do": "write", "bucket": "out", "key": "KEY", "text": "done"}"#
                .replace("KEY", &format!("{n}"))
                .as_str(),
        );
    }
    wait_until("all have failed", || site.dead_letters() == failures.len());
    engine.wait_idle();
    let told: Vec<String> = dead_letters(&site)
        .iter()
        .map(|(key, why)| format!("{key}: {why}"))
        .collect();
    // Where in the probe it panicked is nobody's business.
    let place = regex_lite::Regex::new(r"lib\.rs:\d+:\d+").expect("it is one");
    insta::assert_snapshot!(place.replace_all(&told.join("\n"), "lib.rs:LINE"));
    for n in 0..failures.len() {
        let written =
            fs::read_to_string(site.path(&format!("buckets/out/{n}"))).expect("it is there");
        assert_eq!(written, "done");
    }
    assert_eq!(
        engine.metric("tidemill_deliveries_settled_total", "result=\"ok\""),
        10.0
    );
    engine.stop();
}

#[test]
fn a_retry_can_succeed() {
    let site = site();
    let engine = site.start();
    order(&site, "third time", r#"{"do": "fail-until", "count": 2}"#);
    wait_until("it succeeded", || {
        engine.metric("tidemill_deliveries_settled_total", "") == 1.0
    });
    assert_eq!(
        engine.metric("tidemill_attempts_total", "outcome=\"retry\""),
        1.0
    );
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

#[test]
fn effects_of_a_failure_are_thrown_away() {
    let site = site();
    let engine = site.start();
    order(
        &site,
        "trap",
        r#"{"do": "set-then-trap", "key": "k", "text": "never"}"#,
    );
    wait_until("it is given up", || site.dead_letters() == 1);
    assert_eq!(site.key("probe", "k"), None);
    order(
        &site,
        "set",
        r#"{"do": "kv-set", "key": "k", "text": "once"}"#,
    );
    engine.wait_idle();
    wait_until("it is set", || {
        site.key("probe", "k").as_deref() == Some("once")
    });
    engine.stop();
}

#[test]
fn a_counter_that_many_attempts_share_is_exact() {
    const EVENTS: usize = 300;
    let site = site();
    for n in 0..EVENTS {
        order(
            &site,
            &format!("{n}"),
            r#"{"do": "update", "key": "shared"}"#,
        );
    }
    let engine = site.start();
    wait_until("all are settled", || {
        engine.metric("tidemill_deliveries_settled_total", "result=\"ok\"") == EVENTS as f64
    });
    assert_eq!(site.key("probe", "shared"), Some(EVENTS.to_string()));
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

#[test]
fn a_function_that_feeds_its_own_trigger_ends_in_the_dead_letters() {
    let config = CONFIG
        .replace(r#""do": "follow""#, r#""do": "again", "bucket": "in""#)
        .replace("write = [\"out\"]", "write = [\"in\"]");
    let site = Site::new(&config);
    for bucket in ["in", "out", "private"] {
        site.bucket(bucket);
    }
    let engine = site.start();
    order(&site, "first", "x");
    wait_until("the loop is cut", || site.dead_letters() == 1);
    engine.wait_idle();
    let dead = dead_letters(&site);
    let why = dead.values().next().expect("one");
    assert!(
        why.starts_with("loop after 0: the event came through 17 writes"),
        "{why}"
    );
    // The first object, and one for each of the sixteen hops that were run.
    assert_eq!(
        engine.metric("tidemill_deliveries_settled_total", "result=\"ok\""),
        17.0
    );
    engine.stop();
}
