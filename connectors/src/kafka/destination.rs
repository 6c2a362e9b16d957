//! The destination: produces events to Kafka topics.
//!
//! Each event is a CloudEvent in binary mode: its attributes are headers `ce_<name>`, its data is the
//! value, its subject the key. What is promised: a record is acknowledged by all replicas that are in
//! sync, arrives at least once, and under the same `ce_id` each time; the retries of the client itself
//! double nothing.
//!
//! One producer of a connection serves all destinations. It is made when it is first needed, and made
//! anew should librdkafka give it up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
};
use tidemill_config::plan::{DestinationPlan, KafkaDestination as Target, Plan};
use tidemill_core::{
    BoxFuture,
    destination::{Destination, OutboxAction, PublishError, Role},
    event::{self, Event},
    limits,
};

use tokio::sync::watch;

use crate::cloudevent::{self, Binding};

use super::{context::Context, error::Unusable, settings::Settings};

/// What librdkafka said last, of its own accord.
type Last = Option<(RDKafkaErrorCode, String)>;

#[derive(Clone)]
struct Producing {
    producer: FutureProducer<Context>,
    errors: watch::Receiver<Last>,
}

/// How long a record waits for room among those to be sent.
const ROOM: Duration = Duration::from_secs(30);

/// Produces events to Kafka topics.
pub struct KafkaDestination {
    targets: HashMap<(String, Role), Target>,
    connections: BTreeMap<String, Connection>,
}

struct Connection {
    settings: Settings,
    producer: Mutex<Option<Producing>>,
}

impl KafkaDestination {
    /// A destination for all that the triggers of a plan produce. Looks properties up and has
    /// librdkafka check them, and blocks while it does; it connects to nothing.
    pub fn new(plan: &Plan) -> Result<KafkaDestination, Vec<Unusable>> {
        let mut targets = HashMap::new();
        let mut connections = BTreeMap::new();
        let mut errors = Vec::new();
        for (trigger, role, target) in targets_of(plan) {
            targets.insert((trigger.to_owned(), role), target.clone());
            if connections.contains_key(&target.connection) {
                continue;
            }
            let settings = Settings::new(plan, &target.connection);
            let settings = settings.map_err(|error| errors.push(error)).ok();
            connections.insert(target.connection.clone(), settings);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let connection = |(name, settings): (String, Option<Settings>)| {
            let producer = Mutex::default();
            settings.map(|settings| (name, Connection { settings, producer }))
        };
        Ok(KafkaDestination {
            targets,
            connections: connections.into_iter().filter_map(connection).collect(),
        })
    }

    async fn carry_out(&self, action: &OutboxAction, event: &Event) -> Result<(), PublishError> {
        let OutboxAction::PublishKafka { trigger, role } = action else {
            let text = "what is for another destination does not go to Kafka".to_owned();
            return Err(PublishError::Rejected(text));
        };
        let target = self.targets.get(&(trigger.clone(), *role));
        let connection = target.and_then(|target| self.connections.get(&target.connection));
        let (Some(target), Some(connection)) = (target, connection) else {
            return Err(PublishError::Rejected(format!(
                "the plan has no `{}` with `kafka` for trigger `{trigger}` any more",
                key(*role)
            )));
        };
        let message = cloudevent::encode_binary(Binding::KAFKA, event);
        let mut record = FutureRecord::<str, [u8]>::to(&target.topic)
            .payload(&message.body)
            .headers(headers(event, message.content_type, message.headers));
        if let Some(subject) = &event.subject {
            record = record.key(subject);
        }
        let sent = match connection.producer() {
            Ok(used) => match used.producer.send(record, ROOM).await {
                Ok(_) => return Ok(()),
                Err((error, _)) => {
                    connection.look_at(&used, &error);
                    let last = used.errors.borrow().clone();
                    (error, last)
                }
            },
            Err(error) => (error, None),
        };
        let (error, last) = sent;
        Err(connection.failed(target, event, &error, last))
    }
}

impl Destination for KafkaDestination {
    fn publish<'a>(
        &'a self,
        action: &'a OutboxAction,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(self.carry_out(action, event))
    }
}

