//! What is known of a bucket as a whole: when it began, what was there then, and what its ledger may
//! forget. Decides nothing about single objects but whether they are older than the bucket.

use std::sync::atomic::Ordering::Relaxed;

use tidemill_core::{
    ledger::{BucketMove, BucketState, Forget, LedgerEntry, Object},
    limits,
    time::Timestamp,
};

use super::{observe::Observer, tuning::FORGET};
use crate::clock;

impl Observer {
    /// What is known of the bucket, which begins at `now` if nothing is; absent, the engine is
    /// stopping.
    pub(super) async fn begin(&self, now: Timestamp) -> Option<BucketState> {
        let bucket = self.bucket.name();
        let known = self.persist(|| self.intake.bucket(bucket)).await?;
        let state = match known {
            Some(state) => state,
            None => {
                let state = BucketState {
                    began: now,
                    ..BucketState::default()
                };
                self.keep(state, None).await?;
                state
            }
        };
        self.forgotten.store(state.deletes, Relaxed);
        Some(state)
    }

    /// What the ledger, which does not know it, is to know of an object that is old: it was there when the bucket began, and
    /// no scan has been through since.
    pub(super) fn old(&self, state: &BucketState, object: &Object) -> Option<LedgerEntry> {
        let old = self.only_new && !state.complete && object.modified < state.began;
        old.then(|| LedgerEntry {
            key: object.key.clone(),
            etag: Some(object.etag.clone()),
            size: object.size,
            modified: object.modified,
            deletes: self.forgotten.load(Relaxed),
        })
    }

    /// Notes objects that are no news; absent, the engine is stopping.
    pub(super) async fn note(&self, objects: Vec<LedgerEntry>) -> Option<()> {
        if objects.is_empty() {
            return Some(());
        }
        let bucket = self.bucket.name();
        self.persist(|| self.intake.note(bucket, objects.clone()))
            .await
    }

    /// Keeps that a scan was through, and has the ledger forget what went long ago.
    pub(super) async fn scanned(&self, mut state: BucketState) -> Option<BucketState> {
        let before = clock::now().minus(limits::LEDGER_GONE);
        let bucket = self.bucket.name();
        loop {
            let gone = self.persist(|| self.intake.gone(bucket, before, FORGET));
            let gone = gone.await?;
            if gone.keys == 0 && state.complete {
                return Some(state);
            }
            state.complete = true;
            state.deletes = state.deletes.max(gone.deletes);
            // Before they are forgotten: who finds a key unknown counts from here.
            self.forgotten.store(state.deletes, Relaxed);
            let limit = FORGET;
            let forget = (gone.keys > 0).then_some(Forget { before, limit });
            self.keep(state, forget).await?;
            if gone.keys > 0 {
                tracing::debug!(bucket, keys = gone.keys, "forgot keys that went long ago");
            }
        }
    }

    async fn keep(&self, to: BucketState, forget: Option<Forget>) -> Option<()> {
        let step = BucketMove {
            bucket: self.bucket.name().to_owned(),
            to,
            forget,
        };
        self.persist(|| self.intake.move_bucket(step.clone())).await
    }
}
