//! A bucket of an object store: describing, reading, writing and deleting its objects, over
//! object_store. What it costs is counted by [`calls`]; [`listing`] lists; [`open`] reads the plan.
//! Nothing here knows of events, and nothing lives from one call to the next.

mod calls;
pub(super) mod failure;
mod listing;
mod open;
mod profile;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, GetResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, aws::AwsCredentialProvider,
    path::Path as StorePath,
};
use tidemill_core::{host::ByteRange, ledger::Object, limits, time::Timestamp};

use super::{
    error::Error,
    key::{self, Refusal},
    store::{self, Look},
};

pub use calls::Traffic;
pub use open::RemoteSettings;
pub use profile::ProfileError;

pub(super) use calls::Calls;
pub(super) use listing::Page;

use listing::Lister;

/// Objects larger than this, in bytes, are written in parts of this size. S3 wants 5 MiB at least.
const PART: usize = 8 << 20;

/// The name of the hop count in an object's metadata. Of letters alone: Azure takes no hyphens, and
/// some proxies drop headers with underscores.
const HOPS: &str = "tidemillhops";

/// An opened bucket of an object store. Clones share it.
#[derive(Clone)]
pub(super) struct Remote(Arc<Inner>);

struct Inner {
    name: String,
    /// Where it is, to be shown: `s3://bucket/prefix`.
    place: String,
    /// The bucket's name there.
    there: String,
    /// Before every key; empty, or with a slash at its end.
    prefix: String,
    /// The server and the bucket there: what tells it from other buckets.
    identity: String,
    store: Arc<dyn ObjectStore>,
    lister: Lister,
    traffic: Arc<Traffic>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.0.place).finish()
    }
}

