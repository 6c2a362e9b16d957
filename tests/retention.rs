//! What the journal keeps, for how long, and how it is looked at.

use crate::harness::{Site, wait_until};

const CONFIG: &str = r#"
[engine]
admin = "127.0.0.1:0"
http = "127.0.0.1:0"
RETENTION
[buckets.in]
url = "file:buckets/in"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "follow" }' }
allow = { read = ["in"], store = ["probe"] }
[triggers.probe]
function = "probe"
bucket = { name = "in" }
retry = { attempts = 1 }
"#;

fn site(retention: &str) -> Site {
    let site = Site::new(&CONFIG.replace("RETENTION", retention));
    site.bucket("in");
    site
}

#[test]
fn dead_letters_go_when_they_are_old_and_it_is_told() {
    let site = site("retention = { dead_letters = \"2s\" }");
    let put = |key: &str, order: &str| {
        std::fs::write(site.path("buckets/in").join(key), order).expect("it is written");
    };
    let engine = site.start();
    put("bad", r#"{"do": "reject"}"#);
    wait_until("it is given up", || {
        engine.metric("tidemill_deliveries_dead_total", "") == 1.0
    });
    engine.wait_log("dead letters are thrown away that nobody looked after for 2s");
    assert_eq!(site.dead_letters(), 0);
    let expired = "tidemill_dead_letters_expired_total";
    assert_eq!(engine.metric(expired, "trigger=\"probe\""), 1.0);
    // Nobody takes it for a new one.
    engine.stop();
    let engine = site.start();
    engine.wait_idle();
    assert_eq!(engine.metric("tidemill_attempts_total", ""), 0.0);
    engine.stop();
}

#[test]
fn the_journal_tells_what_it_holds_with_and_without_an_engine() {
    let site = site("");
    let (code, error) = site.fails(&["journal", "stats"]);
    assert!(
        code == 1 && error.contains("there is no journal"),
        "{error}"
    );
    let put = |key: &str, order: &str| {
        std::fs::write(site.path("buckets/in").join(key), order).expect("it is written");
    };
    let engine = site.start();
    put("bad", r#"{"do": "reject"}"#);
    put("good", r#"{"do": "kv-set", "key": "k", "text": "four"}"#);
    wait_until("both are done", || {
        site.dead_letters() == 1 && site.key("probe", "k").is_some()
    });
    engine.wait_idle();
    let told = || -> serde_json::Value {
        let told = site.succeeds(&["journal", "stats", "--json"]);
        serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {told}"))
    };
    let found = told();
    let deliveries = &found["deliveries"][0];
    assert_eq!(deliveries["trigger"], "probe");
    assert_eq!(
        (&deliveries["pending"], &deliveries["dead"]),
        (&0.into(), &1.into())
    );
    assert!(deliveries["oldest_dead"].is_string() && deliveries["oldest_pending"].is_null());
    let store = serde_json::json!([{ "store": "probe", "keys": 1, "bytes": 5 }]);
    assert_eq!(found["stores"], store);
    let bucket = serde_json::json!([{ "bucket": "in", "objects": 2, "gone": 0 }]);
    assert_eq!(found["buckets"], bucket);
    engine.kill();
    let (file, mut later) = (found["file"].as_u64(), told());
    assert!(file.is_some_and(|bytes| bytes > 4096), "{found}");
    for changes in ["file", "unused", "log"] {
        later[changes] = found[changes].clone();
    }
    assert_eq!(later, found);
    let text = site.succeeds(&["journal", "stats"]);
    for words in [
        "journal.db",
        "sources pause at 20.0 GiB",
        "deliveries of",
        "gone lately",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    println!("{text}");
}
