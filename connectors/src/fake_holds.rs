//! For tests: an intake that holds what brokers keep. It remembers what it was given and answers when it
//! is told to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tidemill_core::{
    BoxFuture,
    hold::{Held, Holds, Partition, Settlement, Settlements, Ticket},
    intake::{Intake, IntakeError, Offer, Receipt},
    watermark::Progress,
};
use tokio::sync::watch;

/// Long enough for a group whose members come and go on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Inner {
    /// All events, in the order of the calls.
    pub held: Vec<Held>,
    /// Those without an answer, by their place among all: who is to be told, of which number.
    open: HashMap<usize, (Arc<Settlements>, u64)>,
    /// Those that were dropped before their answer.
    pub withdrawn: Vec<usize>,
    /// How many were open at most.
    pub most: usize,
    /// What is answered at once, if anything is.
    at_once: Option<Settlement>,
    /// What the journal has.
    pub kept: HashMap<Partition, Progress>,
    pub taken_up: Vec<Partition>,
    pub let_go: Vec<Partition>,
    pub forgotten: Vec<Partition>,
    /// How many calls fail from now on.
    pub failures: usize,
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
        fake.with(|inner| inner.at_once = Some(Settlement::Settle));
        fake
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let result = f(&mut self.inner.lock().unwrap());
        self.changed.send_replace(());
        result
    }

    pub async fn wait(&self, what: &str, mut wanted: impl FnMut(&Inner) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = changes.wait_for(|()| wanted(&self.inner.lock().unwrap()));
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let inner = self.inner.lock().unwrap();
            panic!(
                "waited for {what}; {} held, {} open, taken up {:?}, let go {:?}",
                inner.held.len(),
                inner.open.len(),
                inner.taken_up,
                inner.let_go,
            );
        }
    }

    /// Waits until so many events were given.
    pub async fn given(&self, count: usize) -> Vec<Held> {
        let what = format!("{count} events");
        self.wait(&what, |inner| inner.held.len() >= count).await;
        self.with(|inner| inner.held.clone())
    }

    /// The ids of the events.
    pub fn ids(&self) -> Vec<String> {
        let id = |held: &Held| held.event.id.clone();
        self.with(|inner| inner.held.iter().map(id).collect())
    }

    /// The events, as `<partition number>:<offset>`.
    pub fn places(&self) -> Vec<String> {
        let place = |held: &Held| {
            let position = held.position.as_ref().unwrap();
            let number = position.partition.partition.rsplit('/').next().unwrap();
            format!("{number}:{}", position.offset)
        };
        self.with(|inner| inner.held.iter().map(place).collect())
    }

    /// Answers those that wait for one, of which `which` is said their place among all.
    pub fn answer(&self, settlement: Settlement, which: impl Fn(usize) -> bool) {
        self.with(|inner| {
            let all: Vec<usize> = inner.open.keys().copied().filter(|n| which(*n)).collect();
            for n in all {
                let (settlements, number) = inner.open.remove(&n).unwrap();
                settlements.tell(number, settlement);
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

    /// A call about a partition.
    fn call<T>(
        &self,
        partition: &Partition,
        f: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, IntakeError> {
        assert!(is_log(&partition.source), "queues have no partitions");
        self.with(|inner| {
            if inner.failures > 0 {
                inner.failures -= 1;
                return Err(IntakeError::Failed("the disk is on fire".into()));
            }
            Ok(f(inner))
        })
    }

    fn hold_one(&self, (number, held): (u64, Held), settlements: &Arc<Settlements>) -> Ticket<'_> {
        assert_eq!(held.position.is_some(), is_log(&held.source));
        let n = self.with(|inner| {
            let n = inner.held.len();
            inner.held.push(held);
            match inner.at_once {
                Some(settlement) => settlements.tell(number, settlement),
                None => {
                    inner.open.insert(n, (settlements.clone(), number));
                    inner.most = inner.most.max(inner.open.len());
                }
            }
            n
        });
        Ticket::new(Guard { fake: self, n })
    }
}

impl Intake for Fake {
    fn offer(&self, _: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>> {
        panic!("it is held by its broker");
    }
}

impl Holds for Fake {
    fn hold_all(&self, all: Vec<(u64, Held)>, settlements: &Arc<Settlements>) -> Vec<Ticket<'_>> {
        let all = all.into_iter();
        all.map(|one| self.hold_one(one, settlements)).collect()
    }

    fn take_up(
        &self,
        partition: &Partition,
    ) -> BoxFuture<'_, Result<Option<Progress>, IntakeError>> {
        let answer = self.call(partition, |inner| {
            inner.taken_up.push(partition.clone());
            inner.kept.get(partition).cloned()
        });
        Box::pin(async move { answer })
    }

    fn forget(&self, partition: &Partition) -> BoxFuture<'_, Result<(), IntakeError>> {
        let answer = self.call(partition, |inner| {
            inner.forgotten.push(partition.clone());
            inner.kept.remove(partition);
        });
        Box::pin(async move { answer })
    }

    fn let_go(&self, partition: &Partition) {
        assert!(is_log(&partition.source), "queues have no partitions");
        self.with(|inner| inner.let_go.push(partition.clone()));
    }
}

/// Whether the source is a log, whose records have positions.
fn is_log(source: &str) -> bool {
    source.starts_with("kafka:")
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
