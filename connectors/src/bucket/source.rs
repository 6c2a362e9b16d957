//! The task of a folder's bucket: it takes hints, runs scans and folders' walks, and has keys observed,
//! many at a time but each by one observation only. All its state is its own; nothing is locked.
//! What it notices is in [`super::notice`], how it scans in [`super::rescan`].
//!
//! It decides nothing about events: [`super::pending`] says when to look, the ledger what is news.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tidemill_core::{
    BoxFuture,
    ledger::{BucketState, LedgerEntry, NoticedBy, Object},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    folder::Folder,
    health::State,
    hints::Hints,
    observe::{Observer, Outcome},
    pending::{Change, Need, Pending},
    report::Reports,
    scan::{self, Found, Scan},
    tuning::{BATCH, HINTED},
    watch::Watch,
};
use crate::clock;

/// Who asked for an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A key that was pending, and who noticed it.
    Hint(NoticedBy),
    /// The scan of this number.
    Scan(u64),
}

impl Origin {
    fn by(self, observer: &Observer) -> NoticedBy {
        match self {
            Origin::Hint(by) => by,
            Origin::Scan(_) => observer.by_listing(),
        }
    }
}

/// What ends while the task waits.
pub(super) enum Done {
    /// The ledger's answer about keys that were noticed.
    Hinted(Vec<(Arc<str>, Need, NoticedBy)>, Option<Vec<LedgerEntry>>),
    /// The ledger's answer about a scan's batch.
    Scanned(u64, Vec<Object>, Option<Vec<LedgerEntry>>),
    /// The ledger's next page for a scan.
    Paged(u64, Option<Vec<LedgerEntry>>),
    /// What the ledger knows below a folder that went, after this key.
    Vanished(String, Option<Vec<LedgerEntry>>),
    /// Objects of a scan that are no news are noted.
    Noted(u64, Option<()>),
    /// A scan was through, and all that follows is kept.
    Kept(Option<BucketState>),
    /// An observation.
    Observed(Arc<str>, Origin, Outcome),
}

enum Wake {
    Stop,
    Hints,
    Done(Done),
    Scan(Option<Found>),
    Folder(Option<Found>),
    Time,
}

pub(super) struct Source {
    pub(super) observer: Arc<Observer>,
    pub(super) folder: Folder,
    pub(super) rescan: Duration,
    pub(super) hints: Arc<Hints>,
    pub(super) watch: Option<Arc<Watch>>,
    /// The folder that is watched, by device and inode.
    pub(super) watched: Option<(u64, u64)>,
    /// Why not everything is watched.
    pub(super) trouble: Option<String>,
    /// The folder is missing.
    pub(super) missing: bool,
    pub(super) pending: Pending,
    /// The keys under observation, with what was noticed of them since it began.
    pub(super) running: HashMap<Arc<str>, Option<Change>>,
    pub(super) work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Observations that hints asked for.
    hinted: usize,
    /// New folders to walk over.
    pub(super) folders: VecDeque<PathBuf>,
    pub(super) folder_walk: Option<mpsc::Receiver<Found>>,
    /// Keys that went and may have been folders.
    pub(super) vanished: VecDeque<String>,
    pub(super) asking_vanished: bool,
    pub(super) scan: Option<Scan>,
    pub(super) scans: u64,
    pub(super) next_scan: Instant,
    /// Another scan is wanted after this one.
    pub(super) scan_again: bool,
    pub(super) next_progress: Instant,
    pub(super) reports: Reports,
    /// What is known of the bucket as a whole.
    pub(super) state: BucketState,
    pub(super) stopping: bool,
}

impl Source {
    pub(super) fn new(observer: Observer, folder: Folder, rescan: Duration) -> Source {
        let now = Instant::now();
        let hints = Hints::new(folder.root(), observer.tuning.hints);
        Source {
            pending: Pending::new(observer.tuning.hints),
            observer: Arc::new(observer),
            folder,
            rescan,
            hints: Arc::new(hints),
            watch: None,
            watched: None,
            trouble: None,
            missing: false,
            running: HashMap::new(),
            work: FuturesUnordered::new(),
            hinted: 0,
            folders: VecDeque::new(),
            folder_walk: None,
            vanished: VecDeque::new(),
            asking_vanished: false,
            scan: None,
            scans: 0,
            next_scan: now,
            scan_again: false,
            next_progress: now,
            reports: Reports::default(),
            state: BucketState::default(),
            stopping: false,
        }
    }

