//! The one place that reads the plan: which buckets to open, which of them are watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tidemill_config::plan::{
    After, BucketPlan, BucketSource, DestinationPlan, Notify, Plan, SourcePlan, Store,
};

use super::{Bucket, OpenError, RemoteSettings};

/// A bucket of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Where its objects are.
    pub place: Place,
    /// A function, an `after`, an `on_success` or a `dead_letter` of the plan may write to it.
    pub needs_write: bool,
    /// How long after a scan the next one begins; absent if no trigger listens to the bucket.
    pub rescan: Option<Duration>,
    /// Whether what is there when it is listened to for the first time is no news.
    pub only_new: bool,
    /// How the store tells of changes itself; absent, it does not.
    pub notify: Option<Notify>,
}

/// Where the objects of a bucket are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// In an object store.
    Remote(Box<RemoteSettings>),
}

impl Settings {
    /// The plan's buckets, by name.
    pub fn of(plan: &Plan) -> Vec<Settings> {
        let mut written: BTreeSet<&str> = BTreeSet::new();
        for function in plan.functions.values() {
            written.extend(function.allow.write.iter().map(String::as_str));
        }
        let mut sources: BTreeMap<&str, &BucketSource> = BTreeMap::new();
        for trigger in plan.triggers.values() {
            for destination in [&trigger.on_success, &trigger.dead_letter] {
                if let Some(DestinationPlan::Bucket { bucket, .. }) = destination {
                    written.insert(bucket);
                }
            }
            let SourcePlan::Bucket(source) = &trigger.source else {
                continue;
            };
            sources.insert(&source.bucket, source);
            match &source.after {
                After::Keep => {}
                After::Delete => {
                    written.insert(&source.bucket);
                }
                After::Move { bucket, .. } => written.extend([&*source.bucket, bucket]),
            }
        }
        let settings = |(name, bucket): (&String, &Arc<BucketPlan>)| Settings {
            name: name.clone(),
            place: match &bucket.store {
                Store::File { root } => Place::Folder(root.clone()),
                Store::Remote {
                    provider,
                    bucket: there,
                    prefix,
                } => Place::Remote(Box::new(RemoteSettings {
                    provider: *provider,
                    bucket: there.clone(),
                    prefix: prefix.clone(),
                    options: bucket.options.clone(),
                })),
            },
            needs_write: written.contains(name.as_str()),
            rescan: sources.get(name.as_str()).map(|source| source.rescan),
            only_new: sources
                .get(name.as_str())
                .is_some_and(|source| source.only_new),
            notify: sources
                .get(name.as_str())
                .and_then(|source| source.notify.clone()),
        };
        plan.buckets.iter().map(settings).collect()
    }

    /// Opens the bucket. Blocks shortly.
    pub fn open(&self) -> Result<Bucket, OpenError> {
        match &self.place {
            Place::Folder(root) => Bucket::open(&self.name, root, self.needs_write),
            Place::Remote(remote) => remote.open(&self.name).map(Bucket::over),
        }
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
            bucket = { name = "in", after = { move = { bucket = "done", prefix = "x/" } }, rescan = "90s", start = "now" }
        "#;
        let loaded = tidemill_config::parse(Path::new("/plan/tidemill.toml"), text).unwrap();
        let settings = |name: &str, needs_write, rescan: Option<u64>| Settings {
            name: name.into(),
            place: Place::Folder(Path::new("/plan").join(name)),
            needs_write,
            rescan: rescan.map(Duration::from_secs),
            only_new: rescan.is_some(),
            notify: None,
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
