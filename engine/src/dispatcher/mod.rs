//! The dispatcher: from an accepted event to the commit of what its handler did.
//!
//! An event enters by [`intake`], is matched and journaled; [`drive`] starts its deliveries as core
//! decides; [`deliver`] takes one up, [`attempt`] runs it, [`complete`] commits what it did, and
//! [`settle`] what becomes of it if it failed. Everything a delivery causes
//! becomes durable in one commit, and nothing that is not durable is ever acted upon.

mod attempt;
mod batch;
mod call;
mod commit;
mod complete;
mod computing;
mod deliver;
mod drive;
mod effects;
mod forward;
mod held;
mod hops;
mod host;
pub mod intake;
mod invoke;
mod locks;
mod member;
mod outbox;
pub mod redrive;
mod route;
mod row;
mod settle;
mod table;
pub mod tap;
#[cfg(test)]
mod testing;
mod trigger;
mod usage;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use tidemill_core::{
    dispatch::{Dispatch, Waiting},
    identity::DeliveryId,
};
use tidemill_journal::{Accepted, Added, Journal, Pending};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{metrics::Metrics, objects::Objects};

use call::Calls;
use computing::Computing;
use held::HeldDeliveries;
use locks::KeyLocks;
use table::{Queue, Table};
use tap::Tap;
use usage::SpareUsage;

pub use computing::{Computes, step_back};
pub use drive::Drained;
pub use hops::HopMemory;
pub use invoke::Invoked;
pub use redrive::RedriveError;
pub use table::{View, outbox_queue};
pub use trigger::{Listens, Order, Target, Trigger, emitted_source};

/// What the dispatcher is made of.
pub struct Parts {
    /// The durable store.
    pub journal: Arc<dyn Journal>,
    /// What of the plan it works by at first.
    pub view: View,
    /// The hops of objects that the engine is writing.
    pub hops: Arc<HopMemory>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The most attempts at a time over all functions.
    pub concurrency: usize,
    /// Stops the intake and new attempts.
    pub stop: CancellationToken,
}

/// The running dispatcher. One per engine, shared by all that offer, run or ask.
pub struct Dispatcher {
    journal: Arc<dyn Journal>,
    /// What of the plan it works by.
    table: ArcSwap<Table>,
    /// Requests whose clients wait.
    calls: Calls,
    /// What brokers keep.
    held: HeldDeliveries,
    /// All that runs, which the drain waits for.
    tasks: TaskTracker,
    /// Where attempts go on that compute.
    computing: Arc<Computing>,
    /// What attempts used that had nothing to commit.
    spare_usage: SpareUsage,
    /// Who listens to the attempts.
    tap: Tap,
    hops: Arc<HopMemory>,
    metrics: Arc<Metrics>,
    /// The journal passed its limit and has not yet come back to nine tenths of it.
    full: AtomicBool,
    dispatch: Mutex<Dispatch>,
    /// How many rows run handlers, or are about to.
    rows: AtomicUsize,
    /// How many cores the engine may use.
    cores: usize,
    /// Wakes the driver: something arrived or ended.
    wake: Notify,
    locks: KeyLocks,
    stop: CancellationToken,
    /// Ends running attempts when the drain has taken too long.
    kill: CancellationToken,
    /// It has.
    killed: AtomicBool,
    /// Set once, with the reason, if the engine cannot go on.
    broken: watch::Sender<Option<String>>,
}

impl Dispatcher {
    /// Puts the parts together. Nothing runs before [`Dispatcher::drive`].
    pub fn new(parts: Parts) -> Arc<Dispatcher> {
        let table = Table::new(parts.view, None);
        let mut dispatch = Dispatch::new(&[], &[], parts.concurrency);
        let (queues, gates) = table.shape();
        dispatch.reshape(&queues, gates);
        Arc::new(Dispatcher {
            dispatch: Mutex::new(dispatch),
            journal: parts.journal,
            table: ArcSwap::from_pointee(table),
            calls: Calls::new(),
            held: HeldDeliveries::default(),
            tasks: TaskTracker::new(),
            computing: Arc::default(),
            spare_usage: SpareUsage::default(),
            tap: Tap::new(),
            hops: parts.hops,
            metrics: parts.metrics,
            full: AtomicBool::new(false),
            rows: AtomicUsize::new(0),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            wake: Notify::new(),
            locks: KeyLocks::default(),
            stop: parts.stop,
            kill: CancellationToken::new(),
            killed: AtomicBool::new(false),
            broken: watch::Sender::new(None),
        })
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// The buckets of the plan.
    pub fn objects(&self) -> Arc<Objects> {
        self.table.load().objects.clone()
    }

    /// Why the engine cannot go on, if so.
    pub fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    /// Waits until the engine cannot go on.
    pub async fn until_broken(&self) {
        // The sender lives as long as this dispatcher.
        _ = self.broken.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether the journal is at its limit: the intake takes nothing until it is back at 90 %.
    pub fn is_full(&self) -> bool {
        let bytes = self.journal.bytes();
        let was = self.full.load(Ordering::Relaxed);
        let limit = self.table.load().journal_limit;
        let threshold = if was { limit / 10 * 9 } else { limit };
        let full = bytes >= threshold;
        if full != was {
            self.full.store(full, Ordering::Relaxed);
            if full {
                tracing::error!(
                    bytes,
                    limit,
                    "the journal has reached engine.journal_limit: sources wait; redrive or purge \
                     dead letters, or raise the limit"
                );
            } else {
                tracing::info!(bytes, "the journal is below its limit again: sources go on");
            }
        }
        full
    }

    /// How many attempts run now.
    pub fn running(&self) -> usize {
        self.lock().running()
    }

    fn lock(&self) -> MutexGuard<'_, Dispatch> {
        self.dispatch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the dispatch what a commit added, and what it released.
    fn arrived<'a>(
        &self,
        accepted: impl IntoIterator<Item = &'a Accepted>,
        added: &[Added],
        released: &[Pending],
    ) {
        if added.is_empty() && released.is_empty() {
            return;
        }
        let accepted = accepted.into_iter().flat_map(|one| {
            let deliveries = one.deliveries.iter();
            deliveries.map(move |delivery| (delivery.id, (one, delivery)))
        });
        let accepted: HashMap<DeliveryId, _> = accepted.collect();
        let table = self.table.load();
        let (mut dispatch, mut news) = (self.lock(), false);
        for pending in released {
            if let Some(queue) = table.queue(&pending.trigger) {
                let (seq, due, size) = (pending.seq, pending.due, pending.size);
                news |= dispatch.arrived(queue, Waiting { seq, due, size });
            }
        }
        for Added { seq, id, blocked } in added {
            let Some((one, delivery)) = accepted.get(id) else {
                continue;
            };
            if let Some((cause, reason)) = &delivery.dead {
                self.metrics.dead_letter(&delivery.trigger, *cause);
                let attempts = delivery.history.last().map_or(0, |record| record.attempt);
                let (trigger, id) = (&delivery.trigger, delivery.id);
                self.tell_dead(trigger, id, &one.event, attempts, *cause, reason);
                continue;
            }
            if let Some(queue) = table.queue(&delivery.trigger)
                && !blocked
            {
                let (seq, due, size) = (*seq, delivery.due, one.event.size());
                news |= dispatch.arrived(queue, Waiting { seq, due, size });
            }
        }
        drop(dispatch);
        if news {
            self.wake.notify_one();
        }
    }
}
