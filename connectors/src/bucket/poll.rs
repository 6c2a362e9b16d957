//! The task of an object store's bucket: it lists the bucket again and again beside the ledger, both
//! in the order of keys and page by page, and has observed what they do not agree on. So its memory
//! is that of a page, however many objects there are.
//!
//! It decides nothing about events: the ledger says what is news, and an observation looks again.

use std::{
    collections::{HashSet, VecDeque},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tidemill_core::ledger::{LedgerEntry, NoticedBy};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    health::State,
    observe::{Observer, Outcome},
    pending::Need,
    remote::{Page, Remote},
    report::Reports,
    source::by_key,
    tuning::{BATCH, LOOKS, PAGE, Tuning, UNREACHABLE},
};
use crate::clock;

/// The engine is stopping.
struct Stopping;

pub(super) struct Poll {
    observer: Arc<Observer>,
    remote: Remote,
    rescan: Duration,
    reports: Reports,
}

/// The ledger, read along with a listing.
#[derive(Default)]
struct Reading {
    entries: VecDeque<LedgerEntry>,
    /// Where the next page begins.
    after: Option<String>,
    through: bool,
}

impl Poll {
    pub(super) fn new(observer: Observer, remote: Remote, rescan: Duration) -> Poll {
        // An object is there at once and whole: nothing has to stand still, and no tick to pass.
        let tuning = Tuning {
            tick: Duration::ZERO,
            ..observer.tuning
        };
        Poll {
            observer: Arc::new(Observer { tuning, ..observer }),
            remote,
            rescan,
            reports: Reports::default(),
        }
    }

    pub(super) fn observer(&self) -> Arc<Observer> {
        self.observer.clone()
    }

    /// Runs until the token is cancelled or the intake says that the engine stops.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.observer.health.set(State::FirstScan);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.scans() => {}
        }
        self.observer.health.set(State::Stopped);
    }

    async fn scans(&mut self) {
        while let Ok(()) = self.scan().await {
            tokio::time::sleep(self.rescan).await;
        }
    }

    async fn scan(&mut self) -> Result<(), Stopping> {
        let (started, bucket) = (Instant::now(), self.remote.name().to_owned());
        let mut reading = Reading::default();
        let mut after = None;
        let (mut objects, mut refused) = (0, 0);
        loop {
            let page = self.page(after.as_deref()).await;
            objects += page.objects.len() as u64;
            refused += page.refused.len() as u64;
            for (key, why) in &page.refused {
                self.reports.refused(&bucket, Path::new(key), why);
            }
            let candidates = self.candidates(&page, &mut reading).await?;
            self.observe(candidates).await?;
            self.observer.health.found(objects);
            if !page.more {
                break;
            }
            after = page.last;
        }
        let (took, health) = (started.elapsed(), &self.observer.health);
        tracing::debug!(bucket, objects, refused, ?took, "listed");
        if !health.status().ready {
            tracing::info!(bucket, objects, ?took, "the first listing is done");
        }
        health.scanned(clock::now(), refused);
        health.set(State::Listing);
        Ok(())
    }

    /// The next page of the listing, however long the store does not answer.
    async fn page(&self, after: Option<&str>) -> Page {
        let (health, mut wait) = (&self.observer.health, self.observer.tuning.missing);
        loop {
            match self.remote.page("", after, PAGE).await {
                Ok(page) => {
                    if let State::Unreachable(_) = health.status().state {
                        tracing::info!(bucket = self.remote.name(), "the store answers again");
                        let ready = health.status().ready;
                        health.set(if ready {
                            State::Listing
                        } else {
                            State::FirstScan
                        });
                    }
                    return page;
                }
                Err(error) => {
                    let text = error.chain();
                    if health.set(State::Unreachable(text.clone())) {
                        tracing::warn!("{text}; it is tried again");
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(UNREACHABLE);
                }
            }
        }
    }

    /// What listing and ledger do not agree on, up to the end of the page.
    async fn candidates(
        &self,
        page: &Page,
        reading: &mut Reading,
    ) -> Result<Vec<(String, Option<LedgerEntry>)>, Stopping> {
        let keys = page.objects.iter().map(|object| object.key.clone());
        let known = self.observer.ledger(keys.collect()).await;
        let mut known = by_key(known.ok_or(Stopping)?);
        let mut candidates = Vec::new();
        for object in &page.objects {
            let entry = known.remove(&object.key);
            let etag = entry.as_ref().and_then(|entry| entry.etag.as_deref());
            if etag != Some(&object.etag) {
                candidates.push((object.key.clone(), entry));
            }
        }
        let listed: HashSet<&str> = page.objects.iter().map(|o| o.key.as_str()).collect();
        let end = page.last.as_deref().filter(|_| page.more);
        while let Some(entry) = reading.next(&self.observer, end).await? {
            if !listed.contains(entry.key.as_str()) {
                candidates.push((entry.key.clone(), Some(entry)));
            }
        }
        reading.pass(end);
        Ok(candidates)
    }

    async fn observe(
        &mut self,
        candidates: Vec<(String, Option<LedgerEntry>)>,
    ) -> Result<(), Stopping> {
        let observer = self.observer.clone();
        let mut outcomes = stream::iter(candidates)
            .map(|(key, known)| {
                let observer = &observer;
                async move {
                    let _alone = observer.alone(&key).await;
                    let by = NoticedBy::Listing;
                    let outcome = observer.observe(&key, known, Need::Nothing, by).await;
                    (key, outcome)
                }
            })
            .buffer_unordered(LOOKS);
        while let Some((key, outcome)) = outcomes.next().await {
            match outcome {
                Outcome::Known | Outcome::Folder | Outcome::NotYet(_) | Outcome::FolderMissing => {}
                Outcome::Refused(why) => {
                    let bucket = self.remote.name();
                    self.reports.refused(bucket, Path::new(&key), &why);
                }
                Outcome::Failed(error) => {
                    let bucket = self.remote.name();
                    tracing::warn!(bucket, "{}; the next listing tries again", error.chain());
                }
                Outcome::Stopping => return Err(Stopping),
            }
        }
        Ok(())
    }
}

impl Reading {
    /// The next object that the ledger believes to exist, up to `end`; absent, to the last.
    async fn next(
        &mut self,
        observer: &Observer,
        end: Option<&str>,
    ) -> Result<Option<LedgerEntry>, Stopping> {
        if self.entries.is_empty() && !self.through {
            let page = observer.ledger_page(self.after.clone(), BATCH).await;
            let page = page.ok_or(Stopping)?;
            match page.last() {
                Some(last) => self.after = Some(last.key.clone()),
                None => self.through = true,
            }
            self.entries.extend(page);
        }
        let within = |entry: &LedgerEntry| end.is_none_or(|end| entry.key.as_str() <= end);
        match self.entries.front() {
            Some(entry) if within(entry) => Ok(self.entries.pop_front()),
            _ => Ok(None),
        }
    }

    /// Leaves out what came into the ledger up to `end` since it was read: it was listed.
    fn pass(&mut self, end: Option<&str>) {
        if self.entries.is_empty() && end > self.after.as_deref() {
            self.after = end.map(str::to_owned);
        }
    }
}
