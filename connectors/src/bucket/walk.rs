//! Walking over a bucket's folder, file by file, in memory that does not grow with the number of
//! files. Listings and scans share it, so that they agree on what is an object.
//!
//! The store's own listing is not used: it ends at the first name it cannot represent, and follows
//! symlinks out of the folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use walkdir::WalkDir;

use super::{
    folder::Folder,
    guard::{self, Place, Trouble},
    key::{self, Refusal},
};

/// One step of a walk.
#[derive(Debug)]
pub(super) enum Step {
    /// A folder, before its entries are read; [`Walk::skip_folder`] leaves them out.
    Folder(PathBuf),
    /// A file that is an object.
    File { key: String, file: PathBuf },
    /// A file that is none.
    Refused { file: PathBuf, why: Refusal },
    /// A folder or file that could not be read.
    Trouble { file: PathBuf, error: io::Error },
}

/// The walk itself; an iterator that blocks.
pub(super) struct Walk {
    bucket: Folder,
    inner: walkdir::IntoIter,
}

impl Walk {
    /// Walks over everything below the folder `from`, which is below the bucket's folder.
    pub(super) fn new(bucket: &Folder, from: &Path) -> Walk {
        Walk {
            bucket: bucket.clone(),
            inner: WalkDir::new(from).follow_root_links(false).into_iter(),
        }
    }

    /// Leaves out the folder that was the last step.
    pub(super) fn skip_folder(&mut self) {
        self.inner.skip_current_dir();
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let entry = match self.inner.next()? {
                Ok(entry) => entry,
                Err(error) => {
                    let file = error.path().unwrap_or(self.bucket.root()).to_owned();
                    let top = error.depth() == 0;
                    let error = io::Error::from(error);
                    // Gone since its folder was read.
                    if guard::absent(&error) && !top {
                        continue;
                    }
                    return Some(Step::Trouble { file, error });
                }
            };
            let kind = entry.file_type();
            let file = entry.into_path();
            if kind.is_dir() {
                return Some(Step::Folder(file));
            }
            match self.classify(&file, kind) {
                Ok(Some(key)) => return Some(Step::File { key, file }),
                Ok(None) => {}
                Err(Trouble::Refused(why)) => return Some(Step::Refused { file, why }),
                Err(Trouble::Io(error)) => return Some(Step::Trouble { file, error }),
                Err(Trouble::RootMissing) => return None,
            }
        }
    }
}

impl Walk {
    fn classify(&self, file: &Path, kind: std::fs::FileType) -> Result<Option<String>, Trouble> {
        let root = self.bucket.root();
        if kind.is_symlink() {
            match guard::place(root, file)? {
                Place::File => {}
                Place::Folder => return Err(Trouble::Refused(Refusal::LinkToFolder)),
                Place::Absent => return Ok(None),
            }
        } else if !kind.is_file() {
            return Err(Trouble::Refused(Refusal::Special));
        }
        let key = key::of(file.strip_prefix(root).unwrap_or(file)).map_err(Trouble::Refused)?;
        key::locate(self.bucket.store(), root, &key).map_err(Trouble::Refused)?;
        Ok(Some(key))
    }
}
