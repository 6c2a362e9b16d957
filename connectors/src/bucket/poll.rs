//! The task of an object store's bucket: it lists the bucket again and again beside the ledger, both
//! in the order of keys and page by page, and has observed what they do not agree on. So its memory
//! is that of a page, however many objects there are.
//!
//! It decides nothing about events: the ledger says what is news, and an observation looks again.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tidemill_core::{
    ledger::{BucketState, LedgerEntry, Object},
    time::Timestamp,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    health::State,
    key::Refusal,
    observe::{Observer, Outcome},
    pending::Need,
    remote::{Page, Remote},
    report::Reports,
    tuning::{LOOKS, NOTES, PAGE, Tuning, UNREACHABLE},
};
use crate::clock;

/// The engine is stopping.
struct Stopping;

pub(super) struct Poll {
    observer: Arc<Observer>,
    remote: Remote,
    rescan: Duration,
    reports: Mutex<Reports>,
    /// What is known of the bucket; absent, it has not begun.
    state: Option<BucketState>,
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
            reports: Mutex::default(),
            state: None,
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
        let (mut after, mut notes) = (None, Notes::default());
        let (mut objects, mut refused) = (0, 0);
        let mut next_progress = started + self.observer.tuning.progress;
        let mut state = self.state;
        let mut page = self.page(None).await;
        loop {
            let known = match state {
                Some(known) => known,
                // Its times have whole seconds.
                None => {
                    let now = page.at.unwrap_or_else(clock::now);
                    let began = Timestamp(now.0 - now.0.rem_euclid(1000));
                    self.observer.begin(began).await.ok_or(Stopping)?
                }
            };
            state = Some(known);
            objects += page.objects.len() as u64;
            refused += page.refused.len() as u64;
            for (key, why) in &page.refused {
                self.report(key, why);
            }
            // The store makes the next page meanwhile.
            let next = async {
                match page.more {
                    true => Some(self.page(page.last.as_deref()).await),
                    false => None,
                }
            };
            let compared = self.compare(&page, after, &known, &mut notes);
            let (next, compared) = tokio::join!(next, compared);
            compared?;
            self.observer.health.found(objects);
            if Instant::now() >= next_progress {
                next_progress = Instant::now() + self.observer.tuning.progress;
                let (offered, waiting) = {
                    let status = self.observer.health.status();
                    (status.offered, status.waiting)
                };
                tracing::info!(bucket, objects, offered, waiting, "listing");
            }
            let Some(next) = next else { break };
            after = page.last;
            page = next;
        }
        notes.finish().await?;
        let (took, health) = (started.elapsed(), &self.observer.health);
        tracing::debug!(bucket, objects, refused, ?took, "listed");
        if !health.status().ready {
            tracing::info!(bucket, objects, ?took, "the first listing is done");
        }
        health.scanned(clock::now(), took, refused);
        health.set(State::Listing);
        if let Some(known) = state {
            self.state = Some(self.observer.scanned(known).await.ok_or(Stopping)?);
        }
        Ok(())
    }

    fn report(&self, key: &str, why: &Refusal) {
        let reports = self.reports.lock();
        let mut reports = reports.unwrap_or_else(PoisonError::into_inner);
        reports.refused(self.remote.name(), Path::new(key), why);
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

    /// Compares a page, which begins behind `after`, with what the ledger knows of the same keys, and
    /// has noted or observed what they do not agree on.
    async fn compare(
        &self,
        page: &Page,
        mut after: Option<String>,
        state: &BucketState,
        notes: &mut Notes,
    ) -> Result<(), Stopping> {
        let until = page.last.clone().filter(|_| page.more);
        let mut objects = page.objects.iter().peekable();
        loop {
            let entries = self.observer.ledger_range(after, until.clone(), PAGE);
            let entries = entries.await.ok_or(Stopping)?;
            let through = entries.len() < PAGE;
            after = entries.last().map(|entry| entry.key.clone());
            let (mut candidates, mut old) = (Vec::new(), Vec::new());
            let mut unknown = |object: &Object| match self.observer.old(state, object) {
                Some(entry) => old.push(entry),
                None => candidates.push((object.key.clone(), None)),
            };
            let mut known = Vec::new();
            for entry in entries {
                while let Some(object) = objects.next_if(|object| object.key < entry.key) {
                    unknown(object);
                }
                let object = objects.next_if(|object| object.key == entry.key);
                if entry.etag.as_deref() != object.map(|object| object.etag.as_str()) {
                    known.push((entry.key.clone(), Some(entry)));
                }
            }
            if through {
                objects.by_ref().for_each(unknown);
            }
            candidates.extend(known);
            notes.add(&self.observer, old).await?;
            self.observe(candidates).await?;
            if through {
                return Ok(());
            }
        }
    }

    async fn observe(
        &self,
        candidates: Vec<(String, Option<LedgerEntry>)>,
    ) -> Result<(), Stopping> {
        let observer = self.observer.clone();
        let mut outcomes = stream::iter(candidates)
            .map(|(key, known)| {
                let observer = &observer;
                async move {
                    let _alone = observer.alone(&key).await;
                    let by = observer.by_listing();
                    let outcome = observer.observe(&key, known, Need::Nothing, by).await;
                    (key, outcome)
                }
            })
            .buffer_unordered(LOOKS);
        while let Some((key, outcome)) = outcomes.next().await {
            match outcome {
                Outcome::Known | Outcome::Folder | Outcome::NotYet(_) | Outcome::FolderMissing => {}
                Outcome::Refused(why) => self.report(&key, &why),
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

/// What is being noted while the listing goes on.
#[derive(Default)]
struct Notes(JoinSet<Option<()>>);

impl Notes {
    async fn add(
        &mut self,
        observer: &Arc<Observer>,
        old: Vec<LedgerEntry>,
    ) -> Result<(), Stopping> {
        if old.is_empty() {
            return Ok(());
        }
        while self.0.len() >= NOTES {
            self.next().await?;
        }
        let observer = observer.clone();
        self.0.spawn(async move { observer.note(old).await });
        Ok(())
    }

    /// Waits until all of it is durable.
    async fn finish(mut self) -> Result<(), Stopping> {
        while !self.0.is_empty() {
            self.next().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(), Stopping> {
        let noted = self.0.join_next().await;
        // Who panicked has noted nothing: the engine has to look again.
        noted.and_then(Result::ok).flatten().ok_or(Stopping)
    }
}
