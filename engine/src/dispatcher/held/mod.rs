//! Held events: their source keeps them, and the journal only what becomes of them.
//!
//! A held delivery waits for its turn in memory, in the [line](tidemill_core::turn::Line) of its trigger, and under the same
//! caps as the journaled ones. It costs one commit, that of its completion. One that cannot finish
//! now is parked: the journal takes it over, with all that may not pass it, and its source may let it
//! go ([`park`]). So a message that fails, or a lane that is slow, never blocks a queue.

mod offsets;
mod park;
#[cfg(test)]
mod park_test;
mod run;
mod state;

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use foldhash::HashSet;
use futures_util::{StreamExt, stream};
use tidemill_core::{
    BoxFuture,
    delivery::Seq,
    dispatch::Waiting,
    hold::{self, Held, Holds, Partition, Position, Settlement, Settlements},
    intake::IntakeError,
    limits,
    time::Timestamp,
    watermark::Progress,
};
use tokio::time::Instant;

use super::{
    Dispatcher, Queue, Trigger,
    intake::{EngineIntake, SourceNumber},
    table::Table,
    trigger::Order,
};
use crate::{clock, trace};

pub(super) use run::running_held;
pub(super) use state::{HeldDeliveries, HeldDelivery, Stage};

use offsets::{LastLog, Place};
use state::{State, Waits, lock};

/// How late it may be noticed that a held delivery has waited for long.
const WATCH: Duration = Duration::from_secs(5);

/// How many of those that share no lane are parked at a time.
const TOGETHER: usize = 64;

impl Holds for EngineIntake {
    fn hold_all(
        &self,
        all: Vec<(u64, Held)>,
        settlements: &Arc<Settlements>,
    ) -> Vec<hold::Ticket<'_>> {
        self.dispatcher.enter(all, settlements, self)
    }

    fn take_up(
        &self,
        partition: &Partition,
    ) -> BoxFuture<'_, Result<Option<Progress>, IntakeError>> {
        let partition = partition.clone();
        Box::pin(async move { self.dispatcher.take_up(partition).await })
    }

    fn forget(&self, partition: &Partition) -> BoxFuture<'_, Result<(), IntakeError>> {
        let partition = partition.clone();
        Box::pin(async move { self.dispatcher.forget(partition).await })
    }

    fn let_go(&self, partition: &Partition) {
        self.dispatcher.held.offsets.let_go(partition);
    }
}

/// A held event on its way in.
struct Entry<'t> {
    source: String,
    /// The triggers that listen to its source.
    listeners: &'t [usize],
    /// What it comes to; none of it has its place yet.
    deliveries: Vec<Arc<HeldDelivery>>,
    /// Who waits for it, if it comes to nothing.
    nothing: Option<Waits>,
    /// The triggers that have completed it already.
    closed: Vec<usize>,
    log: Option<Place>,
}

impl Entry<'_> {
    /// The engine does not take it.
    fn release(self) {
        let deliveries = self.deliveries.iter();
        deliveries.for_each(|held| held.told.tell(Settlement::Release));
        if let Some(waits) = self.nothing {
            waits.tell(Settlement::Release);
        }
    }
}

/// A source that waits for an event's deliveries; dropped, it waits no more.
struct Ticket<'d> {
    dispatcher: &'d Dispatcher,
    deliveries: Vec<Arc<HeldDelivery>>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        for held in &self.deliveries {
            let last = held.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
            let over = held.told.get().is_some();
            if last && !over && !held.running.load(Ordering::Relaxed) {
                self.dispatcher.leave(held);
            }
        }
    }
}

