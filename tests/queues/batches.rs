//! Messages and records in batches.

use std::collections::BTreeMap;

use serde_json::json;

use super::kafka::{self, Work};
use crate::harness::{Amqp, Kafka, Site, amqp_url, kafka_brokers, unique, wait_for, wait_until};

#[test]
fn records_of_a_partition_come_in_batches_and_in_their_order() {
    const RECORDS: usize = 600;
    let work = Work::new("");
    let rest = r#"
        order_by = "partition"
        batch = { max = 100, wait = "100ms" }
    "#;
    let config = Work::config(&work.topic, rest).replace("attempts = 2", "attempts = 100");
    work.site.configure(&config);
    // Without a key they go where the producer likes, and with one all to one partition.
    let append = |n: usize, chance: usize| {
        let order = json!({ "do": "append", "key": "list", "count": n, "chance": chance });
        ("one".to_owned(), order.to_string())
    };
    work.produce((0..RECORDS).map(|n| append(n, 0)));
    let engine = work.site.start();
    let list = |len: usize| {
        wait_for("all are appended", || {
            let list = work.site.key("probe", "list")?;
            (list.split_whitespace().count() >= len).then_some(list)
        })
    };
    let expected = |to: usize| (0..to).map(|n| format!("{n} ")).collect::<String>();
    assert_eq!(list(RECORDS), expected(RECORDS));
    let calls = engine.metric("tidemill_attempt_duration_seconds_count", "");
    assert!(calls <= RECORDS as f64 / 10.0, "{calls} calls");
    // Failures and a crash change nothing in the order.
    work.produce((RECORDS..RECORDS + 100).map(|n| append(n, 5)));
    wait_until("some are appended", || {
        let list = work.site.key("probe", "list").unwrap_or_default();
        list.split_whitespace().count() > RECORDS
    });
    engine.kill();
    let engine = work.site.start();
    assert_eq!(list(RECORDS + 100), expected(RECORDS + 100));
    assert_eq!(work.site.dead_letters(), 0);
    wait_until("all are committed", || {
        work.committed() == RECORDS as i64 + 100
    });
    engine.stop();
}

#[test]
fn records_that_fail_in_one_batch_keep_their_order() {
    const RECORDS: usize = 10;
    let work = Work::new("");
    let rest = r#"
        order_by = "partition"
        batch = { max = 10, wait = "2s" }
    "#;
    work.site.configure(&Work::config(&work.topic, rest));
    work.produce((0..RECORDS).map(|n| {
        // Whichever fails later is to be tried again sooner.
        let (what, ms) = match n {
            3 => ("append-later", 1500),
            6 => ("append-later", 300),
            8 => ("append-later", 1),
            _ => ("append", 0),
        };
        let order = json!({ "do": what, "key": "list", "count": n, "ms": ms });
        ("one".to_owned(), order.to_string())
    }));
    let engine = work.site.start();
    let list = wait_for("all are appended", || {
        let list = work.site.key("probe", "list")?;
        (list.split_whitespace().count() == RECORDS).then_some(list)
    });
    assert_eq!(list, "0 1 2 3 4 5 6 7 8 9 ");
    engine.stop();
}

