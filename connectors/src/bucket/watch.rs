//! The watcher of a bucket's folder, over notify. Its thread writes hints and does nothing else.
//!
//! On Linux every folder is watched by itself, by whoever is about to read its entries: watched
//! first and read afterwards, no file can come in between unseen. notify's own recursion watches a
//! new folder at some time after it told of it, gives up a whole subtree when one folder of it went
//! in the meantime, and the whole bucket when one folder may not be read.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::hints::Hints;

/// inotify watches folders; the others watch trees.
const BY_FOLDER: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A running watcher; dropping it ends it.
pub(super) struct Watch {
    watcher: Mutex<RecommendedWatcher>,
}

impl Watch {
    /// Starts a watcher. On Linux it watches nothing until folders are [covered](Watch::cover).
    pub(super) fn start(root: &Path, hints: Arc<Hints>) -> notify::Result<Watch> {
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(move |event| hints.note(event), config)?;
        if !BY_FOLDER {
            watcher.watch(root, RecursiveMode::Recursive)?;
        }
        Ok(Watch {
            watcher: Mutex::new(watcher),
        })
    }

    /// Watches a folder, if it is not watched yet. When this returns, nothing that happens to its
    /// entries stays unseen. Blocks shortly.
    pub(super) fn cover(&self, folder: &Path) -> notify::Result<()> {
        if !BY_FOLDER {
            return Ok(());
        }
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            // Gone already: it has no entries to miss.
            Err(error) if gone(&error) => Ok(()),
            result => result,
        }
    }
}

fn gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => super::guard::absent(error),
        _ => false,
    }
}

/// What a watcher's failure means and what to do about it.
pub(super) fn explain(error: &notify::Error) -> String {
    /// Too many open files, by the process or by inotify's limit of instances.
    const EMFILE: i32 = 24;
    match &error.kind {
        ErrorKind::MaxFilesWatch => "the kernel's limit of watched folders is reached; raise it: \
             `sysctl fs.inotify.max_user_watches=1048576`"
            .into(),
        ErrorKind::Io(io) if io.raw_os_error() == Some(EMFILE) => {
            "the kernel's limit of watchers or of open files is reached; raise it: \
             `sysctl fs.inotify.max_user_instances=1024`, `ulimit -n`"
                .into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_limit_to_raise() {
        let watches = notify::Error::new(ErrorKind::MaxFilesWatch);
        assert!(explain(&watches).contains("fs.inotify.max_user_watches"));
        let instances = notify::Error::io(std::io::Error::from_raw_os_error(24));
        assert!(explain(&instances).contains("fs.inotify.max_user_instances"));
        let other = notify::Error::generic("no such luck");
        assert_eq!(explain(&other), "no such luck");
    }
}
