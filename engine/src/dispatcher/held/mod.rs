//! Held events: their source keeps them, and the journal only what becomes of them.
//!
//! A held delivery waits for its turn in memory, in the [`Line`] of its trigger, and under the same
//! caps as the journaled ones. It costs one commit, that of its completion. One that cannot finish
//! now is parked: the journal takes it over, with all that may not pass it, and its source may let it
//! go ([`park`]). So a message that fails, or a lane that is slow, never blocks a queue.

mod offsets;
mod park;
mod run;

use std::{
    collections::{HashMap, hash_map},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tidemill_core::{
    BoxFuture,
    delivery::{Cause, Delivery, Seq, Work},
    dispatch::Waiting,
    event::Event,
    hold::{Held, Holds, Partition, Position, Settlement},
    identity::DeliveryId,
    intake::IntakeError,
    limits,
    time::Timestamp,
    turn::{Line, Turn},
    watermark::Progress,
};
use tidemill_journal::{Accepted, NewDelivery};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};

use super::{Dispatcher, Queue, Trigger, intake::EngineIntake, trigger::Order};
use crate::{clock, trace};

use offsets::{Offsets, Place};

/// All held deliveries of the engine.
#[derive(Default)]
pub(super) struct HeldDeliveries {
    state: Mutex<State>,
    offsets: Offsets,
}

#[derive(Default)]
struct State {
    last: Seq,
    deliveries: HashMap<Seq, Arc<HeldDelivery>>,
    by_id: HashMap<DeliveryId, Seq>,
    lines: HashMap<usize, Line>,
    /// Of each trigger, how many run that the journal has taken over meanwhile.
    taken_over: HashMap<usize, usize>,
}

/// A delivery of an event that its source holds.
pub(super) struct HeldDelivery {
    place: Seq,
    trigger: usize,
    /// It has no place in the journal, as long as it is not parked.
    pub delivery: Delivery,
    /// Where it stands in a log.
    log: Option<Place>,
    /// Other places where the same event came meanwhile.
    elsewhere: Mutex<Vec<Place>>,
    /// Given up before it began, and what else becomes durable with that.
    dead: Option<(Cause, String)>,
    forwarded: Vec<Accepted>,
    /// Futures that wait for it.
    waiting: AtomicUsize,
    running: AtomicBool,
    /// The journal has taken it over while it runs.
    taken_over: AtomicBool,
    since: Instant,
    /// Who holds this lock decides what becomes of it.
    pub stage: AsyncMutex<Stage>,
    settled: watch::Sender<Option<Settlement>>,
}

/// Who keeps a held delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its source.
    Held,
    /// The journal, at this place.
    Parked(Seq),
    /// Nobody needs to: it is done or dead, durably.
    Over,
}

impl HeldDelivery {
    fn turn(&self) -> Turn {
        Turn {
            lane: self.delivery.lane.clone(),
            key: self.delivery.key.clone(),
        }
    }

    fn has_turn(&self) -> bool {
        self.delivery.lane.is_some() || self.delivery.key.is_some()
    }

    fn waits(&self, due: Timestamp) -> Waiting {
        Waiting {
            seq: self.place,
            due,
            size: self.delivery.event.size(),
        }
    }

    /// As the journal has it at this place.
    pub(super) fn parked(&self, seq: Seq) -> Delivery {
        Delivery {
            seq,
            ..self.delivery.clone()
        }
    }

    async fn until_told(&self) -> Settlement {
        let mut settled = self.settled.subscribe();
        let told = settled.wait_for(Option::is_some).await;
        // The sender lives as long as this.
        told.ok()
            .and_then(|told| *told)
            .unwrap_or(Settlement::Release)
    }

    fn tell(&self, settlement: Settlement) {
        self.settled.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(settlement);
            first
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HeldDeliveries {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether an attempt of this delivery runs that began before the journal took it over.
    pub(super) fn is_taken_over(&self, id: DeliveryId) -> bool {
        let state = self.lock();
        let held = state.find(id);
        held.is_some_and(|held| held.taken_over.load(Ordering::Relaxed))
    }

    /// Gives back to their sources what does not run, or all.
    pub(super) fn release(&self, all: bool) {
        let mut state = self.lock();
        let State {
            deliveries,
            by_id,
            lines,
            ..
        } = &mut *state;
        deliveries.retain(|_, held| {
            let stays = !all && held.running.load(Ordering::Relaxed);
            if !stays {
                by_id.remove(&held.delivery.id);
                held.tell(Settlement::Release);
            }
            stays
        });
        // Nobody's turn comes any more.
        lines.clear();
    }
}

impl Holds for EngineIntake {
    fn hold(&self, held: Held) -> BoxFuture<'_, Settlement> {
        // At once, so that the order of the calls is that of the lanes.
        let tickets = self.0.enter(held);
        Box::pin(async move {
            let mut all = match tickets.stopped {
                true => Settlement::Release,
                false => Settlement::Settle,
            };
            for held in &tickets.deliveries {
                if self.0.until_settled(held).await == Settlement::Release {
                    all = Settlement::Release;
                }
            }
            all
        })
    }

    fn take_up(
        &self,
        partition: &Partition,
    ) -> BoxFuture<'_, Result<Option<Progress>, IntakeError>> {
        let partition = partition.clone();
        Box::pin(async move { self.0.take_up(partition).await })
    }

