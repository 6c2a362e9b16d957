//! What of a plan the dispatcher works by, swapped as a whole when the plan changes.
//!
//! Triggers are known by their places, which stay: one that goes leaves its place, with what runs of it,
//! to be taken again when it comes back. Whoever begins something goes by one table to the end of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::HashMap;
use tidemill_core::{
    destination::Destination,
    dispatch::{GateIndex, QueueIndex, QueueSettings},
};

use super::{Dispatcher, Trigger};
use crate::{functions::Deployed, objects::Objects};

/// What a plan comes to.
pub struct View {
    /// What listens.
    pub triggers: Vec<Trigger>,
    /// What runs, by name.
    pub functions: BTreeMap<String, Arc<Deployed>>,
    /// The buckets that handlers may reach.
    pub objects: Arc<Objects>,
    /// Where outbox actions go.
    pub destination: Arc<dyn Destination>,
    /// The bytes of the journal at which the intake stops.
    pub journal_limit: u64,
}

/// A plan's view with the places of its triggers.
pub(super) struct Table {
    /// By their places; those that went are as they were.
    pub triggers: Vec<Arc<Trigger>>,
    pub functions: BTreeMap<String, Arc<Deployed>>,
    /// The triggers of each source.
    routes: HashMap<String, Vec<usize>>,
    /// The journal's queues by their names; see [`Queue`]. Those of triggers that went are not among
    /// them.
    queues: HashMap<String, QueueIndex>,
    /// The place of every trigger that there ever was. A name costs little, and plans have few.
    places: HashMap<String, usize>,
    /// The gates of functions, likewise.
    gates: HashMap<String, GateIndex>,
    /// What each gate lets pass at a time.
    caps: Vec<usize>,
    pub objects: Arc<Objects>,
    pub destination: Arc<dyn Destination>,
    pub journal_limit: u64,
}

/// The outbox of a trigger is a queue of its own, so that a slow destination never takes the place
/// of a handler. No trigger's name has a slash.
pub fn outbox_queue(trigger: &str) -> String {
    format!("{trigger}/outbox")
}

/// The queues of a trigger, one behind the other in the list of all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// Its deliveries in the journal.
    Journaled,
    /// Its outbox.
    Outbox,
    /// What others keep: requests whose clients wait, and events that their source holds.
    Held,
}

impl Queue {
    const PER_TRIGGER: usize = 3;

    pub(super) fn of(self, trigger: usize) -> QueueIndex {
        trigger * Queue::PER_TRIGGER + self as usize
    }

    /// The place of the queue's trigger.
    pub(super) fn trigger(index: QueueIndex) -> usize {
        index / Queue::PER_TRIGGER
    }

    pub(super) fn is_held(index: QueueIndex) -> bool {
        index % Queue::PER_TRIGGER == Queue::Held as usize
    }

    pub(super) fn is_outbox(index: QueueIndex) -> bool {
        index % Queue::PER_TRIGGER == Queue::Outbox as usize
    }
}

/// How many outbox deliveries of one trigger are on their way at a time.
const OUTBOX_CONCURRENCY: usize = 16;

