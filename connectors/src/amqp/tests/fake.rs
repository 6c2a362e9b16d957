//! An intake that remembers what it was given and answers when it is told to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tidemill_core::{
    BoxFuture,
    hold::{Held, Holds, Partition, Settlement},
    intake::{Intake, IntakeError, Offer, Receipt},
    watermark::Progress,
};
use tokio::sync::{oneshot, watch};

/// Long enough for a broker on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Inner {
    /// All events, in the order of the calls.
    pub held: Vec<Held>,
    /// Those without an answer, by their place among all.
    open: HashMap<usize, oneshot::Sender<Settlement>>,
    /// Those that were dropped before their answer.
    pub withdrawn: Vec<usize>,
    /// How many were open at most.
    pub most: usize,
    /// What is answered at once, if anything is.
    at_once: Option<Settlement>,
}

pub struct Fake {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

impl Fake {
    /// Answers when told.
    pub fn patient() -> Arc<Fake> {
        Arc::new(Fake {
            inner: Mutex::default(),
            changed: watch::Sender::new(()),
        })
    }

    /// Settles all at once.
    pub fn settling() -> Arc<Fake> {
        let fake = Fake::patient();
        fake.settle_all();
        fake
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let result = f(&mut self.inner.lock().unwrap());
        self.changed.send_replace(());
        result
    }

    /// Waits until so many events were given, and not answered since.
    pub async fn given(&self, count: usize) -> Vec<Held> {
        let mut changes = self.changed.subscribe();
        let wait = changes.wait_for(|()| self.inner.lock().unwrap().held.len() >= count);
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited for {count} events; there are {:?}", self.ids());
        }
        self.with(|inner| inner.held.clone())
    }

    /// The ids of the events.
    pub fn ids(&self) -> Vec<String> {
        let id = |held: &Held| held.event.id.clone();
        self.with(|inner| inner.held.iter().map(id).collect())
    }

    /// Answers those that wait for one, of which `which` is said their place among all.
    pub fn answer(&self, settlement: Settlement, which: impl Fn(usize) -> bool) {
        self.with(|inner| {
            let all: Vec<usize> = inner.open.keys().copied().filter(|n| which(*n)).collect();
            for n in all {
                // Whoever asked may have gone.
                let _ = inner.open.remove(&n).unwrap().send(settlement);
            }
        });
    }

    /// From now on all are settled.
    pub fn settle_all(&self) {
        self.with(|inner| inner.at_once = Some(Settlement::Settle));
        self.answer(Settlement::Settle, |_| true);
    }

    /// From now on all are left with their source, as when the engine stops.
    pub fn release_all(&self) {
        self.with(|inner| inner.at_once = Some(Settlement::Release));
        self.answer(Settlement::Release, |_| true);
    }
}

impl Intake for Fake {
    fn offer(&self, _: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>> {
        panic!("messages are held by their broker");
    }
}

impl Holds for Fake {
    fn hold(&self, held: Held) -> BoxFuture<'_, Settlement> {
        assert_eq!(held.position, None);
        let (n, answer) = self.with(|inner| {
            let n = inner.held.len();
            inner.held.push(held);
            let (sender, answer) = oneshot::channel();
            match inner.at_once {
                Some(settlement) => sender.send(settlement).unwrap(),
                None => _ = inner.open.insert(n, sender),
            }
            inner.most = inner.most.max(inner.open.len());
            (n, answer)
        });
        let guard = Guard { fake: self, n };
        Box::pin(async move {
            let _guard = guard;
            answer.await.unwrap()
        })
    }

    fn take_up(&self, _: &Partition) -> BoxFuture<'_, Result<Option<Progress>, IntakeError>> {
        panic!("queues have no partitions");
    }

    fn forget(&self, _: &Partition) -> BoxFuture<'_, Result<(), IntakeError>> {
        panic!("queues have no partitions");
    }

    fn let_go(&self, _: &Partition) {
        panic!("queues have no partitions");
    }
}

struct Guard<'a> {
    fake: &'a Fake,
    n: usize,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.fake.with(|inner| {
            if inner.open.remove(&self.n).is_some() {
                inner.withdrawn.push(self.n);
            }
        });
    }
}
