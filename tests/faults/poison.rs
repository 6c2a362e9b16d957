//! One message in a hundred that its handler cannot take, until somebody mends the handler.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::kills;
use crate::harness::{
    Amqp, Engine, Kafka, Site, amqp_url, kafka_brokers, unique, wait_until, wait_until_none_left,
};

/// One in so many cannot be handled.
const POISON: usize = 100;

/// How often what poison costs is measured.
const RUNS: usize = 5;

const CONFIG: &str = r#"
[connections.broker]
CONNECTION
[functions.probe]
component = "PROBE"
env = { ORDER = '{ "do": "count", "key": "", "type": "" }' }
allow = { store = STORES }
[triggers.work]
function = "probe"
SOURCE
retry = { attempts = 2, first = "1ms" }
"#;

/// What a handler needs that may count the healthy, and the poison too.
const BROKEN: &str = r#"["probe"]"#;
const MENDED: &str = r#"["probe", "poison"]"#;

/// A broker.
trait Queues {
    fn make(&self, name: &str);
    /// Each an id and a body.
    fn publish(&self, name: &str, messages: &[(String, String)]);
    fn delete(&self, name: &str);
    /// Its part of the configuration: connection and source.
    fn config(&self, name: &str) -> (String, String);
}

impl Queues for Amqp {
    fn make(&self, name: &str) {
        self.declare(name);
    }

    fn publish(&self, name: &str, messages: &[(String, String)]) {
        assert!(self.publish(name, messages));
    }

    fn delete(&self, name: &str) {
        self.delete(name);
    }

    fn config(&self, name: &str) -> (String, String) {
        let source = format!("amqp = {{ connection = \"broker\", queue = \"{name}\" }}");
        (format!("amqp = \"{}\"", amqp_url()), source)
    }
}

impl Queues for Kafka {
    fn make(&self, name: &str) {
        self.create(name, 4);
    }

    fn publish(&self, name: &str, messages: &[(String, String)]) {
        let produced = self.produce_events(name, messages);
        produced.expect("the broker has them");
    }

    fn delete(&self, name: &str) {
        self.delete(name);
    }

    fn config(&self, name: &str) -> (String, String) {
        let source = format!(
            "kafka = {{ connection = \"broker\", topics = [\"{name}\"], group = \"{name}\" }}"
        );
        let brokers = kafka_brokers();
        (format!("kafka = {{ brokers = [\"{brokers}\"] }}"), source)
    }
}

#[test]
fn poison_in_rabbitmq_dies_alone_and_is_redriven_when_its_handler_is_mended() {
    survives_poison(&Amqp::connect(&amqp_url()));
}

#[test]
fn poison_in_kafka_dies_alone_and_is_redriven_when_its_handler_is_mended() {
    survives_poison(&Kafka::connect(&kafka_brokers()));
}

/// A queue with messages, and the engine's site.
struct Work<'q> {
    queues: &'q dyn Queues,
    name: String,
    site: Site,
    config: String,
}

