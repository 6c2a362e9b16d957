//! kill -9 of the engine and of its broker while messages come.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use super::{kills, seed};
use crate::harness::{Amqp, Broker, Kafka, Site, wait_until, wait_until_none_left};

/// How many messages are published at a time.
const AT_A_TIME: usize = 100;

const CONFIG: &str = r#"
[connections.broker]
CONNECTION
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "", "type": "" }' }
allow = { store = ["probe"] }
[triggers.work]
function = "probe"
SOURCE
"#;

/// A broker of the test's own, and how to publish there.
trait Queue: Send {
    fn broker(&self) -> &Broker;
    /// Whether the broker certainly has these: ids, each with its body.
    fn publish(&mut self, messages: &[(String, String)]) -> bool;
    /// Its part of the configuration: connection and source.
    fn config(&self) -> (String, String);
}

struct Rabbit {
    broker: Broker,
    client: Option<Amqp>,
}

impl Queue for Rabbit {
    fn broker(&self) -> &Broker {
        &self.broker
    }

    fn publish(&mut self, messages: &[(String, String)]) -> bool {
        let url = self.broker.url();
        let client = self.client.get_or_insert_with(|| Amqp::connect(url));
        let published = client.publish("work", messages);
        if !published {
            self.client = None;
        }
        published
    }

    fn config(&self) -> (String, String) {
        let source = r#"amqp = { connection = "broker", queue = "work" }"#;
        (format!("amqp = \"{}\"", self.broker.url()), source.into())
    }
}

struct Log {
    broker: Broker,
    client: Kafka,
}

impl Queue for Log {
    fn broker(&self) -> &Broker {
        &self.broker
    }

    fn publish(&mut self, messages: &[(String, String)]) -> bool {
        self.client.produce_events("work", messages).is_ok()
    }

    fn config(&self) -> (String, String) {
        let brokers = self.broker.url();
        let source = r#"kafka = { connection = "broker", topics = ["work"], group = "work" }"#;
        // By its own name an engine takes over from the one that was killed, without waiting for the
        // end of its session: else most would be killed before they have read anything.
        let connection = format!(
            r#"kafka = {{ brokers = ["{brokers}"], properties = {{ "group.instance.id" = "one" }} }}"#
        );
        (connection, source.into())
    }
}

#[test]
fn messages_of_rabbitmq_take_effect_exactly_once_whoever_dies() {
    let broker = Broker::rabbitmq();
    let client = Amqp::connect(broker.url());
    client.declare("work");
    drop(client);
    // RabbitMQ 3.10 loses the leader of a queue that is new when it is killed.
    broker.stop();
    broker.start_again();
    let client = None;
    survives(Rabbit { broker, client });
}

#[test]
fn records_of_kafka_take_effect_exactly_once_whoever_dies() {
    let broker = Broker::kafka();
    let client = Kafka::connect(broker.url());
    client.create("work", 4);
    survives(Log { broker, client });
}

/// A quarter of the kills of the other faults, and of these every tenth also of the broker.
fn survives(mut queue: impl Queue) {
    let (kills, messages) = ((kills() / 4).max(1), kills() * 1000);
    let mut random = fastrand::Rng::with_seed(seed());
    let (connection, source) = queue.config();
    let config = CONFIG.replace("CONNECTION", &connection);
    let config = config.replace("SOURCE", &source);
    let site = Site::new(&config);
    let (published, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    // Published in step with the kills, so that there is work at each.
    let allowed = AtomicUsize::new(0);
    thread::scope(|scope| {
        // The broker is killed here, by the one who publishes, and between two batches or during one.
        let publisher = scope.spawn(|| {
            let mut restarts = 0;
            for first in (0..messages).step_by(AT_A_TIME) {
                wait_until("it is time", || {
                    first < allowed.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed)
                });
                let batch: Vec<_> = (first..first + AT_A_TIME)
                    .map(|n| (n.to_string(), "{}".to_owned()))
                    .collect();
                if first * 10 / messages > restarts * 2 && restarts < kills.div_ceil(10) {
                    restarts += 1;
                    queue.broker().kill();
                    queue.broker().start_again();
                }
                wait_until("the broker has them", || queue.publish(&batch));
                published.store(first + AT_A_TIME, Ordering::Relaxed);
            }
            restarts
        });
        for n in 1..=kills {
            // One by one, and then in batches.
            let batch = ["", "batch = { max = 100, wait = \"20ms\" }"][n % 2];
            site.configure(&format!("{config}{batch}"));
            let engine = site.spawn(&[]);
            allowed.store(messages * n / kills, Ordering::Relaxed);
            thread::park_timeout(Duration::from_millis(random.u64(500..4000)));
            engine.kill();
        }
        stop.store(true, Ordering::Relaxed);
        let restarts = publisher.join().expect("all was published");
        println!("{messages} messages, {kills} kills of the engine, {restarts} of the broker");
    });
    let engine = site.start();
    wait_until_none_left("every message was handled", || {
        messages.saturating_sub(site.count(":"))
    });
    engine.wait_idle();
    engine.stop();
    let counted = site.counters(":");
    for n in 0..messages {
        assert_eq!(counted.get(&n.to_string()), Some(&1), "message {n}");
    }
    assert_eq!(counted.len(), messages);
    assert_eq!(site.dead_letters(), 0);
}