#[test]
fn poison_in_a_batch_of_records_holds_nobody_up() {
    let work = Work::new(r#"batch = { max = 50, wait = "100ms" }"#);
    let engine = work.site.start();
    work.produce((0..200).map(|n| {
        let order = match n % 50 {
            7 => r#"{ "do": "trap", "text": "of its own" }"#.to_owned(),
            8 => r#"{ "do": "reject", "text": "no such order" }"#.to_owned(),
            _ => kafka::count(),
        };
        (format!("key-{n}"), order)
    }));
    wait_until("all are done or dead", || {
        work.site.dead_letters() == 8 && work.site.count("n:") == 192
    });
    wait_until("all are committed", || work.committed() == 200);
    engine.stop();
    let counts = work.site.counters("n:");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[test]
fn messages_of_a_queue_come_in_batches() {
    let (queue, broker) = (unique("work"), Amqp::connect(&amqp_url()));
    broker.declare(&queue);
    let site = Site::new(&format!(
        r#"
[connections.broker]
amqp = "{}"
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "key": "", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.work]
function = "probe"
amqp = {{ connection = "broker", queue = "{queue}", prefetch = 100 }}
batch = {{ max = 50, wait = "10s" }}
"#,
        amqp_url()
    ));
    let messages: Vec<_> = (0..500).map(|n| (n.to_string(), "{}".to_owned())).collect();
    assert!(broker.publish(&queue, &messages));
    let engine = site.start();
    wait_until("all are done", || site.count(":") == 500);
    let calls = engine.metric("tidemill_attempt_duration_seconds_count", "");
    assert_eq!(calls, 10.0);
    engine.stop();
    let counts = site.counters(":");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(broker.waiting(&queue), 0);
    broker.delete(&queue);
}

/// A change record as Debezium's JSON converter writes it without schemas.
fn change(op: &str, row: usize, name: &str, lsn: usize) -> (String, String) {
    let after = json!({ "id": row, "name": name });
    let value = json!({
        "before": null,
        "after": if op == "d" { serde_json::Value::Null } else { after },
        "source": {
            "version": "3.3.1.Final", "connector": "postgresql", "name": "shop", "ts_ms": 1_790_000_000_000_u64 + lsn as u64,
            "snapshot": "false", "db": "shop", "schema": "public", "table": "customers",
            "txId": lsn, "lsn": lsn, "xmin": null,
        },
        "op": op, "ts_ms": 1_790_000_000_100_u64 + lsn as u64, "transaction": null,
    });
    (json!({ "id": row }).to_string(), value.to_string())
}

#[test]
fn the_rows_of_a_database_follow_its_change_records() {
    const ROWS: usize = 40;
    let (topic, broker) = (
        unique("shop.public.customers"),
        Kafka::connect(&kafka_brokers()),
    );
    broker.create(&topic, 3);
    let brokers = kafka_brokers();
    let site = Site::new(&format!(
        r#"
[connections.changes]
kafka = {{ brokers = ["{brokers}"] }}
[functions.debezium]
component = "DEBEZIUM"
allow = {{ store = ["rows"], emit = ["row.changed"] }}
[functions.probe]
component = "PROBE"
env = {{ ORDER = '{{ "do": "count", "key": "", "type": "" }}' }}
allow = {{ store = ["probe"] }}
[triggers.shop]
function = "debezium"
kafka = {{ connection = "changes", topics = ["{topic}"], group = "{topic}" }}
batch = {{ max = 50, wait = "100ms" }}
[triggers.changed]
function = "probe"
event = {{ type = "row.changed" }}
"#
    ));
    let engine = site.start();
    let mut records = Vec::new();
    for row in 0..ROWS {
        records.push(change("r", row, "of the snapshot", 1));
    }
    for row in 0..ROWS {
        records.push(change("u", row, &format!("customer {row}"), 100 + row));
    }
    for row in (0..ROWS).step_by(4) {
        records.push(change("d", row, "", 200 + row));
        // The tombstone that lets Kafka forget the key.
        records.push((json!({ "id": row }).to_string(), String::new()));
    }
    broker
        .produce(&topic, &records)
        .expect("the broker has them");
    let changes = ROWS * 2 + ROWS / 4;
    wait_until("every change was told of", || site.count(":") == changes);
    let calls = engine.metric(
        "tidemill_attempt_duration_seconds_count",
        "function=\"debezium\"",
    );
    assert!(calls < records.len() as f64 / 2.0, "{calls} calls");
    engine.stop();
    let mut names = BTreeMap::new();
    for row in 0..ROWS {
        let key = format!(r#"shop.public.customers {{"id":{row}}}"#);
        let kept = site.key("rows", &key).expect("it is kept");
        let kept: serde_json::Value = serde_json::from_str(&kept).expect("JSON");
        names.insert(row, kept["row"]["name"].as_str().map(str::to_owned));
    }
    let expected = (0..ROWS).map(|row| (row, (row % 4 > 0).then(|| format!("customer {row}"))));
    assert_eq!(names, expected.collect());
    broker.delete(&topic);
}
