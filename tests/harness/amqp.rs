//! A client of RabbitMQ, for what happens outside the engine.

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::runtime::Runtime;

/// A connection. What goes wrong with it is a panic, unless a method says otherwise.
pub struct Amqp {
    runtime: Runtime,
    connection: Connection,
    channel: Channel,
}

/// A message that was taken from a queue.
#[derive(Debug)]
pub struct Message {
    /// Its message-id.
    pub id: Option<String>,
    /// Its headers that are texts.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Amqp {
    /// Connects, as soon as the broker lets it.
    pub fn connect(url: &str) -> Amqp {
        super::wait_for("a connection to RabbitMQ", || Amqp::try_connect(url).ok())
    }

    fn try_connect(url: &str) -> lapin::Result<Amqp> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            lapin::Result::Ok((connection, channel))
        })?;
        Ok(Amqp {
            runtime,
            connection,
            channel,
        })
    }

    /// Makes a durable quorum queue.
    pub fn declare(&self, queue: &str) {
        let mut arguments = FieldTable::default();
        let quorum = AMQPValue::LongString("quorum".into());
        arguments.insert("x-queue-type".into(), quorum);
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = self.channel.queue_declare(queue.into(), options, arguments);
        self.runtime.block_on(declared).expect("it is declared");
    }

    /// Publishes persistent messages, each with its message-id if that is not empty. Whether the
    /// broker certainly has them all.
    pub fn publish(&self, queue: &str, messages: &[(String, String)]) -> bool {
        let published = async {
            let mut all = true;
            let mut confirms = Vec::new();
            for (id, body) in messages {
                let mut properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_content_type("application/json".into());
                if !id.is_empty() {
                    properties = properties.with_message_id(id.as_str().into());
                }
                let options = BasicPublishOptions::default();
                let published = self.channel.basic_publish(
                    "".into(),
                    queue.into(),
                    options,
                    body.as_bytes(),
                    properties,
                );
                confirms.push(published.await?);
            }
            for confirm in confirms {
                all &= confirm.await?.is_ack();
            }
            lapin::Result::Ok(all)
        };
        self.runtime.block_on(published).unwrap_or(false)
    }

    /// Publishes a message as it is, with these headers, and waits until the broker has it.
    pub fn publish_raw(
        &self,
        queue: &str,
        content_type: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            let value = AMQPValue::LongString(value.as_str().into());
            table.insert(name.as_str().into(), value);
        }
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(content_type.into())
            .with_headers(table);
        let published = async {
            let options = BasicPublishOptions::default();
            let channel = &self.channel;
            let confirm = channel.basic_publish("".into(), queue.into(), options, body, properties);
            lapin::Result::Ok(confirm.await?.await?.is_ack())
        };
        let taken = self.runtime.block_on(published).expect("it is published");
        assert!(taken, "the broker has it");
    }

    /// How many messages wait in the queue, those left out that somebody holds.
    pub fn waiting(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = self
            .channel
            .queue_declare(queue.into(), options, FieldTable::default());
        let declared = self.runtime.block_on(declared).expect("it is there");
        declared.message_count()
    }

    /// Takes a message, if there is one.
    pub fn take(&self, queue: &str) -> Option<Message> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), options);
        let message = self.runtime.block_on(got).expect("it is asked for")?;
        let properties = &message.delivery.properties;
        let headers = properties.headers().clone().unwrap_or_default();
        let headers = headers.inner().iter().filter_map(|(name, value)| {
            let value = value.as_long_string()?.to_string();
            Some((name.to_string(), value))
        });
        Some(Message {
            id: properties.message_id().as_ref().map(ToString::to_string),
            headers: headers.collect(),
            body: message.delivery.data.to_vec(),
        })
    }

    /// Deletes a queue.
    pub fn delete(&self, queue: &str) {
        let deleted = self
            .channel
            .queue_delete(queue.into(), QueueDeleteOptions::default());
        self.runtime.block_on(deleted).expect("it is deleted");
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        let closed = self.connection.close(200, "bye".into());
        self.runtime.block_on(closed).ok();
    }
}
