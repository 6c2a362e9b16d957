//! Tries the AMQP brokers of a plan, for `tidemill check --connect`: whether they can be reached, and have
//! the queues and exchanges that the plan names. Makes nothing and consumes nothing.

use std::collections::BTreeMap;

use lapin::{
    Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tidemill_config::plan::{self, AmqpSource, Notify, Plan, SourcePlan};

use crate::check::{Finding, Severity};

use super::{
    broker::Broker,
    destination::{self, publishes},
    error::{self, Trouble},
    topology,
};

/// Connects to every AMQP broker of the plan, one after the other, and says what is wrong there. Each
/// connection takes at most some seconds.
pub async fn check(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, connection) in &plan.connections {
        if matches!(connection.to, plan::Connection::Amqp(_)) {
            check_broker(plan, name, &mut findings).await;
        }
    }
    findings
}

async fn check_broker(plan: &Plan, name: &str, findings: &mut Vec<Finding>) {
    let place = format!("connections.{name}");
    let broker = match Broker::new(plan, name) {
        Ok(broker) => broker,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|e| format!(": {e}"));
            findings.push(Finding {
                severity: Severity::Error,
                place,
                problem: format!("{error}{}", cause.unwrap_or_default()),
                help: "the engine does not start without it".to_owned(),
            });
            return;
        }
    };
    let link = match broker.connect("check").await {
        Ok(link) => link,
        Err(trouble) => {
            findings.push(found(Severity::Error, place, trouble));
            return;
        }
    };
    for (place, source) in sources(plan, name) {
        if let Some((severity, trouble)) = check_queue(&link.connection, source).await {
            findings.push(found(severity, place, trouble));
        }
    }
    for trigger in plan.triggers.values() {
        for (trigger, role, to) in publishes(trigger).filter(|(.., to)| to.connection == name) {
            let key = destination::key(role);
            let place = format!("triggers.{trigger}.{key}.amqp");
            if let Some(trouble) = check_target(&link.connection, to).await {
                findings.push(found(Severity::Error, place, trouble));
            }
        }
    }
    link.close().await;
}

fn found(severity: Severity, place: String, trouble: Trouble) -> Finding {
    Finding {
        severity,
        place,
        problem: trouble.problem,
        help: trouble.help,
    }
}

/// The queues that are consumed over a connection, each under the first trigger that names it.
fn sources<'a>(plan: &'a Plan, connection: &str) -> impl Iterator<Item = (String, &'a AmqpSource)> {
    let mut queues = BTreeMap::new();
    for trigger in plan.triggers.values() {
        let (key, source) = match &trigger.source {
            SourcePlan::Amqp(source) => ("amqp", source),
            SourcePlan::Bucket(bucket) => match &bucket.notify {
                Some(Notify::Amqp(source)) => ("bucket.notify.amqp", source),
                _ => continue,
            },
            _ => continue,
        };
        if source.connection == connection {
            let place = || format!("triggers.{}.{key}.queue", trigger.name);
            queues
                .entry(&source.queue)
                .or_insert_with(|| (place(), source));
        }
    }
    queues.into_values()
}

async fn check_queue(connection: &Connection, source: &AmqpSource) -> Option<(Severity, Trouble)> {
    let AmqpSource {
        connection: name,
        queue,
        ..
    } = source;
    match topology::is_there(connection, queue).await {
        Ok(()) => {}
        // It is made when the engine starts.
        Err(error) if source.declare && error::code(&error) == topology::NOT_FOUND => return None,
        Err(error) => return Some((Severity::Error, topology::trouble(name, queue, &error))),
    }
    let warn = |problem: String, help: &str| Some((Severity::Warning, Trouble::new(problem, help)));
    let on = format!("the queue `{queue}` on connection `{name}`");
    let found = properties(connection, queue).await?;
    if !found.durable {
        return warn(
            format!("{on} is not durable: a restart of the broker deletes it with its messages"),
            "make it anew as a durable queue",
        );
    }
    if found.auto_delete {
        return warn(
            format!("{on} is deleted with its messages when the engine stops: it has auto-delete"),
            "make it anew without auto-delete",
        );
    }
    // Queues of other types count no deliveries.
    if found.is_quorum() && !found.arguments.contains_key("x-dead-letter-exchange") {
        return warn(
            format!(
                "{on} is a quorum queue and declares no dead-letter exchange: RabbitMQ 4 deletes a message that was delivered 20 times without being settled, as when the engine is killed again and again"
            ),
            "give it `x-dead-letter-exchange`, or see that a policy of the broker does",
        );
    }
    None
}

