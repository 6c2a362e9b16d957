//! The part of the bucket's task that runs scans: when one begins, how it goes on and how it ends,
//! and what happens while the folder is missing.

use std::{collections::HashMap, sync::Arc};

use tidemill_core::{
    ledger::{LedgerEntry, Object},
    limits,
};
use tokio::time::Instant;

use crate::clock;

use super::{
    health::State,
    pending::{Change, Need},
    scan::{self, Found, Scan},
    source::{Done, Origin, Source},
    tuning::BATCH,
    watch::{self, Watch},
};

impl Source {
    /// Begins a scan, or finds the folder missing.
    pub(super) async fn begin_scan(&mut self) {
        let (observer, folder) = (self.observer.clone(), self.folder.clone());
        let (bucket, tuning) = (&folder, &observer.tuning);
        let Some(identity) = bucket.identity().await else {
            return self.lose_folder();
        };
        if std::mem::take(&mut self.missing) {
            tracing::info!(bucket = bucket.name(), "the folder is back");
        }
        self.trouble = None;
        if !tuning.watch {
            self.trouble = Some("watching is off".into());
        } else if self.watch.is_none() || self.watched != Some(identity) {
            self.watch = None;
            match Watch::start(bucket.root(), self.hints.clone()) {
                Ok(watch) => self.watch = Some(Arc::new(watch)),
                Err(error) => self.trouble = Some(watch::explain(&error)),
            }
            self.watched = Some(identity);
        }
        self.scans += 1;
        self.scan_again = false;
        let now = Instant::now();
        self.next_progress = now + tuning.progress;
        let walk = scan::walk(bucket, bucket.root().to_owned(), self.watch.clone(), tuning);
        // The state stays as it is until the walk has told what is watched.
        self.scan = Some(Scan::new(self.scans, now, walk));
    }

    /// Asks for a scan before its time, but not so soon that files just written are unfinished.
    pub(super) fn scan_soon(&mut self) {
        let soon = Instant::now() + self.observer.tuning.still;
        self.scan_again = self.scan.is_some();
        self.next_scan = self.next_scan.min(soon);
    }

    /// Takes what the scan's walk found.
    pub(super) fn take_scanned(&mut self, found: Option<Found>) {
        let Some(scan) = &mut self.scan else { return };
        match found {
            Some(Found::Batch { objects, refused }) => {
                scan.saw(&objects);
                scan.refused += refused.len() as u64;
                scan.asking = true;
                self.observer.health.found(scan.objects);
                let (number, observer) = (scan.number, self.observer.clone());
                for (file, why) in refused {
                    self.report(&file, &why);
                }
                self.work.push(Box::pin(async move {
                    let keys = objects.iter().map(|object| object.key.clone()).collect();
                    let known = observer.ledger(keys).await;
                    Done::Scanned(number, objects, known)
                }));
            }
            Some(Found::End { missing: true, .. }) => self.lose_folder(),
            Some(Found::End { uncovered, .. }) => {
                scan.walk = None;
                if uncovered.is_some() {
                    self.trouble = uncovered;
                }
                self.show_state();
            }
            // The walk's thread panicked: this scan is worth nothing.
            None => {
                self.scan = None;
                self.next_scan = Instant::now() + self.rescan;
            }
        }
    }

