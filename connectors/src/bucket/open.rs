//! Opening a bucket: what a user can have got wrong about it, found before anything runs. Creates nothing but a probe file that is removed at once.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use tidemill_config::reference::ReferenceError;

use super::ProfileError;

/// A bucket cannot be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there.
    #[error(
        "bucket `{bucket}`: the folder {} does not exist; create it with `mkdir -p {}`", .root.display(), shell(.root)
    )]
    Absent {
        /// The bucket's name in the plan.
        bucket: String,
        /// The folder.
        root: PathBuf,
    },
    /// Something else has its name.
    #[error("bucket `{bucket}`: {} is not a folder; name a folder in `url`", .root.display())]
    NotAFolder {
        /// The bucket's name in the plan.
        bucket: String,
        /// The path.
        root: PathBuf,
    },
    /// A symlink that leads out of its parent folder.
    #[error(
        "bucket `{bucket}`: {} is a symlink that leads out of its folder, to {}; write the real folder in `url`: \"file:{}\"", .root.display(), .target.display(), .target.display()
    )]
    LeadsOut {
        /// The bucket's name in the plan.
        bucket: String,
        /// The symlink.
        root: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The engine may not list it.
    #[error(
        "bucket `{bucket}`: the engine's user may not read the folder {}; `ls -ld` shows its owner and mode", .root.display()
    )]
    NotReadable {
        /// The bucket's name in the plan.
        bucket: String,
        /// The folder.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine may not write there, and something in the plan does.
    #[error(
        "bucket `{bucket}`: a function or an `after` of the plan writes to it, but the engine's user may not write to the folder {}", .root.display()
    )]
    NotWritable {
        /// The bucket's name in the plan.
        bucket: String,
        /// The folder.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An option of an object store refers to what is not there.
    #[error("bucket `{bucket}`: `options.{key}` cannot be looked up")]
    Unresolved {
        /// The bucket's name in the plan.
        bucket: String,
        /// The option.
        key: &'static str,
        /// Why.
        source: ReferenceError,
    },
    /// The profile of an object store's keys cannot be used.
    #[error("bucket `{bucket}`: the profile `{profile}` of its object store cannot be used")]
    Profile {
        /// The bucket's name in the plan.
        bucket: String,
        /// The profile.
        profile: String,
        /// Why.
        source: ProfileError,
    },
    /// A setting of its notifications refers to what is not there.
    #[error("bucket `{bucket}`: `notify.{key}` cannot be looked up")]
    NoNotify {
        /// The bucket's name in the plan.
        bucket: String,
        /// The setting.
        key: &'static str,
        /// Why.
        source: ReferenceError,
    },
    /// Its notifications cannot be taken.
    #[error("bucket `{bucket}`: its notifications cannot be taken as the plan has it: {why}")]
    Unnotified {
        /// The bucket's name in the plan.
        bucket: String,
        /// Why.
        why: String,
    },
    /// The options of an object store do not make a client.
    #[error("bucket `{bucket}`: its object store cannot be used as the plan has it: {why}")]
    Unusable {
        /// The bucket's name in the plan.
        bucket: String,
        /// Why.
        why: String,
    },
    /// The system has no certificates of authorities.
    #[error(
        "bucket `{0}` is on an https server, but the system has no certificates to tell it by; install the package ca-certificates, or name a file with SSL_CERT_FILE"
    )]
    NoAuthorities(String),
    /// Anything else.
    #[error("bucket `{bucket}`: the folder {} cannot be opened", .root.display())]
    Failed {
        /// The bucket's name in the plan.
        bucket: String,
        /// The folder.
        root: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A path for a command line that is to be copied.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Checks the folder and returns its real path.
pub(super) fn check(bucket: &str, root: &Path, needs_write: bool) -> Result<PathBuf, OpenError> {
    let named = || (bucket.to_owned(), root.to_owned());
    let failed = |source: io::Error| {
        let (bucket, root) = named();
        match source.kind() {
            io::ErrorKind::NotFound => OpenError::Absent { bucket, root },
            io::ErrorKind::NotADirectory => OpenError::NotAFolder { bucket, root },
            io::ErrorKind::PermissionDenied => OpenError::NotReadable {
                bucket,
                root,
                source,
            },
            _ => OpenError::Failed {
                bucket,
                root,
                source: source.into(),
            },
        }
    };
    let real = root.canonicalize().map_err(failed)?;
    if root.symlink_metadata().map_err(failed)?.is_symlink() {
        let parent = root.parent().unwrap_or(root);
        if !real.starts_with(parent.canonicalize().map_err(failed)?) {
            let (bucket, root) = named();
            return Err(OpenError::LeadsOut {
                bucket,
                root,
                target: real,
            });
        }
    }
    if !real.metadata().map_err(failed)?.is_dir() {
        let (bucket, root) = named();
        return Err(OpenError::NotAFolder { bucket, root });
    }
    if let Some(first) = fs::read_dir(&real).map_err(failed)?.next() {
        first.map_err(failed)?;
    }
    if needs_write {
        probe(&real).map_err(|source| {
            let (bucket, root) = named();
            OpenError::NotWritable {
                bucket,
                root,
                source,
            }
        })?;
    }
    Ok(real)
}

/// Makes a file and removes it: the one test that also knows of read-only mounts and full disks.
/// Its name is that of an unfinished write, so that no watcher takes it for an object.
fn probe(folder: &Path) -> io::Result<()> {
    let file = folder.join(format!("tidemill-probe-{}#0", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&file)?;
    fs::remove_file(&file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn says_what_is_wrong_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, other) = (dir.path(), tempfile::tempdir().unwrap());
        let said = |name: &str| {
            let error = check("uploads", &dir.join(name), true).unwrap_err();
            error.to_string().replace(dir.to_str().unwrap(), "DIR")
        };
        assert_eq!(
            said("new folder"),
            "bucket `uploads`: the folder DIR/new folder does not exist; \
             create it with `mkdir -p 'DIR/new folder'`"
        );
        fs::write(dir.join("file"), "").unwrap();
        assert_eq!(
            said("file"),
            "bucket `uploads`: DIR/file is not a folder; name a folder in `url`"
        );
        assert!(said("file/x").contains("is not a folder"));
        symlink(other.path(), dir.join("out")).unwrap();
        let real = other.path().canonicalize().unwrap();
        assert_eq!(
            said("out"),
            format!(
                "bucket `uploads`: DIR/out is a symlink that leads out of its folder, to {0}; \
                 write the real folder in `url`: \"file:{0}\"",
                real.display()
            )
        );
    }

    #[test]
    fn a_symlink_to_a_neighbour_is_fine_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        let opened = check("uploads", &dir.path().join("link"), true).unwrap();
        assert_eq!(opened, real.canonicalize().unwrap());
        assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    }
}
