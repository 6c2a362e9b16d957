//! Kafka against a real broker, the one that `make services` starts. Each test has topics and groups of
//! its own. Faults that a real broker does not have on demand come from librdkafka's own mock.

mod destination;
mod faults;
mod groups;
mod messages;
mod offsets;
mod records;
#[cfg(feature = "kafka-tls")]
mod tls;

use std::{path::Path, sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use tidemill_config::plan::{Plan, SourcePlan};
use tidemill_core::hold::Partition;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::{Health, KafkaConnector, Status};
use crate::fake_holds::{Fake, PATIENCE};
use crate::services;

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// A cluster, and a topic and a group of its own for a test.
struct Lab {
    brokers: String,
    topic: String,
    group: String,
    properties: String,
    start: &'static str,
}

impl Lab {
    /// With a topic of so many partitions.
    async fn new(partitions: i32) -> Lab {
        let lab = Lab::without_topic(services::kafka_brokers());
        lab.make_topic(partitions).await;
        lab
    }

    fn without_topic(brokers: String) -> Lab {
        let unique = Ulid::generate().to_string().to_lowercase();
        Lab {
            brokers,
            topic: format!("t-{unique}"),
            group: format!("g-{unique}"),
            // Partitions that are added are noticed at once.
            properties: r#"{ "topic.metadata.refresh.interval.ms" = "500" }"#.to_owned(),
            start: "earliest",
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.create().unwrap()
    }

    async fn make_topic(&self, partitions: i32) {
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(TEN_SECONDS));
        let made = self.admin().create_topics(&[topic], &options).await;
        made.unwrap().remove(0).unwrap();
    }

    async fn delete_topic(&self) {
        let options = AdminOptions::new().operation_timeout(Some(TEN_SECONDS));
        let deleted = self.admin().delete_topics(&[&self.topic], &options).await;
        deleted.unwrap().remove(0).unwrap();
    }

    /// Deletes the topic and makes it anew.
    async fn make_anew(&self, partitions: i32) {
        self.delete_topic().await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
            let options = AdminOptions::new().operation_timeout(Some(TEN_SECONDS));
            let made = self.admin().create_topics(&[topic], &options).await;
            match made.unwrap().remove(0) {
                Ok(_) => return,
                // The old one is still being deleted.
                Err((topic, code)) => {
                    let patient = tokio::time::Instant::now() < deadline;
                    assert!(patient, "cannot make {topic} anew: {code}");
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn plan(&self) -> Plan {
        plan(&format!(
            r#"
            [connections.telemetry]
            kafka = {{ brokers = ["{}"], properties = {} }}
            [triggers.readings]
            function = "f"
            kafka = {{ connection = "telemetry", topics = ["{}"], group = "{}", start = "{}" }}
            on_success = {{ kafka = {{ connection = "telemetry", topic = "{}" }} }}
            "#,
            self.brokers, self.properties, self.topic, self.group, self.start, self.topic
        ))
    }

    fn connector(&self) -> KafkaConnector {
        connector(&self.plan()).unwrap()
    }

    fn run(&self, fake: &Arc<Fake>) -> Member {
        Member::run(self.connector(), fake)
    }

    fn source(&self) -> String {
        format!("kafka:telemetry/{}@{}", self.topic, self.group)
    }

    fn partition(&self, number: i32) -> Partition {
        Partition {
            source: self.source(),
            group: self.group.clone(),
            partition: format!("{}/{number}", self.topic),
        }
    }

    fn producer(&self) -> FutureProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("linger.ms", "5");
        config.create().unwrap()
    }

    /// Produces values `<first>`.. to a partition, each with its number as key.
    async fn produce(&self, partition: i32, values: std::ops::Range<usize>) {
        let producer = self.producer();
        let sent = values.map(|n| {
            let (producer, topic) = (producer.clone(), self.topic.clone());
            async move {
                let (key, value) = (n.to_string(), format!("value {n}"));
                let record = FutureRecord::to(&topic).partition(partition);
                let record = record.key(&key).payload(&value);
                producer.send(record, PATIENCE).await.unwrap();
            }
        });
        futures_util::future::join_all(sent).await;
    }

    /// Produces one record to partition 0.
    async fn send(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header { key, value: *value })
            });
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic);
        record = record
            .partition(0)
            .headers(headers)
            .timestamp(1_700_000_000_123);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        self.producer().send(record, PATIENCE).await.unwrap();
    }

    /// What the group has committed, of each partition.
    async fn committed(&self, partitions: i32) -> Vec<Option<i64>> {
        let (brokers, group, topic) =
            (self.brokers.clone(), self.group.clone(), self.topic.clone());
        let ask = move || {
            let mut config = ClientConfig::new();
            config
                .set("bootstrap.servers", brokers)
                .set("group.id", group);
            let consumer: BaseConsumer = config.create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&topic, 0, partitions - 1);
            let committed = consumer.committed_offsets(list, TEN_SECONDS).unwrap();
            let offset = |offset: rdkafka::Offset| match offset {
                rdkafka::Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            committed
                .elements()
                .iter()
                .map(|e| offset(e.offset()))
                .collect()
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    /// Waits until the group has committed so much of partition 0.
    async fn commits(&self, offset: i64) {
        let wait = async { while self.committed(1).await[0] != Some(offset) {} };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{:?}", self.committed(1).await);
    }
}

/// A connector that runs.
struct Member {
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<()>,
    fake: Arc<Fake>,
}

impl Member {
    fn run(connector: KafkaConnector, fake: &Arc<Fake>) -> Member {
        let (health, stop) = (connector.health(), CancellationToken::new());
        let task = tokio::spawn(connector.run(fake.clone(), stop.clone()));
        Member {
            health,
            stop,
            task,
            fake: fake.clone(),
        }
    }

    async fn reached(&self, what: &str, wanted: impl FnMut(&Status) -> bool) {
        let reached = tokio::time::timeout(PATIENCE, self.health.reached(wanted)).await;
        assert!(
            reached.is_ok(),
            "waited for {what}: {:?}",
            self.health.status()
        );
    }

    /// Stops it as the engine does.
    async fn stop(self) {
        self.fake.release_all();
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn connector(plan: &Plan) -> Result<KafkaConnector, super::Unusable> {
    let SourcePlan::Kafka(source) = &plan.triggers["readings"].source else {
        panic!("the trigger reads Kafka");
    };
    KafkaConnector::new(plan, source)
}

fn plan(text: &str) -> Plan {
    let text = format!("{text}\n[functions.f]\ncomponent = \"f.wasm\"\n");
    let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), &text);
    loaded.unwrap().plan
}
