//! kill -9 at random moments while handlers of ordered queues fail at random.

use std::{thread, time::Duration};

use super::{kills, seed};
use crate::harness::{
    Amqp, Kafka, Site, amqp_url, kafka_brokers, unique, wait_until, wait_until_none_left,
};

/// How many messages of each lane come during the life of one engine.
const AT_A_TIME: usize = 4;

const CONFIG: &str = r#"
[connections.broker]
CONNECTION
[functions.probe]
component = "PROBE"
allow = { store = ["probe"] }
[triggers.work]
function = "probe"
SOURCE
retry = { attempts = 100, first = "1ms", max = "20ms" }
"#;

#[test]
fn messages_of_rabbitmq_keep_the_order_of_their_lanes_through_failures_and_kills() {
    let (queue, broker) = (unique("lanes"), Amqp::connect(&amqp_url()));
    broker.declare(&queue);
    let connection = format!("amqp = \"{}\"", amqp_url());
    let source =
        format!("amqp = {{ connection = \"broker\", queue = \"{queue}\" }}\norder_by = \"$.key\"");
    keeps_order(&connection, &source, |messages| {
        // The same lane has the same key, but each message an id of its own.
        let messages: Vec<_> = messages
            .iter()
            .map(|(lane, n, order)| (format!("{lane}-{n}"), order.clone()))
            .collect();
        assert!(broker.publish(&queue, &messages));
    });
    broker.delete(&queue);
}

#[test]
fn records_of_kafka_keep_the_order_of_their_keys_through_failures_and_kills() {
    let (topic, broker) = (unique("lanes"), Kafka::connect(&kafka_brokers()));
    broker.create(&topic, 4);
    // By its own name the engine takes over from the one that was killed, without waiting for the end
    // of its session: else most would be killed before they have read anything.
    let connection = format!(
        r#"kafka = {{ brokers = ["{}"], properties = {{ "group.instance.id" = "one" }} }}"#,
        kafka_brokers()
    );
    let source = format!(
        "kafka = {{ connection = \"broker\", topics = [\"{topic}\"], group = \"{topic}\" }}"
    );
    keeps_order(&connection, &source, |messages| {
        let records: Vec<_> = messages
            .iter()
            .map(|(lane, _, order)| (lane.clone(), order.clone()))
            .collect();
        let produced = broker.produce(&topic, &records);
        produced.expect("the broker has them");
    });
    broker.delete(&topic);
}

/// A lane, the number of a message in it, and what is to be done with it.
type Message = (String, usize, String);

/// A quarter of the kills of the other faults, and five lanes for each of theirs.
fn keeps_order(connection: &str, source: &str, publish: impl Fn(&[Message])) {
    let (kills, lanes) = ((kills() / 4).max(1), kills() * 5);
    let mut random = fastrand::Rng::with_seed(seed());
    let config = CONFIG.replace("CONNECTION", connection);
    let site = Site::new(&config.replace("SOURCE", source));
    let publish_some = |life: usize| {
        for n in life * AT_A_TIME..(life + 1) * AT_A_TIME {
            let message = |lane: usize| {
                let lane = format!("lane-{lane}");
                let order =
                    format!(r#"{{ "do": "append", "key": "{lane}", "count": {n}, "chance": 20 }}"#);
                (lane, n, order)
            };
            publish(&(0..lanes).map(message).collect::<Vec<_>>());
        }
    };
    for life in 0..kills {
        let engine = site.spawn(&[]);
        publish_some(life);
        if life % 2 == 0 {
            // A moment of its work; else any of its life.
            engine.wait_ready();
            wait_until("it has begun", || site.count("lane-") > 0);
        }
        thread::park_timeout(Duration::from_millis(random.u64(..1000)));
        engine.kill();
    }
    let engine = site.start();
    publish_some(kills);
    let each = (kills + 1) * AT_A_TIME;
    let expected: String = (0..each).map(|n| format!("{n} ")).collect();
    wait_until_none_left("every message is handled", || {
        let left = |lane| {
            let done = site.key("probe", &format!("lane-{lane}"));
            let done = done.unwrap_or_default();
            // However little of it is there, it is the beginning.
            assert!(expected.starts_with(&done), "lane {lane}: {done}");
            each - done.split_whitespace().count()
        };
        (0..lanes).map(left).sum()
    });
    engine.wait_idle();
    let failed = engine.metric("tidemill_attempts_total", "outcome=\"retry\"");
    assert!(failed > 0.0, "some fail at first");
    assert_eq!(site.dead_letters(), 0);
    engine.stop();
    println!("{lanes} lanes of {each} messages, {kills} kills");
}