    fn forget(&self, partition: &Partition) -> BoxFuture<'_, Result<(), IntakeError>> {
        let partition = partition.clone();
        Box::pin(async move { self.0.forget(partition).await })
    }

    fn let_go(&self, partition: &Partition) {
        self.0.held.offsets.let_go(partition);
    }
}

/// Those who wait for an event's deliveries; dropped, they wait no more.
struct Tickets<'d> {
    dispatcher: &'d Dispatcher,
    deliveries: Vec<Arc<HeldDelivery>>,
    /// The engine takes nothing more.
    stopped: bool,
}

impl Drop for Tickets<'_> {
    fn drop(&mut self) {
        for held in &self.deliveries {
            let last = held.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
            let over = held.settled.borrow().is_some();
            if last && !over && !held.running.load(Ordering::Relaxed) {
                self.dispatcher.leave(held);
            }
        }
    }
}

impl Dispatcher {
    /// Takes a held event in: its deliveries stand in line when this returns.
    fn enter(&self, held: Held) -> Tickets<'_> {
        let Held {
            source,
            mut event,
            stable,
            position,
        } = held;
        event.traceparent.get_or_insert_with(trace::new_traceparent);
        let now = clock::now();
        self.metrics.accepted(&source);
        let mut routed = self.route(&source, event, None, stable, now).into_iter();
        let accepted = routed.next();
        let received = position
            .as_ref()
            .map(|position| self.held.offsets.received(&source, position));
        let (log, closed) = received.unzip();
        let closed = closed.unwrap_or_default();
        let mut entry = Common {
            log,
            forwarded: routed.collect(),
            position,
        };
        let (mut mine, mut deliveries, mut ready) = (Vec::new(), Vec::new(), Vec::new());
        let mut state = self.held.lock();
        // Whoever releases all does so after the stop, under this lock.
        let stopped = self.stop.is_cancelled();
        for Accepted {
            event,
            deliveries: new,
        } in accepted.into_iter().filter(|_| !stopped)
        {
            let events = std::iter::repeat_n(event, new.len());
            for (new, event) in new.into_iter().zip(events) {
                let Some(trigger) = self.queues.get(&new.trigger) else {
                    continue;
                };
                let trigger = trigger / Queue::PER_TRIGGER;
                mine.push(trigger);
                if closed.contains(&trigger) {
                    self.metrics.duplicate(&source);
                    continue;
                }
                if let Some(same) = state.find(new.id) {
                    same.waiting.fetch_add(1, Ordering::Relaxed);
                    let mut elsewhere = lock(&same.elsewhere);
                    elsewhere.extend(
                        entry
                            .log
                            .clone()
                            .filter(|log| same.log.as_ref() != Some(log)),
                    );
                    drop(elsewhere);
                    deliveries.push(same.clone());
                    continue;
                }
                let lane = self.lane(trigger, &new, entry.position.as_ref());
                let held = state.stand_in_line(trigger, lane, new, event, &mut entry);
                if state.has_turn(&held) {
                    ready.push((trigger, held.waits(now)));
                }
                deliveries.push(held);
            }
        }
        drop(state);
        if let Some(place) = entry.log.as_ref().filter(|_| !stopped) {
            // What is not for a trigger is done with for it.
            let listeners = self.listeners(&source).iter();
            for &other in listeners.filter(|other| !mine.contains(other)) {
                self.held.offsets.completed(place, other);
            }
        }
        self.stand_by(ready);
        Tickets {
            dispatcher: self,
            deliveries,
            stopped,
        }
    }

    fn lane(
        &self,
        trigger: usize,
        new: &NewDelivery,
        position: Option<&Position>,
    ) -> Option<String> {
        match self.triggers[trigger].order {
            Order::MessageKey => position?.key.clone(),
            Order::Partition => Some(position?.partition.clone()),
            _ => new.lane.clone(),
        }
    }

    /// Waits until the delivery is over or parked. One that waits too long is parked.
    async fn until_settled(&self, held: &HeldDelivery) -> Settlement {
        // Logs wait for ever, and without a lane or a key nobody is waited for.
        if held.log.is_some() && !held.has_turn() {
            return held.until_told().await;
        }
        let mut look = held.since + limits::HELD_IN_LINE;
        loop {
            tokio::select! {
                settlement = held.until_told() => return settlement,
                () = tokio::time::sleep_until(look) => {}
            }
            look += limits::HELD_IN_LINE;
            if self.has_waited_long(held).await {
                self.park(held, None).await;
            }
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
        let mut state = self.held.lock();
        if state.deliveries.remove(&held.place).is_none() {
            return;
        }
        state.by_id.remove(&held.delivery.id);
        state.no_longer_taken_over(held);
        let ready = state.step_out(held.trigger, held.place);
        drop(state);
        if held.settled.borrow().is_some() {
            for place in lock(&held.elsewhere).drain(..) {
                self.held.offsets.completed(&place, held.trigger);
            }
        }
        self.stand_by(ready);
    }

    /// Tells the dispatch whose turn it is.
    fn stand_by(&self, ready: Vec<(usize, Waiting)>) {
        if ready.is_empty() {
            return;
        }
        let mut dispatch = self.lock();
        for (trigger, waiting) in ready {
            dispatch.arrived(Queue::Held.of(trigger), waiting);
        }
        drop(dispatch);
        self.wake.notify_one();
    }

    fn trigger_of(&self, held: &HeldDelivery) -> &Trigger {
        &self.triggers[held.trigger]
    }
}