impl Dispatcher {
    /// Takes held events in: their deliveries stand in line when this returns.
    fn enter(
        self: &Arc<Self>,
        all: Vec<(u64, Held)>,
        settlements: &Arc<Settlements>,
        intake: &EngineIntake,
    ) -> Vec<hold::Ticket<'_>> {
        let (now, table) = (clock::now(), self.table.load());
        for alike in all.chunk_by(|(_, one), (_, next)| one.source == next.source) {
            self.metrics.accepted(&alike[0].1.source, alike.len());
        }
        let mut last = LastLog::default();
        let entry = |(number, held)| {
            let waits = Waits::new(settlements, number);
            self.entry(held, waits, &table, intake.source, now, &mut last)
        };
        let entries: Vec<Entry<'_>> = all.into_iter().map(entry).collect();
        let (mut tickets, mut ready) = (Vec::with_capacity(entries.len()), Vec::new());
        let mut state = self.held.lock();
        // Whoever releases all does so after the stop, under this lock.
        let stopped = self.stop.is_cancelled() || intake.closed.is_cancelled();
        for entry in entries {
            let deliveries = match stopped || entry.listeners.is_empty() {
                true => {
                    entry.release();
                    Vec::new()
                }
                false => self.stand(&mut state, &table, entry, now, &mut ready),
            };
            tickets.push(hold::Ticket::new(Ticket {
                dispatcher: self,
                deliveries,
            }));
        }
        let watched = std::mem::replace(&mut state.watched, true);
        drop(state);
        if !watched {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
        self.stand_by(ready);
        tickets
    }

