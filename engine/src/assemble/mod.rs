//! From a plan to parts that work together: the only place that names concrete journals, sandboxes
//! and connectors.
//!
//! A [`Builder`] is made once and builds plan after plan. What a plan shares with the one before is not
//! made again: it is taken over, with all that it has open.

mod triggers;
mod units;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use tidemill_config::plan::{
    ConnectionPlan, DestinationPlan, EnginePlan, FunctionPlan, Plan, SourcePlan, TriggerPlan,
};
use tidemill_connectors::{
    amqp::AmqpDestination,
    bucket::{self, Bucket, BucketDestination},
    http::{self, HttpConnector, HttpDestination},
    kafka::KafkaDestination,
    schedule::Beat,
};
use tidemill_journal::{OpenError, SqliteJournal, SqliteOptions};
use tidemill_sandbox::{Compiler, Entry, Sandbox, Settings};
use tokio_util::sync::CancellationToken;

use crate::{
    destinations::Destinations,
    dispatcher::{Dispatcher, HopMemory, Parts, View},
    functions::{self, Deployed},
    memory,
    metrics::Metrics,
    objects::Objects,
    sources::Source,
};

pub use units::{Key, Unit};

use triggers::triggers;
use units::{Before, brokers, open_buckets, schedules};

/// The most attempts at a time over all functions. Each instance asleep costs about 40 KiB.
const INSTANCES: u32 = 10_000;

/// The largest reply and the largest emitted event, in bytes.
const PAYLOAD: u64 = 6 << 20;

/// How often those without a terminal are told how far the functions are loaded.
const LOADING: Duration = Duration::from_secs(10);

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
    /// What brings events, but for HTTP.
    pub units: Vec<Unit>,
    /// The paths of HTTP triggers, and those where notifications are posted.
    pub routes: Vec<http::Route>,
    /// The journal, to close it at the end.
    pub journal: Arc<SqliteJournal>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What builds the next plan.
    pub builder: Builder,
    /// What the next plan takes over.
    pub built: Built,
}

/// Builds plans. It has what outlives them.
pub struct Builder {
    sandbox: Sandbox,
    data: PathBuf,
    beat: Beat,
    hops: Arc<HopMemory>,
}

/// A plan that is built, and of which nothing runs yet.
pub struct New {
    /// What the dispatcher works by.
    pub view: View,
    /// What brings events, but for HTTP.
    pub units: Vec<Unit>,
    /// The paths of HTTP triggers, and those where notifications are posted.
    pub routes: Vec<http::Route>,
    /// What the next plan takes over.
    pub built: Built,
}

/// What the next plan takes over where it asks for the same.
#[derive(Default)]
pub struct Built {
    functions: BTreeMap<String, Arc<Deployed>>,
    buckets: BTreeMap<String, (bucket::Settings, Bucket)>,
    publishers: Option<(Publishes, Publishers)>,
    units: Vec<(Key, Option<http::Route>)>,
}

/// What publishers depend on in the plan.
#[derive(PartialEq)]
struct Publishes {
    connections: BTreeMap<String, Arc<ConnectionPlan>>,
    /// By trigger: `on_success` and `dead_letter`.
    to: BTreeMap<String, [Option<DestinationPlan>; 2]>,
}

#[derive(Clone)]
struct Publishers {
    amqp: Arc<AmqpDestination>,
    kafka: Arc<KafkaDestination>,
}

/// Everything that keeps a plan from running, so that a person mends it in one go.
#[derive(Debug)]
pub struct StartErrors(Vec<anyhow::Error>);

impl StartErrors {
    /// One error that tells them all.
    pub fn into_error(self) -> anyhow::Error {
        self.keep("the engine from starting")
    }

