//! AMQP: a queue that is already full, worked off by the engine, and by a bare consumer that does the same.

mod floor;

use anyhow::{Context, Result, ensure};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::runtime::Runtime;

use crate::{
    Effort, addresses::amqp_url, component, figure::Figure, guest::Guest, measure, site::Site,
};

/// Messages of one repetition, and bytes of each. So many that both work for seconds: with a fifth of them much of it is
/// the engine's start, while the floor's process is warm.
const MESSAGES: u64 = 100_000;
const BYTES: usize = 1024;

/// What the consumer may hold.
const PREFETCH: u16 = 256;

/// Messages published between two waits for the broker's confirmation.
const PUBLISHED: u64 = 2000;

const FLOOR: &str = "a bare lapin consumer, prefetch 256, that calls the same component in a fresh instance of a bare \
    wasmtime, inserts the message-ids into a SQLite file (WAL, synchronous=FULL, greedy group commit), and then acks \
    with multiple=true.";

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let broker = Broker::connect()?;
    let handler = component("bench-handler")?;
    let guest = Guest::load(&handler)?;
    let messages = effort.of(MESSAGES);
    let config = format!(
        r#"
[connections.rabbit]
amqp = "{url}"
[functions.work]
component = "{handler}"
concurrency = {PREFETCH}
[triggers.work]
function = "work"
amqp = {{ connection = "rabbit", queue = "{queue}", prefetch = {PREFETCH} }}
"#,
        url = amqp_url(),
        handler = handler.display(),
        queue = broker.queue,
    );
    let samples = measure::in_turn(
        "amqp",
        effort,
        || {
            broker.fill(messages)?;
            let site = Site::start(&config)?;
            let settled = || site.metric("tidemill_deliveries_settled_total", "result=\"ok\"");
            let sample = measure::watch(messages, site.pid(), settled)?;
            site.stop()?;
            broker.must_be_empty()?;
            Ok(sample)
        },
        || {
            broker.fill(messages)?;
            let sample = floor::run(&broker.queue, messages, &guest)?;
            broker.must_be_empty()?;
            Ok(sample)
        },
    )?;
    Ok(vec![
        Figure::rate("AMQP", Some(0.8), FLOOR, &samples),
        Figure::cpu("AMQP, CPU", None, FLOOR, &samples),
    ])
}

/// The queue, from outside. Deleted when dropped.
struct Broker {
    runtime: Runtime,
    connection: Connection,
    channel: Channel,
    queue: String,
}

impl Broker {
    fn connect() -> Result<Broker> {
        let runtime = Runtime::new()?;
        let queue = format!("bench-{:016x}", fastrand::u64(..));
        let (connection, channel) = runtime
            .block_on(async {
                let connection =
                    Connection::connect(&amqp_url(), ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel
                    .confirm_select(ConfirmSelectOptions::default())
                    .await?;
                // A classic queue: the fastest that RabbitMQ has, so that less of the time is the broker's.
                let options = QueueDeclareOptions {
                    durable: true,
                    ..QueueDeclareOptions::default()
                };
                channel
                    .queue_declare(queue.as_str().into(), options, FieldTable::default())
                    .await?;
                lapin::Result::Ok((connection, channel))
            })
            .context("RabbitMQ does not take a client")?;
        Ok(Broker {
            runtime,
            connection,
            channel,
            queue,
        })
    }

    /// Publishes persistent messages with ids of their own.
    fn fill(&self, messages: u64) -> Result<()> {
        let body = vec![b'x'; BYTES];
        let run = fastrand::u64(..);
        self.runtime.block_on(async {
            for from in (0..messages).step_by(PUBLISHED as usize) {
                let mut confirms = Vec::new();
                for n in from..(from + PUBLISHED).min(messages) {
                    let id = format!("{run:016x}-{n:08}");
                    let properties = BasicProperties::default()
                        .with_delivery_mode(2)
                        .with_message_id(id.as_str().into());
                    let options = BasicPublishOptions::default();
                    let queue = self.queue.as_str().into();
                    confirms.push(
                        self.channel
                            .basic_publish("".into(), queue, options, &body, properties)
                            .await?,
                    );
                }
                for confirm in confirms {
                    ensure!(confirm.await?.is_ack(), "RabbitMQ did not take a message");
                }
            }
            Ok(())
        })
    }

    /// After the consumer has gone: what it did not ack is in the queue again.
    fn must_be_empty(&self) -> Result<()> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self.queue.as_str().into();
        let declared = self
            .channel
            .queue_declare(queue, options, FieldTable::default());
        let left = self.runtime.block_on(declared)?.message_count();
        ensure!(
            left == 0,
            "{left} messages are still in the queue, not acked"
        );
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let options = QueueDeleteOptions::default();
        let queue = self.queue.as_str().into();
        self.runtime
            .block_on(self.channel.queue_delete(queue, options))
            .ok();
        self.runtime
            .block_on(self.connection.close(200, "bye".into()))
            .ok();
    }
}