    /// Compares a batch of the walk with the ledger.
    pub(super) fn take_known(
        &mut self,
        number: u64,
        objects: Vec<Object>,
        mut known: HashMap<String, LedgerEntry>,
    ) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.number == number) else {
            return;
        };
        scan.asking = false;
        let (wall, now) = (clock::now(), Instant::now());
        let mut no_room = false;
        let mut old = Vec::new();
        for object in objects {
            let entry = known.remove(&object.key);
            let etag = entry.as_ref().and_then(|entry| entry.etag.as_deref());
            let busy = self.pending.contains(&object.key)
                || self.running.contains_key(object.key.as_str());
            if etag == Some(&object.etag) || busy {
                continue;
            }
            if entry.is_none()
                && let Some(entry) = self.observer.old(&self.state, &object)
            {
                old.push(entry);
                continue;
            }
            match Need::SCANNED.check(&object, wall, now, &self.observer.tuning) {
                Ok(()) => scan.candidates.push_back((object.key, entry)),
                Err(not_yet) => {
                    let by = self.observer.by_listing();
                    no_room |= !self.pending.again(&object.key, not_yet, by, now);
                }
            }
        }
        if !old.is_empty() {
            scan.observing += 1;
            let observer = self.observer.clone();
            self.work.push(Box::pin(async move {
                Done::Noted(number, observer.note(old).await)
            }));
        }
        if no_room {
            self.scan_soon();
        }
    }

    pub(super) fn take_page(&mut self, number: u64, page: Vec<LedgerEntry>) {
        if let Some(scan) = self.scan.as_mut().filter(|scan| scan.number == number) {
            scan.asking = false;
            scan.page(page);
        }
    }

    /// Has candidates observed, asks the ledger for more, and ends the scan when all is done.
    pub(super) fn advance_scan(&mut self) {
        let Some(scan) = &mut self.scan else { return };
        let number = scan.number;
        let mut ready = Vec::new();
        while scan.observing < limits::SCAN_OFFERS
            && let Some((key, known)) = scan.candidates.pop_front()
        {
            let key: Arc<str> = key.into();
            // Whoever is at it already knows no less.
            if self.running.contains_key(&key) || self.pending.contains(&key) {
                continue;
            }
            self.running.insert(key.clone(), None);
            scan.observing += 1;
            ready.push((key, known));
        }
        let ask = scan.walk.is_none() && !scan.through && scan.wants_more();
        if ask {
            scan.asking = true;
            let (observer, after) = (self.observer.clone(), scan.paged.clone());
            self.work.push(Box::pin(async move {
                Done::Paged(number, observer.ledger_page(after, BATCH).await)
            }));
        }
        if ask && scan.paged.is_none() {
            // What is being observed may be gone since, and come into the ledger after its page.
            for (key, noticed) in &mut self.running {
                if !scan.seen.contains(key) {
                    noticed.get_or_insert(Change::Touched);
                }
            }
        }
        for (key, known) in ready {
            self.observe(key, known, Need::SCANNED, Origin::Scan(number));
        }
        self.finish_scan();
    }

    fn finish_scan(&mut self) {
        let (now, tuning) = (Instant::now(), &self.observer.tuning);
        let (bucket, health) = (self.observer.bucket.name(), &self.observer.health);
        let Some(scan) = &self.scan else { return };
        let (objects, refused) = (scan.objects, scan.refused);
        if !scan.done() {
            if now >= self.next_progress {
                self.next_progress = now + tuning.progress;
                let (offered, waiting) = (health.status().offered, health.status().waiting);
                let missing = scan.walk.is_none();
                tracing::info!(bucket, objects, offered, waiting, missing, "scanning");
            }
            return;
        }
        let took = now - scan.started;
        tracing::debug!(bucket, objects, refused, ?took, "scanned");
        self.next_scan = now
            + if self.scan_again {
                tuning.still
            } else {
                self.rescan
            };
        self.scan = None;
        health.found(objects);
        if !health.status().ready {
            tracing::info!(bucket, objects, ?took, "the first scan is done");
        }
        health.scanned(clock::now(), took, refused);
        let (observer, state) = (self.observer.clone(), self.state);
        self.work.push(Box::pin(async move {
            Done::Kept(observer.scanned(state).await)
        }));
        self.show_state();
    }

    /// The folder is missing: nothing is taken for deleted, and it is looked for.
    pub(super) fn lose_folder(&mut self) {
        self.forget();
        self.next_scan = Instant::now() + self.observer.tuning.missing;
        if !std::mem::replace(&mut self.missing, true) {
            let bucket = &self.folder;
            tracing::warn!(
                bucket = bucket.name(),
                folder = %bucket.root().display(),
                "the folder is missing, or an empty mount point; waiting for it"
            );
            self.show_state();
        }
    }

    /// Shows the state, and warns when it is worse than watching.
    pub(super) fn show_state(&self) {
        let health = &self.observer.health;
        let state = if self.missing {
            State::FolderMissing
        } else if !health.status().ready {
            State::FirstScan
        } else if let Some(trouble) = &self.trouble {
            State::RescansOnly(trouble.clone())
        } else {
            State::Watching
        };
        if health.set(state.clone())
            && let State::RescansOnly(why) = state
        {
            tracing::warn!(
                bucket = self.observer.bucket.name(),
                rescan = ?self.rescan,
                "changes are found by scans only: {why}"
            );
        }
    }
}
