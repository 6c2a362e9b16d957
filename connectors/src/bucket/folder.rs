//! A folder whose files are objects: describing, reading, writing and deleting them, over
//! object_store. Every key passes the guard first. Nothing here knows of events.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use object_store::{
    GetOptions, GetResult, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt,
    local::LocalFileSystem, path::Path as StorePath,
};
use tidemill_core::{host::ByteRange, ledger::Object};

use super::{
    error::Error,
    guard::{self, Place},
    key::{self, Refusal},
    list, open,
    open::OpenError,
    store::{self, Look},
};

/// How often a read without a condition starts anew when the object changes under it.
const READS: u32 = 3;

/// The opened folder of a bucket. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    /// Absolute and free of symlinks.
    root: PathBuf,
    store: LocalFileSystem,
    /// The file system that the folder was on when it was last accepted.
    device: AtomicU64,
}

impl Folder {
    /// Opens the bucket whose objects are the files below `root`. Blocks shortly.
    pub(super) fn open(name: &str, root: &Path, needs_write: bool) -> Result<Folder, OpenError> {
        let failed = |source| OpenError::Failed {
            bucket: name.to_owned(),
            root: root.to_owned(),
            source,
        };
        let real = open::check(name, root, needs_write)?;
        let device = real.metadata().map_err(|e| failed(e.into()))?.dev();
        let store = LocalFileSystem::new_with_prefix(&real)
            .map_err(|e| failed(e.into()))?
            // A commit follows that counts on the object.
            .with_fsync(true);
        Ok(Folder(Arc::new(Inner {
            name: name.to_owned(),
            root: real,
            store,
            device: device.into(),
        })))
    }

    /// Its name in the plan.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Its folder, free of symlinks.
    pub(super) fn root(&self) -> &Path {
        &self.0.root
    }

    /// Whether an object of this bucket can have this key, as far as the key itself tells.
    pub(super) fn check_key(&self, key: &str) -> Result<(), Error> {
        self.locate(key).map(drop)
    }

    /// What is at a key. `Absent` only if the bucket's folder is there.
    ///
    /// Opens the file, as the store does to describe an object, so that what cannot be read is not
    /// described either; but in one step with the guard, because every event costs a look.
    pub(super) async fn look(&self, key: &str) -> Result<Look, Error> {
        let (_, file) = self.locate(key)?;
        let (bucket, key) = (self.clone(), key.to_owned());
        let look = move || match guard::place(bucket.root(), &file) {
            Ok(Place::Folder) => Ok(Look::Folder),
            Ok(Place::Absent) => bucket.absent(),
            Ok(Place::File) => match fs::File::open(&file).and_then(|f| Ok((f.metadata()?, f))) {
                Ok((_, open)) if !guard::opened_inside(bucket.root(), &open) => {
                    Err(bucket.refused(&key, Refusal::LeadsOut(file)))
                }
                Ok((found, _)) => Ok(Look::Object(key::object(key, &found), 0)),
                Err(error) if guard::absent(&error) => bucket.absent(),
                Err(error) => Err(bucket.failed_io(&key, "read", error)),
            },
            Err(trouble) => Err(bucket.troubled(&key, "read", trouble)),
        };
        self.blocking(look).await
    }

    fn absent(&self) -> Result<Look, Error> {
        match self.identity_now() {
            Some(_) => Ok(Look::Absent),
            None => Err(self.folder_missing()),
        }
    }

