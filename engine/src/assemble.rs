//! From a plan to parts that work together: the only place that names concrete journals, sandboxes
//! and connectors.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use tidemill_config::plan::{EnginePlan, FunctionPlan, Plan, SourcePlan, TriggerPlan};
use tidemill_connectors::bucket::{self, AfterHandling, Bucket, BucketConnector, Health, State};
use tidemill_core::{filter::ObjectFilter, ledger};
use tidemill_journal::{OpenError, SqliteJournal, SqliteOptions};
use tidemill_sandbox::{Sandbox, Settings};
use tokio_util::sync::CancellationToken;

use crate::{
    dispatcher::{Dispatcher, HopMemory, Parts, Trigger},
    functions::{self, Deployed},
    metrics::Metrics,
    objects::Objects,
};

/// The most attempts at a time over all functions. Each instance asleep costs about 40 KiB.
const INSTANCES: u32 = 10_000;

/// The largest reply and the largest emitted event, in bytes.
const PAYLOAD: u64 = 6 << 20;

/// Which functions to deploy.
pub enum Selection {
    /// All, with their triggers and sources: to run the engine.
    All,
    /// One, without triggers: to invoke it.
    Only(String),
}

/// The parts, put together. Nothing runs yet.
pub struct Assembled {
    /// The dispatcher.
    pub dispatcher: Arc<Dispatcher>,
    /// What brings events.
    pub connectors: Vec<BucketConnector>,
    /// The journal, to close it at the end.
    pub journal: Arc<SqliteJournal>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How the sources are.
    pub sources: Vec<SourceHealth>,
}

/// How a source is, for `/readyz`.
pub struct SourceHealth {
    bucket: String,
    health: Health,
}

impl SourceHealth {
    fn of(connector: &BucketConnector) -> SourceHealth {
        SourceHealth {
            bucket: connector.bucket().name().to_owned(),
            health: connector.health(),
        }
    }

    /// Its source attribute.
    pub fn source(&self) -> String {
        ledger::source(&self.bucket)
    }

    /// Whether it has seen all that was there when it started, and its folder is there.
    pub fn is_ready(&self) -> bool {
        let status = self.health.status();
        status.ready && status.state != State::FolderMissing
    }

    /// In words.
    pub fn state(&self) -> String {
        match self.health.status().state {
            State::Stopped => "stopped".into(),
            State::FirstScan => "looking through what is there".into(),
            State::Watching => "watching".into(),
            State::RescansOnly(why) => format!("found by scans only: {why}"),
            State::FolderMissing => "its folder is missing".into(),
        }
    }
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
        Selection::Only(name) => plan.functions.get(name).cloned().into_iter().collect(),
    };
    let mut errors = Vec::new();
    let Opened {
        buckets,
        watched,
        feedback,
    } = open_buckets(plan, &mut errors);
    let deployed = deploy_all(plan, &wanted, &mut errors).await?;
    if !errors.is_empty() {
        return Err(StartErrors(errors));
    }
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
        AfterHandling::new(buckets.into_values(), Arc::new(before_write))
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

    let connectors: Vec<BucketConnector> = match selection {
        Selection::All => {
            warn_of_strays(&dispatcher).await?;
            watched
                .into_iter()
                .map(|(b, rescan)| BucketConnector::new(b, rescan))
                .collect()
        }
        Selection::Only(_) => Vec::new(),
    };
    let sources = connectors.iter().map(SourceHealth::of).collect();
    Ok(Assembled {
        dispatcher,
        connectors,
        journal,
        metrics,
        sources,
    })
}

/// The triggers whose functions are deployed.
fn triggers(plan: &Plan, deployed: &BTreeMap<String, Arc<Deployed>>) -> Vec<Trigger> {
    let with_parts = |trigger: &Arc<TriggerPlan>| {
        let SourcePlan::Bucket(source) = &trigger.source else {
            return None;
        };
        Some(Trigger {
            name: trigger.name.clone(),
            source: ledger::source(&source.bucket),
            filter: ObjectFilter {
                created: source.created,
                deleted: source.deleted,
                prefix: source.prefix.clone(),
                suffix: source.suffix.clone(),
            },
            function: deployed.get(&trigger.function)?.clone(),
            retry: trigger.retry,
            after: source.after.clone(),
        })
    };
    plan.triggers.values().filter_map(with_parts).collect()
}

/// The buckets of a plan.
#[derive(Default)]
struct Opened {
    buckets: BTreeMap<String, Bucket>,
    /// Those that triggers listen to, and how long after a scan the next one begins.
    watched: Vec<(Bucket, Duration)>,
    /// Those that triggers listen to and the engine itself writes to.
    feedback: BTreeSet<String>,
}

fn open_buckets(plan: &Plan, errors: &mut Vec<anyhow::Error>) -> Opened {
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
            all.watched.push((bucket.clone(), rescan));
            if settings.needs_write {
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
