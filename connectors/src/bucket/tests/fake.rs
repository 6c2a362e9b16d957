//! An intake with an honest ledger in memory: a step is taken only from where the ledger stands,
//! and an event id is accepted only once.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::Mutex,
};

use tidemill_core::{
    BoxFuture,
    event::Event,
    intake::{Intake, IntakeError, Ledgers, Mark, Offer, Receipt},
    ledger::{BucketMove, BucketState, Forget, Gone, LedgerEntry},
    time::Timestamp,
};
use tokio::sync::watch;

use super::PATIENCE;

#[derive(Default)]
pub(super) struct Inner {
    pub(super) entries: BTreeMap<String, LedgerEntry>,
    ids: HashSet<String>,
    /// Kind and key of each event, in the order of acceptance.
    pub(super) events: Vec<String>,
    pub(super) offers: Vec<Event>,
    /// How many of `events` were expected already.
    told: usize,
    /// How many offers are refused from now on.
    pub(super) refusals: usize,
    /// How many offers lose their receipt after the commit.
    pub(super) lost: usize,
    pub(super) refused: usize,
    pub(super) state: Option<BucketState>,
    pub(super) stopping: bool,
}

pub(super) struct Ledger {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            inner: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Inner {
    fn gone(&self, before: Timestamp, limit: usize) -> Vec<String> {
        let gone = |e: &&LedgerEntry| e.etag.is_none() && e.modified < before;
        let mut gone: Vec<_> = self.entries.values().filter(gone).collect();
        gone.sort_by_key(|entry| entry.modified);
        let keys = gone.into_iter().take(limit);
        keys.map(|entry| entry.key.clone()).collect()
    }
}

impl Ledger {
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let result = f(&mut self.inner.lock().unwrap());
        self.changed.send_replace(());
        result
    }

    pub(super) async fn wait(&self, what: &str, mut wanted: impl FnMut(&Inner) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = changes.wait_for(|()| wanted(&self.inner.lock().unwrap()));
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "waited for {what}; events: {:?}",
                self.inner.lock().unwrap().events
            );
        }
    }

    pub(super) async fn expect(&self, events: &[&str]) {
        let what = format!("{events:?}");
        self.wait(&what, |l| l.events.len() >= l.told + events.len())
            .await;
        self.with(|l| {
            let mut new = l.events.split_off(l.told);
            l.events.extend(new.iter().cloned());
            l.told = l.events.len();
            let mut expected = events.to_vec();
            new.sort();
            expected.sort();
            assert_eq!(new, expected);
        });
    }

    /// Key and etag of what the ledger believes to exist.
    pub(super) fn objects(&self) -> Vec<(String, String)> {
        let entries = self.with(|l| l.entries.clone());
        let objects = entries.into_values().filter_map(|e| Some((e.key, e.etag?)));
        objects.collect()
    }
}

impl Intake for Ledger {
    fn offer(&self, offer: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>> {
        Box::pin(async move {
            // A commit takes its time, in which everything else goes on.
            tokio::task::yield_now().await;
            self.with(|l| {
                if l.stopping {
                    return Err(IntakeError::Stopping);
                }
                if l.refusals > 0 {
                    l.refusals -= 1;
                    l.refused += 1;
                    return Err(IntakeError::Full("no room".into()));
                }
                let Mark::Ledger(step) = offer.mark else {
                    panic!("buckets move the ledger");
                };
                assert_eq!(step.bucket, "b");
                let key = step.to.key.clone();
                if l.entries.get(&key) != step.from.as_ref() {
                    return Ok(Receipt::Duplicate);
                }
                assert!(
                    l.ids.insert(offer.event.id.clone()),
                    "{} again",
                    offer.event.id
                );
                l.entries.insert(key.clone(), step.to);
                let kind = offer.event.kind.strip_prefix("object.").unwrap();
                l.events.push(format!("{kind} {key}"));
                l.offers.push(offer.event);
                if l.lost > 0 {
                    l.lost -= 1;
                    return Err(IntakeError::Failed("the receipt was lost".into()));
                }
                Ok(Receipt::Accepted { deliveries: 1 })
            })
        })
    }
}

impl Ledgers for Ledger {
    fn ledger(
        &self,
        _: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>> {
        let find = |l: &mut Inner| {
            keys.iter()
                .filter_map(|k| l.entries.get(k).cloned())
                .collect()
        };
        Box::pin(std::future::ready(Ok(self.with(find))))
    }

    fn ledger_page(
        &self,
        _: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>> {
        let page = self.with(|l| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let range = l.entries.range::<String, _>((from, Bound::Unbounded));
            let live = range.map(|(_, e)| e.clone()).filter(|e| e.etag.is_some());
            live.take(limit).collect()
        });
        Box::pin(std::future::ready(Ok(page)))
    }

    fn ledger_range(
        &self,
        _: &str,
        after: Option<String>,
        until: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>> {
        let page = self.with(|l| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let to = until.map_or(Bound::Unbounded, Bound::Included);
            let range = l.entries.range::<String, _>((from, to));
            range.map(|(_, e)| e.clone()).take(limit).collect()
        });
        Box::pin(std::future::ready(Ok(page)))
    }

    fn note(&self, _: &str, objects: Vec<LedgerEntry>) -> BoxFuture<'_, Result<(), IntakeError>> {
        self.with(|l| {
            for object in objects {
                l.entries.entry(object.key.clone()).or_insert(object);
            }
        });
        Box::pin(std::future::ready(Ok(())))
    }

    fn bucket(&self, _: &str) -> BoxFuture<'_, Result<Option<BucketState>, IntakeError>> {
        Box::pin(std::future::ready(Ok(self.with(|l| l.state))))
    }

    fn move_bucket(&self, step: BucketMove) -> BoxFuture<'_, Result<(), IntakeError>> {
        self.with(|l| {
            l.state = Some(step.to);
            if let Some(Forget { before, limit }) = step.forget {
                for key in l.gone(before, limit) {
                    let entry = l.entries.remove(&key).unwrap();
                    assert!(entry.deletes <= step.to.deletes);
                }
            }
        });
        Box::pin(std::future::ready(Ok(())))
    }

    fn gone(
        &self,
        _: &str,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Gone, IntakeError>> {
        let gone = self.with(|l| {
            let keys = l.gone(before, limit);
            let deletes = keys.iter().map(|key| l.entries[key].deletes).max();
            Gone {
                keys: keys.len() as u64,
                deletes: deletes.unwrap_or(0),
            }
        });
        Box::pin(std::future::ready(Ok(gone)))
    }
}
