//! Buckets as sources: what becomes of objects, in folders and on two servers that speak S3.

use std::{collections::BTreeSet, thread, time::Duration};

use crate::harness::{Kind, Server, Site, Store, wait_for, wait_until};

/// The tests, of each kind of store.
macro_rules! on_each_store {
    ($($test:ident)*) => {
        mod folder {
            $(#[test] fn $test() { super::$test(super::Kind::Folder) })*
        }
        mod moto {
            $(#[test] fn $test() { super::$test(super::Kind::On(super::Server::Moto)) })*
        }
        mod s3s {
            $(#[test] fn $test() { super::$test(super::Kind::On(super::Server::S3s)) })*
        }
    };
}

on_each_store! {
    objects_are_deleted_only_when_all_their_deliveries_are_ok
    objects_are_moved_with_their_keys_behind_the_prefix
    created_deleted_prefix_and_suffix_choose_the_events
    an_object_that_was_replaced_meanwhile_is_skipped
    objects_that_are_too_small_or_too_large_run_nothing
    what_becomes_of_deliveries_without_their_object_is_chosen
    keys_of_any_kind_are_handled
    a_version_runs_once_and_the_next_one_again
    a_function_that_feeds_its_own_trigger_ends_in_the_dead_letters
    large_objects_are_written_when_the_attempt_ended_ok_only
    every_object_takes_effect_exactly_once_whenever_the_engine_dies
    only_what_comes_later_runs_even_if_the_engine_dies_in_its_first_listing
    the_state_of_buckets_is_told_with_and_without_a_running_engine
}

/// What a probe does that is told by the object itself.
const FOLLOW: &str = r#"{ "do": "follow" }"#;

/// A plan with one bucket, `in`, that one function handles; `bucket` is more of the trigger.
fn plan(store: &Store, order: &str, bucket: &str) -> String {
    let (buckets, soon) = (store.buckets(&["in", "out"]), store.soon());
    format!(
        r#"
[engine]
admin = "127.0.0.1:0"
{buckets}
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{order}' }}
allow = {{ read = ["in"], write = ["in", "out"], store = ["probe"] }}
[triggers.probe]
function = "probe"
bucket = {{ name = "in"{soon}{bucket} }}
retry = {{ attempts = 2, first = "10ms" }}
"#
    )
}

fn objects_are_deleted_only_when_all_their_deliveries_are_ok(kind: Kind) {
    let store = Store::new(kind);
    let after = ", after = \"delete\"";
    let soon = store.soon();
    let second = format!(
        r#"
[functions.second]
component = "PROBE"
env = {{ ORDER = '{{ "do": "increment", "key": "seen" }}' }}
allow = {{ store = ["probe"] }}
[triggers.second]
function = "second"
bucket = {{ name = "in"{soon}{after} }}
"#
    );
    let site = Site::new(&(plan(&store, FOLLOW, after) + &second));
    let engine = store.start(&site);
    store.put("in/good", r#"{"do": "ok"}"#);
    store.put("in/bad", r#"{"do": "reject"}"#);
    wait_until("the good one is gone", || store.keys() == ["in/bad"]);
    wait_until("the bad one is given up", || site.dead_letters() == 1);
    engine.wait_idle();
    assert_eq!(store.keys(), ["in/bad"], "what was not handled stays");

    // Another version is another matter.
    store.put("in/bad", r#"{"do": "ok"}"#);
    wait_until("the new version is gone", || store.keys().is_empty());
    engine.stop();
}

fn objects_are_moved_with_their_keys_behind_the_prefix(kind: Kind) {
    let store = Store::new(kind);
    let after = r#", after = { move = { bucket = "out", prefix = "2026/" } }"#;
    let site = Site::new(&plan(&store, FOLLOW, after));
    store.put("in/a/b.json", r#"{"do": "ok"}"#);
    let engine = store.start(&site);
    store.put("in/bad", r#"{"do": "reject"}"#);
    wait_until("the good one is moved", || {
        store.keys() == ["in/bad", "out/2026/a/b.json"]
    });
    wait_until("the bad one is given up", || site.dead_letters() == 1);
    let moved = store.get("out/2026/a/b.json");
    assert_eq!(moved.as_deref(), Some(br#"{"do": "ok"}"#.as_slice()));
    if kind != Kind::Folder {
        assert_eq!(store.hops("out/2026/a/b.json").as_deref(), Some("1"));
    }
    engine.wait_idle();
    engine.stop();
}

fn created_deleted_prefix_and_suffix_choose_the_events(kind: Kind) {
    let store = Store::new(kind);
    let choice = r#", on = ["deleted"], prefix = "logs/", suffix = [".txt", ".log"]"#;
    let site = Site::new(&plan(&store, r#"{ "do": "counter" }"#, choice));
    let keys = [
        "logs/a.txt",
        "logs/b.log",
        "logs/c.csv",
        "d.txt",
        "logs/stays.txt",
    ];
    for key in keys {
        store.put(&format!("in/{key}"), "x");
    }
    let engine = store.start(&site);
    wait_until("all are seen", || {
        engine.metric("tidemill_events_accepted_total", "") == 5.0
    });
    for key in &keys[..4] {
        store.delete(&format!("in/{key}"));
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

fn an_object_that_was_replaced_meanwhile_is_skipped(kind: Kind) {
    let store = Store::new(kind);
    let site = Site::new(&plan(&store, FOLLOW, ""));
    store.put("in/a", r#"{"do": "ok"}"#);
    let engine = store.start(&site);
    let settled = || engine.metric("tidemill_deliveries_settled_total", "");
    wait_until("the first one is handled", || settled() == 1.0);
    // Gone again before its handler can read it, more often than not: never a dead letter.
    for n in 0..50 {
        store.put("in/b", format!(r#"{{"do": "ok", "count": {n}}}"#));
        store.delete("in/b");
    }
    store.put("in/c", r#"{"do": "kv-set", "key": "last", "text": "seen"}"#);
    wait_until("the last one is handled", || {
        site.key("probe", "last").is_some()
    });
    engine.wait_idle();
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

fn objects_that_are_too_small_or_too_large_run_nothing(kind: Kind) {
    let store = Store::new(kind);
    let sizes = r#", min_size = "1B", max_size = "30B""#;
    let site = Site::new(&plan(&store, FOLLOW, sizes));
    store.put("in/empty", "");
    store.put("in/large", " ".repeat(31));
    store.put("in/good", r#"{"do": "ok"}"#);
    let engine = store.start(&site);
    wait_until("all are seen", || {
        engine.metric("tidemill_events_accepted_total", "") == 3.0
    });
    engine.wait_idle();
    assert_eq!(engine.metric("tidemill_deliveries_settled_total", ""), 1.0);
    assert_eq!(engine.metric("tidemill_objects_outsized_total", ""), 2.0);
    let log = engine.stop();
    assert!(log.contains("too small or too large"), "{log}");
}

/// An object that goes between two attempts at it.
fn gone_between_attempts(kind: Kind, missing: &str) -> Site {
    let store = Store::new(kind);
    let plan = plan(&store, FOLLOW, &format!(", missing = \"{missing}\""));
    let retry = "retry = { attempts = 50, first = \"1s\", max = \"1s\" }";
    let site = Site::new(&plan.replace("retry = { attempts = 2, first = \"10ms\" }", retry));
    store.put("in/a", r#"{"do": "retry"}"#);
    let engine = store.start(&site);
    wait_until("it is tried", || {
        engine.metric("tidemill_attempts_total", "outcome=\"retry\"") >= 1.0
    });
    store.delete("in/a");
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

fn what_becomes_of_deliveries_without_their_object_is_chosen(kind: Kind) {
    assert_eq!(gone_between_attempts(kind, "skip").dead_letters(), 0);

    let site = gone_between_attempts(kind, "dead-letter");
    let list = site.succeeds(&["dead-letters", "list"]);
    assert_eq!(site.dead_letters(), 1);
    assert!(
        list.contains("the object is gone, or was replaced"),
        "{list}"
    );

    let site = gone_between_attempts(kind, "retry");
    assert_eq!(site.dead_letters(), 0, "it is tried again still");
}

fn keys_of_any_kind_are_handled(kind: Kind) {
    let store = Store::new(kind);
    let order = r#"{ "do": "tally", "key": "all", "bucket": "out" }"#;
    let site = Site::new(&plan(&store, order, ""));
    let keys = [
        "two words.txt",
        "1+1=2.txt",
        "100%.txt",
        "a%20b%2Fc.txt",
        "what?&#;.txt",
        "Grüße/日本語/🦀.txt",
        "...",
        "a/..b/c..",
        "quotes '\"<>.txt",
    ];
    for key in &keys {
        store.put(&format!("in/{key}"), "x");
    }
    // These can be the keys of no file, and so of no object of a bucket: it is told, once each.
    let odd = match kind {
        Kind::On(Server::Moto) => &["in//leading", "twice//over", "a/../b", "trailing/"][..],
        _ => &[],
    };
    for key in odd {
        store.put(&format!("in/{key}"), "x");
    }
    let engine = store.start(&site);
    wait_until("all are handled", || {
        site.key("probe", "all") == Some(keys.len().to_string())
    });
    engine.wait_idle();
    for key in keys {
        assert_eq!(site.key("probe", key).as_deref(), Some("1"), "{key}");
        let written = store.get(&format!("out/{key}"));
        assert_eq!(written.as_deref(), Some(b"done".as_slice()), "{key}");
    }
    assert_eq!(site.dead_letters(), 0);
    let log = engine.stop();
    for key in odd {
        assert!(log.contains(key), "{key}: {log}");
    }
}

fn a_version_runs_once_and_the_next_one_again(kind: Kind) {
    let store = Store::new(kind);
    let site = Site::new(&plan(&store, r#"{ "do": "counter" }"#, ""));
    let engine = store.start(&site);
    let handled = |count: &str| {
        wait_until(&format!("it is handled for the {count}. time"), || {
            site.key("probe", "a").as_deref() == Some(count)
        });
    };
    store.put("in/a", "one");
    handled("1");
    store.put("in/a", "another");
    handled("2");
    // The same bytes again, once it was gone.
    store.delete("in/a");
    wait_until("it is seen to go", || {
        engine.metric("tidemill_events_accepted_total", "") == 3.0
    });
    store.put("in/a", "another");
    handled("3");
    engine.stop();
    let engine = store.start(&site);
    engine.wait_idle();
    assert_eq!(engine.metric("tidemill_attempts_total", ""), 0.0);
    engine.stop();
}

fn a_function_that_feeds_its_own_trigger_ends_in_the_dead_letters(kind: Kind) {
    let store = Store::new(kind);
    let order = r#"{ "do": "again", "bucket": "in" }"#;
    let site = Site::new(&plan(&store, order, ""));
    let engine = store.start(&site);
    store.put("in/0", "x");
    wait_until("the loop is cut", || site.dead_letters() == 1);
    engine.wait_idle();
    let list = site.succeeds(&["dead-letters", "list"]);
    assert!(list.contains("came through 17 writes"), "{list}");
    // The first object, and one for each of the sixteen hops that were run.
    assert_eq!(store.keys().len(), 18);
    if kind != Kind::Folder {
        assert_eq!(store.hops("in/17").as_deref(), Some("17"));
    }
    engine.stop();
}

fn large_objects_are_written_when_the_attempt_ended_ok_only(kind: Kind) {
    let store = Store::new(kind);
    let site = Site::new(&plan(&store, FOLLOW, ""));
    let engine = store.start(&site);
    let order = r#"{"do": "write-big", "bucket": "out", "key": "large", "bytes": 9000000}"#;
    store.put("in/order", order);
    let large = wait_for("it is written", || store.get("out/large"));
    assert_eq!(large.len(), 9_000_000);
    engine.wait_idle();
    assert_eq!(store.unfinished(), 0, "no parts are left behind");
    engine.stop();
}

fn every_object_takes_effect_exactly_once_whenever_the_engine_dies(kind: Kind) {
    const KILLS: usize = 4;
    let seed = std::env::var("TIDEMILL_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("TIDEMILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let store = Store::new(kind);
    let order = r#"{ "do": "tally", "key": "all", "bucket": "out" }"#;
    let site = Site::new(&plan(&store, order, ""));
    let mut expected = BTreeSet::new();
    for kill in 0..KILLS {
        let engine = store.spawn(&site);
        for n in 0..15 {
            store.put(&format!("in/{kill}-{n}"), "x");
            expected.insert(format!("{kill}-{n}"));
        }
        // Any moment of its life.
        thread::park_timeout(Duration::from_millis(random.u64(10..1500)));
        engine.kill();
    }
    let engine = store.start(&site);
    let written = || -> BTreeSet<String> {
        let keys = store.keys();
        let out = keys.iter().filter_map(|key| key.strip_prefix("out/"));
        out.map(str::to_owned).collect()
    };
    wait_until("every object was handled", || written() == expected);
    engine.wait_idle();
    assert_eq!(site.key("probe", "all"), Some(expected.len().to_string()));
    for key in &expected {
        let count = site.key("probe", key);
        assert_eq!(count.as_deref(), Some("1"), "{key} took effect once");
    }
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
}

fn only_what_comes_later_runs_even_if_the_engine_dies_in_its_first_listing(kind: Kind) {
    const OLD: usize = 40;
    let store = Store::new(kind);
    let order = r#"{ "do": "tally", "key": "all", "bucket": "out" }"#;
    let site = Site::new(&plan(&store, order, ", start = \"now\""));
    for n in 0..OLD {
        store.put(&format!("in/{n:02}"), "x");
    }
    store.wait_later(&format!("in/{:02}", OLD - 1));
    // A first listing that is cut short, wherever it is.
    for wait in [20, 80, 300] {
        let engine = store.spawn(&site);
        thread::park_timeout(Duration::from_millis(wait));
        engine.kill();
    }
    let engine = store.start(&site);
    engine.wait_idle();
    store.put("in/new", "x");
    wait_until("what is new was handled", || {
        site.key("probe", "new").as_deref() == Some("1")
    });
    store.put("in/07", "changed");
    wait_until("what changed was handled", || {
        site.key("probe", "07").as_deref() == Some("1")
    });
    engine.wait_idle();
    assert_eq!(site.key("probe", "all").as_deref(), Some("2"));
    engine.stop();
}

fn the_state_of_buckets_is_told_with_and_without_a_running_engine(kind: Kind) {
    let store = Store::new(kind);
    let site = Site::new(&plan(&store, FOLLOW, ""));
    store.put("in/before", r#"{"do": "ok"}"#);
    let engine = store.start(&site);
    engine.wait_idle();
    store.put("in/after", r#"{"do": "ok"}"#);
    store.put("in/later", r#"{"do": "retry"}"#);
    wait_until("all are noticed", || {
        engine.metric("tidemill_objects_noticed_total", "") == 3.0
    });
    let status = |json: &str| -> serde_json::Value {
        serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"))
    };
    let found = status(&site.succeeds(&["buckets", "status", "in", "--json"]));
    assert_eq!(found["bucket"], "in");
    assert_eq!((&found["objects"], &found["gone"]), (&3.into(), &0.into()));
    let source = &found["source"];
    let (listed, told) = match kind {
        // The kernel tells of changes in folders.
        Kind::Folder => (1, 2),
        Kind::On(_) => (3, 0),
    };
    assert_eq!(source["by_listing"], listed);
    assert_eq!(source["by_notification"], told);
    assert_eq!(
        (&source["missed"], &source["ready"]),
        (&0.into(), &true.into())
    );
    // Of the two that came later; a server tells times by the second.
    let lag = source["lag_ms"]["max"].as_u64().expect("a lag");
    assert!(lag < 60_000, "{lag}");
    let text = site.succeeds(&["buckets", "status"]);
    assert!(text.contains(&format!("{listed} by listing")), "{text}");
    let found = text.contains("found by listing");
    assert_eq!(found, kind != Kind::Folder, "{text}");
    engine.kill();

    let found = status(&site.succeeds(&["buckets", "status", "--json"]));
    assert_eq!(found["objects"], 3);
    assert_eq!(
        (&found["complete"], &found["source"]),
        (&true.into(), &serde_json::Value::Null)
    );
    let text = site.succeeds(&["buckets", "status"]);
    assert!(text.contains("no engine runs"), "{text}");
    let (code, error) = site.fails(&["buckets", "status", "elsewhere"]);
    assert!(
        code == 2 && error.contains("a bucket `elsewhere`"),
        "{error}"
    );
}