    /// What a held event comes to: all that needs no look at the others.
    fn entry<'t>(
        &self,
        held: Held,
        waits: Waits,
        table: &'t Table,
        by: SourceNumber,
        now: Timestamp,
        last: &mut LastLog,
    ) -> Entry<'t> {
        let Held {
            source,
            mut event,
            stable,
            position,
        } = held;
        event.traceparent.get_or_insert_with(trace::new_traceparent);
        let listeners = table.listeners(&source);
        let new = self.matched(table, &source, listeners, &event, stable, now);
        let received = position
            .as_ref()
            .map(|position| self.held.offsets.received(position, last));
        let (log, closed) = received.unzip();
        let nothing = new.is_empty().then(|| waits.clone());
        let events = std::iter::repeat_n(event, new.len());
        let all = waits.for_each_of(new.len()).zip(events);
        let deliveries = new.into_iter().zip(all);
        let deliveries = deliveries.map(|((trigger, mut new), (waits, event))| {
            new.lane = lane(&table.triggers[trigger], new.lane, position.as_ref());
            let held = HeldDelivery::new(trigger, by, new, event, log.clone());
            held.told.add(waits);
            Arc::new(held)
        });
        Entry {
            deliveries: deliveries.collect(),
            nothing,
            closed: closed.unwrap_or_default(),
            source,
            listeners,
            log,
        }
    }

    /// Has the deliveries of an event stand in line, and gives those that its source is to wait for. `ready` gets
    /// those whose turn it is.
    fn stand(
        &self,
        state: &mut State,
        table: &Table,
        entry: Entry<'_>,
        now: Timestamp,
        ready: &mut Vec<(usize, Waiting)>,
    ) -> Vec<Arc<HeldDelivery>> {
        let Entry {
            source,
            listeners,
            mut deliveries,
            nothing,
            closed,
            log,
        } = entry;
        if let Some(waits) = nothing {
            waits.tell(Settlement::Settle);
        }
        if let Some(place) = &log {
            // What is not for a trigger is done with for it.
            let mine = |other: &usize| deliveries.iter().any(|held| held.trigger == *other);
            for &other in listeners.iter().filter(|other| !mine(other)) {
                self.held.offsets.completed(place, other);
            }
        }
        deliveries.retain_mut(|held| {
            if closed.contains(&held.trigger) {
                self.metrics.duplicate(&source);
                held.told.tell(Settlement::Settle);
                return false;
            }
            if let Some(same) = state.find(held.delivery.id) {
                same.told.join(&held.told);
                same.waiting.fetch_add(1, Ordering::Relaxed);
                let other = log.as_ref().filter(|log| same.log.as_ref() != Some(log));
                lock(&same.elsewhere).extend(other.cloned());
                *held = same.clone();
                return true;
            }
            let first = state.stand_in_line(held);
            // Whoever comes to a batch without those ahead of it is sent back.
            if first || table.triggers[held.trigger].batch.is_some() {
                ready.push((held.trigger, held.waits(now)));
            }
            true
        });
        deliveries
    }

    /// Parks a delivery that has waited for too long.
    async fn look_after(self: &Arc<Self>, held: Arc<HeldDelivery>) {
        let this = self.clone();
        let looks = async move {
            if this.has_waited_long(&held).await && *held.stage.lock().await == Stage::Held {
                this.park(&held, None).await;
            }
        };
        // A task of its own: if it breaks, the others are looked after all the same.
        if let Err(error) = tokio::spawn(looks).await {
            tracing::error!(%error, "a held delivery cannot be parked, which is a bug");
        }
    }

    /// Whether a delivery that has not begun should wait in the journal.
    async fn has_waited_long(&self, held: &HeldDelivery) -> bool {
        let in_line = {
            let state = self.held.lock();
            !state.has_turn(held)
        };
        let begun = held.running.load(Ordering::Relaxed);
        let unstarted = held.log.is_none() && held.since.elapsed() >= limits::HELD_UNSTARTED;
        // A lane that is too long already grows no further: its source waits.
        let has_room = async || {
            self.ahead(held)
                .await
                .is_some_and(|n| n < limits::LANE_PARKED)
        };
        !begun && (in_line || unstarted) && has_room().await
    }

    /// Takes a delivery out of the line, which ends it here; those behind it may have their turn.
    fn leave(&self, held: &HeldDelivery) {
        self.leave_all(&[held]);
    }

    /// The same for several of one trigger.
    fn leave_all(&self, all: &[&HeldDelivery]) {
        let mut state = self.held.lock();
        let ready = self.step_out(&mut state, all);
        drop(state);
        for held in all {
            if held.told.get() == Some(Settlement::Settle) {
                for place in lock(&held.elsewhere).drain(..) {
                    self.held.offsets.completed(&place, held.trigger);
                }
            }
        }
        self.stand_by(ready);
    }

    /// The same under the lock: whose turn it is then.
    fn step_out(&self, state: &mut State, all: &[&HeldDelivery]) -> Vec<(usize, Waiting)> {
        let Some(trigger) = all.first().map(|held| held.trigger) else {
            return Vec::new();
        };
        let mut left = Vec::with_capacity(all.len());
        for held in all {
            if state.deliveries.remove(&held.place).is_some() {
                state.by_id.remove(&held.delivery.id);
                state.no_longer_taken_over(held);
                left.push(held.place);
            }
        }
        state.step_out(trigger, &left, self.riders(trigger))
    }

    /// How many of a lane may come to a batch behind their first one.
    fn riders(&self, trigger: usize) -> usize {
        let table = self.table.load();
        table.triggers[trigger]
            .batch
            .map_or(0, |batch| batch.max - 1)
    }

    /// Which of these may run together, in their order. The others are sent back, until it is their turn.
    pub(in crate::dispatcher) fn take_together(&self, trigger: usize, places: &[Seq]) -> Vec<Seq> {
        let queue = Queue::Held.of(trigger);
        let mut places = places.to_vec();
        places.sort_unstable();
        let state = self.held.lock();
        let together = state.lines.get(&trigger).map(|line| line.together(&places));
        // Under the lock of the line: whoever's turn comes afterwards arrives anew.
        let mut dispatch = self.lock();
        places.retain(|place| {
            let stays = together.as_ref().is_none_or(|them| them.contains(place));
            if !stays {
                dispatch.withdraw(queue, *place);
            }
            stays
        });
        places
    }

    /// Tells the dispatch whose turn it is.
    fn stand_by(&self, ready: Vec<(usize, Waiting)>) {
        if ready.is_empty() {
            return;
        }
        let (mut dispatch, mut news) = (self.lock(), false);
        for (trigger, waiting) in ready {
            news |= dispatch.arrived(Queue::Held.of(trigger), waiting);
        }
        drop(dispatch);
        if news {
            self.wake.notify_one();
        }
    }

    /// Gives back to their sources what has not started, or all. Nobody's turn comes any more.
    pub(in crate::dispatcher) fn release(&self, all: bool) {
        let mut state = self.held.lock();
        let started = match all {
            true => HashSet::default(),
            false => self.started_held(&state),
        };
        let State {
            deliveries,
            by_id,
            lines,
            ..
        } = &mut *state;
        deliveries.retain(|_, held| {
            let stays = !all && has_started(held, &started);
            if !stays {
                by_id.remove(&held.delivery.id);
                held.told.tell(Settlement::Release);
            }
            stays
        });
        lines.clear();
    }

    /// What the dispatch has started, in whatever order its tasks come to run. It runs to its end: given
    /// back, it would leave a gap in its partition, and whoever reads that next would run again what is
    /// done behind it.
    fn started_held(&self, state: &State) -> HashSet<Seq> {
        let dispatch = self.lock();
        let triggers = state.lines.keys();
        triggers
            .flat_map(|trigger| dispatch.started(Queue::Held.of(*trigger)))
            .collect()
    }

    /// Gives back to a source that stops what has not started of it. What is being parked is not given
    /// back: the source is told of its end.
    pub fn release_source(&self, source: SourceNumber) {
        let mut ready = Vec::new();
        let mut state = self.held.lock();
        let started = self.started_held(&state);
        let mut released: HashMap<usize, Vec<Arc<HeldDelivery>>> = HashMap::new();
        for held in state.deliveries.values().filter(|one| one.source == source) {
            let undecided = held
                .stage
                .try_lock()
                .is_ok_and(|stage| *stage == Stage::Held);
            if !has_started(held, &started) && undecided {
                released.entry(held.trigger).or_default().push(held.clone());
            }
        }
        for all in released.values() {
            let all: Vec<&HeldDelivery> = all.iter().map(|held| &**held).collect();
            for held in &all {
                held.told.tell(Settlement::Release);
            }
            ready.extend(self.step_out(&mut state, &all));
        }
        drop(state);
        self.stand_by(ready);
    }

    fn trigger_of(&self, held: &HeldDelivery) -> Arc<Trigger> {
        self.table.load().triggers[held.trigger].clone()
    }
}

