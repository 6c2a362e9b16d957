//! Kafka.

use std::collections::BTreeMap;

use crate::harness::{Kafka, Site, kafka_brokers, unique, wait_until};

const PARTITIONS: i32 = 4;

/// A site whose trigger `work` listens to a topic of its own, in a group of the same name.
pub(super) struct Work {
    pub(super) topic: String,
    broker: Kafka,
    pub(super) site: Site,
}

impl Work {
    pub(super) fn new(rest: &str) -> Work {
        let (topic, broker) = (unique("work"), Kafka::connect(&kafka_brokers()));
        broker.create(&topic, PARTITIONS);
        let site = Site::new(&Work::config(&topic, rest));
        Work {
            topic,
            broker,
            site,
        }
    }

    pub(super) fn config(topic: &str, rest: &str) -> String {
        let brokers = kafka_brokers();
        format!(
            r#"
[connections.log]
# So that those who die are missed soon.
kafka = {{ brokers = ["{brokers}"], properties = {{ "session.timeout.ms" = "6000" }} }}
[functions.probe]
component = "PROBE"
allow = {{ store = ["probe"] }}
[triggers.work]
function = "probe"
kafka = {{ connection = "log", topics = ["{topic}"], group = "{topic}" }}
retry = {{ attempts = 2, first = "1ms" }}
{rest}
"#
        )
    }

    pub(super) fn produce(&self, records: impl IntoIterator<Item = (String, String)>) {
        let records: Vec<_> = records.into_iter().collect();
        self.broker
            .produce(&self.topic, &records)
            .expect("the broker has them");
    }

    /// How many records the group has committed.
    pub(super) fn committed(&self) -> i64 {
        let committed = self.broker.committed(&self.topic, &self.topic, PARTITIONS);
        committed.into_iter().flatten().sum()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.broker.delete(&self.topic);
    }
}

pub(super) fn count() -> String {
    r#"{ "do": "count", "key": "n", "type": "" }"#.to_owned()
}

#[test]
fn every_record_takes_effect_once_and_is_committed() {
    let work = Work::new("");
    let engine = work.site.start();
    work.produce((0..500).map(|n| (format!("key-{}", n % 50), count())));
    wait_until("all are done", || work.site.counters("n:").len() == 500);
    wait_until("all are committed", || work.committed() == 500);
    engine.stop();
    let counts = work.site.counters("n:");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    // What is done is not run again.
    let engine = work.site.start();
    work.produce([("last".to_owned(), count())]);
    wait_until("the last one is done", || {
        work.site.counters("n:").len() == 501
    });
    assert_eq!(work.site.counters("n").get(""), Some(&501));
    engine.stop();
}

#[test]
fn a_poison_record_holds_up_no_partition() {
    let work = Work::new("");
    let engine = work.site.start();
    work.produce((0..200).map(|n| {
        let order = match n % 10 {
            0 => r#"{ "do": "retry", "text": "the till is closed" }"#.to_owned(),
            _ => count(),
        };
        (format!("key-{n}"), order)
    }));
    wait_until("all are done or dead", || {
        work.site.dead_letters() == 20 && work.site.counters("n:").len() == 180
    });
    wait_until("all are committed", || work.committed() == 200);
    engine.stop();
}

#[test]
fn replies_and_dead_letters_go_to_topics() {
    let (done, dead) = (unique("done"), unique("dead"));
    let work = Work::new(&format!(
        r#"
on_success = {{ kafka = {{ connection = "log", topic = "{done}" }} }}
dead_letter = {{ kafka = {{ connection = "log", topic = "{dead}" }} }}
"#
    ));
    for topic in [&done, &dead] {
        work.broker.create(topic, 1);
    }
    let engine = work.site.start();
    work.produce([
        ("a".to_owned(), r#"{ "do": "echo", "n": 1 }"#.to_owned()),
        (
            "b".to_owned(),
            r#"{ "do": "reject", "text": "no such order" }"#.to_owned(),
        ),
    ]);
    let reply = work.broker.read(&done, 1).remove(0);
    assert_eq!(reply.value, r#"{ "do": "echo", "n": 1 }"#);
    assert_eq!(reply.key.as_deref(), Some("a"));
    let letter = work.broker.read(&dead, 1).remove(0);
    let headers: BTreeMap<_, _> = letter.headers.into_iter().collect();
    let cause = headers
        .iter()
        .find(|(key, _)| key.ends_with("tidemill-cause"));
    assert_eq!(cause.map(|(_, value)| value.as_str()), Some("rejected"));
    engine.wait_idle();
    engine.stop();
    for topic in [&done, &dead] {
        work.broker.delete(topic);
    }
}
