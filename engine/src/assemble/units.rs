//! From a plan to its sources, in units that begin and end together. What is the same as in the plan
//! before is not made again: it goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidemill_config::plan::{
    AmqpSource, ConnectionPlan, KafkaSource, Notify, Plan, SourcePlan, TriggerPlan,
};
use tidemill_connectors::{
    amqp::{self, AmqpConnector},
    bucket::{self, Bucket, BucketConnector},
    http::Route,
    kafka::{self, KafkaConnector},
    schedule::{self, Beat, ScheduleConnector},
};
use tidemill_core::{ledger, schedule::Schedule};

use crate::sources::Source;

/// Sources that begin and end together: a queue, topics, a schedule, or a bucket with what brings its
/// notifications.
pub struct Unit {
    /// All that it depends on in the plan.
    pub key: Key,
    /// Where the store of a bucket posts notifications.
    pub route: Option<Route>,
    /// What is to run; none, if it runs already.
    pub sources: Vec<Source>,
}

/// All that a unit depends on in the plan: while that stays, the unit goes on.
#[derive(Clone, PartialEq)]
pub enum Key {
    /// A bucket, and the connection of its notifications.
    Bucket(bucket::Settings, Option<Arc<ConnectionPlan>>),
    /// A queue.
    Amqp(AmqpSource, Held),
    /// Topics.
    Kafka(KafkaSource, Held),
    /// The schedule of a trigger.
    Schedule(String, Schedule),
}

/// What a source depends on that holds its events.
#[derive(Clone, PartialEq)]
pub struct Held {
    connection: Option<Arc<ConnectionPlan>>,
    /// The triggers that listen. What is done of a log is known by trigger, so with another one it is
    /// taken up anew.
    triggers: BTreeSet<String>,
}

impl Key {
    /// What only one unit may have at a time.
    pub fn place(&self) -> String {
        match self {
            Key::Bucket(settings, _) => ledger::source(&settings.name),
            Key::Amqp(source, _) => amqp::source(source),
            Key::Kafka(source, _) => format!("kafka:{}@{}", source.connection, source.group),
            Key::Schedule(trigger, _) => schedule::source(trigger),
        }
    }
}

/// The buckets of a plan.
#[derive(Default)]
pub(super) struct Opened {
    /// By name, with what they were opened by.
    pub buckets: BTreeMap<String, (bucket::Settings, Bucket)>,
    /// The sources of those that triggers listen to.
    pub units: Vec<Unit>,
    /// Those that triggers listen to and the engine itself writes to, and that do not keep hops.
    pub feedback: BTreeSet<String>,
}

/// What the plan before had.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub buckets: &'a BTreeMap<String, (bucket::Settings, Bucket)>,
    pub units: &'a [(Key, Option<Route>)],
}

impl Before<'_> {
    /// A unit that goes on.
    fn unit(&self, key: &Key) -> Option<Unit> {
        let mut units = self.units.iter();
        let (key, route) = units.find(|(known, _)| known == key)?;
        Some(Unit {
            key: key.clone(),
            route: route.clone(),
            sources: Vec::new(),
        })
    }

    /// A bucket that is open already.
    fn bucket(&self, settings: &bucket::Settings) -> Option<Bucket> {
        let (known, bucket) = self.buckets.get(&settings.name)?;
        let serves = known.place == settings.place && known.needs_write == settings.needs_write;
        serves.then(|| bucket.clone())
    }
}

/// Opens the buckets; `listens`: what their stores tell will be heard.
pub(super) fn open_buckets(
    plan: &Plan,
    before: Before<'_>,
    listens: bool,
    errors: &mut Vec<anyhow::Error>,
) -> Opened {
    let mut all = Opened::default();
    for settings in bucket::Settings::of(plan) {
        let bucket = match before.bucket(&settings) {
            Some(bucket) => bucket,
            None => match settings.open() {
                Ok(bucket) => bucket,
                Err(error) => {
                    errors.push(error.into());
                    continue;
                }
            },
        };
        if settings.rescan.is_some() {
            if listens {
                match bucket_unit(plan, &settings, &bucket, before) {
                    Ok(unit) => all.units.push(unit),
                    Err(error) => errors.push(error),
                }
            }
            if settings.needs_write && !bucket.keeps_hops() {
                all.feedback.insert(settings.name.clone());
            }
        }
        all.buckets
            .insert(settings.name.clone(), (settings, bucket));
    }
    all
}

