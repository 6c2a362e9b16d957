//! An intake that remembers what it was given and answers as it is told, when it is told.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use tidemill_core::{
    BoxFuture,
    identity::fingerprint,
    intake::{Answer, Call, Calls, Intake, IntakeError, Mark, Offer, Receipt},
    outcome::Reply,
};
use tokio::sync::{Semaphore, watch};

use super::PATIENCE;

#[derive(Default)]
pub(super) struct Inner {
    /// Offers that came, answered or not.
    pub(super) came: usize,
    pub(super) offers: Vec<Offer>,
    /// The threads in which they were answered.
    pub(super) threads: Vec<String>,
    pub(super) calls: Vec<Call>,
    ids: HashMap<String, [u8; 32]>,
    /// What offers and calls end with.
    pub(super) trouble: Option<IntakeError>,
    /// What calls are answered.
    pub(super) answer: Option<Answer>,
    /// Calls that nobody waits for any more.
    pub(super) left: usize,
}

pub(super) struct Fake {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
    /// How many answers may be given.
    gate: Semaphore,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake {
            inner: Mutex::default(),
            changed: watch::Sender::new(()),
            gate: Semaphore::new(1_000_000),
        }
    }
}

impl Fake {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let result = f(&mut self.inner());
        self.changed.send_replace(());
        result
    }

    pub(super) async fn wait(&self, what: &str, mut wanted: impl FnMut(&Inner) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = changes.wait_for(|()| wanted(&self.inner()));
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "waited for {what}");
    }

    /// Answers nobody until [`Fake::open`].
    pub(super) fn shut(&self) {
        self.gate.forget_permits(usize::MAX >> 4);
    }

    pub(super) fn open(&self) {
        self.gate.add_permits(1_000_000);
    }

    async fn pass(&self) {
        self.gate.acquire().await.unwrap().forget();
    }
}

impl Intake for Fake {
    fn offer(&self, offer: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>> {
        Box::pin(async move {
            self.with(|inner| inner.came += 1);
            self.pass().await;
            self.with(|inner| {
                if let Some(trouble) = inner.trouble.clone() {
                    return Err(trouble);
                }
                let print = fingerprint(&offer.event);
                let known = match offer.mark {
                    Mark::Id => inner.ids.insert(offer.event.id.clone(), print),
                    Mark::Fresh => None,
                    Mark::Ledger(_) | Mark::Cursor(_) => panic!("not a mark of requests"),
                };
                inner.offers.push(offer);
                let thread = std::thread::current();
                inner.threads.extend(thread.name().map(str::to_owned));
                Ok(match known {
                    None => Receipt::Accepted { deliveries: 1 },
                    Some(known) if known == print => Receipt::Duplicate,
                    Some(_) => Receipt::Reused,
                })
            })
        })
    }
}

/// Tells that nobody waits for a call.
struct Left<'a>(&'a Fake);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.with(|inner| inner.left += 1);
    }
}

impl Calls for Fake {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, IntakeError>> {
        Box::pin(async move {
            self.with(|inner| inner.calls.push(call));
            let left = Left(self);
            self.pass().await;
            std::mem::forget(left);
            let inner = self.inner();
            match inner.trouble.clone() {
                Some(trouble) => Err(trouble),
                None => Ok(inner
                    .answer
                    .clone()
                    .unwrap_or(Answer::Replied(Reply::default()))),
            }
        })
    }
}
