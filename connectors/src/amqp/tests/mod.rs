//! AMQP against a real broker, the one that `make services` starts. Each test has queues of its own, and
//! deletes them.

mod acks;
mod check;
mod destination;
mod faults;
mod messages;
mod proxy;
mod settle;
mod troubles;

use std::{path::Path, sync::Arc};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::BasicGetMessage,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tidemill_config::plan::{Plan, SourcePlan};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::{AmqpConnector, Health, Status, Unusable};
use crate::fake_holds::{Fake, PATIENCE};
use crate::services;

/// A broker, and a queue of its own for a test.
struct Lab {
    url: String,
    queue: String,
    prefetch: u16,
    declare: bool,
    connection: Connection,
    channel: Channel,
}

impl Lab {
    /// With a durable classic queue.
    async fn new() -> Lab {
        let lab = Lab::without_queue().await;
        lab.make(&[]).await;
        lab
    }

    async fn without_queue() -> Lab {
        let url = services::amqp_url();
        let options = ConnectionProperties::default();
        let connection = Connection::connect(&url, options).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let confirm = ConfirmSelectOptions::default();
        channel.confirm_select(confirm).await.unwrap();
        Lab {
            url,
            queue: format!("q-{}", Ulid::generate().to_string().to_lowercase()),
            prefetch: 256,
            declare: false,
            connection,
            channel,
        }
    }

    /// Makes the queue, durable and with these arguments.
    async fn make(&self, arguments: &[(&str, &str)]) {
        self.make_other(&self.queue, true, arguments).await;
    }

    async fn make_other(&self, queue: &str, durable: bool, arguments: &[(&str, &str)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), text(value));
        }
        let options = QueueDeclareOptions {
            durable,
            ..QueueDeclareOptions::default()
        };
        let made = self.channel.queue_declare(queue.into(), options, table);
        made.await.unwrap();
    }

    async fn delete(&self) {
        let options = QueueDeleteOptions::default();
        let deleted = self
            .channel
            .queue_delete(self.queue.as_str().into(), options);
        deleted.await.unwrap();
    }

    /// Deletes what the test has made.
    async fn clean(self) {
        let dead = format!("{}.dead", self.queue);
        self.delete().await;
        let options = QueueDeleteOptions::default();
        self.channel
            .queue_delete(dead.as_str().into(), options)
            .await
            .unwrap();
        let options = ExchangeDeleteOptions::default();
        self.channel
            .exchange_delete(dead.as_str().into(), options)
            .await
            .unwrap();
        self.connection.close(200, "OK".into()).await.unwrap();
    }

    /// Puts a message into the queue. Returns when it is there.
    async fn send(&self, body: &[u8], properties: BasicProperties) {
        let sent = self.channel.basic_publish(
            "".into(),
            self.queue.as_str().into(),
            BasicPublishOptions::default(),
            body,
            properties.with_delivery_mode(2),
        );
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }

    /// Puts messages into the queue whose ids count from `from`.
    async fn send_some(&self, from: usize, count: usize) {
        let mut confirmations = Vec::new();
        for n in from..from + count {
            let properties = BasicProperties::default()
                .with_message_id(n.to_string().into())
                .with_delivery_mode(2);
            let sent = self.channel.basic_publish(
                "".into(),
                self.queue.as_str().into(),
                BasicPublishOptions::default(),
                b"{}",
                properties,
            );
            confirmations.push(sent.await.unwrap());
        }
        for confirmation in confirmations {
            assert!(confirmation.await.unwrap().is_ack());
        }
    }

    /// How many messages are in the queue and not under way.
    async fn ready(&self) -> u32 {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let table = FieldTable::default();
        let found = self
            .channel
            .queue_declare(self.queue.as_str().into(), options, table);
        found.await.unwrap().message_count()
    }

    /// Waits until so many messages are in the queue.
    async fn has_ready(&self, count: u32) {
        let wait = async { while self.ready().await != count {} };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "waited for {count} messages, there are {}",
                self.ready().await
            );
        }
    }

    /// Takes the next message out of a queue.
    async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.channel.basic_get(queue.into(), options).await.unwrap()
    }

    fn plan(&self) -> Plan {
        plan(&format!(
            r#"
            [connections.orders]
            amqp = "{}"
            [triggers.billing]
            function = "f"
            amqp = {{ connection = "orders", queue = "{}", prefetch = {}, declare = {} }}
            "#,
            self.url, self.queue, self.prefetch, self.declare
        ))
    }

    fn start(&self, intake: &Arc<Fake>) -> Running {
        Running::new(connector(&self.plan()).unwrap(), intake)
    }

    /// Without passwords, addresses and names that are another each time.
    fn blank(&self, text: &str) -> String {
        let port = url::Url::parse(&self.url).unwrap().port().unwrap();
        text.replace(&self.queue, "QUEUE")
            .replace(&port.to_string(), "PORT")
    }
}

/// A connector that runs.
struct Running {
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn new(connector: AmqpConnector, intake: &Arc<Fake>) -> Running {
        let stop = CancellationToken::new();
        Running {
            health: connector.health(),
            task: tokio::spawn(connector.run(intake.clone(), stop.clone())),
            stop,
        }
    }

    async fn reached(&self, what: &str, wanted: impl FnMut(&Status) -> bool) -> Status {
        let reached = self.health.reached(wanted);
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("waited for {what}: {:?}", self.health.status());
        }
        self.health.status()
    }

    async fn ready(&self) {
        self.reached("readiness", |status| status.ready).await;
    }

    /// Waits for trouble.
    async fn trouble(&self) -> String {
        let status = self.reached("trouble", |status| status.trouble.is_some());
        status.await.trouble.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("it stops").unwrap();
        assert!(!self.health.status().ready);
    }
}

fn plan(connections_and_triggers: &str) -> Plan {
    let text = format!("[functions.f]\ncomponent = \"f.wasm\"\n{connections_and_triggers}");
    let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), &text);
    loaded.unwrap_or_else(|invalid| panic!("{invalid:?}")).plan
}

fn connector(plan: &Plan) -> Result<AmqpConnector, Unusable> {
    let SourcePlan::Amqp(source) = &plan.triggers["billing"].source else {
        panic!("it is AMQP");
    };
    AmqpConnector::new(plan, source)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
