//! The bare consumer: one thread takes the records, calls the handler and stores the offsets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use tokio::runtime;

use crate::{
    addresses::kafka_brokers,
    guest::{Event, Guest},
    measure::{self, Sample},
};

/// A single poll. What `subscribe` leads to is only noticed between two.
const POLL: Duration = Duration::from_millis(100);

/// How many of them may bring nothing, in a row.
const PATIENCE: usize = 300;

/// Works off so many records.
pub fn run(topic: &str, group: &str, records: u64, guest: &Guest) -> Result<Sample> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka_brokers())
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        .create()?;
    consumer.subscribe(&[topic])?;
    let runtime = runtime::Builder::new_current_thread().build()?;
    let source = format!("kafka:kafka/{topic}");
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            runtime.block_on(async {
                for _ in 0..records {
                    let mut polls = (0..PATIENCE).filter_map(|_| consumer.poll(POLL));
                    let record = polls.next().context("no record comes")??;
                    let id = format!("{}:{}", record.partition(), record.offset());
                    let data = record.payload().unwrap_or_default();
                    guest
                        .call(Event::new(&id, &source, "kafka.message", data))
                        .await?;
                    consumer.store_offset_from_message(&record)?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                consumer.commit_consumer_state(CommitMode::Sync)?;
                anyhow::Ok(())
            })
        });
        let sample = measure::watch(records, std::process::id(), || {
            Ok(done.load(Ordering::Relaxed))
        });
        let worked = worker.join().expect("the worker does not panic");
        worked.and(sample)
    })
}