/// What the deliveries of an event have in common.
struct Common {
    position: Option<Position>,
    log: Option<Place>,
    /// What else becomes durable, if its only delivery is given up at once.
    forwarded: Vec<Accepted>,
}

impl State {
    fn find(&self, id: DeliveryId) -> Option<&Arc<HeldDelivery>> {
        self.deliveries.get(self.by_id.get(&id)?)
    }

    fn has_turn(&self, held: &HeldDelivery) -> bool {
        let line = self.lines.get(&held.trigger);
        line.is_none_or(|line| line.has_turn(held.place))
    }

    fn stand_in_line(
        &mut self,
        trigger: usize,
        lane: Option<String>,
        new: NewDelivery,
        event: Event,
        entry: &mut Common,
    ) -> Arc<HeldDelivery> {
        self.last += 1;
        let held = Arc::new(HeldDelivery {
            place: self.last,
            trigger,
            delivery: Delivery {
                seq: 0,
                id: new.id,
                trigger: new.trigger,
                work: Work::Handle,
                attempts: 0,
                accepted: new.accepted,
                due: new.due,
                lane,
                key: new.key,
                remember: new.remember,
                redrive: None,
                event,
            },
            log: entry.log.clone(),
            elsewhere: Mutex::default(),
            dead: new.dead,
            forwarded: std::mem::take(&mut entry.forwarded),
            waiting: AtomicUsize::new(1),
            running: AtomicBool::new(false),
            taken_over: AtomicBool::new(false),
            since: Instant::now(),
            stage: AsyncMutex::new(Stage::Held),
            settled: watch::Sender::new(None),
        });
        let line = self.lines.entry(trigger).or_default();
        line.enter(held.place, held.turn());
        self.by_id.insert(held.delivery.id, held.place);
        self.deliveries.insert(held.place, held.clone());
        held
    }

    fn taken_over(&mut self, held: &HeldDelivery) {
        if !held.taken_over.swap(true, Ordering::Relaxed) {
            *self.taken_over.entry(held.trigger).or_default() += 1;
        }
    }

    fn no_longer_taken_over(&mut self, held: &HeldDelivery) {
        if held.taken_over.swap(false, Ordering::Relaxed)
            && let hash_map::Entry::Occupied(mut count) = self.taken_over.entry(held.trigger)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// A place leaves the line of its trigger. Whose turn it is then.
    fn step_out(&mut self, trigger: usize, place: Seq) -> Vec<(usize, Waiting)> {
        let Some(line) = self.lines.get_mut(&trigger) else {
            return Vec::new();
        };
        let now = clock::now();
        let next = line.leave(place).into_iter();
        next.filter_map(|next| Some((trigger, self.deliveries.get(&next)?.waits(now))))
            .collect()
    }
}