impl Table {
    /// The table of a plan; triggers and functions that are in the table before keep their places.
    pub(super) fn new(view: View, before: Option<&Table>) -> Table {
        let mut table = Table {
            triggers: before.map_or_else(Vec::new, |table| table.triggers.clone()),
            functions: view.functions,
            routes: HashMap::default(),
            queues: HashMap::default(),
            places: before.map_or_else(HashMap::default, |table| table.places.clone()),
            gates: before.map_or_else(HashMap::default, |table| table.gates.clone()),
            caps: before.map_or_else(Vec::new, |table| table.caps.clone()),
            objects: view.objects,
            destination: view.destination,
            journal_limit: view.journal_limit,
        };
        for (name, function) in &table.functions {
            let cap = function.plan.concurrency;
            match table.gates.get(name) {
                Some(gate) => table.caps[*gate] = cap,
                None => {
                    table.gates.insert(name.clone(), table.caps.len());
                    table.caps.push(cap);
                }
            }
        }
        for trigger in view.triggers {
            let trigger = Arc::new(trigger);
            let place = match table.places.get(&trigger.name) {
                Some(place) => {
                    table.triggers[*place] = trigger.clone();
                    *place
                }
                None => {
                    let place = table.triggers.len();
                    table.triggers.push(trigger.clone());
                    table.places.insert(trigger.name.clone(), place);
                    let outbox = outbox_queue(&trigger.name);
                    table.gates.insert(outbox, table.caps.len());
                    table.caps.push(OUTBOX_CONCURRENCY);
                    place
                }
            };
            let listeners = table.routes.entry(trigger.source.clone()).or_default();
            listeners.push(place);
            let name = trigger.name.clone();
            let outbox = outbox_queue(&name);
            table.queues.insert(outbox, Queue::Outbox.of(place));
            table.queues.insert(name, Queue::Journaled.of(place));
        }
        table
    }

    /// What the dispatch is to know: the settings of every queue, none for what is closed, and the caps
    /// of all gates.
    pub(super) fn shape(&self) -> (Vec<Option<QueueSettings>>, &[usize]) {
        let settings = self.triggers.iter().flat_map(|trigger| {
            let gate = |name: &str| self.gates.get(name).copied().unwrap_or_default();
            let held = QueueSettings {
                gate: gate(&trigger.function.plan.name),
                rate: trigger.rate,
                held: true,
                batch: trigger.batch,
            };
            let journaled = QueueSettings {
                held: false,
                ..held
            };
            let outbox = QueueSettings {
                gate: gate(&outbox_queue(&trigger.name)),
                rate: None,
                held: false,
                batch: None,
            };
            let open = self.queues.contains_key(&trigger.name);
            // Clients and sources that wait still are answered, or have been told already.
            [
                open.then_some(journaled),
                open.then_some(outbox),
                Some(held),
            ]
        });
        (settings.collect(), &self.caps)
    }

    /// A queue of the journal, by its name.
    pub(super) fn queue(&self, name: &str) -> Option<QueueIndex> {
        self.queues.get(name).copied()
    }

    /// The place of a trigger of the plan.
    pub(super) fn place(&self, trigger: &str) -> Option<usize> {
        self.queue(trigger).map(Queue::trigger)
    }

    /// The trigger of a queue.
    pub(super) fn trigger(&self, queue: QueueIndex) -> &Arc<Trigger> {
        &self.triggers[Queue::trigger(queue)]
    }

    /// What a queue of the journal is called there.
    pub(super) fn queue_name(&self, queue: QueueIndex) -> String {
        let trigger = &self.trigger(queue).name;
        match Queue::is_outbox(queue) {
            true => outbox_queue(trigger),
            false => trigger.clone(),
        }
    }

    /// The places of the triggers of a source.
    pub(super) fn listeners(&self, source: &str) -> &[usize] {
        self.routes.get(source).map_or(&[][..], Vec::as_slice)
    }
}

impl Dispatcher {
    /// Goes by another view from now on. What runs ends as it began; what waits of a trigger that is gone
    /// stays in the journal. What only the old view had is to be dropped where a thread may block: it has
    /// connections and compiled code.
    pub fn swap(&self, view: View) -> impl Send + 'static {
        let mut dispatch = self.lock();
        let table = Table::new(view, Some(&self.table.load()));
        let (queues, gates) = table.shape();
        dispatch.reshape(&queues, gates);
        // Under the lock: what starts goes by the table that it was chosen by.
        let old = self.table.swap(Arc::new(table));
        drop(dispatch);
        self.wake.notify_one();
        old
    }

    /// The queues of the plan: each trigger, and each trigger's outbox.
    pub fn queue_names(&self) -> BTreeSet<String> {
        self.table.load().queues.keys().cloned().collect()
    }
}
