//! How the buckets are that triggers listen to: what their ledgers hold, and what a running engine
//! says of how it finds objects. One shape for the admin API and `--json`.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tidemill_config::plan::{Plan, SourcePlan};
use tidemill_connectors::bucket::Status;
use tidemill_journal::{Journal, JournalError};

/// A bucket that triggers listen to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BucketView {
    /// Its name in the plan.
    pub bucket: String,
    /// Objects that its ledger believes to exist.
    pub objects: u64,
    /// Keys that went, and are remembered still.
    pub gone: u64,
    /// Whether it was listed to the end ever.
    pub complete: bool,
    /// Deliveries of its triggers that wait or run.
    pub pending: u64,
    /// What the running engine says of it; absent, none runs.
    pub source: Option<BucketSourceView>,
}

/// How a running engine finds a bucket's objects. Counts are since it started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BucketSourceView {
    /// The bucket.
    pub bucket: String,
    /// How it is, in words.
    pub state: String,
    /// Whether the first listing is done.
    pub ready: bool,
    /// When the last listing ended, RFC 3339; absent, none has.
    pub listed: Option<String>,
    /// How long it took.
    pub took_ms: u64,
    /// What it found, or what the one under way found so far.
    pub found: u64,
    /// Objects that a notification told of first.
    pub by_notification: u64,
    /// Objects that a listing came upon first; those of the first listing are among them.
    pub by_listing: u64,
    /// Those of them that there was to be a notification of.
    pub missed: u64,
    /// How late objects were noticed after they were written, the first listing left out.
    pub lag_ms: Option<LagView>,
    /// Offers that wait for the journal.
    pub waiting: u64,
}

/// A lag.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LagView {
    /// Of half of them, not more; rounded up by a fifth at most.
    pub median: u64,
    /// Of all.
    pub max: u64,
}

impl BucketSourceView {
    /// Of a bucket's source.
    pub fn new(bucket: &str, state: String, status: &Status) -> BucketSourceView {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let noticed = &status.noticed;
        BucketSourceView {
            bucket: bucket.to_owned(),
            state,
            ready: status.ready,
            listed: status.last_scan.map(|at| at.to_string()),
            took_ms: millis(status.took),
            found: status.objects,
            by_notification: noticed.by_notification,
            by_listing: noticed.by_listing,
            missed: noticed.missed,
            lag_ms: noticed.lag.map(|lag| LagView {
                median: millis(lag.median),
                max: millis(lag.max),
            }),
            waiting: status.waiting,
        }
    }
}

/// What the journal knows of the buckets that the plan's triggers listen to, by name.
pub async fn of_the_journal(
    plan: &Plan,
    journal: &dyn Journal,
) -> Result<Vec<BucketView>, JournalError> {
    let mut triggers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, trigger) in &plan.triggers {
        if let SourcePlan::Bucket(source) = &trigger.source {
            triggers.entry(&source.bucket).or_default().push(name);
        }
    }
    let pending = journal.pending_triggers().await?;
    let mut views = Vec::new();
    for (bucket, triggers) in triggers {
        let count = journal.ledger_count(bucket).await?;
        let state = journal.bucket(bucket).await?;
        let own = pending
            .iter()
            .filter(|(name, _)| triggers.contains(&name.as_str()));
        views.push(BucketView {
            bucket: bucket.to_owned(),
            objects: count.objects,
            gone: count.gone,
            complete: state.is_some_and(|state| state.complete),
            pending: own.map(|(_, count)| count).sum(),
            source: None,
        });
    }
    Ok(views)
}
