//! What can go wrong with one object, in words that name the bucket and the key, and how the
//! store's errors are sorted into it. Nothing here decides what follows.

use std::{error::Error as StdError, io, path::PathBuf};

use tidemill_core::host::HostError;

use super::{folder::Folder, guard::Trouble, key::Refusal};

/// An operation on an object of a bucket failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("bucket `{bucket}` has no object `{key}`")]
    NotFound {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// The object is no longer the version that was asked for.
    #[error("object `{key}` of bucket `{bucket}` is no longer the one that was meant")]
    Changed {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// The operating system forbids it.
    #[error(
        "the operating system forbids to {action} object `{key}` of bucket `{bucket}`; give the engine's user access to {}", .file.display()
    )]
    Denied {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
        /// What was tried, such as "read".
        action: &'static str,
        /// The object's file.
        file: PathBuf,
    },
    /// No object of a bucket can have this key, or its path leads out of the bucket.
    #[error("bucket `{bucket}` refuses the key {key:?}: {why}")]
    Refused {
        /// The bucket's name in the plan.
        bucket: String,
        /// The key.
        key: String,
        /// Why.
        why: Refusal,
    },
    /// More bytes were asked for than allowed.
    #[error("object `{key}` of bucket `{bucket}`: {size} bytes are more than the {limit} allowed")]
    TooLarge {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
        /// Bytes asked for.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The folder of the bucket is not there.
    #[error("the folder of bucket `{bucket}` is missing: {}", .root.display())]
    FolderMissing {
        /// The bucket's name in the plan.
        bucket: String,
        /// The folder.
        root: PathBuf,
    },
    /// The object store does not let this engine in, or not to this object.
    #[error(
        "the store forbids to {action} object `{key}` of bucket `{bucket}` ({why}); see to its credentials in [buckets.{bucket}.options], and what they may do"
    )]
    Forbidden {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
        /// What was tried, such as "read".
        action: &'static str,
        /// The store's own words.
        why: String,
    },
    /// The objects of an object store cannot be listed.
    #[error("cannot list bucket `{bucket}` at {place}: {why}")]
    Unlisted {
        /// The bucket's name in the plan.
        bucket: String,
        /// Where it is.
        place: String,
        /// The store's own words, and what to do.
        why: String,
    },
    /// The store failed.
    #[error("cannot {action} object `{key}` of bucket `{bucket}`")]
    Failed {
        /// The bucket's name in the plan.
        bucket: String,
        /// The object's key.
        key: String,
        /// What was tried, such as "read".
        action: &'static str,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Error {
    /// The message with the messages of its causes: for places that keep a text only.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let error_text = error.to_string();
            // object_store's errors print their source themselves.
            if !text.contains(&error_text) {
                text.push_str(": ");
                text.push_str(&error_text);
            }
            cause = error.source();
        }
        text
    }
}

impl From<Error> for HostError {
    fn from(error: Error) -> HostError {
        match &error {
            Error::NotFound { .. } => HostError::NotFound,
            Error::Changed { .. } => HostError::Changed,
            Error::Denied { .. } | Error::Refused { .. } => HostError::Denied(error.to_string()),
            Error::TooLarge { .. } => HostError::TooLarge(error.to_string()),
            Error::FolderMissing { .. }
            | Error::Forbidden { .. }
            | Error::Unlisted { .. }
            | Error::Failed { .. } => HostError::Failed(error.chain()),
        }
    }
}

/// Errors of this folder.
impl Folder {
    pub(super) fn not_found(&self, key: &str) -> Error {
        let (bucket, key) = (self.name().to_owned(), key.to_owned());
        Error::NotFound { bucket, key }
    }

    pub(super) fn changed(&self, key: &str) -> Error {
        let (bucket, key) = (self.name().to_owned(), key.to_owned());
        Error::Changed { bucket, key }
    }

    pub(super) fn refused(&self, key: &str, why: Refusal) -> Error {
        let (bucket, key) = (self.name().to_owned(), key.to_owned());
        Error::Refused { bucket, key, why }
    }

    pub(super) fn folder_missing(&self) -> Error {
        let (bucket, root) = (self.name().to_owned(), self.root().to_owned());
        Error::FolderMissing { bucket, root }
    }

    pub(super) fn failed_write(&self, key: &str, error: object_store::Error) -> Error {
        match io_kind(&error) {
            Some(io::ErrorKind::NotADirectory) => self.refused(key, Refusal::BelowAFile),
            _ => self.failed(key, "write", error),
        }
    }

    pub(super) fn troubled(&self, key: &str, action: &'static str, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Refused(why) => self.refused(key, why),
            Trouble::RootMissing => self.folder_missing(),
            Trouble::Io(error) => self.failed_io(key, action, error),
        }
    }

    pub(super) fn failed_io(&self, key: &str, action: &'static str, e: io::Error) -> Error {
        let source = Box::new(e);
        self.failed(
            key,
            action,
            object_store::Error::Generic {
                store: "file",
                source,
            },
        )
    }

    pub(super) fn failed(
        &self,
        key: &str,
        action: &'static str,
        error: object_store::Error,
    ) -> Error {
        let kind = io_kind(&error);
        match error {
            object_store::Error::NotFound { .. } => self.not_found(key),
            object_store::Error::Precondition { .. } => self.changed(key),
            _ if kind == Some(io::ErrorKind::NotADirectory) => self.not_found(key),
            _ if kind == Some(io::ErrorKind::PermissionDenied) => Error::Denied {
                bucket: self.name().to_owned(),
                key: key.to_owned(),
                action,
                file: self.root().join(key),
            },
            error => Error::Failed {
                bucket: self.name().to_owned(),
                key: key.to_owned(),
                action,
                source: error.into(),
            },
        }
    }
}

/// The operating system's error behind an error of the store.
fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}
