//! A client of Kafka, for what happens outside the engine.

use std::{sync::mpsc, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext, Message as _, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{DeliveryResult, Header, Headers, OwnedHeaders, ToBytes},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
    types::RDKafkaErrorCode,
};
use tokio::runtime::Runtime;

/// How long a call to the broker may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection. What goes wrong with it is a panic, unless a method says otherwise.
pub struct Kafka {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    producer: BaseProducer<Reports>,
    runtime: Runtime,
}

/// A record of a topic.
#[derive(Debug)]
pub struct Record {
    /// Its key.
    pub key: Option<String>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its value.
    pub value: String,
}

struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<mpsc::Sender<Result<(), KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Self::DeliveryOpaque) {
        let result = result
            .as_ref()
            .map(drop)
            .map_err(|(error, _)| error.clone());
        sender.send(result).ok();
    }
}

/// The attributes of a CloudEvent.
fn cloudevent(id: &str) -> OwnedHeaders {
    let attributes = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", "test"),
        ("ce_type", "test.made"),
        ("content-type", "application/json"),
    ];
    let empty = OwnedHeaders::new();
    attributes.into_iter().fold(empty, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value),
        })
    })
}

impl Kafka {
    /// A client of the brokers.
    pub fn connect(brokers: &str) -> Kafka {
        let config = || {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers);
            config
        };
        let mut idempotent = config();
        idempotent.set("enable.idempotence", "true");
        idempotent.set("message.timeout.ms", "30000");
        idempotent.set("message.max.bytes", "33554432");
        Kafka {
            brokers: brokers.to_owned(),
            admin: config().create().expect("a client"),
            producer: idempotent.create_with_context(Reports).expect("a client"),
            runtime: Runtime::new().expect("a runtime"),
        }
    }

    /// Makes a topic, and waits until whoever asks sees it.
    pub fn create(&self, topic: &str, partitions: i32) {
        // Records may be larger than the megabyte that brokers take by default.
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1))
            .set("max.message.bytes", "33554432");
        let new = [new];
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let created = self.admin.create_topics(&new, &options);
        let created = self.runtime.block_on(created).expect("it is asked");
        created[0].as_ref().expect("it is made");
        self.wait_partitions(topic, partitions as usize);
    }

    /// Gives a topic more partitions.
    pub fn grow(&self, topic: &str, partitions: usize) {
        let more = [NewPartitions::new(topic, partitions)];
        let grown = self.admin.create_partitions(&more, &AdminOptions::new());
        let grown = self.runtime.block_on(grown).expect("it is asked");
        grown[0].as_ref().expect("it has them");
        self.wait_partitions(topic, partitions);
    }

    fn wait_partitions(&self, topic: &str, partitions: usize) {
        super::wait_until("the topic is there", || {
            let found = self.producer.client().fetch_metadata(Some(topic), PATIENCE);
            found.is_ok_and(|found| {
                let there = found.topics().first().filter(|one| one.error().is_none());
                there.is_some_and(|one| one.partitions().len() == partitions)
            })
        });
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let deleted = self.admin.delete_topics(&[topic], &options);
        self.runtime.block_on(deleted).expect("it is asked");
    }

    /// Produces records, each with its key if that is not empty, and waits until the broker has them.
    /// An error says that it may not have some.
    pub fn produce(&self, topic: &str, records: &[(String, String)]) -> Result<(), KafkaError> {
        let records = records.iter();
        self.send(
            topic,
            records.map(|(key, value)| (key.as_str(), value.as_bytes(), None, None)),
        )
    }

    /// Produces CloudEvents, each an id and its data, keyed by the id, and waits as above.
    pub fn produce_events(
        &self,
        topic: &str,
        events: &[(String, String)],
    ) -> Result<(), KafkaError> {
        let events = events.iter().map(|(id, data)| {
            let headers = Some(cloudevent(id));
            (id.as_str(), data.as_bytes(), headers, None)
        });
        self.send(topic, events)
    }

    /// Produces a record as it is, without a key, to one partition, and waits until the broker has it.
    pub fn produce_raw(
        &self,
        topic: &str,
        partition: i32,
        headers: &[(String, String)],
        value: &[u8],
    ) {
        let empty = OwnedHeaders::new();
        let headers = headers.iter().fold(empty, |headers, (key, value)| {
            let value = Some(value);
            headers.insert(Header { key, value })
        });
        let sent = self.send(
            topic,
            std::iter::once(("", value, Some(headers), Some(partition))),
        );
        sent.expect("the broker has it");
    }

    fn send<'r>(
        &self,
        topic: &str,
        records: impl Iterator<Item = (&'r str, &'r [u8], Option<OwnedHeaders>, Option<i32>)>,
    ) -> Result<(), KafkaError> {
        let (sender, results) = mpsc::channel();
        for (key, value, headers, partition) in records {
            let mut record =
                BaseRecord::with_opaque_to(topic, Box::new(sender.clone())).payload(value);
            if !key.is_empty() {
                record = record.key(key.to_bytes());
            }
            if let Some(headers) = headers {
                record = record.headers(headers);
            }
            record.partition = partition;
            while let Err((error, back)) = self.producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                self.producer.poll(Duration::from_millis(10));
                record = back;
            }
        }
        drop(sender);
        self.producer.flush(PATIENCE * 2)?;
        results.iter().collect()
    }

    /// The offsets that a group has committed in the partitions of a topic, 0 where it has none.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> Option<Vec<i64>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .create()
            .expect("a client");
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let committed = consumer.committed_offsets(asked, PATIENCE).ok()?;
        let offsets = committed.elements();
        let offsets = offsets.iter().map(|one| one.offset().to_raw());
        Some(offsets.map(|offset| offset.unwrap_or(0).max(0)).collect())
    }

    /// What a group does, in the broker's words.
    pub fn state(&self, group: &str) -> String {
        let groups = self.admin.inner().fetch_group_list(Some(group), PATIENCE);
        let groups = groups.expect("the broker answers");
        let group = groups.groups().first().expect("the group is there");
        group.state().to_owned()
    }

    /// The offsets after the last records of a topic's partitions.
    pub fn ends(&self, topic: &str, partitions: i32) -> Vec<i64> {
        let client = self.producer.client();
        let end = |partition| client.fetch_watermarks(topic, partition, PATIENCE);
        let ends = (0..partitions).map(|partition| end(partition).expect("it is asked").1);
        ends.collect()
    }

    /// The first records of a topic, so many.
    pub fn read(&self, topic: &str, count: usize) -> Vec<Record> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", format!("reader-{}", fastrand::u64(..)))
            .set("auto.offset.reset", "earliest")
            .create()
            .expect("a client");
        consumer.subscribe(&[topic]).expect("it is subscribed");
        let mut records = Vec::new();
        super::wait_until(&format!("{topic} has {count} records"), || {
            while let Some(polled) = consumer.poll(Duration::from_millis(100)) {
                let Ok(message) = polled else { continue };
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = message.headers().into_iter().flat_map(Headers::iter);
                records.push(Record {
                    key: message.key().map(text),
                    headers: headers
                        .map(|one| (one.key.to_owned(), one.value.map(text).unwrap_or_default()))
                        .collect(),
                    value: message.payload().map(text).unwrap_or_default(),
                });
            }
            records.len() >= count
        });
        records
    }
}
