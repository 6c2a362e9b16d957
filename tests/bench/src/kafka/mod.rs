//! Kafka: a topic that is already full, read from its beginning by a group of the engine's, and by a bare consumer.

mod floor;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::runtime::Runtime;

use crate::{
    Effort,
    addresses::kafka_brokers,
    component,
    figure::Figure,
    guest::Guest,
    measure::{self, Sample},
    site::Site,
};

/// Records of one repetition, and bytes of each.
const RECORDS: u64 = 60_000;
const BYTES: usize = 1024;

/// Partitions of the topic.
const PARTITIONS: i32 = 4;

/// Records that the engine works on at a time.
const CONCURRENCY: u16 = 256;

/// Different keys of the records. The engine keeps the order of each.
const KEYS: u64 = 10_000;

/// How long a call to the broker may take.
const PATIENCE: Duration = Duration::from_secs(60);

const FLOOR: &str = "a bare rdkafka BaseConsumer on the 4 partitions that calls the same component in a fresh instance of \
    a bare wasmtime, and then stores the offset, which librdkafka commits every second. It makes nothing durable: the \
    engine's journal comes on top.";

/// A trigger's setting for batches.
const BATCH: &str = "batch = { max = 100, wait = \"5ms\", bytes = \"4MiB\" }";

const SINGLE: &str =
    "the engine itself, with the same topic and component, and no `batch`: one event in each call.";

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let records = effort.of(RECORDS);
    let broker = Broker::connect()?;
    broker.fill(records)?;
    let guest = Guest::load(&component("bench-handler")?)?;
    let samples = measure::in_turn(
        "kafka",
        effort,
        || engine(&broker.topic, records, ""),
        || floor::run(&broker.topic, &group(), records, &guest),
    )?;
    Ok(vec![
        Figure::rate("Kafka", Some(0.8), FLOOR, &samples),
        Figure::cpu("Kafka, CPU", None, FLOOR, &samples),
    ])
}

/// Measures batches of a hundred beside single events.
pub fn run_batches(effort: Effort) -> Result<Vec<Figure>> {
    let records = effort.of(RECORDS);
    let broker = Broker::connect()?;
    broker.fill(records)?;
    let samples = measure::in_turn(
        "batch",
        effort,
        || engine(&broker.topic, records, BATCH),
        || engine(&broker.topic, records, ""),
    )?;
    Ok(vec![
        Figure::rate("Kafka, batch of 100 over single", None, SINGLE, &samples),
        Figure::cpu(
            "Kafka, batch of 100 over single, CPU",
            None,
            SINGLE,
            &samples,
        ),
    ])
}

/// Has the engine work off so many records; `more` is added to the trigger.
fn engine(topic: &str, records: u64, more: &str) -> Result<Sample> {
    let config = format!(
        r#"
[connections.kafka]
kafka = {{ brokers = ["{brokers}"] }}
[functions.work]
component = "{handler}"
concurrency = {CONCURRENCY}
[triggers.work]
function = "work"
kafka = {{ connection = "kafka", topics = ["{topic}"], group = "{group}", start = "earliest" }}
{more}
"#,
        brokers = kafka_brokers(),
        handler = component("bench-handler")?.display(),
        group = group(),
    );
    let site = Site::start(&config)?;
    let settled = || site.metric("tidemill_deliveries_settled_total", "result=\"ok\"");
    let sample = measure::watch(records, site.pid(), settled)?;
    site.stop()?;
    Ok(sample)
}

/// A group that has read nothing yet.
fn group() -> String {
    format!("bench-{:016x}", fastrand::u64(..))
}

/// The topic, from outside. Deleted when dropped.
struct Broker {
    runtime: Runtime,
    admin: AdminClient<DefaultClientContext>,
    producer: BaseProducer,
    topic: String,
}

impl Broker {
    fn connect() -> Result<Broker> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", kafka_brokers())
            .set("enable.idempotence", "true");
        let broker = Broker {
            runtime: Runtime::new()?,
            admin: config.create()?,
            producer: config.create()?,
            topic: format!("bench-{:016x}", fastrand::u64(..)),
        };
        let new = [NewTopic::new(
            &broker.topic,
            PARTITIONS,
            TopicReplication::Fixed(1),
        )];
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let created = broker
            .runtime
            .block_on(broker.admin.create_topics(&new, &options));
        let created = created.context("Kafka does not take a client")?;
        for topic in created {
            topic.map_err(|(topic, code)| anyhow!("the topic {topic} cannot be made: {code}"))?;
        }
        Ok(broker)
    }

    fn fill(&self, records: u64) -> Result<()> {
        let body = vec![b'x'; BYTES];
        for n in 0..records {
            let key = format!("device-{}", n % KEYS);
            let mut record = BaseRecord::to(&self.topic).key(&key).payload(&body);
            while let Err((error, back)) = self.producer.send(record) {
                let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
                ensure!(error == full, "Kafka does not take a record: {error}");
                self.producer.poll(Duration::from_millis(10));
                record = back;
            }
        }
        self.producer
            .flush(PATIENCE)
            .context("Kafka does not take the records")?;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        self.runtime
            .block_on(self.admin.delete_topics(&[&self.topic], &options))
            .ok();
    }
}