impl Remote {
    /// A bucket over any store, for tests that need no server.
    #[cfg(test)]
    pub(super) fn over(name: &str, store: Arc<dyn ObjectStore>) -> Remote {
        Remote(Arc::new(Inner {
            name: name.to_owned(),
            place: format!("test://{name}/in/"),
            there: name.to_owned(),
            prefix: "in/".to_owned(),
            identity: format!("{name} {:p}", Arc::as_ptr(&store)),
            store,
            lister: Lister::Store,
            traffic: Arc::default(),
        }))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Its name at the store.
    pub(super) fn there(&self) -> &str {
        &self.0.there
    }

    /// The key in this bucket of what has this key in the store, if it is in it.
    pub(super) fn own<'k>(&self, full: &'k str) -> Option<&'k str> {
        full.strip_prefix(self.0.prefix.as_str())
    }

    /// For other services of the same provider, if it is AWS and the bucket is not public: a client
    /// whose requests are counted apart, the region and the credentials.
    pub(super) fn aws(&self) -> Option<(Calls, String, AwsCredentialProvider)> {
        let Lister::S3(s3) = &self.0.lister else {
            return None;
        };
        let credentials = s3.credentials.clone()?;
        Some((s3.calls.apart(), s3.region.clone(), credentials))
    }

    /// What its requests came to so far.
    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.0.traffic
    }

    /// The path of a key in the store. Looks at the text only.
    pub(super) fn locate(&self, key: &str) -> Result<StorePath, Error> {
        let full = format!("{}{key}", self.0.prefix);
        path(key, &full).map_err(|why| {
            let (bucket, key) = (self.0.name.clone(), key.to_owned());
            Error::Refused { bucket, key, why }
        })
    }

    pub(super) async fn look(&self, key: &str) -> Result<Look, Error> {
        let path = self.locate(key)?;
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match self.0.store.get_opts(&path, options).await {
            Ok(found) => {
                let hops = hops(&found.attributes);
                Ok(Look::Object(object(key.to_owned(), &found.meta), hops))
            }
            Err(error) => match self.failed(key, "look at", error) {
                Error::NotFound { .. } => Ok(Look::Absent),
                error => Err(error),
            },
        }
    }

    pub(super) async fn read(
        &self,
        key: &str,
        if_match: Option<&str>,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Bytes, Error> {
        // There is no such range, but there may be no such object either.
        if range.is_some_and(|range| range.length == 0) {
            return self.nothing_of(key, if_match, 0).await;
        }
        let path = self.locate(key)?;
        let options = GetOptions {
            if_match: if_match.map(key::quoted),
            range: range.map(|r| GetRange::Bounded(r.offset..r.offset.saturating_add(r.length))),
            ..GetOptions::default()
        };
        let got: GetResult = match self.0.store.get_opts(&path, options).await {
            Ok(got) => got,
            Err(error) => {
                let error = self.failed(key, "read", error);
                return match (range, &error) {
                    // A range behind the end has no bytes; the store calls it an error.
                    (Some(range), Error::Failed { .. }) => {
                        let nothing = self.nothing_of(key, if_match, range.offset).await;
                        nothing.map_err(|_| error)
                    }
                    _ => Err(error),
                };
            }
        };
        // Some servers do not know the condition, and answer with what is there now.
        let found = got.meta.e_tag.as_deref().map(key::plain);
        if if_match.is_some()
            && found
                .as_deref()
                .is_some_and(|found| Some(found) != if_match)
        {
            return Err(self.changed(key));
        }
        let size = got.range.end - got.range.start;
        if size > limit {
            return Err(Error::TooLarge {
                bucket: self.0.name.clone(),
                key: key.to_owned(),
                size,
                limit,
            });
        }
        got.bytes().await.map_err(|e| self.failed(key, "read", e))
    }

    /// No bytes of an object that is there and no longer than `from`.
    async fn nothing_of(
        &self,
        key: &str,
        if_match: Option<&str>,
        from: u64,
    ) -> Result<Bytes, Error> {
        match self.look(key).await? {
            Look::Object(object, _) if if_match.is_some_and(|etag| etag != object.etag) => {
                Err(self.changed(key))
            }
            Look::Object(object, _) if from == 0 || from >= object.size => Ok(Bytes::new()),
            _ => Err(self.not_found(key)),
        }
    }

    pub(super) async fn put(&self, key: &str, content: Bytes, hops: u32) -> Result<String, Error> {
        let path = self.locate(key)?;
        let failed = |error| self.failed(key, "write", error);
        if content.len() <= PART {
            let options = PutOptions {
                attributes: attributes(hops),
                ..PutOptions::default()
            };
            let put = self.0.store.put_opts(&path, content.into(), options).await;
            return put.map(store::etag).map_err(failed);
        }
        let mut upload = self.upload(key, hops).await?;
        match fill(upload.as_mut(), content).await {
            Ok(put) => Ok(store::etag(put)),
            Err(error) => {
                // Parts that stay behind cost money until a rule of the bucket's owner ends them.
                if let Err(error) = upload.abort().await {
                    tracing::warn!(
                        bucket = self.0.name,
                        key,
                        %error,
                        "an upload in parts could not be aborted"
                    );
                }
                Err(failed(error))
            }
        }
    }

    pub(super) async fn upload(
        &self,
        key: &str,
        hops: u32,
    ) -> Result<Box<dyn MultipartUpload>, Error> {
        let path = self.locate(key)?;
        let options = PutMultipartOptions {
            attributes: attributes(hops),
            ..PutMultipartOptions::default()
        };
        let upload = self.0.store.put_multipart_opts(&path, options).await;
        upload.map_err(|error| self.failed(key, "write", error))
    }

    pub(super) async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<bool, Error> {
        let path = self.locate(key)?;
        match self.look(key).await? {
            Look::Object(object, _) if if_match.is_none_or(|etag| etag == object.etag) => {}
            Look::Object(..) => return Err(self.changed(key)),
            Look::Folder | Look::Absent => return Ok(false),
        }
        match self.0.store.delete(&path).await {
            Ok(()) => Ok(true),
            Err(error) => match self.failed(key, "delete", error) {
                Error::NotFound { .. } => Ok(false),
                error => Err(error),
            },
        }
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error> {
        let mut found = Vec::new();
        let mut after = after.map(str::to_owned);
        while found.len() < limit {
            let page = self
                .page(prefix, after.as_deref(), limit - found.len())
                .await?;
            found.extend(page.objects);
            let (true, Some(last)) = (page.more, page.last) else {
                break;
            };
            after = Some(last);
        }
        found.truncate(limit);
        Ok(found)
    }

    /// One page of the listing: at most `limit` keys that start with `prefix` and sort after `after`.
    pub(super) async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Error> {
        let limit = limit.min(super::tuning::PAGE);
        let own = &self.0.prefix;
        let from = after.map(|after| format!("{own}{after}"));
        let keys = self
            .0
            .lister
            .keys(&self.0.store, &format!("{own}{prefix}"), from, limit)
            .await;
        let keys = keys.map_err(|why| Error::Unlisted {
            bucket: self.0.name.clone(),
            place: self.0.place.clone(),
            why,
        })?;
        keys.into_page(own, after).map_err(|why| Error::Unlisted {
            bucket: self.0.name.clone(),
            place: self.0.place.clone(),
            why,
        })
    }

    pub(super) fn is_same(&self, key: &str, to: &Remote, to_key: &str) -> bool {
        let (from, to) = (&self.0, &to.0);
        from.identity == to.identity
            && format!("{}{key}", from.prefix) == format!("{}{to_key}", to.prefix)
    }

    fn not_found(&self, key: &str) -> Error {
        let (bucket, key) = (self.0.name.clone(), key.to_owned());
        Error::NotFound { bucket, key }
    }

    fn changed(&self, key: &str) -> Error {
        let (bucket, key) = (self.0.name.clone(), key.to_owned());
        Error::Changed { bucket, key }
    }

    pub(super) fn failed(
        &self,
        key: &str,
        action: &'static str,
        error: object_store::Error,
    ) -> Error {
        let (bucket, key) = (self.0.name.clone(), key.to_owned());
        match error {
            object_store::Error::NotFound { .. } => Error::NotFound { bucket, key },
            object_store::Error::Precondition { .. } => Error::Changed { bucket, key },
            object_store::Error::PermissionDenied { source, .. }
            | object_store::Error::Unauthenticated { source, .. } => Error::Forbidden {
                bucket,
                key,
                action,
                why: failure::words(&source.to_string()),
            },
            error => Error::Failed {
                bucket,
                key,
                action,
                source: failure::Failure::of(&error).into(),
            },
        }
    }
}

/// Sends the content in parts, and completes the upload.
async fn fill(
    upload: &mut dyn MultipartUpload,
    mut content: Bytes,
) -> object_store::Result<object_store::PutResult> {
    while !content.is_empty() {
        let part = content.split_to(content.len().min(PART));
        upload.put_part(part.into()).await?;
    }
    upload.complete().await
}

/// The path of a key in the store, which is `full` there.
fn path(key: &str, full: &str) -> Result<StorePath, Refusal> {
    if full.len() > limits::NAME {
        return Err(Refusal::TooLong);
    }
    if key.chars().any(|c| c.is_ascii_control()) {
        return Err(Refusal::Control);
    }
    match StorePath::parse(full) {
        // Parsing forgives a slash at either end, which would give one object two keys.
        Ok(path) if !key.is_empty() && path.as_ref() == full => Ok(path),
        _ => Err(Refusal::NotAPath),
    }
}

/// The object as listings and heads show it alike: heads have whole seconds only.
fn object(key: String, meta: &ObjectMeta) -> Object {
    let seconds = meta.last_modified.timestamp();
    Object {
        key,
        etag: match &meta.e_tag {
            Some(etag) => key::plain(etag),
            None => format!("{seconds:x}-{:x}", meta.size),
        },
        size: meta.size,
        modified: Timestamp(seconds.saturating_mul(1000)),
    }
}

fn attributes(hops: u32) -> Attributes {
    let name = Attribute::Metadata(HOPS.into());
    Attributes::from_iter([(name, hops.to_string())])
}

/// What somebody else wrote there is no count.
fn hops(attributes: &Attributes) -> u32 {
    let value = attributes.get(&Attribute::Metadata(HOPS.into()));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}