    /// Reads an object, or a range of it, of at most `limit` bytes. With `if_match`, only if the
    /// object has this etag before and after.
    pub(super) async fn read(
        &self,
        key: &str,
        if_match: Option<&str>,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Bytes, Error> {
        for _ in 0..READS {
            let (path, place) = self.pass(key, "read").await?;
            if place != Place::File {
                return Err(self.not_found(key));
            }
            let options = GetOptions {
                if_match: if_match.map(key::quoted),
                ..GetOptions::default()
            };
            let got = self.0.store.get_opts(&path, options).await;
            let mut got = got.map_err(|e| self.failed(key, "read", e))?;
            self.check_opened(key, &got)?;
            let (size, etag) = (got.meta.size, got.meta.e_tag.as_deref().map(key::plain));
            got.range = match range {
                None => 0..size,
                Some(r) => r.offset.min(size)..r.offset.saturating_add(r.length).min(size),
            };
            let wanted = got.range.end - got.range.start;
            if wanted > limit {
                return Err(Error::TooLarge {
                    bucket: self.0.name.clone(),
                    key: key.to_owned(),
                    size: wanted,
                    limit,
                });
            }
            // A writer may have been at work in the open file: what was read is one version only
            // if the version is the same afterwards.
            let bytes = if wanted == 0 {
                Ok(Bytes::new())
            } else {
                got.bytes().await
            };
            let after = self.look(key).await;
            let same =
                matches!(&after, Ok(Look::Object(after, _)) if Some(&after.etag) == etag.as_ref());
            match bytes {
                Ok(bytes) if same => return Ok(bytes),
                Err(error) if same => return Err(self.failed(key, "read", error)),
                _ if if_match.is_some() => break,
                _ => {}
            }
        }
        Err(self.changed(key))
    }

    fn check_opened(&self, key: &str, got: &GetResult) -> Result<(), Error> {
        match &got.payload {
            GetResultPayload::File(file, path) if !guard::opened_inside(&self.0.root, file) => {
                Err(self.refused(key, Refusal::LeadsOut(path.clone())))
            }
            _ => Ok(()),
        }
    }

    /// Writes an object, durably and all at once, and returns its etag.
    pub(super) async fn put(&self, key: &str, content: Bytes) -> Result<String, Error> {
        let path = self.pass_to_write(key).await?;
        let put = self.0.store.put(&path, content.into()).await;
        let put = put.map_err(|e| self.failed_write(key, e))?;
        Ok(store::etag(put))
    }

    /// Begins to write an object in parts; it is there at once when they are complete.
    pub(super) async fn upload(&self, key: &str) -> Result<Box<dyn MultipartUpload>, Error> {
        let path = self.pass_to_write(key).await?;
        let upload = self.0.store.put_multipart(&path).await;
        upload.map_err(|e| self.failed_write(key, e))
    }

    /// Deletes an object; with `if_match`, only if it has this etag. Returns whether there was one.
    pub(super) async fn delete(&self, key: &str, if_match: Option<&str>) -> Result<bool, Error> {
        let path = match self.pass(key, "delete").await? {
            (path, Place::File) => path,
            (_, Place::Folder | Place::Absent) => return Ok(false),
        };
        if let Some(etag) = if_match {
            match self.look(key).await? {
                Look::Object(object, _) if object.etag == etag => {}
                Look::Object(..) => return Err(self.changed(key)),
                Look::Folder | Look::Absent => return Ok(false),
            }
        }
        match self.0.store.delete(&path).await {
            Ok(()) => Ok(true),
            Err(error) => match self.failed(key, "delete", error) {
                Error::NotFound { .. } => Ok(false),
                error => Err(error),
            },
        }
    }

    /// At most `limit` objects whose keys start with `prefix` and sort after `after`, in the order
    /// of the bytes of their keys. Needs one walk over the folders in question and memory for the
    /// answer only.
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>, Error> {
        let (bucket, prefix) = (self.clone(), prefix.to_owned());
        let after = after.map(str::to_owned);
        self.blocking(move || list::list(&bucket, &prefix, after.as_deref(), limit))
            .await
    }

    /// Who the folder is: its device and inode. Absent, the folder is missing, or what is there is
    /// an empty folder on another file system: the mount point of one that was unmounted.
    pub(super) async fn identity(&self) -> Option<(u64, u64)> {
        let bucket = self.clone();
        self.blocking(move || bucket.identity_now()).await
    }

    fn identity_now(&self) -> Option<(u64, u64)> {
        let found = fs::symlink_metadata(self.root()).ok()?;
        if !found.is_dir() {
            return None;
        }
        if found.dev() != self.0.device.load(Ordering::Relaxed) {
            fs::read_dir(self.root()).ok()?.next()?.ok()?;
            self.0.device.store(found.dev(), Ordering::Relaxed);
        }
        Some((found.dev(), found.ino()))
    }

    /// Lets a key pass, or not, and tells what is there.
    async fn pass(&self, key: &str, action: &'static str) -> Result<(StorePath, Place), Error> {
        let (path, file) = self.locate(key)?;
        let root = self.0.root.clone();
        let place = {
            let file = file.clone();
            self.blocking(move || guard::place(&root, &file)).await
        };
        place
            .map(|place| (path, place))
            .map_err(|trouble| self.troubled(key, action, trouble))
    }

    pub(super) async fn pass_to_write(&self, key: &str) -> Result<StorePath, Error> {
        // The store would make the folder anew, under the mount point of a missing disk.
        if self.identity().await.is_none() {
            return Err(self.folder_missing());
        }
        match self.pass(key, "write").await? {
            (_, Place::Folder) => Err(self.refused(key, Refusal::Folder)),
            (path, _) => Ok(path),
        }
    }

    pub(super) fn locate(&self, key: &str) -> Result<(StorePath, PathBuf), Error> {
        key::locate(&self.0.store, &self.0.root, key).map_err(|why| self.refused(key, why))
    }

    pub(super) fn store(&self) -> &LocalFileSystem {
        &self.0.store
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
