//! Buckets as sources: what becomes of objects.

use std::fs;

use crate::harness::{Site, files, wait_until};

fn config(bucket: &str) -> String {
    format!(
        r#"
[buckets.in]
url = "file:buckets/in"
[buckets.done]
url = "file:buckets/done"
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{{ "do": "follow" }}' }}
allow = {{ read = ["in"], store = ["probe"] }}
[functions.second]
component = "PROBE"
env = {{ ORDER = '{{ "do": "increment", "key": "seen" }}' }}
allow = {{ store = ["probe"] }}
[triggers.first]
function = "probe"
bucket = {{ name = "in", {bucket} }}
retry = {{ attempts = 1 }}
[triggers.second]
function = "second"
bucket = {{ name = "in", {bucket} }}
"#
    )
}

fn site(bucket: &str) -> Site {
    let site = Site::new(&config(bucket));
    site.bucket("in");
    site.bucket("done");
    site
}

#[test]
fn after_delete_acts_only_when_all_deliveries_are_ok() {
    let site = site("after = \"delete\"");
    let folder = site.path("buckets/in");
    let engine = site.start();
    fs::write(folder.join("good"), r#"{"do": "ok"}"#).expect("it is written");
    fs::write(folder.join("bad"), r#"{"do": "reject"}"#).expect("it is written");
    wait_until("the good one is gone", || !folder.join("good").exists());
    wait_until("the bad one is given up", || site.dead_letters() == 1);
    engine.wait_idle();
    assert_eq!(files(&folder), ["bad"], "what was not handled stays");

    // Once the dead letter is redriven and ends ok, all is well.
    fs::write(folder.join("bad"), r#"{"do": "ok"}"#).expect("it is written");
    wait_until("the new version is gone", || files(&folder).is_empty());
    engine.stop();
}

#[test]
fn after_move_keeps_the_key_behind_the_prefix() {
    let site = site("after = { move = { bucket = \"done\", prefix = \"2026/\" } }");
    let folder = site.path("buckets/in");
    fs::create_dir_all(folder.join("a")).expect("it is made");
    fs::write(folder.join("a/b.json"), r#"{"do": "ok"}"#).expect("it is written");
    let engine = site.start();
    let moved = site.path("buckets/done/2026/a/b.json");
    wait_until("it is moved", || {
        moved.exists() && !folder.join("a/b.json").exists()
    });
    assert_eq!(
        fs::read_to_string(moved).expect("it is read"),
        r#"{"do": "ok"}"#
    );
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

#[test]
fn created_deleted_prefix_and_suffix_choose_the_events() {
    let config = r#"
[buckets.in]
url = "file:buckets/in"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "counter" }' }
allow = { store = ["probe"] }
[triggers.gone]
function = "probe"
bucket = { name = "in", on = ["deleted"], prefix = "logs/", suffix = [".txt", ".log"] }
"#;
    let site = Site::new(config);
    let folder = site.bucket("in");
    fs::create_dir_all(folder.join("logs")).expect("it is made");
    let keys = [
        "logs/a.txt",
        "logs/b.log",
        "logs/c.csv",
        "d.txt",
        "logs/stays.txt",
    ];
    for key in keys {
        fs::write(folder.join(key), "x").expect("it is written");
    }
    let engine = site.start();
    wait_until("all are seen", || {
        engine.metric("tidemill_events_accepted_total", "") == 5.0
    });
    for key in &keys[..4] {
        fs::remove_file(folder.join(key)).expect("it is removed");
    }
    wait_until("all are seen to go", || {
        engine.metric("tidemill_events_accepted_total", "") == 9.0
    });
    engine.wait_idle();
    let counted: Vec<&str> = keys
        .into_iter()
        .filter(|key| site.key("probe", key).as_deref() == Some("1"))
        .collect();
    assert_eq!(counted, ["logs/a.txt", "logs/b.log"]);
    assert_eq!(engine.metric("tidemill_deliveries_settled_total", ""), 2.0);
    engine.stop();
}

#[test]
fn an_object_that_was_replaced_meanwhile_is_skipped() {
    let site = site("on = [\"created\"]");
    let folder = site.path("buckets/in");
    fs::write(folder.join("a"), r#"{"do": "ok"}"#).expect("it is written");
    let engine = site.start();
    let settled = || engine.metric("tidemill_deliveries_settled_total", "trigger=\"first\"");
    wait_until("the first one is handled", || settled() == 1.0);
    // Gone again before its handler can read it, more often than not: never a dead letter.
    for n in 0..50 {
        fs::write(folder.join("b"), format!(r#"{{"do": "ok", "count": {n}}}"#))
            .expect("it is written");
        fs::remove_file(folder.join("b")).expect("it is removed");
    }
    fs::write(
        folder.join("c"),
        r#"{"do": "kv-set", "key": "last", "text": "seen"}"#,
    )
    .expect("it is written");
    wait_until("the last one is handled", || {
        site.key("probe", "last").is_some()
    });
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

#[test]
fn objects_that_are_too_small_or_too_large_run_nothing() {
    let site = site("on = [\"created\"], min_size = \"1B\", max_size = \"30B\"");
    let folder = site.path("buckets/in");
    fs::write(folder.join("empty"), "").expect("it is written");
    fs::write(folder.join("large"), " ".repeat(31)).expect("it is written");
    fs::write(folder.join("good"), r#"{"do": "ok"}"#).expect("it is written");
    let engine = site.start();
    wait_until("all are seen", || {
        engine.metric("tidemill_events_accepted_total", "") == 3.0
    });
    engine.wait_idle();
    let settled = "tidemill_deliveries_settled_total";
    assert_eq!(engine.metric(settled, "trigger=\"first\""), 1.0);
    let outsized = "tidemill_objects_outsized_total";
    assert_eq!(engine.metric(outsized, "trigger=\"first\""), 2.0);
    let log = engine.stop();
    assert!(log.contains("too small or too large"), "{log}");
}

/// An object that goes between two attempts at it.
fn gone_between_attempts(missing: &str) -> Site {
    let site = site(&format!("missing = \"{missing}\""));
    let text = config(&format!("missing = \"{missing}\""));
    let retry = "retry = { attempts = 50, first = \"1s\", max = \"1s\" }";
    site.configure(&text.replace("retry = { attempts = 1 }", retry));
    let folder = site.path("buckets/in");
    fs::write(folder.join("a"), r#"{"do": "retry"}"#).expect("it is written");
    let engine = site.start();
    wait_until("it is tried", || {
        engine.metric("tidemill_attempts_total", "outcome=\"retry\"") >= 1.0
    });
    fs::remove_file(folder.join("a")).expect("it is removed");
    if missing == "retry" {
        // It is tried again although it is gone, and there again it ends well.
        engine.wait_log("the object is gone, or was replaced since");
        engine.kill();
        return site;
    }
    engine.wait_idle();
    engine.stop();
    site
}

#[test]
fn what_becomes_of_deliveries_without_their_object_is_chosen() {
    assert_eq!(gone_between_attempts("skip").dead_letters(), 0);

    let site = gone_between_attempts("dead-letter");
    let list = site.succeeds(&["dead-letters", "list"]);
    assert_eq!(site.dead_letters(), 1);
    assert!(
        list.contains("the object is gone, or was replaced"),
        "{list}"
    );

    let site = gone_between_attempts("retry");
    assert_eq!(site.dead_letters(), 0, "it is tried again still");
}
