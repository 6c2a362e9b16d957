//! Scans: finding by a walk over the whole bucket what the watcher did not tell.
//!
//! The walk runs on a thread of its own and hands over a batch at a time; it also has every folder
//! watched before its entries are read. When it is through, the ledger is paged for objects that
//! the walk did not meet. Memory is one hash for each object, and batches. What a scan finds is
//! only a candidate: [`super::observe`] looks again.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tidemill_core::ledger::{LedgerEntry, Object};
use tokio::{sync::mpsc, time::Instant};

use super::{
    folder::Folder,
    guard, key,
    key::Refusal,
    tuning::{BATCH, Tuning},
    walk::{Step, Walk},
    watch::{self, Watch},
};

/// A part of what a walk found.
#[derive(Debug)]
pub(super) enum Found {
    Batch {
        objects: Vec<Object>,
        refused: Vec<(PathBuf, Refusal)>,
    },
    End {
        /// The folder where the walk began is missing.
        missing: bool,
        /// Why some folders are not watched.
        uncovered: Option<String>,
    },
}

/// Walks over everything below `from` on a thread of its own; ends when the receiver is dropped.
pub(super) fn walk(
    bucket: &Folder,
    from: PathBuf,
    watch: Option<Arc<Watch>>,
    tuning: &Tuning,
) -> mpsc::Receiver<Found> {
    let (sender, receiver) = mpsc::channel(2);
    let (bucket, staged) = (bucket.clone(), tuning.staged);
    tokio::task::spawn_blocking(move || Walker::new(bucket, watch, staged).walk(&from, &sender));
    receiver
}

struct Walker {
    bucket: Folder,
    watch: Option<Arc<Watch>>,
    staged: Duration,
    objects: Vec<Object>,
    refused: Vec<(PathBuf, Refusal)>,
    missing: bool,
    uncovered: Option<String>,
}

impl Walker {
    fn new(bucket: Folder, watch: Option<Arc<Watch>>, staged: Duration) -> Walker {
        Walker {
            bucket,
            watch,
            staged,
            objects: Vec::new(),
            refused: Vec::new(),
            missing: false,
            uncovered: None,
        }
    }

    fn walk(mut self, from: &Path, to: &mpsc::Sender<Found>) {
        for step in Walk::new(&self.bucket, from) {
            self.step(step, from);
            let full = self.objects.len() >= BATCH || self.refused.len() >= BATCH;
            if (full && self.hand_over(to).is_err()) || to.is_closed() {
                return;
            }
        }
        let _ = self.hand_over(to);
        let _ = to.blocking_send(Found::End {
            missing: self.missing,
            uncovered: self.uncovered,
        });
    }

    fn hand_over(&mut self, to: &mpsc::Sender<Found>) -> Result<(), ()> {
        let batch = Found::Batch {
            objects: std::mem::take(&mut self.objects),
            refused: std::mem::take(&mut self.refused),
        };
        to.blocking_send(batch).map_err(drop)
    }

    fn step(&mut self, step: Step, from: &Path) {
        match step {
            Step::Folder(folder) => self.cover(&folder),
            Step::File { key, file } => match fs::metadata(&file) {
                Ok(found) => self.objects.push(key::object(key, &found)),
                Err(error) if guard::absent(&error) => {}
                Err(_) => self.refused.push((file, Refusal::Unreadable)),
            },
            Step::Refused { file, why } => {
                if why != Refusal::Staged || self.is_left_over(&file) {
                    self.refused.push((file, why));
                }
            }
            Step::Trouble { file, error } if guard::absent(&error) => {
                self.missing |= file == from;
            }
            Step::Trouble { file, error } => {
                let bucket = self.bucket.name();
                tracing::debug!(bucket, file = %file.display(), %error, "cannot be read");
                self.refused.push((file, Refusal::Unreadable));
            }
        }
    }

    /// The walk has opened the folder, but reads its entries after this.
    fn cover(&mut self, folder: &Path) {
        let (Some(watch), None) = (&self.watch, &self.uncovered) else {
            return;
        };
        if let Err(error) = watch.cover(folder) {
            let forbidden = matches!(&error.kind, notify::ErrorKind::Io(e)
                if e.kind() == std::io::ErrorKind::PermissionDenied);
            // A folder that may not be read is reported as such.
            if !forbidden {
                self.uncovered = Some(watch::explain(&error));
            }
        }
    }

    /// Whether an unfinished write is so old that nobody will finish it.
    fn is_left_over(&self, file: &Path) -> bool {
        let modified = fs::symlink_metadata(file).and_then(|found| found.modified());
        let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        age.is_ok_and(|age| age >= self.staged)
    }
}

/// A scan under way.
pub(super) struct Scan {
    /// Tells its observations from those of another scan.
    pub(super) number: u64,
    pub(super) started: Instant,
    /// The walk; absent when it is through.
    pub(super) walk: Option<mpsc::Receiver<Found>>,
    /// The ledger is being asked, about a batch of the walk or for its next page.
    pub(super) asking: bool,
    /// The last key of the ledger that was compared with the walk.
    pub(super) paged: Option<String>,
    /// The ledger has no more.
    pub(super) through: bool,
    /// What is to be observed, with what the ledger knows.
    pub(super) candidates: VecDeque<(String, Option<LedgerEntry>)>,
    /// Observations under way.
    pub(super) observing: usize,
    pub(super) objects: u64,
    pub(super) refused: u64,
    /// What the walk met.
    pub(super) seen: KeySet,
}

impl Scan {
    pub(super) fn new(number: u64, started: Instant, walk: mpsc::Receiver<Found>) -> Scan {
        Scan {
            number,
            started,
            walk: Some(walk),
            asking: false,
            paged: None,
            through: false,
            candidates: VecDeque::new(),
            observing: 0,
            objects: 0,
            refused: 0,
            seen: KeySet::default(),
        }
    }

    /// Whether another batch or page may come.
    pub(super) fn wants_more(&self) -> bool {
        !self.asking && self.candidates.len() < BATCH
    }

    pub(super) fn done(&self) -> bool {
        self.through && self.candidates.is_empty() && self.observing == 0
    }

    pub(super) fn saw(&mut self, objects: &[Object]) {
        self.objects += objects.len() as u64;
        for object in objects {
            self.seen.insert(&object.key);
        }
    }

    /// Takes a page of the ledger: what the walk did not meet is a candidate for a deletion.
    pub(super) fn page(&mut self, entries: Vec<LedgerEntry>) {
        match entries.last() {
            Some(last) => self.paged = Some(last.key.clone()),
            None => self.through = true,
        }
        for entry in entries {
            if !self.seen.contains(&entry.key) {
                self.candidates.push_back((entry.key.clone(), Some(entry)));
            }
        }
    }
}

/// A set of keys by 128 bits of hash: 16 bytes each, whatever their length. Two keys that met would
/// hide the deletion of one; at a million keys the odds are one in 10^26.
#[derive(Default)]
pub(super) struct KeySet {
    halves: (RandomState, RandomState),
    hashes: HashSet<u128>,
}

impl KeySet {
    fn hash(&self, key: &str) -> u128 {
        let (one, two) = &self.halves;
        u128::from(one.hash_one(key)) << 64 | u128::from(two.hash_one(key))
    }

    fn insert(&mut self, key: &str) {
        self.hashes.insert(self.hash(key));
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.hashes.contains(&self.hash(key))
    }
}