/// The source of a bucket, with what brings the notifications that its store sends.
fn bucket_unit(
    plan: &Plan,
    settings: &bucket::Settings,
    bucket: &Bucket,
    before: Before<'_>,
) -> anyhow::Result<Unit> {
    let connection = match &settings.notify {
        Some(Notify::Amqp(source)) => plan.connections.get(&source.connection),
        Some(Notify::Kafka(source)) => plan.connections.get(&source.connection),
        _ => None,
    };
    let listened = bucket::Settings {
        // Whether others write to it is nothing to who listens.
        needs_write: false,
        ..settings.clone()
    };
    let key = Key::Bucket(listened, connection.cloned());
    if let Some(unit) = before.unit(&key) {
        return Ok(unit);
    }
    let rescan = settings.rescan.unwrap_or_default();
    let connector = BucketConnector::new(bucket.clone(), rescan).only_new(settings.only_new);
    let (mut route, mut sources) = (None, Vec::new());
    let connector = match &settings.notify {
        None => connector,
        Some(notify @ Notify::Sqs { .. }) => connector.notified(notify)?,
        Some(notify) => {
            let (connector, hook) = connector.hooked();
            match notify {
                Notify::Sqs { .. } => {}
                Notify::Webhook { path, verify } => {
                    route = Some(Route::hook(&settings.name, path, verify.as_ref(), hook));
                }
                Notify::Amqp(source) => {
                    let broker = AmqpConnector::new(plan, source)?;
                    sources.push(Source::amqp(broker, Some(hook)));
                }
                Notify::Kafka(source) => {
                    let broker = KafkaConnector::new(plan, source)?;
                    sources.push(Source::kafka(broker, Some(hook)));
                }
            }
            connector
        }
    };
    sources.insert(0, Source::bucket(connector));
    Ok(Unit {
        key,
        route,
        sources,
    })
}

/// The queues and topics that triggers listen to, each once.
pub(super) fn brokers(
    plan: &Plan,
    before: Before<'_>,
    errors: &mut Vec<anyhow::Error>,
) -> Vec<Unit> {
    let mut listening: BTreeMap<String, Vec<&TriggerPlan>> = BTreeMap::new();
    for trigger in plan.triggers.values() {
        let source = match &trigger.source {
            SourcePlan::Amqp(source) => amqp::source(source),
            SourcePlan::Kafka(source) => kafka::source(source),
            _ => continue,
        };
        listening.entry(source).or_default().push(trigger);
    }
    let mut units = Vec::new();
    for triggers in listening.into_values() {
        let held = |connection: &str| Held {
            connection: plan.connections.get(connection).cloned(),
            triggers: triggers
                .iter()
                .map(|trigger| trigger.name.clone())
                .collect(),
        };
        let made = match &triggers[0].source {
            SourcePlan::Amqp(source) => {
                let key = Key::Amqp(source.clone(), held(&source.connection));
                before.unit(&key).map(Ok).unwrap_or_else(|| {
                    let broker = AmqpConnector::new(plan, source)?;
                    Ok(Unit::one(key, Source::amqp(broker, None)))
                })
            }
            SourcePlan::Kafka(source) => {
                let key = Key::Kafka(source.clone(), held(&source.connection));
                before.unit(&key).map(Ok).unwrap_or_else(|| {
                    let broker = KafkaConnector::new(plan, source)?;
                    Ok(Unit::one(key, Source::kafka(broker, None)))
                })
            }
            _ => continue,
        };
        match made {
            Ok(unit) => units.push(unit),
            Err(error) => errors.push(error),
        }
    }
    units
}

/// The schedules, which share one beat.
pub(super) fn schedules(plan: &Plan, before: Before<'_>, beat: &Beat) -> Vec<Unit> {
    let unit = |trigger: &Arc<TriggerPlan>| {
        let SourcePlan::Schedule(schedule) = &trigger.source else {
            return None;
        };
        let key = Key::Schedule(trigger.name.clone(), schedule.clone());
        before.unit(&key).or_else(|| {
            let connector = ScheduleConnector::new(&trigger.name, schedule.clone(), beat);
            Some(Unit::one(key, Source::schedule(connector)))
        })
    };
    plan.triggers.values().filter_map(unit).collect()
}

impl Unit {
    fn one(key: Key, source: Source) -> Unit {
        Unit {
            key,
            route: None,
            sources: vec![source],
        }
    }
}
