//! The one place that reads the plan: which buckets to open, which of them are watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tidemill_config::plan::{After, BucketPlan, DestinationPlan, Plan, SourcePlan, Store};

use super::{Bucket, OpenError};

/// A bucket of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// A function, an `after`, an `on_success` or a `dead_letter` of the plan may write to it.
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
            for destination in [&trigger.on_success, &trigger.dead_letter] {
                if let Some(DestinationPlan::Bucket { bucket, .. }) = destination {
                    written.insert(bucket);
                }
            }
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
        let settings = |(name, bucket): (&String, &Arc<BucketPlan>)| {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn knows_what_is_watched_and_what_is_written() {
        let text = r#"
            [buckets.in]
            url = "file:./in"
            [buckets.out]
            url = "file:./out"
            [buckets.done]
            url = "file:./done"
            [buckets.read]
            url = "file:./read"
            [functions.f]
            component = "f.wasm"
            allow = { read = ["in", "read"], write = ["out"] }
            [triggers.t]
            function = "f"
            bucket = { name = "in", after = { move = { bucket = "done", prefix = "x/" } }, rescan = "90s" }
        "#;
        let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), text).unwrap();
        let settings = |name: &str, needs_write, rescan: Option<u64>| Settings {
            name: name.into(),
            root: Path::new("/plan").join(name),
            needs_write,
            rescan: rescan.map(Duration::from_secs),
        };
        assert_eq!(
            Settings::of(&loaded.plan),
            [
                settings("done", true, None),
                settings("in", true, Some(90)),
                settings("out", true, None),
                settings("read", false, None),
            ]
        );
    }
}
