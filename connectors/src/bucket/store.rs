//! A bucket, whatever its objects lie in: the one face of folders and object stores. What differs
//! between the two is in `folder` and `remote`; nothing here knows of events.

use std::path::Path;

use bytes::Bytes;
use object_store::MultipartUpload;
use tidemill_core::{host::ByteRange, ledger::Object};

use super::{
    error::Error,
    folder::Folder,
    key,
    open::OpenError,
    remote::{Remote, Traffic},
};

/// An opened bucket. Clones share it.
#[derive(Clone, Debug)]
pub struct Bucket(At);

#[derive(Clone, Debug)]
enum At {
    Folder(Folder),
    Remote(Remote),
}

/// What a look at a key finds.
#[derive(Debug)]
pub(super) enum Look {
    /// The object, and the hops that the engine which wrote it left in its metadata.
    Object(Object, u32),
    Folder,
    Absent,
}

impl Bucket {
    /// Opens the bucket whose objects are the files below `root`. Blocks shortly.
    pub fn open(name: &str, root: &Path, needs_write: bool) -> Result<Bucket, OpenError> {
        let folder = Folder::open(name, root, needs_write)?;
        Ok(Bucket(At::Folder(folder)))
    }

    pub(super) fn over(remote: Remote) -> Bucket {
        Bucket(At::Remote(remote))
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        match &self.0 {
            At::Folder(folder) => folder.name(),
            At::Remote(remote) => remote.name(),
        }
    }

    /// Whether its objects carry the hop count themselves, so that nobody else has to know it.
    pub fn keeps_hops(&self) -> bool {
        matches!(self.0, At::Remote(_))
    }

    /// What its requests came to, if it is in an object store.
    pub fn traffic(&self) -> Option<&Traffic> {
        self.remote().map(|remote| &**remote.traffic())
    }

    pub(super) fn folder(&self) -> Option<&Folder> {
        match &self.0 {
            At::Folder(folder) => Some(folder),
            At::Remote(_) => None,
        }
    }

    pub(super) fn remote(&self) -> Option<&Remote> {
        match &self.0 {
            At::Folder(_) => None,
            At::Remote(remote) => Some(remote),
        }
    }

    /// Whether an object of this bucket can have this key, as far as the key itself tells.
    pub fn check_key(&self, key: &str) -> Result<(), Error> {
        match &self.0 {
            At::Folder(folder) => folder.check_key(key),
            At::Remote(remote) => remote.locate(key).map(drop),
        }
    }

    /// Describes an object.
    pub async fn head(&self, key: &str) -> Result<Object, Error> {
        match self.look(key).await? {
            Look::Object(object, _) => Ok(object),
            Look::Folder | Look::Absent => Err(self.not_found(key)),
        }
    }

    /// What is at a key. `Absent` only if the bucket itself is there.
    pub(super) async fn look(&self, key: &str) -> Result<Look, Error> {
        match &self.0 {
            At::Folder(folder) => folder.look(key).await,
            At::Remote(remote) => remote.look(key).await,
        }
    }

    /// Reads an object, or a range of it, of at most `limit` bytes. With `if_match`, only if the
    /// object has this etag before and after.
    pub async fn read(
        &self,
        key: &str,
        if_match: Option<&str>,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Bytes, Error> {
        match &self.0 {
            At::Folder(folder) => folder.read(key, if_match, range, limit).await,
            At::Remote(remote) => remote.read(key, if_match, range, limit).await,
        }
    }

    /// Writes an object, durably and all at once, and returns its etag. `hops` is the count of the
    /// event that the object will cause; stores with metadata keep it.
    pub async fn put(&self, key: &str, content: Bytes, hops: u32) -> Result<String, Error> {
        match &self.0 {
            At::Folder(folder) => folder.put(key, content).await,
            At::Remote(remote) => remote.put(key, content, hops).await,
        }
    }

    /// Begins to write an object in parts; it is there at once when they are complete.
    pub(super) async fn upload(
        &self,
        key: &str,
        hops: u32,
    ) -> Result<Box<dyn MultipartUpload>, Error> {
        match &self.0 {
            At::Folder(folder) => folder.upload(key).await,
            At::Remote(remote) => remote.upload(key, hops).await,
        }
    }

    /// Deletes an object; with `if_match`, only if it has this etag. Returns whether there was one.
    pub async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<bool, Error> {
        match &self.0 {
            At::Folder(folder) => folder.delete(key, if_match).await,
            At::Remote(remote) => remote.delete(key, if_match).await,
        }
    }

    /// At most `limit` objects whose keys start with `prefix` and sort after `after`, in the order
    /// of the bytes of their keys. Needs memory for the answer only, and of a folder one walk over
    /// the folders in question.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error> {
        match &self.0 {
            At::Folder(folder) => folder.list(prefix, after, limit).await,
            At::Remote(remote) => remote.list(prefix, after, limit).await,
        }
    }

    /// Whether the two keys are one and the same object.
    pub(super) fn is_same(&self, key: &str, to: &Bucket, to_key: &str) -> bool {
        match (&self.0, &to.0) {
            (At::Folder(from), At::Folder(to)) => from.root().join(key) == to.root().join(to_key),
            (At::Remote(from), At::Remote(to)) => from.is_same(key, to, to_key),
            _ => false,
        }
    }

    pub(super) fn failed_write(&self, key: &str, error: object_store::Error) -> Error {
        match &self.0 {
            At::Folder(folder) => folder.failed_write(key, error),
            At::Remote(remote) => remote.failed(key, "write", error),
        }
    }

    pub(super) fn not_found(&self, key: &str) -> Error {
        let (bucket, key) = (self.name().to_owned(), key.to_owned());
        Error::NotFound { bucket, key }
    }

    pub(super) fn changed(&self, key: &str) -> Error {
        let (bucket, key) = (self.name().to_owned(), key.to_owned());
        Error::Changed { bucket, key }
    }
}

/// The etag of what was written.
pub(super) fn etag(put: object_store::PutResult) -> String {
    key::plain(&put.e_tag.unwrap_or_default())
}
