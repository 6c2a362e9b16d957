//! Messages that are larger than their trigger takes: dead letters at once, whole, and in nobody's way.

use serde_json::Value;

use crate::harness::{Amqp, Kafka, Site, amqp_url, files, kafka_brokers, unique, wait_until};

/// Two triggers of one source, of which one sends its dead letters on.
const REST: &str = r#"
[buckets.dead]
url = "file:buckets/dead"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "n", "type": "" }' }
allow = { store = ["probe"] }
[triggers.work]
function = "probe"
SOURCE
[triggers.also]
function = "probe"
SOURCE
dead_letter = { bucket = { name = "dead", key = "{trigger}/{id}.json" } }
"#;

/// An id and a body of that many bytes.
fn message(id: &str, size: usize) -> (String, String) {
    (id.to_owned(), "x".repeat(size))
}

/// Sends messages below, at and above the limit to one engine, and looks at what becomes of each.
fn come_through(
    connection: &str,
    source: &str,
    send: impl Fn(&[(String, String)]),
    is_empty: impl Fn() -> bool,
) {
    let rest = REST.replace("SOURCE", source);
    let site = Site::new(&format!("[connections.broker]\n{connection}\n{rest}"));
    let letters = site.bucket("dead");
    let engine = site.start();
    send(&[message("before", 1000), message("at-the-limit", 6 << 20)]);
    send(&[message("large", 10_000_000), message("after", 1000)]);
    let handled = |id: &str| site.counters("n:").get(id).copied().unwrap_or_default();
    wait_until("the others are handled by both", || {
        ["before", "at-the-limit", "after"]
            .iter()
            .all(|id| handled(id) == 2)
    });
    wait_until("its broker has let all go", is_empty);
    engine.wait_idle();
    assert_eq!(handled("large"), 0);
    engine.wait_ready();
    let metric = |label| engine.metric("tidemill_deliveries_dead_total", label);
    wait_until("both have given it up", || metric("too-large") == 2.0);
    // And what goes on of it has gone.
    engine.wait_idle();
    assert_eq!(metric(""), 2.0);
    let [letter] = &files(&letters)[..] else {
        panic!("{:?}", files(&letters));
    };
    assert!(
        letter.starts_with("also/"),
        "the other sends none on: {letter}"
    );

    let list = site.succeeds(&["dead-letters", "list", "--json"]);
    let list: Vec<Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(list.len(), 2);
    for letter in &list {
        assert_eq!(letter["cause"], "too-large");
        let reason = letter["reason"].as_str().expect("a text");
        let expected = "payload of 9.5 MiB is above the limit of 6 MiB; ";
        assert!(reason.starts_with(expected), "{reason}");
    }
    let said = site.succeeds(&["dead-letters", "list"]);
    assert!(
        said.contains("too large, given up after 0 attempts"),
        "{said}"
    );

    // All of it is kept, for whoever lets it run after all.
    let id = list[0]["id"].as_str().expect("an id");
    let shown = site.succeeds(&["dead-letters", "show", id, "--json"]);
    assert!(shown.contains(&"x".repeat(10_000_000)));
    site.succeeds(&["dead-letters", "redrive", id]);
    wait_until("it is handled", || handled("large") == 1);
    engine.stop();
}

#[test]
fn large_messages_of_rabbitmq_are_dead_letters_and_block_nobody() {
    let (queue, broker) = (unique("large"), Amqp::connect(&amqp_url()));
    broker.declare(&queue);
    come_through(
        &format!("amqp = \"{}\"", amqp_url()),
        &format!(
            "amqp = {{ connection = \"broker\", queue = \"{queue}\", max_payload = \"6MiB\" }}"
        ),
        |messages| assert!(broker.publish(&queue, messages)),
        || broker.waiting(&queue) == 0,
    );
    broker.delete(&queue);
}

#[test]
fn large_records_of_kafka_are_dead_letters_and_block_nobody() {
    let (topic, broker) = (unique("large"), Kafka::connect(&kafka_brokers()));
    broker.create(&topic, 1);
    come_through(
        &format!("kafka = {{ brokers = [\"{}\"] }}", kafka_brokers()),
        &format!(
            "kafka = {{ connection = \"broker\", topics = [\"{topic}\"], group = \"{topic}\", max_payload = \"6MiB\" }}"
        ),
        |messages| {
            broker
                .produce_events(&topic, messages)
                .expect("it has them")
        },
        || broker.committed(&topic, &topic, 1) == Some(vec![4]),
    );
    broker.delete(&topic);
}