/// Looks after those that wait long in line, each once in so long, as long as any are held.
async fn watch(of: Weak<Dispatcher>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(WATCH).await;
        let Some(this) = of.upgrade() else { return };
        let now = Instant::now();
        let mut old: Vec<_> = {
            let mut state = this.held.lock();
            if state.deliveries.is_empty() {
                state.watched = false;
                return;
            }
            let old = |held: &&Arc<HeldDelivery>| held.looks(now) > held.looks(last);
            state.deliveries.values().filter(old).cloned().collect()
        };
        old.sort_unstable_by_key(|held| held.place);
        let (in_lanes, alone): (Vec<_>, Vec<_>) = old.into_iter().partition(|held| held.has_turn());
        // One after the other, and the first of a lane parks all: for each to look at all others again would take the
        // square of their number.
        for held in in_lanes {
            this.look_after(held).await;
        }
        let this = &this;
        stream::iter(alone)
            .for_each_concurrent(TOGETHER, async |held| this.look_after(held).await)
            .await;
        last = now;
    }
}

/// Whether it runs, or its task is about to begin.
fn has_started(held: &HeldDelivery, started: &HashSet<Seq>) -> bool {
    held.running.load(Ordering::Relaxed) || started.contains(&held.place)
}

fn lane(trigger: &Trigger, chosen: Option<String>, position: Option<&Position>) -> Option<String> {
    match trigger.order {
        Order::MessageKey => position?.key.clone(),
        Order::Partition => Some(position?.partition.partition.clone()),
        _ => chosen,
    }
}
