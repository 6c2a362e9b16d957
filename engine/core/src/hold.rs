//! Held events: their source keeps them until it is told that they are settled, so that the journal
//! need not.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use crate::{
    BoxFuture,
    event::Event,
    intake::{Intake, IntakeError},
    watermark::Progress,
};

/// An event that its source keeps until the intake says what to do.
#[derive(Clone, Debug)]
pub struct Held {
    /// What the triggers listen to, such as `amqp:orders/invoices`. It is the event's own source,
    /// unless the event is a CloudEvent that was made elsewhere.
    pub source: String,
    /// The event.
    pub event: Event,
    /// Whether its sender gave it its id, and so may send it again: the engine then remembers the id
    /// for [`crate::limits::EVENT_IDS`].
    pub stable: bool,
    /// Where it stands in a log; absent, its source is none.
    pub position: Option<Position>,
}

/// The place of a record in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub partition: Arc<Partition>,
    /// The offset.
    pub offset: i64,
    /// The broker's timestamp, in milliseconds since the Unix epoch.
    pub stamp: i64,
    /// The record's key, by which logs are ordered: as text, or in hexadecimal digits after `0x` if it
    /// is none.
    pub key: Option<String>,
}

/// What a source is to do with an event that it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Let it go: each of its deliveries is done, or durable in the journal. Acknowledge it, store
    /// its offset.
    Settle,
    /// Keep it, and offer it again: the engine stops.
    Release,
}

/// A partition of a log that this engine reads for the triggers of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// As in [`Held::source`].
    pub source: String,
    /// The consumer group.
    pub group: String,
    /// `<topic>/<number>`.
    pub partition: String,
}

/// What a source is told of the events that it has given to the intake, each by the number that the source chose.
#[derive(Debug, Default)]
pub struct Settlements(Mutex<News>);

#[derive(Debug, Default)]
struct News {
    told: Vec<(u64, Settlement)>,
    source: Option<Waker>,
}

impl Settlements {
    /// Tells the source.
    pub fn tell(&self, number: u64, settlement: Settlement) {
        let mut news = self.lock();
        news.told.push((number, settlement));
        let source = news.source.take();
        drop(news);
        if let Some(source) = source {
            source.wake();
        }
    }

    /// Waits until there is anything, and moves all of it to `told`, which is empty. One source alone waits here; if
    /// it does so no more, nothing is lost.
    pub async fn next(&self, told: &mut Vec<(u64, Settlement)>) {
        poll_fn(|context| {
            let mut news = self.lock();
            if !news.told.is_empty() {
                std::mem::swap(&mut news.told, told);
                return Poll::Ready(());
            }
            let waker = context.waker();
            if !news
                .source
                .as_ref()
                .is_some_and(|source| source.will_wake(waker))
            {
                news.source = Some(waker.clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event that its source waits for. When it is dropped, nobody does: a delivery that has not begun never
/// does, and one that has runs to its end.
pub struct Ticket<'a>(
    #[expect(dead_code, reason = "what it does, it does when it is dropped")] Box<dyn Send + 'a>,
);

impl<'a> Ticket<'a> {
    /// One that comes to this when it is dropped.
    pub fn new(waits: impl Send + 'a) -> Ticket<'a> {
        Ticket(Box::new(waits))
    }
}

/// The intake for sources that hold their events.
pub trait Holds: Intake {
    /// Takes events, and tells of each by its number when its source may settle it, however long that takes: while
    /// the journal is full or fails, it waits. Events that share a lane run in the order in which they come here.
    /// Each is waited for as long as its ticket is there. An event that is offered again meanwhile joins the
    /// one that runs.
    fn hold_all(&self, all: Vec<(u64, Held)>, settlements: &Arc<Settlements>) -> Vec<Ticket<'_>>;

    /// The same for a single one, until it is settled or released.
    fn hold(&self, held: Held) -> BoxFuture<'_, Settlement> {
        let settlements = Arc::new(Settlements::default());
        // At once, so that the order of the calls is that of the lanes.
        let ticket = self.hold_all(vec![(0, held)], &settlements);
        Box::pin(async move {
            let (_ticket, mut told) = (ticket, Vec::new());
            settlements.next(&mut told).await;
            told[0].1
        })
    }

    /// Begins to read a partition: what the journal has of it, of the trigger that is the farthest
    /// behind; none, if no trigger has completed any of it. To be called before [`Holds::hold_all`] with
    /// a position in it. Records that a trigger has completed already are settled for it without
    /// running.
    fn take_up(
        &self,
        partition: &Partition,
    ) -> BoxFuture<'_, Result<Option<Progress>, IntakeError>>;

    /// Forgets durably what was completed of a partition that is not the same one any more, such as
    /// that of a topic which was deleted and made anew.
    fn forget(&self, partition: &Partition) -> BoxFuture<'_, Result<(), IntakeError>>;

    /// Ends the reading of a partition. What the journal has of it stays.
    fn let_go(&self, partition: &Partition);
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Wake},
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_source_is_woken_once_and_told_all_in_order() {
        let (settlements, woken) = (Settlements::default(), Arc::<Woken>::default());
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        let mut told = Vec::new();
        {
            let mut next = pin!(settlements.next(&mut told));
            assert!(next.as_mut().poll(&mut context).is_pending());
            settlements.tell(7, Settlement::Settle);
            settlements.tell(3, Settlement::Release);
            assert_eq!(woken.0.load(Ordering::Relaxed), 1);
            assert!(next.poll(&mut context).is_ready());
        }
        assert_eq!(told, [(7, Settlement::Settle), (3, Settlement::Release)]);
        told.clear();

        // What is told while it does not wait, or has ceased to, is there when it does again.
        assert!(
            pin!(settlements.next(&mut told))
                .poll(&mut context)
                .is_pending()
        );
        settlements.tell(4, Settlement::Settle);
        assert!(
            pin!(settlements.next(&mut told))
                .poll(&mut context)
                .is_ready()
        );
        assert_eq!(told, [(4, Settlement::Settle)]);
        told.clear();
        assert!(
            pin!(settlements.next(&mut told))
                .poll(&mut context)
                .is_pending()
        );
    }
}
