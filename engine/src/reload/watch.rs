//! Which of some files have changed, once they stand still again. Their folders are watched, since editors
//! write by rename; what counts is how the files are, so that what else happens there is nothing. Every
//! few seconds they are looked at all the same: not every file system tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use tokio::{sync::Notify, time::sleep};

/// How long files must be the same before they are read.
const STILL: Duration = Duration::from_millis(200);

/// How often they are looked at whatever is told.
const LOOK: Duration = Duration::from_secs(10);

/// How files were when they were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<PathBuf, Option<Stamp>>);

/// A file at one moment; two that are the same by it have the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    /// Takes note of how a file is. Before it is read, so that a change meanwhile is seen.
    pub fn look(&mut self, file: &Path) {
        let stamp = fs::metadata(file).ok().map(|found| Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        });
        self.0.insert(file.to_owned(), stamp);
    }

    /// The same files as they are now. On a thread that may block: some are on slow disks.
    async fn again(&self) -> Seen {
        let files: Vec<PathBuf> = self.0.keys().cloned().collect();
        let look = move || {
            let mut seen = Seen::default();
            files.iter().for_each(|file| seen.look(file));
            seen
        };
        // It does not panic, and the runtime ends with this task.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let parent = |file: &PathBuf| match file.parent() {
            Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
            Some(folder) => folder.to_owned(),
            None => file.clone(),
        };
        self.0.keys().map(parent).collect()
    }
}

/// Watches files.
pub(super) struct Watch {
    seen: Seen,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    woken: Arc<Notify>,
}

impl Watch {
    /// Of these files.
    pub(super) fn new(seen: Seen) -> Watch {
        let woken = Arc::new(Notify::new());
        let mut watch = Watch {
            watcher: usable(watcher(woken.clone())),
            seen,
            folders: BTreeSet::new(),
            woken,
        };
        watch.watch();
        watch
    }

    /// Waits until a file is not as it was seen, and stands still.
    pub(super) async fn changed(&mut self) {
        loop {
            let mut now = self.seen.again().await;
            if now != self.seen {
                loop {
                    sleep(STILL).await;
                    let later = self.seen.again().await;
                    if later == now {
                        break;
                    }
                    now = later;
                }
                if now != self.seen {
                    self.seen = now;
                    // What was watched may be another folder by now.
                    self.unwatch();
                    self.watch();
                    return;
                }
            }
            tokio::select! {
                // However much happens in a folder, it is looked at some times a second.
                () = self.woken.notified() => sleep(STILL).await,
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Takes note of how a file is.
    pub(super) async fn look(&mut self, file: &Path) {
        self.seen.0.entry(file.to_owned()).or_default();
        self.seen = self.seen.again().await;
    }

    /// Watches the configuration, which is seen already, and these.
    pub(super) async fn follow(&mut self, file: &Path, components: BTreeSet<PathBuf>) {
        self.seen.0.retain(|seen, _| seen == file);
        let known = self.seen.clone();
        for component in components {
            self.seen.0.entry(component).or_default();
        }
        let now = self.seen.again().await;
        self.seen = Seen(now.0.into_iter().chain(known.0).collect());
        if self.folders != self.seen.folders() {
            self.unwatch();
            self.watch();
        }
    }

    fn watch(&mut self) {
        self.folders = self.seen.folders();
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in &self.folders {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::debug!(folder = %folder.display(), %error, "a folder cannot be watched");
            }
        }
    }

    fn unwatch(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            for folder in &self.folders {
                // It may not have been watched.
                _ = watcher.unwatch(folder);
            }
        }
    }
}

fn watcher(woken: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| match event.map(|event| event.kind) {
        // Somebody reads.
        Ok(EventKind::Access(AccessKind::Open(_) | AccessKind::Read)) => {}
        _ => woken.notify_one(),
    };
    notify::recommended_watcher(tell)
}

fn usable(watcher: notify::Result<RecommendedWatcher>) -> Option<RecommendedWatcher> {
    let told = |error: &notify::Error| {
        tracing::warn!(
            %error,
            "the file system does not tell of changes: files are looked at every {} s",
            LOOK.as_secs()
        );
    };
    watcher.inspect_err(told).ok()
}
