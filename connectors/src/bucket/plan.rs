//! The one place that reads the plan: which buckets to open, which of them are watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use tidemill_config::plan::{After, Plan, SourcePlan, Store};

use super::{Bucket, OpenError};

/// A bucket of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// A function or an `after` of the plan may write to it.
    pub needs_write: bool,
    /// How long after a scan the next one begins; absent if no trigger listens to the bucket.
    pub rescan: Option<Duration>,
}

impl Settings {
    /// The plan's buckets of files, by name.
    pub fn of(plan: &Plan) -> Vec<Settings> {
        let mut written: BTreeSet<&str> = BTreeSet::new();
        for function in plan.functions.values() {
            written.extend(function.allow.write.iter().map(String::as_str));
        }
        let mut rescans: BTreeMap<&str, Duration> = BTreeMap::new();
        for trigger in plan.triggers.values() {
            let SourcePlan::Bucket(source) = &trigger.source else {
                continue;
            };
            rescans.insert(&source.bucket, source.rescan);
            match &source.after {
                After::Keep => {}
                After::Delete => {
                    written.insert(&source.bucket);
                }
                After::Move { bucket, .. } => written.extend([&*source.bucket, bucket]),
            }
        }
        let settings = |(name, bucket): (&String, &std::sync::Arc<_>)| {
            let bucket: &tidemill_config::plan::BucketPlan = bucket;
            let Store::File { root } = &bucket.store else {
                return None;
            };
            Some(Settings {
                name: name.clone(),
                root: root.clone(),
                needs_write: written.contains(name.as_str()),
                rescan: rescans.get(name.as_str()).copied(),
            })
        };
        plan.buckets.iter().filter_map(settings).collect()
    }

    /// Opens the bucket. Blocks shortly.
    pub fn open(&self) -> Result<Bucket, OpenError> {
        Bucket::open(&self.name, &self.root, self.needs_write)
    }
}