impl<'q> Work<'q> {
    /// One in `poison` cannot be handled; none, if that is 0.
    fn new(queues: &'q dyn Queues, messages: usize, poison: usize) -> Work<'q> {
        let name = unique("poison");
        queues.make(&name);
        let all: Vec<_> = (0..messages)
            .map(|n| {
                // A handler that may not open this store asks for a retry.
                let body = match poison > 0 && n % poison == 0 {
                    true => r#"{ "do": "count", "key": "", "type": "", "store": "poison" }"#,
                    false => "{}",
                };
                (n.to_string(), body.to_owned())
            })
            .collect();
        for some in all.chunks(1000) {
            queues.publish(&name, some);
        }
        let (connection, source) = queues.config(&name);
        let config = CONFIG.replace("CONNECTION", &connection);
        let config = config.replace("SOURCE", &source);
        let site = Site::new(&config.replace("STORES", BROKEN));
        Work {
            queues,
            name,
            site,
            config,
        }
    }

    /// Waits until the queue has been read and all is done or dead.
    fn wait_done(&self, engine: &Engine, healthy: usize, messages: usize) {
        wait_until_none_left("every healthy message was handled", || {
            healthy - self.site.count(":")
        });
        wait_until("all is read", || {
            engine.metric("tidemill_events_accepted_total", "") >= messages as f64
                && engine.metric("tidemill_held", "") == 0.0
        });
        engine.wait_idle();
    }

    /// The ids of the poison that was handled, with how often.
    fn cured(&self) -> Vec<(usize, usize)> {
        let sql = "SELECT CAST(substr(key, 2) AS INTEGER), CAST(CAST(value AS TEXT) AS INTEGER) \
            FROM kv WHERE store = 'poison' ORDER BY 1";
        let journal = self.site.journal();
        let mut rows = journal.prepare(sql).expect("the table is there");
        let rows = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let rows = rows
            .expect("it is read")
            .map(|row| row.expect("it is read"));
        rows.map(|(id, count)| (id as usize, count as usize))
            .collect()
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.queues.delete(&self.name);
    }
}

/// Ten thousand messages, and more where there are more kills.
fn survives_poison(queues: &dyn Queues) {
    let messages = kills() * 500;
    let (dead, healthy) = (messages / POISON, messages - messages / POISON);
    let work = Work::new(queues, messages, POISON);
    let engine = work.site.start();
    work.wait_done(&engine, healthy, messages);
    let counted = work.site.counters(":");
    assert!(counted.values().all(|count| *count == 1), "each once");
    assert_eq!(counted.len(), healthy);

    let limit = messages.to_string();
    let list = ["dead-letters", "list", "--json", "--limit", &limit];
    let letters = work.site.succeeds(&list);
    let mut ids = BTreeSet::new();
    for letter in letters.lines() {
        let letter: Value = serde_json::from_str(letter).expect("JSON");
        assert_eq!(letter["attempts"], 2, "{letter}");
        assert_eq!(letter["cause"], "attempts", "{letter}");
        let reason = letter["reason"].as_str().expect("a reason");
        assert!(reason.contains("`poison`"), "{reason}");
        ids.insert(letter["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(ids.len(), dead);
    assert!(work.cured().is_empty());
    engine.stop();

    work.site.configure(&work.config.replace("STORES", MENDED));
    let engine = work.site.start();
    let said = work.site.succeeds(&["dead-letters", "redrive", "--all"]);
    assert_eq!(said, format!("{dead} redriven\n"));
    engine.wait_idle();
    assert_eq!(work.site.dead_letters(), 0);
    let expected: Vec<_> = (0..messages).step_by(POISON).map(|id| (id, 1)).collect();
    assert_eq!(work.cured(), expected);
    assert_eq!(work.site.count(":"), healthy, "and nothing else ran again");
    engine.stop();
    if kills() >= 200 {
        println!(
            "healthy messages a second, with poison to without: {:.3}",
            price(queues)
        );
    }
}

/// The throughput of healthy messages when there is poison among them, as a share of what it is
/// without: medians of runs in turn.
fn price(queues: &dyn Queues) -> f64 {
    const HEALTHY: usize = 20_000;
    let took = |poison: usize| {
        let messages = match poison {
            0 => HEALTHY,
            poison => HEALTHY * poison / (poison - 1) + 1,
        };
        let dead = if poison > 0 {
            messages.div_ceil(poison)
        } else {
            0
        };
        let work = Work::new(queues, messages, poison);
        let engine = work.site.spawn(&[]);
        wait_until("it begins", || {
            work.site.path("data/journal.db").exists()
                && engine.admin().is_some()
                && work.site.count(":") > 0
        });
        let (begin, begun) = (Instant::now(), work.site.count(":"));
        wait_until_none_left("the healthy are done", || {
            messages - dead - work.site.count(":")
        });
        let took = begin.elapsed().div_f64((messages - dead - begun) as f64);
        engine.stop();
        took
    };
    let mut runs: [Vec<Duration>; 2] = Default::default();
    for _ in 0..RUNS {
        runs[0].push(took(0));
        runs[1].push(took(POISON));
    }
    let [clean, poisoned] = runs.map(|mut runs| {
        runs.sort();
        runs[RUNS / 2].as_secs_f64()
    });
    clean / poisoned
}