    /// One error that tells them all, and what they keep from what.
    pub fn keep(self, what: &str) -> anyhow::Error {
        let mut errors = self.0;
        if errors.len() == 1 {
            return errors.remove(0);
        }
        let lines: Vec<String> = errors.iter().map(|e| format!("\n  - {e:#}")).collect();
        let (count, lines) = (errors.len(), lines.concat());
        anyhow!("{count} things keep {what}:{lines}")
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
    compiler: Compiler,
    stop: &CancellationToken,
) -> Result<Assembled, StartErrors> {
    let builder = Builder::new(plan, compiler).await?;
    let New {
        view,
        units,
        routes,
        built,
    } = builder.build(plan, &selection, &Built::default()).await?;
    let journal = Arc::new(open_journal(&plan.engine)?);
    let metrics = Arc::new(Metrics::default());
    let limit = view.journal_limit;
    metrics.journal_limit.set(limit.cast_signed());
    let dispatcher = Dispatcher::new(Parts {
        journal: journal.clone(),
        view,
        hops: builder.hops.clone(),
        metrics: metrics.clone(),
        concurrency: INSTANCES as usize,
        stop: stop.clone(),
    });
    if let Selection::All = selection {
        warn_of_strays(&dispatcher, |_| true).await?;
    }
    Ok(Assembled {
        dispatcher,
        units,
        routes,
        journal,
        metrics,
        builder,
        built,
    })
}

impl Builder {
    /// Where all handlers run.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    async fn new(plan: &Plan, compiler: Compiler) -> Result<Builder, StartErrors> {
        let data = plan.engine.data.clone();
        let settings = Settings {
            instances: INSTANCES,
            memory: plan.engine.memory.unwrap_or_else(memory::budget),
            cache: data.join("compiled"),
            compiler,
        };
        let sandbox = tokio::task::spawn_blocking(move || Sandbox::new(settings)).await??;
        Ok(Builder {
            sandbox,
            data,
            beat: Beat::default(),
            hops: Arc::new(HopMemory::default()),
        })
    }

    /// Builds a plan, and takes over what the one before has that is the same. Nothing of it runs yet, and
    /// nothing of the one before ends.
    pub async fn build(
        &self,
        plan: &Plan,
        selection: &Selection,
        before: &Built,
    ) -> Result<New, StartErrors> {
        let wanted: Vec<Arc<FunctionPlan>> = match selection {
            Selection::All => plan.functions.values().cloned().collect(),
            Selection::Only(name) => with_listeners(plan, name),
        };
        let mut errors = Vec::new();
        let had = Before {
            buckets: &before.buckets,
            units: &before.units,
        };
        let listens = matches!(selection, Selection::All);
        let mut opened = open_buckets(plan, had, listens, &mut errors);
        let mut units = std::mem::take(&mut opened.units);
        if listens {
            units.extend(brokers(plan, had, &mut errors));
            units.extend(schedules(plan, had, &self.beat));
        }
        let http = HttpDestination::new(plan.triggers.values().map(|trigger| &**trigger));
        let http = usable(http, &mut errors);
        let publishers = publishers(plan, before.publishers.as_ref(), &mut errors);
        let functions = self.deploy_all(&wanted, before, &mut errors).await?;
        check_handlers(plan, &functions, &mut errors);
        let (Some(http), Some((publishes, publishers)), true) =
            (http, publishers, errors.is_empty())
        else {
            return Err(StartErrors(errors));
        };

        let mut routes = match listens {
            true => http::Route::of(plan),
            false => Vec::new(),
        };
        routes.extend(units.iter().filter_map(|unit| unit.route.clone()));
        let buckets = opened.buckets.iter();
        let buckets = buckets.map(|(name, (_, bucket))| (name.clone(), bucket.clone()));
        let buckets: BTreeMap<String, Bucket> = buckets.collect();
        let objects = Arc::new(Objects::new(buckets.clone(), opened.feedback));
        let before_write = {
            let (hops, objects) = (self.hops.clone(), objects.clone());
            move |bucket: &str, key: &str, count: u32| {
                if objects.feeds_back(bucket) {
                    hops.announce(bucket, key, count);
                }
            }
        };
        let destination = Destinations {
            buckets: BucketDestination::new(buckets.into_values(), Arc::new(before_write)),
            http,
            amqp: publishers.amqp.clone(),
            kafka: publishers.kafka.clone(),
        };
        let keys = units
            .iter()
            .map(|unit| (unit.key.clone(), unit.route.clone()));
        Ok(New {
            built: Built {
                functions: functions.clone(),
                buckets: opened.buckets,
                publishers: Some((publishes, publishers)),
                units: keys.collect(),
            },
            view: View {
                triggers: triggers(plan, &functions),
                functions,
                objects,
                destination: Arc::new(destination),
                journal_limit: plan.engine.journal_limit,
            },
            units,
            routes,
        })
    }

