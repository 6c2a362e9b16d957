//! Messages that nobody expects: huge, with too many headers, or not what they say they are. Each ends
//! in a clear state, and none blocks those behind it.

use serde_json::Value;

use crate::harness::{Amqp, Engine, Kafka, Site, amqp_url, kafka_brokers, unique, wait_until};

/// With whatever looks into a message: a filter that takes all that is not refused, a key and a lane.
const REST: &str = r#"
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "", "type": "" }' }
allow = { store = ["probe"] }
[triggers.work]
function = "probe"
idempotency = { key = "$.id" }
order_by = "$.key"
unmatched = "dead-letter"
filter = { data = { refused = [{ exists = false }] } }
retry = { attempts = 2, first = "1ms" }
"#;

/// More than a handler may answer, and than most would send.
const HUGE: usize = 10 << 20;

/// A content type, a body, and whether it is JSON with all that the trigger asks for.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let huge = format!(
        r#"{{ "id": "huge", "key": "a", "more": "{}" }}"#,
        "x".repeat(HUGE)
    );
    let echo = format!(
        r#"{{ "do": "echo", "id": "echo", "key": "a", "more": "{}" }}"#,
        "x".repeat(HUGE)
    );
    vec![
        ("application/json", br#"{ "id": 1, "key": "a" }"#.to_vec()),
        ("application/json", b"no JSON at all".to_vec()),
        ("application/json", b"{ \"id\": 2, ".to_vec()),
        ("application/json", Vec::new()),
        ("application/json", b"null".to_vec()),
        ("application/json", b"[1, 2]".to_vec()),
        ("application/json", br#"{ "id": {}, "key": null }"#.to_vec()),
        ("image/jpeg", br#"{ "id": 3, "key": "a" }"#.to_vec()),
        ("", vec![0xff, 0xfe, 0x00, 0x80]),
        (";;; charset==\u{7f}", b"what is it?".to_vec()),
        ("application/json", huge.into_bytes()),
        ("application/json", echo.into_bytes()),
        ("application/json", br#"{ "id": 1, "key": "b" }"#.to_vec()),
        (
            "application/json",
            br#"{ "id": 4, "refused": true }"#.to_vec(),
        ),
        ("text/plain", br#"{ "id": "last", "key": "a" }"#.to_vec()),
    ]
}

fn headers() -> Vec<(String, String)> {
    let header = |n| (format!("x-{n}"), "value".to_owned());
    (0..1000).map(header).collect()
}

/// Sends all of them to one engine, and looks at what becomes of each.
fn come_through(
    connection: &str,
    source: &str,
    send: impl Fn(&str, &[(String, String)], &[u8]),
    is_empty: impl Fn() -> bool,
) {
    let config = format!("[connections.broker]\n{connection}\n{REST}{source}\n");
    let site = Site::new(&config);
    let engine = site.start();
    for (content_type, body) in messages() {
        send(content_type, &[], &body);
    }
    send("application/json", &headers(), b"{}");
    wait_until("all are read", || {
        engine.metric("tidemill_events_accepted_total", "") == 16.0
            && engine.metric("tidemill_held", "") == 0.0
    });
    engine.wait_idle();
    // All but the three below; those without an idempotency key run under the ids of their events.
    assert_eq!(site.count(":"), 13);
    let settled = |label| engine.metric("tidemill_deliveries_settled_total", label);
    assert_eq!(settled("duplicate"), 1.0, "of the same key");
    let missing = engine.metric("tidemill_idempotency_keys_missing_total", "work");
    assert_eq!(missing, 9.0);
    let letters = site.succeeds(&["dead-letters", "list", "--json"]);
    let mut letters: Vec<(String, String)> = letters
        .lines()
        .map(|letter| {
            let letter: Value = serde_json::from_str(letter).expect("JSON");
            let text = |name: &str| letter[name].as_str().expect("a text").to_owned();
            (text("cause"), text("reason"))
        })
        .collect();
    letters.sort();
    let [(attempts, too_much), (unmatched, _)] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!([attempts, unmatched], ["attempts", "unmatched"]);
    assert!(too_much.contains("6291456 bytes"), "{too_much}");
    assert!(ready(&engine));
    wait_until("its broker has let all go", is_empty);
    engine.stop();
}

fn ready(engine: &Engine) -> bool {
    let ready = engine.metric("tidemill_source_ready", "");
    matches!(engine.get("/readyz"), Some((200, _))) && ready == 1.0
}

#[test]
fn odd_messages_of_rabbitmq_end_clearly_and_block_nobody() {
    let (queue, broker) = (unique("odd"), Amqp::connect(&amqp_url()));
    broker.declare(&queue);
    come_through(
        &format!("amqp = \"{}\"", amqp_url()),
        &format!("amqp = {{ connection = \"broker\", queue = \"{queue}\", prefetch = 4 }}"),
        |content_type, headers, body| broker.publish_raw(&queue, content_type, headers, body),
        || broker.waiting(&queue) == 0,
    );
    broker.delete(&queue);
}

#[test]
fn odd_records_of_kafka_end_clearly_and_block_nobody() {
    let (topic, broker) = (unique("odd"), Kafka::connect(&kafka_brokers()));
    broker.create(&topic, 1);
    come_through(
        &format!("kafka = {{ brokers = [\"{}\"] }}", kafka_brokers()),
        &format!(
            "kafka = {{ connection = \"broker\", topics = [\"{topic}\"], group = \"{topic}\" }}"
        ),
        |content_type, headers, body| {
            let mut headers = headers.to_vec();
            headers.push(("content-type".to_owned(), content_type.to_owned()));
            broker.produce_raw(&topic, 0, &headers, body);
        },
        || broker.committed(&topic, &topic, 1) == Some(vec![16]),
    );
    broker.delete(&topic);
}
