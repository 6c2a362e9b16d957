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
mod outbox;
pub mod redrive;
mod route;
mod settle;
mod trigger;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tidemill_core::{
    destination::Destination,
    dispatch::{Dispatch, QueueIndex, QueueSettings, Waiting},
    identity::DeliveryId,
};
use tidemill_journal::{Accepted, Added, Journal, Pending};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{functions::Deployed, metrics::Metrics, objects::Objects};

use call::Calls;
use held::HeldDeliveries;
use locks::KeyLocks;
use usage::SpareUsage;

pub use drive::Drained;
pub use hops::HopMemory;
pub use invoke::Invoked;
pub use redrive::RedriveError;
pub use trigger::{Listens, Order, Target, Trigger, emitted_source};

/// What the dispatcher is made of.
pub struct Parts {
    /// The durable store.
    pub journal: Arc<dyn Journal>,
    /// What listens.
    pub triggers: Vec<Trigger>,
    /// What runs, by name.
    pub functions: BTreeMap<String, Arc<Deployed>>,
    /// The buckets that handlers may reach.
    pub objects: Arc<Objects>,
    /// Where outbox actions go.
    pub destination: Arc<dyn Destination>,
    /// The hops of objects that the engine is writing.
    pub hops: Arc<HopMemory>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The bytes of the journal at which the intake stops.
    pub journal_limit: u64,
    /// The most attempts at a time over all functions.
    pub concurrency: usize,
    /// Stops the intake and new attempts.
    pub stop: CancellationToken,
}

/// The running dispatcher. One per engine, shared by all that offer, run or ask.
pub struct Dispatcher {
    journal: Arc<dyn Journal>,
    triggers: Vec<Trigger>,
    functions: BTreeMap<String, Arc<Deployed>>,
    /// The triggers of each source.
    routes: HashMap<String, Vec<usize>>,
    /// The journal's queues by their names; see [`Queues`].
    queues: HashMap<String, QueueIndex>,
    /// Requests whose clients wait.
    calls: Calls,
    /// What brokers keep.
    held: HeldDeliveries,
    /// What attempts used that had nothing to commit.
    spare_usage: SpareUsage,
    objects: Arc<Objects>,
    destination: Arc<dyn Destination>,
    hops: Arc<HopMemory>,
    metrics: Arc<Metrics>,
    journal_limit: u64,
    /// The journal passed its limit and has not yet come back to nine tenths of it.
    full: AtomicBool,
    dispatch: Mutex<Dispatch>,
    /// Wakes the driver: something arrived or ended.
    wake: Notify,
    locks: KeyLocks,
    stop: CancellationToken,
    /// Ends running attempts when the drain has taken too long.
    kill: CancellationToken,
    /// Set once, with the reason, if the engine cannot go on.
    broken: watch::Sender<Option<String>>,
}

/// The outbox of a trigger is a queue of its own, so that a slow destination never takes the place
/// of a handler. No trigger's name has a slash.
pub fn outbox_queue(trigger: &str) -> String {
    format!("{trigger}/outbox")
}

/// The queues of a trigger, one behind the other in the list of all.
#[derive(Clone, Copy)]
enum Queue {
    /// Its deliveries in the journal.
    Journaled,
    /// Its outbox.
    Outbox,
    /// What others keep: requests whose clients wait, and events that their source holds.
    Held,
}

impl Queue {
    const PER_TRIGGER: usize = 3;

    fn of(self, trigger: usize) -> QueueIndex {
        trigger * Queue::PER_TRIGGER + self as usize
    }

    fn is_held(index: QueueIndex) -> bool {
        index % Queue::PER_TRIGGER == Queue::Held as usize
    }
}

/// How many outbox deliveries of one trigger are on their way at a time.
const OUTBOX_CONCURRENCY: usize = 16;

impl Dispatcher {
    /// Puts the parts together. Nothing runs before [`Dispatcher::drive`].
    pub fn new(parts: Parts) -> Arc<Dispatcher> {
        let function_names: Vec<&String> = parts.functions.keys().collect();
        let mut gates: Vec<usize> = parts
            .functions
            .values()
            .map(|f| f.plan.concurrency)
            .collect();
        let mut settings = Vec::new();
        let mut queues = HashMap::new();
        let mut routes: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, trigger) in parts.triggers.iter().enumerate() {
            routes
                .entry(trigger.source.clone())
                .or_default()
                .push(index);
            let gate = function_names.binary_search(&&trigger.function.plan.name);
            let gate = gate.unwrap_or_default();
            queues.insert(trigger.name.clone(), Queue::Journaled.of(index));
            queues.insert(outbox_queue(&trigger.name), Queue::Outbox.of(index));
            let journaled = QueueSettings {
                gate,
                rate: trigger.rate,
                held: false,
                batch: trigger.batch,
            };
            let outbox = QueueSettings {
                gate: gates.len(),
                rate: None,
                held: false,
                batch: None,
            };
            let held = QueueSettings {
                held: true,
                ..journaled
            };
            settings.extend([journaled, outbox, held]);
            gates.push(OUTBOX_CONCURRENCY);
        }
        Arc::new(Dispatcher {
            dispatch: Mutex::new(Dispatch::new(&settings, &gates, parts.concurrency)),
            journal: parts.journal,
            triggers: parts.triggers,
            functions: parts.functions,
            routes,
            queues,
            calls: Calls::new(),
            held: HeldDeliveries::default(),
            spare_usage: SpareUsage::default(),
            objects: parts.objects,
            destination: parts.destination,
            hops: parts.hops,
            metrics: parts.metrics,
            journal_limit: parts.journal_limit,
            full: AtomicBool::new(false),
            wake: Notify::new(),
            locks: KeyLocks::default(),
            stop: parts.stop,
            kill: CancellationToken::new(),
            broken: watch::Sender::new(None),
        })
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// The buckets of the plan.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The queues of the plan: each trigger, and each trigger's outbox.
    pub fn queue_names(&self) -> BTreeSet<&str> {
        self.queues.keys().map(String::as_str).collect()
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
        let threshold = if was {
            self.journal_limit / 10 * 9
        } else {
            self.journal_limit
        };
        let full = bytes >= threshold;
        if full != was {
            self.full.store(full, Ordering::Relaxed);
            if full {
                tracing::error!(
                    bytes,
                    limit = self.journal_limit,
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

    fn trigger(&self, queue: &str) -> Option<&Trigger> {
        self.triggers
            .get(self.queues.get(queue)? / Queue::PER_TRIGGER)
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
        let mut dispatch = self.lock();
        for pending in released {
            if let Some(&queue) = self.queues.get(&pending.trigger) {
                let (seq, due, size) = (pending.seq, pending.due, pending.size);
                dispatch.arrived(queue, Waiting { seq, due, size });
            }
        }
        for Added { seq, id, blocked } in added {
            let Some((one, delivery)) = accepted.get(id) else {
                continue;
            };
            if let Some((cause, _)) = &delivery.dead {
                self.metrics.dead_letter(&delivery.trigger, *cause);
                continue;
            }
            if let Some(&queue) = self.queues.get(&delivery.trigger)
                && !blocked
            {
                let size = one.event.size();
                dispatch.arrived(
                    queue,
                    Waiting {
                        seq: *seq,
                        due: delivery.due,
                        size,
                    },
                );
            }
        }
        drop(dispatch);
        self.wake.notify_one();
    }
}
