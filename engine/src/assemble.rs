//! From a plan to parts that work together: the only place that names concrete journals, sandboxes
//! and connectors.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use tidemill_config::plan::{
    self, DestinationPlan, EnginePlan, FunctionPlan, Notify, Plan, SourcePlan, TriggerPlan,
};
use tidemill_connectors::{
    amqp::{self, AmqpConnector, AmqpDestination},
    bucket::{self, Bucket, BucketConnector, BucketDestination},
    http::{self, HttpConnector, HttpDestination},
    kafka::{self, KafkaConnector, KafkaDestination},
    schedule::{self, Beat, ScheduleConnector},
};
use tidemill_core::{filter::ObjectFilter, ledger, schedule::Overlap};
use tidemill_journal::{OpenError, SqliteJournal, SqliteOptions};
use tidemill_sandbox::{Entry, Sandbox, Settings};
use tokio_util::sync::CancellationToken;

use crate::{
    destinations::Destinations,
    dispatcher::{Dispatcher, HopMemory, Listens, Order, Parts, Target, Trigger, emitted_source},
    functions::{self, Deployed},
    metrics::Metrics,
    objects::Objects,
    sources::Source,
};

/// The most attempts at a time over all functions. Each instance asleep costs about 40 KiB.
const INSTANCES: u32 = 10_000;

/// The largest reply and the largest emitted event, in bytes.
const PAYLOAD: u64 = 6 << 20;

/// Which functions to deploy.
pub enum Selection {
    /// All, with their triggers and sources: to run the engine.
    All,
    /// One, to invoke it, and those that its events trigger; no sources.
    Only(String),
}