    /// Runs until the token is cancelled or the intake says that the engine stops.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.show_state();
        // Files have times up to a tick behind.
        let now = clock::now().minus(self.observer.tuning.tick);
        let begun = stop.run_until_cancelled(self.observer.begin(now)).await;
        match begun.flatten() {
            Some(state) => self.state = state,
            None => self.stopping = true,
        }
        while !self.stopping {
            if self.scan.is_none() && self.next_scan <= Instant::now() {
                self.begin_scan().await;
            }
            self.advance();
            match self.wait(&stop).await {
                Wake::Stop => break,
                Wake::Hints => self.take_hints().await,
                Wake::Done(done) => self.finish(done),
                Wake::Scan(found) => self.take_scanned(found),
                Wake::Folder(found) => self.take_folder(found),
                Wake::Time => {}
            }
        }
        self.observer.health.set(State::Stopped);
    }

    async fn wait(&mut self, stop: &CancellationToken) -> Wake {
        let wake = self.next_wake();
        let mut none = None;
        let (scan_walk, scan_room) = match &mut self.scan {
            Some(scan) => {
                let room = scan.wants_more();
                (&mut scan.walk, room)
            }
            None => (&mut none, false),
        };
        let folder_room = self.pending.has_room(BATCH);
        tokio::select! {
            () = stop.cancelled() => Wake::Stop,
            () = self.hints.changed() => Wake::Hints,
            Some(done) = self.work.next() => Wake::Done(done),
            found = receive(scan_walk), if scan_room && scan_walk.is_some() => Wake::Scan(found),
            found = receive(&mut self.folder_walk), if folder_room && self.folder_walk.is_some() => {
                Wake::Folder(found)
            }
            () = tokio::time::sleep_until(wake) => Wake::Time,
        }
    }

    fn next_wake(&self) -> Instant {
        let mut wake = match &self.scan {
            Some(_) => self.next_progress,
            None => self.next_scan,
        };
        if let Some(due) = self.pending.next()
            && self.hinted < HINTED
        {
            wake = wake.min(due);
        }
        wake
    }

    /// Starts whatever there is room for.
    fn advance(&mut self) {
        self.start_due();
        if self.folder_walk.is_none()
            && let Some(folder) = self.folders.pop_front()
        {
            let (bucket, tuning) = (&self.folder, &self.observer.tuning);
            self.folder_walk = Some(scan::walk(bucket, folder, self.watch.clone(), tuning));
        }
        if !self.asking_vanished
            && let Some(key) = self.vanished.pop_front()
        {
            self.ask_vanished(format!("{key}/"), None);
        }
        self.advance_scan();
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let mut batch = Vec::new();
        while self.hinted < HINTED
            && let Some((key, need, by)) = self.pending.pop(now)
        {
            self.hinted += 1;
            self.running.insert(key.clone(), None);
            batch.push((key, need, by));
        }
        if batch.is_empty() {
            return;
        }
        let observer = self.observer.clone();
        self.work.push(Box::pin(async move {
            let keys = batch.iter().map(|(key, ..)| key.to_string()).collect();
            let known = observer.ledger(keys).await;
            Done::Hinted(batch, known)
        }));
    }

    pub(super) fn observe(
        &mut self,
        key: Arc<str>,
        known: Option<LedgerEntry>,
        need: Need,
        origin: Origin,
    ) {
        let observer = self.observer.clone();
        self.work.push(Box::pin(async move {
            let by = origin.by(&observer);
            let outcome = observer.observe(&key, known, need, by).await;
            Done::Observed(key, origin, outcome)
        }));
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Hinted(batch, Some(known)) => {
                let mut known = by_key(known);
                for (key, need, by) in batch {
                    let entry = known.remove(&*key);
                    self.observe(key, entry, need, Origin::Hint(by));
                }
            }
            Done::Scanned(number, objects, Some(known)) => {
                self.take_known(number, objects, by_key(known));
            }
            Done::Paged(number, Some(page)) => self.take_page(number, page),
            Done::Vanished(folder, Some(page)) => self.take_vanished(folder, page),
            Done::Noted(number, Some(())) => {
                if let Some(scan) = self.scan.as_mut().filter(|scan| scan.number == number) {
                    scan.observing -= 1;
                }
            }
            Done::Kept(Some(state)) => self.state = state,
            Done::Observed(key, origin, outcome) => self.take_outcome(&key, origin, outcome),
            Done::Hinted(_, None)
            | Done::Scanned(_, _, None)
            | Done::Paged(_, None)
            | Done::Noted(_, None)
            | Done::Kept(None)
            | Done::Vanished(_, None) => self.stopping = true,
        }
    }

    fn take_outcome(&mut self, key: &str, origin: Origin, outcome: Outcome) {
        match origin {
            Origin::Hint(_) => self.hinted -= 1,
            Origin::Scan(number) => {
                if let Some(scan) = self.scan.as_mut().filter(|scan| scan.number == number) {
                    scan.observing -= 1;
                }
            }
        }
        let noticed = self.running.remove(key).flatten();
        match outcome {
            Outcome::Known => {}
            Outcome::Folder => self.new_folder(self.folder.root().join(key)),
            Outcome::NotYet(not_yet) => {
                let by = origin.by(&self.observer);
                if !self.pending.again(key, not_yet, by, Instant::now()) {
                    self.scan_soon();
                }
            }
            Outcome::Refused(why) => {
                self.report(&self.folder.root().join(key), &why);
            }
            Outcome::FolderMissing => self.lose_folder(),
            Outcome::Failed(error) => {
                let bucket = self.observer.bucket.name();
                tracing::warn!(bucket, "{}; the next scan tries again", error.chain());
            }
            Outcome::Stopping => self.stopping = true,
        }
        if let Some(change) = noticed {
            self.note(key, change);
        }
    }

    /// Forgets what was under way when the folder went: a scan follows when it is back.
    pub(super) fn forget(&mut self) {
        self.scan = None;
        self.watch = None;
        self.pending.clear();
        self.folders.clear();
        self.folder_walk = None;
        self.vanished.clear();
    }
}

async fn receive(walk: &mut Option<mpsc::Receiver<Found>>) -> Option<Found> {
    match walk {
        Some(walk) => walk.recv().await,
        None => None,
    }
}

pub(super) fn by_key(entries: Vec<LedgerEntry>) -> HashMap<String, LedgerEntry> {
    entries
        .into_iter()
        .map(|entry| (entry.key.clone(), entry))
        .collect()
}