impl Connection {
    fn producer(&self) -> KafkaResult<Producing> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let name = format!("kafka:{}", self.settings.connection);
        let context = Context::new(&name, &self.settings.secrets);
        let made = Producing {
            errors: context.errors(),
            producer: self.settings.producer().create_with_context(context)?,
        };
        Ok(producer.insert(made).clone())
    }

    /// A producer that librdkafka has given up is not used again.
    fn look_at(&self, used: &Producing, error: &KafkaError) {
        let client = used.producer.client();
        let fatal = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        if !fatal && client.fatal_error().is_none() {
            return;
        }
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |current: &Producing| current.producer.client().native_ptr() == client.native_ptr();
        if producer.as_ref().is_some_and(same) {
            *producer = None;
        }
    }

    /// What the error means for the event, in words for whoever reads the history of a delivery.
    fn failed(
        &self,
        target: &Target,
        event: &Event,
        error: &KafkaError,
        last: Last,
    ) -> PublishError {
        use RDKafkaErrorCode as Code;
        let (topic, connection, brokers) =
            (&target.topic, &target.connection, &self.settings.brokers);
        let to = format!("topic `{topic}` of connection `{connection}`");
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
                PublishError::Rejected(format!(
                    "the event is too large for {to} ({} bytes); raise `max.message.bytes` of the topic, or let the handler reply with less",
                    event.data.len()
                ))
            }
            Some(Code::InvalidRecord) => PublishError::Rejected(format!(
                "{to} does not take the event: {error}; if the topic is compacted, events need a subject, which becomes the key"
            )),
            Some(Code::InvalidTopic) => PublishError::Rejected(format!(
                "{to} cannot be: its name is not one; correct `topic` in the plan"
            )),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                PublishError::Failed(format!(
                    "connection `{connection}` has no topic `{topic}`; make it, or correct `topic` in the plan"
                ))
            }
            Some(Code::TopicAuthorizationFailed) => PublishError::Failed(format!(
                "connection `{connection}` may not write to topic `{topic}`; allow its user to"
            )),
            Some(Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend) => {
                PublishError::Failed(format!(
                    "{to} has too few replicas in sync (`min.insync.replicas`); are all of its brokers up?"
                ))
            }
            Some(Code::MessageTimedOut) => {
                let why = last.map_or(String::new(), |(_, reason)| format!("; {reason}"));
                PublishError::Failed(format!(
                    "{to} did not acknowledge the event in time ({brokers}){why}; it may have it nevertheless, and gets it again under the same id"
                ))
            }
            _ => {
                let words = self.settings.secrets.blank(&error.to_string());
                PublishError::Failed(format!("{to} did not take the event: {words}"))
            }
        }
    }
}

/// What the triggers of a plan produce.
pub(super) fn targets_of(plan: &Plan) -> impl Iterator<Item = (&str, Role, &Target)> {
    plan.triggers.values().flat_map(|trigger| {
        let destinations = [
            (Role::OnSuccess, &trigger.on_success),
            (Role::DeadLetter, &trigger.dead_letter),
        ];
        destinations
            .into_iter()
            .filter_map(|(role, destination)| match destination {
                Some(DestinationPlan::Kafka(target)) => Some((&*trigger.name, role, target)),
                _ => None,
            })
    })
}

/// The key of a destination in its trigger.
pub(super) fn key(role: Role) -> &'static str {
    match role {
        Role::OnSuccess => "on_success",
        Role::DeadLetter => "dead_letter",
    }
}

fn headers(
    event: &Event,
    content_type: Option<String>,
    attributes: Vec<event::Field>,
) -> OwnedHeaders {
    let content_type = content_type.map(|value| ("content-type".to_owned(), value));
    let traceparent = event.traceparent.clone();
    let traceparent = traceparent.map(|value| ("traceparent".to_owned(), value));
    let hops = (event::HOPS.to_owned(), event.hops.to_string());
    let own = event
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with(event::OWN));
    let own = own.map(|(name, value)| (name.clone(), cut(value).to_owned()));
    let all = attributes
        .into_iter()
        .chain(content_type)
        .chain(traceparent)
        .chain([hops]);
    all.chain(own)
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key: &key,
                value: Some(&value),
            })
        })
}

/// The start of a value that is not too long to be sent.
fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(limits::SENT_HEADER)]
}
