//! The account of usage, over kills.

use std::{fs, thread, time::Duration};

use super::{kills, seed};
use crate::harness::{Amqp, Site, amqp_url, unique, wait_until_none_left};

const CONFIG: &str = r#"
[engine]
admin = "127.0.0.1:0"
[buckets.in]
url = "file:buckets/in"
[functions.busy]
component = "PROBE"
env = { ORDER = '{ "do": "follow" }' }
allow = { read = ["in"] }
[triggers.busy]
function = "busy"
bucket = { name = "in", rescan = "1s" }
retry = { attempts = 4, first = "1ms", max = "5ms" }
"#;

/// Each object says how many attempts it takes, which nobody but the dispatcher counts.
#[test]
fn usage_is_exact_whenever_the_engine_dies() {
    let kills = kills();
    let mut random = fastrand::Rng::with_seed(seed());
    let site = Site::new(CONFIG);
    let inbox = site.bucket("in");
    let (mut attempts, mut dead, mut n) = (0, 0, 0usize);
    let mut drop_some = |count: usize, random: &mut fastrand::Rng| {
        for _ in 0..count {
            let (order, takes) = match random.u64(..8) {
                0 => (r#"{"do": "reject"}"#.to_owned(), 1),
                1 => (r#"{"do": "trap"}"#.to_owned(), 4),
                more => {
                    let takes = more.min(4);
                    (
                        format!(r#"{{"do": "fail-until", "count": {takes}}}"#),
                        takes,
                    )
                }
            };
            dead += usize::from(!order.contains("until"));
            attempts += takes;
            fs::write(inbox.join(format!("{n}")), order).expect("it is written");
            n += 1;
        }
    };
    for _ in 0..kills {
        drop_some(random.usize(20..200), &mut random);
        let engine = site.spawn(&[]);
        // Any moment: while it starts, or in the middle of its work.
        thread::park_timeout(Duration::from_millis(random.u64(10..600)));
        engine.kill();
    }
    let engine = site.start();
    let known = "SELECT count(*) FROM ledger";
    wait_until_none_left("every object is known", || {
        let known = site
            .journal()
            .query_row(known, [], |row| row.get::<_, i64>(0));
        n - usize::try_from(known.expect("it is counted")).expect("a count")
    });
    engine.wait_idle();
    assert_eq!(site.dead_letters(), dead);
    let usage = || -> u64 {
        let lines = site.succeeds(&["usage", "--json"]);
        let lines = lines.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(line["function"], "busy");
            assert!(line["wall_seconds"].as_f64() > Some(0.0), "{line}");
            assert!(line["gb_seconds"].as_f64() > Some(0.0), "{line}");
            line["invocations"].as_u64().expect("a count")
        });
        // Around midnight there are two.
        lines.sum()
    };
    println!("{n} objects, {attempts} attempts, {kills} kills");
    assert_eq!(usage(), attempts, "beside a running engine");
    engine.stop();
    assert_eq!(usage(), attempts, "without one");
}

/// Messages are held by their broker: what they used is in the commit that completes or parks them.
#[test]
fn usage_of_messages_is_exact_whenever_the_engine_dies() {
    let kills = (kills() / 4).max(1);
    let mut random = fastrand::Rng::with_seed(seed());
    let (queue, broker) = (unique("account"), Amqp::connect(&amqp_url()));
    broker.declare(&queue);
    let site = Site::new(&format!(
        r#"
[engine]
admin = "127.0.0.1:0"
[connections.rabbit]
amqp = "{}"
[functions.busy]
component = "PROBE"
[triggers.busy]
function = "busy"
amqp = {{ connection = "rabbit", queue = "{queue}", prefetch = 64 }}
retry = {{ attempts = 4, first = "1ms", max = "5ms" }}
"#,
        amqp_url()
    ));
    let (mut attempts, mut n) = (0, 0usize);
    for _ in 0..kills {
        let messages = (0..random.usize(100..500)).map(|_| {
            let takes = random.u64(1..9).saturating_sub(4).max(1);
            attempts += takes;
            n += 1;
            let order = format!(r#"{{"do": "fail-until", "count": {takes}}}"#);
            (n.to_string(), order)
        });
        let messages: Vec<_> = messages.collect();
        assert!(broker.publish(&queue, &messages));
        let engine = site.spawn(&[]);
        thread::park_timeout(Duration::from_millis(random.u64(200..1200)));
        engine.kill();
    }
    let engine = site.start();
    // Each is remembered by its id once it is done.
    let done = "SELECT count(*) FROM event_ids";
    wait_until_none_left("every message is done", || {
        let done = site
            .journal()
            .query_row(done, [], |row| row.get::<_, i64>(0));
        n - usize::try_from(done.expect("it is counted")).expect("a count")
    });
    engine.stop();
    let lines = site.succeeds(&["usage", "--json"]);
    let invocations = lines.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["invocations"].as_u64().expect("a count")
    });
    println!("{n} messages, {attempts} attempts, {kills} kills");
    assert_eq!(invocations.sum::<u64>(), attempts);
    assert_eq!(site.dead_letters(), 0);
    broker.delete(&queue);
}
