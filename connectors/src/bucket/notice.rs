//! The part of the bucket's task that takes notice: of hints, of what walks over new folders find,
//! and of what the ledger knows below folders that went. All of it ends as a key that is pending.

use std::path::{Path, PathBuf};

use tidemill_core::ledger::LedgerEntry;
use tokio::time::Instant;

use super::{
    hints::Hint,
    key::{self, Refusal},
    pending::Change,
    scan::Found,
    source::{Done, Source},
    tuning::{BATCH, FOLDERS},
};

impl Source {
    /// Notes that a key changed.
    pub(super) fn note(&mut self, key: &str, change: Change) {
        if let Some(noticed) = self.running.get_mut(key) {
            if change != Change::Touched || noticed.is_none() {
                *noticed = Some(change);
            }
            return;
        }
        let (now, tuning) = (Instant::now(), &self.observer.tuning);
        if !self.pending.note(key, change, now, tuning) {
            self.scan_soon();
        }
    }

    pub(super) async fn take_hints(&mut self) {
        let hinted = self.hints.take();
        let bucket = self.folder.clone();
        if let Some(trouble) = hinted.trouble {
            tracing::warn!(bucket = bucket.name(), "the watcher failed: {trouble}");
            self.watch = None;
        }
        if hinted.root_gone {
            self.watch = None;
            if bucket.identity().await.is_none() {
                return self.lose_folder();
            }
        }
        if hinted.overflow {
            tracing::debug!(
                bucket = bucket.name(),
                "more changes than room; a scan follows"
            );
            self.pending.forget_writers(Instant::now());
        }
        if hinted.overflow || self.watch.is_none() {
            self.scan_soon();
        }
        for (path, hint) in hinted.paths {
            self.take_hint(&path, hint, bucket.root());
        }
    }

    pub(super) fn take_hint(&mut self, path: &Path, hint: Hint, root: &Path) {
        if hint.folder {
            self.new_folder(path.to_owned());
        }
        let key = match path.strip_prefix(root).map(key::of) {
            Ok(Ok(key)) => key,
            Ok(Err(why)) if hint.file.is_some() && !hint.vanished => {
                return self.report(path, &why);
            }
            _ => return,
        };
        if hint.vanished {
            // What is being observed below it may have been there, but not in the ledger yet.
            let below = format!("{key}/");
            for (key, noticed) in &mut self.running {
                if key.starts_with(&below) {
                    noticed.get_or_insert(Change::Touched);
                }
            }
            if self.vanished.len() < FOLDERS {
                self.vanished.push_back(key.clone());
            } else {
                self.scan_soon();
            }
        }
        if let Some(change) = hint.file {
            self.note(&key, change);
        }
    }

    pub(super) fn new_folder(&mut self, folder: PathBuf) {
        if self.folders.len() < FOLDERS {
            self.folders.push_back(folder);
        } else {
            self.scan_soon();
        }
    }

    pub(super) fn take_folder(&mut self, found: Option<Found>) {
        match found {
            Some(Found::Batch { objects, refused }) => {
                for object in objects {
                    self.note(&object.key, Change::Touched);
                }
                for (file, why) in refused {
                    self.report(&file, &why);
                }
            }
            Some(Found::End { uncovered, .. }) => {
                if uncovered.is_some() {
                    self.trouble = uncovered;
                    self.show_state();
                }
                self.folder_walk = None;
            }
            None => self.folder_walk = None,
        }
    }

    /// Tells about a file that is no object, and counts it until the next scan does.
    pub(super) fn report(&mut self, file: &Path, why: &Refusal) {
        if self.reports.refused(self.observer.bucket.name(), file, why) {
            self.observer.health.refused();
        }
    }

    pub(super) fn ask_vanished(&mut self, folder: String, after: Option<String>) {
        self.asking_vanished = true;
        let observer = self.observer.clone();
        self.work.push(Box::pin(async move {
            let after = after.unwrap_or_else(|| folder.clone());
            let page = observer.ledger_page(Some(after), BATCH).await;
            Done::Vanished(folder, page)
        }));
    }

    pub(super) fn take_vanished(&mut self, folder: String, page: Vec<LedgerEntry>) {
        self.asking_vanished = false;
        let last = page.last().map(|entry| entry.key.clone());
        for entry in page {
            if entry.key.starts_with(&folder) {
                self.note(&entry.key, Change::Touched);
            }
        }
        if let Some(last) = last
            && last.starts_with(&folder)
        {
            self.ask_vanished(folder, Some(last));
        }
    }
}
