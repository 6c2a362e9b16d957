//! Sorted listings in pages. One page costs a walk over the folders that can hold its keys, and a
//! heap of the page's size; nothing is kept from page to page.

use std::{collections::BTreeMap, fs, path::Path};

use tidemill_core::ledger::Object;

use super::{
    error::Error,
    folder::Folder,
    guard,
    key::{self, Refusal},
    walk::{Step, Walk},
};

/// See [`super::Bucket::list`]. Blocks.
pub(super) fn list(
    bucket: &Folder,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Object>, Error> {
    let Some(from) = start(bucket, prefix)? else {
        return Ok(Vec::new());
    };
    let mut page: BTreeMap<String, Object> = BTreeMap::new();
    let mut walk = Walk::new(bucket, &from);
    while let Some(step) = walk.next() {
        match step {
            Step::Folder(folder) => {
                let last = if page.len() < limit {
                    None
                } else {
                    page.last_key_value()
                };
                let last = last.map(|(key, _)| key.as_str());
                if !may_hold(bucket.root(), &folder, prefix, after, last) {
                    walk.skip_folder();
                }
            }
            Step::File { key, file } => {
                let wanted = key.starts_with(prefix)
                    && after.is_none_or(|after| key.as_str() > after)
                    && (page.len() < limit
                        || page.last_key_value().is_some_and(|(last, _)| &key < last));
                // Only what has a place on the page is looked at.
                if let (true, Ok(found)) = (wanted, fs::metadata(&file)) {
                    page.insert(key.clone(), key::object(key, &found));
                    if page.len() > limit {
                        page.pop_last();
                    }
                }
            }
            // Scans report these.
            Step::Refused { .. } => {}
            Step::Trouble { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => {
            }
            Step::Trouble { file, error } => {
                if guard::absent(&error) {
                    return match bucket.root().is_dir() {
                        true => Ok(Vec::new()),
                        false => Err(bucket.folder_missing()),
                    };
                }
                return Err(bucket.failed_io(&file.to_string_lossy(), "list", error));
            }
        }
    }
    Ok(page.into_values().collect())
}

/// The deepest folder that all keys with the prefix are in; absent, there is no such folder.
fn start(bucket: &Folder, prefix: &str) -> Result<Option<std::path::PathBuf>, Error> {
    let Some((folder, _)) = prefix.rsplit_once('/') else {
        return Ok(Some(bucket.root().to_owned()));
    };
    if folder
        .split('/')
        .any(|name| matches!(name, "" | "." | ".."))
        || folder.chars().any(|c| c.is_ascii_control())
    {
        return Err(bucket.refused(prefix, Refusal::NotAPath));
    }
    let folder = bucket.root().join(folder);
    match guard::place(bucket.root(), &folder) {
        Ok(guard::Place::Folder) => Ok(Some(folder)),
        // Listings do not enter linked folders, wherever they start.
        Err(guard::Trouble::Refused(Refusal::LinkToFolder | Refusal::Special))
        | Ok(guard::Place::File | guard::Place::Absent) => Ok(None),
        Err(guard::Trouble::Refused(why)) => Err(bucket.refused(prefix, why)),
        Err(guard::Trouble::RootMissing) => Err(bucket.folder_missing()),
        Err(guard::Trouble::Io(error)) => Err(bucket.failed_io(prefix, "list", error)),
    }
}

/// Whether a folder can hold keys that start with `prefix`, sort after `after`, and before `last`.
fn may_hold(
    root: &Path,
    folder: &Path,
    prefix: &str,
    after: Option<&str>,
    last: Option<&str>,
) -> bool {
    let Some(below) = folder.strip_prefix(root).ok().and_then(Path::to_str) else {
        // Not UTF-8, and so is every name below.
        return false;
    };
    if below.is_empty() {
        return true;
    }
    let start = format!("{below}/");
    (start.starts_with(prefix) || prefix.starts_with(&start))
        && after.is_none_or(|after| after < start.as_str() || after.starts_with(&start))
        && last.is_none_or(|last| start.as_str() < last)
}