/// The parts, put together. Nothing runs yet.
pub struct Assembled {
    /// The dispatcher.
    pub dispatcher: Arc<Dispatcher>,
    /// What brings events.
    pub sources: Vec<Source>,
    /// The journal, to close it at the end.
    pub journal: Arc<SqliteJournal>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Everything that keeps the engine from starting, so that a person mends it in one go.
#[derive(Debug)]
pub struct StartErrors(Vec<anyhow::Error>);

impl StartErrors {
    /// One error that tells them all.
    pub fn into_error(self) -> anyhow::Error {
        let mut errors = self.0;
        if errors.len() == 1 {
            return errors.remove(0);
        }
        let lines: Vec<String> = errors.iter().map(|e| format!("\n  - {e:#}")).collect();
        let (count, lines) = (errors.len(), lines.concat());
        anyhow!("{count} things keep the engine from starting:{lines}")
    }
}

impl<E: Into<anyhow::Error>> From<E> for StartErrors {
    fn from(error: E) -> StartErrors {
        StartErrors(vec![error.into()])
    }
}

/// The journal's file in the data folder.
pub fn journal_path(plan: &EnginePlan) -> PathBuf {
    plan.data.join("journal.db")
}

/// Opens the journal to write; the data's lock must be held.
pub fn open_journal(plan: &EnginePlan) -> Result<SqliteJournal, OpenError> {
    SqliteJournal::open(&journal_path(plan), SqliteOptions::default())
}

/// Builds the parts. This task waits while functions compile; others go on.
pub async fn assemble(
    plan: &Plan,
    selection: Selection,
    stop: &CancellationToken,
) -> Result<Assembled, StartErrors> {
    let wanted: Vec<Arc<FunctionPlan>> = match &selection {
        Selection::All => plan.functions.values().cloned().collect(),
        Selection::Only(name) => with_listeners(plan, name),
    };
    let mut errors = Vec::new();
    let listens = matches!(selection, Selection::All);
    let Opened {
        buckets,
        watched,
        notifying,
        routes,
        feedback,
    } = open_buckets(plan, listens, &mut errors);
    let http = HttpDestination::new(plan.triggers.values().map(|trigger| &**trigger));
    let http = usable(http, &mut errors);
    let amqp = usable(AmqpDestination::new(plan), &mut errors);
    let kafka = usable(KafkaDestination::new(plan), &mut errors);
    let brokers = match &selection {
        Selection::All => brokers(plan, &mut errors),
        Selection::Only(_) => Vec::new(),
    };
    let deployed = deploy_all(plan, &wanted, &mut errors).await?;
    check_handlers(plan, &deployed, &mut errors);
    let (Some(http), Some(amqp), Some(kafka), true) = (http, amqp, kafka, errors.is_empty()) else {
        return Err(StartErrors(errors));
    };
    let journal = Arc::new(open_journal(&plan.engine)?);

    let hops = Arc::new(HopMemory::default());
    let metrics = Arc::new(Metrics::default());
    metrics
        .journal_limit
        .set(plan.engine.journal_limit.cast_signed());
    let objects = Arc::new(Objects::new(buckets.clone(), feedback));
    let destination = {
        let (hops, objects) = (hops.clone(), objects.clone());
        let before_write = move |bucket: &str, key: &str, count: u32| {
            if objects.feeds_back(bucket) {
                hops.announce(bucket, key, count);
            }
        };
        Destinations {
            buckets: BucketDestination::new(buckets.into_values(), Arc::new(before_write)),
            http,
            amqp,
            kafka,
        }
    };
    let dispatcher = Dispatcher::new(Parts {
        journal: journal.clone(),
        triggers: triggers(plan, &deployed),
        functions: deployed,
        objects,
        destination: Arc::new(destination),
        hops,
        metrics: metrics.clone(),
        journal_limit: plan.engine.journal_limit,
        concurrency: INSTANCES as usize,
        stop: stop.clone(),
    });

    let mut sources = Vec::new();
    if let Selection::All = selection {
        warn_of_strays(&dispatcher).await?;
        sources.extend(watched.into_iter().map(Source::bucket));
        sources.extend(notifying);
        sources.extend(brokers);
        sources.extend(schedules(plan));
        sources.extend(http_source(plan, routes).await?);
    }
    Ok(Assembled {
        dispatcher,
        journal,
        metrics,
        sources,
    })
}

/// Looks whether each function has the handler that its triggers call.
fn check_handlers(
    plan: &Plan,
    deployed: &BTreeMap<String, Arc<Deployed>>,
    errors: &mut Vec<anyhow::Error>,
) {
    for (name, trigger) in &plan.triggers {
        let needed = match trigger.batch {
            Some(_) => Entry::Batch,
            None => Entry::One,
        };
        let function = deployed.get(&trigger.function);
        if let Some(Err(problem)) = function.map(|function| function.component.check(needed)) {
            let function = &trigger.function;
            errors.push(anyhow!(
                "trigger `{name}`: the component of function `{function}` {problem}"
            ));
        }
    }
}

/// The function, and those whose triggers listen to what it may emit, so that its events have
/// deliveries that wait for the next run of the engine.
fn with_listeners(plan: &Plan, name: &str) -> Vec<Arc<FunctionPlan>> {
    let Some(function) = plan.functions.get(name) else {
        return Vec::new();
    };
    let listens = |trigger: &&Arc<TriggerPlan>| match &trigger.source {
        SourcePlan::Event(source) => function.allow.emit.contains(&source.kind),
        _ => false,
    };
    let mut wanted: BTreeSet<&str> = BTreeSet::from([name]);
    let listeners = plan.triggers.values().filter(listens);
    wanted.extend(listeners.map(|trigger| trigger.function.as_str()));
    let found = wanted
        .into_iter()
        .filter_map(|name| plan.functions.get(name));
    found.cloned().collect()
}

/// The triggers whose functions are deployed.
fn triggers(plan: &Plan, deployed: &BTreeMap<String, Arc<Deployed>>) -> Vec<Trigger> {
    let with_function = |trigger: &Arc<TriggerPlan>| {
        let function = deployed.get(&trigger.function)?.clone();
        let (source, listens) = listening(trigger)?;
        let one_by_one = match &trigger.source {
            SourcePlan::Schedule(schedule) => schedule.overlap == Overlap::Queue,
            _ => false,
        };
        let order = match &trigger.order {
            _ if one_by_one => Order::All,
            plan::Order::None => Order::None,
            plan::Order::By(selector) => Order::By(selector.clone()),
            plan::Order::MessageKey => Order::MessageKey,
            plan::Order::Partition => Order::Partition,
        };
        let missing = match &trigger.source {
            SourcePlan::Bucket(source) => source.missing,
            _ => plan::Missing::default(),
        };
        Some(Trigger {
            name: trigger.name.clone(),
            source,
            missing,
            listens,
            filter: trigger.filter.clone(),
            unmatched: trigger.unmatched,
            max_payload: max_payload(&trigger.source),
            idempotency: trigger.idempotency.clone(),
            order,
            rate: trigger.rate,
            batch: trigger.batch,
            function,
            retry: trigger.retry,
            on_success: trigger.on_success.as_ref().map(target),
            dead_letter: trigger.dead_letter.as_ref().map(target),
        })
    };
    plan.triggers.values().filter_map(with_function).collect()
}

/// The source that a trigger listens to, and to what of it.
fn listening(trigger: &TriggerPlan) -> Option<(String, Listens)> {
    Some(match &trigger.source {
        SourcePlan::Bucket(source) => {
            let filter = ObjectFilter {
                created: source.created,
                deleted: source.deleted,
                prefix: source.prefix.clone(),
                suffix: source.suffix.clone(),
                min_size: source.min_size,
                max_size: source.max_size,
            };
            let after = source.after.clone();
            let listens = Listens::Objects { filter, after };
            (ledger::source(&source.bucket), listens)
        }
        SourcePlan::Http(source) => {
            let listens = Listens::Requests(source.methods.clone());
            (http::source(&source.path), listens)
        }
        SourcePlan::Schedule(_) => (schedule::source(&trigger.name), Listens::All),
        SourcePlan::Event(source) => (emitted_source(&source.kind), Listens::All),
        SourcePlan::Amqp(source) => (amqp::source(source), Listens::All),
        SourcePlan::Kafka(source) => (kafka::source(source), Listens::All),
        SourcePlan::NotBuilt { .. } => return None,
    })
}

/// The most bytes of a message or record. HTTP refuses larger bodies itself, and what other sources and
/// functions make is limited where it is made.
fn max_payload(source: &SourcePlan) -> Option<u64> {
    match source {
        SourcePlan::Amqp(source) => Some(source.max_payload),
        SourcePlan::Kafka(source) => Some(source.max_payload),
        _ => None,
    }
}

fn target(plan: &DestinationPlan) -> Target {
    match plan {
        DestinationPlan::Bucket { bucket, key } => Target::Object {
            bucket: bucket.clone(),
            key: key.clone(),
        },
        DestinationPlan::Http(_) => Target::Http,
        DestinationPlan::Event { kind } => Target::Event { kind: kind.clone() },
        DestinationPlan::Amqp(_) => Target::Amqp,
        DestinationPlan::Kafka(_) => Target::Kafka,
    }
}

/// The buckets of a plan.
#[derive(Default)]
struct Opened {
    buckets: BTreeMap<String, Bucket>,
    /// The sources of those that triggers listen to.
    watched: Vec<BucketConnector>,
    /// Brokers that bring notifications of objects.
    notifying: Vec<Source>,
    /// Paths where stores post notifications of objects.
    routes: Vec<http::Route>,
    /// Those that triggers listen to and the engine itself writes to, and that do not keep hops.
    feedback: BTreeSet<String>,
}

impl Opened {
    /// The source of a bucket, which takes the notifications that its store sends.
    fn notified(
        &mut self,
        plan: &Plan,
        connector: BucketConnector,
        notify: &Notify,
    ) -> anyhow::Result<BucketConnector> {
        if let Notify::Sqs { .. } = notify {
            return Ok(connector.notified(notify)?);
        }
        let bucket = connector.bucket().name().to_owned();
        let (connector, hook) = connector.hooked();
        match notify {
            Notify::Sqs { .. } => {}
            Notify::Webhook { path, verify } => {
                let route = http::Route::hook(&bucket, path, verify.as_ref(), hook);
                self.routes.push(route);
            }
            Notify::Amqp(source) => {
                let broker = AmqpConnector::new(plan, source)?;
                self.notifying.push(Source::amqp(broker, Some(hook)));
            }
            Notify::Kafka(source) => {
                let broker = KafkaConnector::new(plan, source)?;
                self.notifying.push(Source::kafka(broker, Some(hook)));
            }
        }
        Ok(connector)
    }
}

/// Opens the buckets; `listens`: what their stores tell will be heard.
fn open_buckets(plan: &Plan, listens: bool, errors: &mut Vec<anyhow::Error>) -> Opened {
    let mut all = Opened::default();
    for settings in bucket::Settings::of(plan) {
        let bucket = match settings.open() {
            Ok(bucket) => bucket,
            Err(error) => {
                errors.push(error.into());
                continue;
            }
        };
        if let Some(rescan) = settings.rescan {
            let connector = BucketConnector::new(bucket.clone(), rescan);
            let connector = connector.only_new(settings.only_new);
            match settings.notify.as_ref().filter(|_| listens) {
                None => all.watched.push(connector),
                Some(notify) => match all.notified(plan, connector, notify) {
                    Ok(connector) => all.watched.push(connector),
                    Err(error) => errors.push(error),
                },
            }
            if settings.needs_write && !bucket.keeps_hops() {
                all.feedback.insert(settings.name.clone());
            }
        }
        all.buckets.insert(settings.name, bucket);
    }
    all
}

/// Deploys the functions, several at a time, with a line of progress for a person.
async fn deploy_all(
    plan: &Plan,
    wanted: &[Arc<FunctionPlan>],
    errors: &mut Vec<anyhow::Error>,
) -> Result<BTreeMap<String, Arc<Deployed>>, StartErrors> {
    let data = plan.engine.data.clone();
    let settings = Settings {
        instances: INSTANCES,
        cache: data.join("compiled"),
    };
    let sandbox = tokio::task::spawn_blocking(move || Sandbox::new(settings)).await??;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} functions loaded")?;
    let bar = ProgressBar::new(wanted.len() as u64).with_style(style);
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let mut waiting = wanted.iter();
    let mut tasks = tokio::task::JoinSet::new();
    let mut deployed = BTreeMap::new();
    loop {
        while tasks.len() < at_a_time
            && let Some(plan) = waiting.next()
        {
            let (sandbox, data, plan) = (sandbox.clone(), data.clone(), plan.clone());
            tasks.spawn_blocking(move || functions::deploy(&sandbox, &data, PAYLOAD, &plan));
        }
        let Some(done) = tasks.join_next().await else {
            break;
        };
        match done? {
            Ok(function) => drop(deployed.insert(function.plan.name.clone(), Arc::new(function))),
            Err(error) => errors.push(error.into()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(deployed)
}

/// What is usable, or why it is not among the errors.
fn usable<T, E: Into<anyhow::Error>>(
    made: Result<T, Vec<E>>,
    errors: &mut Vec<anyhow::Error>,
) -> Option<T> {
    made.map_err(|all| errors.extend(all.into_iter().map(E::into)))
        .ok()
}

/// The queues and topics that triggers listen to, each once.
fn brokers(plan: &Plan, errors: &mut Vec<anyhow::Error>) -> Vec<Source> {
    let mut sources = BTreeMap::new();
    for trigger in plan.triggers.values() {
        let Some((name, _)) = listening(trigger).filter(|(name, _)| !sources.contains_key(name))
        else {
            continue;
        };
        let source = match &trigger.source {
            SourcePlan::Amqp(source) => AmqpConnector::new(plan, source)
                .map(|broker| Source::amqp(broker, None))
                .map_err(anyhow::Error::from),
            SourcePlan::Kafka(source) => KafkaConnector::new(plan, source)
                .map(|broker| Source::kafka(broker, None))
                .map_err(anyhow::Error::from),
            _ => continue,
        };
        match source {
            Ok(source) => drop(sources.insert(name, source)),
            Err(error) => errors.push(error),
        }
    }
    sources.into_values().collect()
}

/// The schedules, which share one beat.
fn schedules(plan: &Plan) -> impl Iterator<Item = Source> {
    let beat = Beat::default();
    plan.triggers.values().filter_map(move |trigger| {
        let SourcePlan::Schedule(schedule) = &trigger.source else {
            return None;
        };
        let connector = ScheduleConnector::new(&trigger.name, schedule.clone(), &beat);
        Some(Source::schedule(connector))
    })
}

/// The source of the HTTP triggers and of notifications that are posted, with its address taken; none
/// without either.
async fn http_source(plan: &Plan, notices: Vec<http::Route>) -> anyhow::Result<Option<Source>> {
    let mut routes = http::Route::of(plan);
    routes.extend(notices);
    if routes.is_empty() {
        return Ok(None);
    }
    let connector = HttpConnector::new(plan.engine.http, routes)?;
    let health = connector.health();
    let bound = connector.bind().await?;
    Ok(Some(Source::http(bound, health, plan.engine.drain)))
}

/// Names what the journal holds for triggers that the plan does not have.
async fn warn_of_strays(dispatcher: &Dispatcher) -> anyhow::Result<()> {
    let pending = dispatcher.journal().pending_triggers().await;
    let known = dispatcher.queue_names();
    for (trigger, count) in pending.context("cannot read the journal")? {
        if !known.contains(trigger.as_str()) {
            tracing::warn!(
                trigger,
                count,
                "the journal holds deliveries of a trigger that is not in the file: they wait \
                 until it is back"
            );
        }
    }
    Ok(())
}
