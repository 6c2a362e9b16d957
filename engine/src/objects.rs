//! The buckets of a plan, as handlers reach them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemill_connectors::bucket::{Bucket, Error};
use tidemill_core::{
    host::{ByteRange, HostError},
    ledger::Object,
};

/// The opened buckets, by name.
#[derive(Default)]
pub struct Objects {
    buckets: BTreeMap<String, Bucket>,
    /// Those that are watched and written to, and do not keep the hop count with their objects.
    feedback: BTreeSet<String>,
}

impl Objects {
    /// The buckets, and the names of those whose objects may be the engine's own and become events,
    /// and do not tell their hops.
    pub fn new(buckets: BTreeMap<String, Bucket>, feedback: BTreeSet<String>) -> Objects {
        Objects { buckets, feedback }
    }

    /// Whether what the engine writes there becomes an event, whose hops the engine has to know.
    pub fn feeds_back(&self, bucket: &str) -> bool {
        self.feedback.contains(bucket)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.values()
    }

    fn bucket(&self, name: &str) -> Result<&Bucket, HostError> {
        self.buckets.get(name).ok_or(HostError::NotFound)
    }

    /// Describes an object.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Object, HostError> {
        Ok(self.bucket(bucket)?.head(key).await?)
    }

    /// Reads an object of at most `limit` bytes, or a range of it; with `etag`, only that version.
    pub async fn read(
        &self,
        bucket: &str,
        key: &str,
        range: Option<ByteRange>,
        etag: Option<&str>,
        limit: u64,
    ) -> Result<Bytes, HostError> {
        Ok(self.bucket(bucket)?.read(key, etag, range, limit).await?)
    }

    /// At most `limit` objects, in the order of their keys.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, HostError> {
        Ok(self.bucket(bucket)?.list(prefix, after, limit).await?)
    }

    /// Whether the bucket can have an object of this key.
    pub fn check_key(&self, bucket: &str, key: &str) -> Result<(), HostError> {
        Ok(self.bucket(bucket)?.check_key(key)?)
    }

    /// Writes an object that will cause an event of so many hops, and returns its etag.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        content: Bytes,
        hops: u32,
    ) -> Result<String, Error> {
        self.known(bucket, key)?.put(key, content, hops).await
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), Error> {
        match self.known(bucket, key)?.delete(key, None).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn known(&self, bucket: &str, key: &str) -> Result<&Bucket, Error> {
        let missing = || Error::NotFound {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        };
        self.buckets.get(bucket).ok_or_else(missing)
    }
}
