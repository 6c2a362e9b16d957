//! Keys and file names: which files are objects, and under which key. A key is the path of the file
//! below the bucket's folder, byte for byte; nothing is escaped. A name that cannot be a key so
//! that a handler could read the object by it is refused, in words, never skipped in silence.
//!
//! There is no magic about names: `.hidden`, `x.tmp` and `x~` are objects like any other. Writers
//! that do not want them seen write elsewhere on the same file system and rename into the bucket.

use std::{
    fs::Metadata,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use object_store::{local::LocalFileSystem, path::Path as StorePath};
use tidemill_core::{ledger::Object, limits, time::Timestamp};

/// Why a name is not a key, or a file not an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Parts of the key are empty, `.` or `..`.
    #[error("a key is a path of names joined by single slashes, without `.` and `..`")]
    NotAPath,
    /// Longer than [`limits::NAME`] bytes, or than the file system allows.
    #[error(
        "it is longer than a key may be ({} bytes, or what the file system allows)",
        limits::NAME
    )]
    TooLong,
    /// The file's name is not UTF-8.
    #[error("the name is not UTF-8; rename the file")]
    NotUtf8,
    /// The name contains an ASCII control character.
    #[error("the name contains a control character; rename the file")]
    Control,
    /// Names that end in `#` and digits are those of unfinished writes.
    #[error(
        "names that end in `#` and digits are kept for writes in progress; rename the file, or delete it if an interrupted write left it"
    )]
    Staged,
    /// The store would open another file.
    #[error("the store cannot open a file whose name ends like a drive letter; rename the file")]
    Unaddressable,
    /// A symlink on the way leads out of the bucket's folder.
    #[error("a symlink leads out of the bucket, to {}", .0.display())]
    LeadsOut(PathBuf),
    /// A symlink on the way has no target, or leads to itself.
    #[error("a symlink leads nowhere")]
    LeadsNowhere,
    /// A symlink to a folder; the files in it have keys of their own already.
    #[error("a symlink to a folder is not entered; its files are objects where they really are")]
    LinkToFolder,
    /// A folder.
    #[error("it is a folder")]
    Folder,
    /// A part of the path is a file.
    #[error("a part of its path is a file, not a folder")]
    BelowAFile,
    /// A pipe, socket or device.
    #[error("it is not a regular file")]
    Special,
    /// The engine's user may not read it.
    #[error("the engine's user may not read it; `ls -l` shows its owner and mode")]
    Unreadable,
}

/// The path of a key in the store and its file. Looks at the text only, not at the disk.
pub(super) fn locate(
    store: &LocalFileSystem,
    root: &Path,
    key: &str,
) -> Result<(StorePath, PathBuf), Refusal> {
    if key.len() > limits::NAME {
        return Err(Refusal::TooLong);
    }
    if key.chars().any(|c| c.is_ascii_control()) {
        return Err(Refusal::Control);
    }
    let path = StorePath::parse(key).map_err(|_| Refusal::NotAPath)?;
    // Parsing forgives a slash at either end, which would give one object two keys.
    if key.is_empty() || path.as_ref() != key {
        return Err(Refusal::NotAPath);
    }
    if staged(key.as_bytes()) {
        return Err(Refusal::Staged);
    }
    let file = root.join(key);
    // The store makes its paths by way of URLs, which change some names.
    match store.path_to_filesystem(&path) {
        Ok(mapped) if mapped.as_os_str() == file.as_os_str() => Ok((path, file)),
        _ => Err(Refusal::Unaddressable),
    }
}

/// The key of a file, given by its path below the bucket's folder.
pub(super) fn of(below: &Path) -> Result<String, Refusal> {
    match below.to_str() {
        Some(key) => Ok(key.to_owned()),
        None => Err(Refusal::NotUtf8),
    }
}

/// Whether a file of this name is, or looks like, an unfinished write of the store: it stages
/// `KEY` as `KEY#1`. Hides more than the store itself does, because `a#b` is staged as `a#b#1`,
/// which the store would list.
pub(super) fn staged(name: &[u8]) -> bool {
    let digits = name.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && name[..name.len() - digits].ends_with(b"#")
}

/// The same for the last part of a path.
pub(super) fn staged_path(path: &Path) -> bool {
    path.file_name().is_some_and(|name| staged(name.as_bytes()))
}

/// The object of a file as the store would describe it.
pub(super) fn object(key: String, file: &Metadata) -> Object {
    let modified = file.modified().ok();
    let micros = modified
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .unwrap_or_default()
        .as_micros();
    let (inode, size) = (file.ino(), file.len());
    Object {
        key,
        etag: format!("{inode:x}-{micros:x}-{size:x}"),
        size,
        modified: modified.map_or(Timestamp(0), |at| DateTime::<Utc>::from(at).into()),
    }
}

/// An etag of the store without the quotes that HTTP puts around it.
pub(super) fn plain(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

/// The etag as the store compares it.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_staged_names() {
        for name in ["a#1", "a#b#12", "#1", "dir/a#0"] {
            assert!(staged(name.as_bytes()), "{name}");
        }
        for name in ["a", "a1", "a#", "a#1x", "a#1/b", "a#b", ""] {
            assert!(!staged(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn keys_are_paths_and_nothing_is_escaped() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let store = LocalFileSystem::new_with_prefix(&root).unwrap();
        let locate = |key: &str| locate(&store, &root, key);
        for key in [
            "a",
            "a b",
            "ä/ö ü",
            "100%",
            "%2E%2E",
            "a+b",
            "a#b",
            "q?x=1&y",
            "back\\slash",
            "~",
            "-rf",
            ".hidden",
            "...",
            "a:b",
            "日本/語.txt",
            "*\"<>|^`[]{}",
            "d#1/x",
        ] {
            let (path, file) = locate(key).unwrap_or_else(|why| panic!("{key}: {why}"));
            assert_eq!(path.as_ref(), key);
            assert_eq!(file, root.join(key));
        }
        for (key, why) in [
            ("", Refusal::NotAPath),
            ("/a", Refusal::NotAPath),
            ("a/", Refusal::NotAPath),
            ("a//b", Refusal::NotAPath),
            ("../a", Refusal::NotAPath),
            ("a/./b", Refusal::NotAPath),
            ("a\nb", Refusal::Control),
            ("a\u{7f}", Refusal::Control),
            ("a#1", Refusal::Staged),
            ("a#b#2", Refusal::Staged),
            ("disk c:", Refusal::Unaddressable),
        ] {
            assert_eq!(locate(key).unwrap_err(), why, "{key:?}");
        }
        assert_eq!(locate(&"x".repeat(1025)).unwrap_err(), Refusal::TooLong);
    }
}
