//! The bare consumer: one task takes the messages and calls the handler, one thread remembers their ids, one
//! task acks what is durable. No routing, no retry, no order but that of the queue, no look at what was done before.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{runtime::Runtime, sync::mpsc};

use super::PREFETCH;
use crate::{
    addresses::amqp_url,
    commits::Commits,
    guest::{Event, Guest},
    measure::{self, Sample},
    site,
};

/// Works off so many messages.
pub fn run(queue: &str, messages: u64, guest: &Guest) -> Result<Sample> {
    let dir = site::folder()?;
    let runtime = Runtime::new()?;
    let acked = Arc::new(AtomicU64::new(0));
    // A commit's last tag acks all before it; there are no more commits on the way than messages.
    let (durable, mut tags) = mpsc::unbounded_channel::<(u64, u64)>();
    let ids = Commits::of_ids(
        &dir.path().join("ids.db"),
        move |group: Vec<(String, u64)>| {
            if let Some((_, last)) = group.last() {
                durable.send((*last, group.len() as u64)).ok();
            }
        },
    )?;
    let source = format!("amqp:rabbit/{queue}");
    let sender = ids.sender.clone();
    let counted = acked.clone();
    std::thread::scope(|scope| -> Result<Sample> {
        let worker = scope.spawn(|| {
            runtime.block_on(async {
                let connection =
                    Connection::connect(&amqp_url(), ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel
                    .basic_qos(PREFETCH, BasicQosOptions::default())
                    .await?;
                let options = BasicConsumeOptions::default();
                let mut consumer = channel
                    .basic_consume(queue.into(), "".into(), options, FieldTable::default())
                    .await?;
                let acks = channel.clone();
                let acker = tokio::spawn(async move {
                    while let Some((tag, count)) = tags.recv().await {
                        let options = BasicAckOptions { multiple: true };
                        acks.basic_ack(tag, options).await?;
                        counted.fetch_add(count, Ordering::Relaxed);
                    }
                    lapin::Result::Ok(())
                });
                for _ in 0..messages {
                    let delivery = consumer.next().await.context("the consumer has ended")??;
                    let id = delivery
                        .properties
                        .message_id()
                        .as_ref()
                        .context("a message without id")?;
                    guest
                        .call(Event::new(
                            id.as_str(),
                            &source,
                            "amqp.message",
                            &delivery.data,
                        ))
                        .await?;
                    sender.send((id.to_string(), delivery.delivery_tag)).await?;
                }
                drop(sender);
                ids.close()?;
                acker.await??;
                connection.close(200, "bye".into()).await?;
                anyhow::Ok(())
            })
        });
        let sample = measure::watch(messages, std::process::id(), || {
            Ok(acked.load(Ordering::Relaxed))
        });
        let worked = worker.join().expect("the worker does not panic");
        worked.and(sample)
    })
}