/// An argument with a value that it cannot have, so that no queue is made by asking.
const NEVER: &str = "x-max-age";

/// The most properties of a queue that are asked for; RabbitMQ knows some twenty.
const PROPERTIES: usize = 32;

/// A queue as it was declared. What policies add is not known.
#[derive(Debug)]
pub(super) struct Properties {
    durable: bool,
    auto_delete: bool,
    arguments: FieldTable,
}

impl Properties {
    fn is_quorum(&self) -> bool {
        let kind = self.arguments.inner().get("x-queue-type");
        kind == Some(&AMQPValue::LongString("quorum".into()))
    }
}

/// The properties of a queue that is there; none, if the broker does not say all of them. They are asked
/// for by declaring it again and again: each refusal says one difference, and in the end there is none.
/// AMQP has no other way.
pub(super) async fn properties(connection: &Connection, queue: &str) -> Option<Properties> {
    let mut known = Properties {
        durable: true,
        auto_delete: false,
        arguments: FieldTable::default(),
    };
    for _ in 0..PROPERTIES {
        let Some(words) = refusal(connection, queue, &known).await? else {
            return Some(known);
        };
        let (name, value) = difference(&words)?;
        match (name, value) {
            ("durable", _) => known.durable = false,
            ("auto_delete", _) => known.auto_delete = true,
            // It is compared last, if it is compared at all.
            (NEVER, _) => return Some(known),
            (name, value) => {
                known
                    .arguments
                    .insert(ShortString::try_new(name).ok()?, value?);
            }
        }
    }
    None
}

/// Why the broker does not take the queue for one with these properties, if it does not; none, if it
/// does not say.
async fn refusal(
    connection: &Connection,
    queue: &str,
    known: &Properties,
) -> Option<Option<String>> {
    let channel = connection.create_channel().await.ok()?;
    let options = QueueDeclareOptions {
        durable: known.durable,
        auto_delete: known.auto_delete,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = known.arguments.clone();
    arguments.insert(NEVER.into(), AMQPValue::LongString("never".into()));
    match channel
        .queue_declare(queue.into(), options, arguments)
        .await
    {
        Ok(_) => Some(None),
        Err(error) if error::code(&error) == topology::PRECONDITION_FAILED => {
            Some(Some(error::words(&error)))
        }
        Err(_) => None,
    }
}

/// The name of what differs, and its value in the queue, if it is an argument, as RabbitMQ says it.
fn difference(words: &str) -> Option<(&str, Option<AMQPValue>)> {
    let (name, rest) = words.split_once("inequivalent arg '")?.1.split_once('\'')?;
    Some((name, current(rest)))
}

fn current(words: &str) -> Option<AMQPValue> {
    let (_, current) = words.rsplit_once("but current is the value '")?;
    let (value, kind) = current.strip_suffix('\'')?.rsplit_once("' of type '")?;
    match kind {
        "longstr" => Some(AMQPValue::LongString(value.into())),
        "bool" => Some(AMQPValue::Boolean(value == "true")),
        _ => value.parse().ok().map(AMQPValue::LongLongInt),
    }
}

async fn check_target(connection: &Connection, to: &plan::AmqpDestination) -> Option<Trouble> {
    let on = format!("on connection `{}`", to.connection);
    if to.exchange.is_empty() {
        // The default exchange leads to the queue of that name.
        let error = topology::is_there(connection, &to.routing_key)
            .await
            .err()?;
        return Some(match error::code(&error) {
            topology::NOT_FOUND => Trouble::new(
                format!(
                    "there is no queue `{}` {on}, to which the default exchange would lead",
                    to.routing_key
                ),
                "correct `routing_key`, or make the queue",
            ),
            _ => topology::trouble(&to.connection, &to.routing_key, &error),
        });
    }
    let channel = connection.create_channel().await.ok()?;
    let look = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let kind = ExchangeKind::Direct;
    let looked = channel.exchange_declare(
        to.exchange.as_str().into(),
        kind,
        look,
        FieldTable::default(),
    );
    let error = looked.await.err()?;
    Some(match error::code(&error) {
        topology::NOT_FOUND => Trouble::new(
            format!("there is no exchange `{}` {on}", to.exchange),
            "correct the name, or make the exchange; nothing can be published until it is there",
        ),
        _ => Trouble::new(
            format!(
                "the exchange `{}` {on} cannot be looked at: {}",
                to.exchange,
                error::words(&error)
            ),
            "the log of the broker may say more",
        ),
    })
}