    /// Deploys the functions, several at a time, with a line of progress for a person.
    async fn deploy_all(
        &self,
        wanted: &[Arc<FunctionPlan>],
        before: &Built,
        errors: &mut Vec<anyhow::Error>,
    ) -> Result<BTreeMap<String, Arc<Deployed>>, StartErrors> {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} functions loaded")?;
        // Of an engine that runs, nobody waits for it.
        let bar = match before.functions.is_empty() {
            true => ProgressBar::new(wanted.len() as u64).with_style(style),
            false => ProgressBar::hidden(),
        };
        let at_a_time = match before.functions.is_empty() {
            true => std::thread::available_parallelism().map_or(1, usize::from),
            // Events go on meanwhile.
            false => 1,
        };
        let mut told = Instant::now();
        let mut waiting = wanted.iter();
        let mut tasks = tokio::task::JoinSet::new();
        let mut deployed = BTreeMap::new();
        loop {
            while tasks.len() < at_a_time
                && let Some(plan) = waiting.next()
            {
                let (sandbox, data, plan) = (self.sandbox.clone(), self.data.clone(), plan.clone());
                let before = before.functions.get(&plan.name).cloned();
                tasks.spawn_blocking(move || {
                    functions::deploy(&sandbox, &data, PAYLOAD, &plan, before.as_deref())
                });
            }
            let Some(done) = tasks.join_next().await else {
                break;
            };
            let function = match done? {
                Ok(function) => function.warm_up().await.map(|()| function),
                Err(error) => Err(error),
            };
            match function {
                Ok(function) => {
                    deployed.insert(function.plan.name.clone(), Arc::new(function));
                }
                Err(error) => errors.push(error.into()),
            }
            bar.inc(1);
            if bar.is_hidden() && told.elapsed() >= LOADING {
                told = Instant::now();
                let (loaded, of) = (bar.position(), wanted.len());
                tracing::info!(loaded, of, "loading functions");
            }
        }
        bar.finish_and_clear();
        Ok(deployed)
    }
}

/// Those that publish to brokers, with their connections if the plan asks for the same as the one before.
fn publishers(
    plan: &Plan,
    before: Option<&(Publishes, Publishers)>,
    errors: &mut Vec<anyhow::Error>,
) -> Option<(Publishes, Publishers)> {
    let to = plan.triggers.iter().map(|(name, trigger)| {
        let to = [trigger.on_success.clone(), trigger.dead_letter.clone()];
        (name.clone(), to)
    });
    let publishes = Publishes {
        connections: plan.connections.clone(),
        to: to.collect(),
    };
    if let Some((known, publishers)) = before
        && *known == publishes
    {
        return Some((publishes, publishers.clone()));
    }
    let amqp = usable(AmqpDestination::new(plan), errors);
    let kafka = usable(KafkaDestination::new(plan), errors);
    let publishers = Publishers {
        amqp: Arc::new(amqp?),
        kafka: Arc::new(kafka?),
    };
    Some((publishes, publishers))
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

/// What is usable, or why it is not among the errors.
fn usable<T, E: Into<anyhow::Error>>(
    made: Result<T, Vec<E>>,
    errors: &mut Vec<anyhow::Error>,
) -> Option<T> {
    made.map_err(|all| errors.extend(all.into_iter().map(E::into)))
        .ok()
}

/// The source of the HTTP triggers and of notifications that are posted, with its address taken, and its
/// paths, to change them.
pub async fn http_source(
    plan: &EnginePlan,
    routes: Vec<http::Route>,
) -> Result<(Source, http::Routes), http::Error> {
    let connector = HttpConnector::new(plan.http, routes)?;
    let (health, routes) = (connector.health(), connector.routes());
    let bound = connector.bind().await?;
    Ok((Source::http(bound, health, plan.drain), routes))
}

/// Names what the journal holds for triggers that the plan does not have, as far as they are `meant`.
pub async fn warn_of_strays(
    dispatcher: &Dispatcher,
    meant: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let pending = dispatcher.journal().pending_triggers().await;
    let known = dispatcher.queue_names();
    for (trigger, count) in pending.context("cannot read the journal")? {
        if !known.contains(&trigger) && meant(&trigger) {
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
