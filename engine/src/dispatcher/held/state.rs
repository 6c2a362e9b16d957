//! The held deliveries of the engine: who they are, who stands in line, and who keeps them. Nothing here
//! runs, commits or waits.

use std::{
    collections::hash_map,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use foldhash::HashMap;
use tidemill_core::{
    delivery::{Cause, Delivery, Seq, Work},
    dispatch::Waiting,
    event::Event,
    hold::{Settlement, Settlements},
    identity::DeliveryId,
    limits,
    time::Timestamp,
    turn::{Line, Turn},
};
use tidemill_journal::NewDelivery;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::offsets::{Offsets, Place};
use crate::{clock, dispatcher::intake::SourceNumber};

/// All held deliveries of the engine.
#[derive(Default)]
pub(in crate::dispatcher) struct HeldDeliveries {
    pub(super) state: Mutex<State>,
    pub(super) offsets: Offsets,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) last: Seq,
    pub(super) deliveries: HashMap<Seq, Arc<HeldDelivery>>,
    pub(super) by_id: HashMap<DeliveryId, Seq>,
    pub(super) lines: HashMap<usize, Line>,
    /// Somebody looks at the time for all of them.
    pub(super) watched: bool,
    /// Of each trigger, how many run that the journal has taken over meanwhile.
    pub(super) taken_over: HashMap<usize, usize>,
}

/// A delivery of an event that its source holds.
pub(in crate::dispatcher) struct HeldDelivery {
    pub(super) place: Seq,
    pub(super) trigger: usize,
    /// Who brought it first.
    pub(super) source: SourceNumber,
    /// It has no place in the journal, as long as it is not parked.
    pub delivery: Delivery,
    /// Where it stands in a log.
    pub(super) log: Option<Place>,
    /// Other places where the same event came meanwhile.
    pub(super) elsewhere: Mutex<Vec<Place>>,
    /// Given up before it began.
    pub(super) dead: Option<(Cause, String)>,
    /// Tickets that wait for it.
    pub(super) waiting: AtomicUsize,
    pub(super) running: AtomicBool,
    /// The journal has taken it over while it runs.
    pub(super) taken_over: AtomicBool,
    pub(super) since: Instant,
    /// Who holds this lock decides what becomes of it.
    pub stage: AsyncMutex<Stage>,
    pub(super) told: Told,
}

/// Who keeps a held delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dispatcher) enum Stage {
    /// Its source.
    Held,
    /// The journal, at this place; and whether it was blocked there at first, so that the dispatch hears
    /// of it when it is not.
    Parked { seq: Seq, blocked: bool },
    /// Nobody needs to: it is done or dead, durably.
    Over,
}

impl HeldDelivery {
    /// One that has no place yet.
    pub(super) fn new(
        trigger: usize,
        source: SourceNumber,
        new: NewDelivery,
        event: Event,
        log: Option<Place>,
    ) -> HeldDelivery {
        HeldDelivery {
            place: 0,
            trigger,
            source,
            delivery: Delivery {
                seq: 0,
                id: new.id,
                trigger: new.trigger,
                work: Work::Handle,
                attempts: 0,
                accepted: new.accepted,
                due: new.due,
                lane: new.lane,
                key: new.key,
                remember: new.remember,
                redrive: None,
                event,
            },
            log,
            elsewhere: Mutex::default(),
            dead: new.dead,
            waiting: AtomicUsize::new(1),
            running: AtomicBool::new(false),
            taken_over: AtomicBool::new(false),
            since: Instant::now(),
            stage: AsyncMutex::new(Stage::Held),
            told: Told::default(),
        }
    }

    pub(super) fn turn(&self) -> Turn {
        Turn {
            lane: self.delivery.lane.clone(),
            key: self.delivery.key.clone(),
        }
    }

    pub(super) fn has_turn(&self) -> bool {
        self.delivery.lane.is_some() || self.delivery.key.is_some()
    }

    /// How often its wait has been looked at by then. Logs wait for ever, and without a lane or a key nobody is
    /// waited for.
    pub(super) fn looks(&self, now: Instant) -> u128 {
        match self.log.is_some() && !self.has_turn() {
            true => 0,
            false => (now - self.since).as_nanos() / limits::HELD_IN_LINE.as_nanos(),
        }
    }

    pub(super) fn waits(&self, due: Timestamp) -> Waiting {
        Waiting {
            seq: self.place,
            due,
            size: self.delivery.event.size(),
        }
    }

    /// It is to be looked at again in a while.
    pub(in crate::dispatcher) fn look_again(&self) -> Waiting {
        self.waits(clock::now().plus(limits::HELD_LOOK))
    }

    /// As the journal has it at this place.
    pub(in crate::dispatcher) fn parked(&self, seq: Seq) -> Delivery {
        Delivery {
            seq,
            ..self.delivery.clone()
        }
    }
}

/// What the sources of a delivery are told, once.
#[derive(Default)]
pub(super) struct Told {
    settlement: OnceLock<Settlement>,
    sources: Mutex<Sources>,
}

/// Who waits for it: mostly one, who needs no memory of its own.
#[derive(Default)]
struct Sources {
    one: Option<Waits>,
    more: Vec<Waits>,
}

/// A source that waits for an event.
#[derive(Clone)]
pub(super) struct Waits {
    settlements: Arc<Settlements>,
    number: u64,
    /// If the event came to several deliveries: what is left of them.
    left: Option<Arc<Left>>,
}

struct Left {
    count: AtomicUsize,
    released: AtomicBool,
}

impl Waits {
    /// It knows the event by this number.
    pub(super) fn new(settlements: &Arc<Settlements>, number: u64) -> Waits {
        Waits {
            settlements: settlements.clone(),
            number,
            left: None,
        }
    }

    /// The same for each of so many deliveries: the last one tells.
    pub(super) fn for_each_of(mut self, deliveries: usize) -> impl Iterator<Item = Waits> {
        self.left = (deliveries > 1).then(|| {
            Arc::new(Left {
                count: AtomicUsize::new(deliveries),
                released: AtomicBool::new(false),
            })
        });
        std::iter::repeat_n(self, deliveries)
    }

    pub(super) fn tell(self, mut settlement: Settlement) {
        if let Some(left) = self.left {
            if settlement == Settlement::Release {
                left.released.store(true, Ordering::Relaxed);
            }
            if left.count.fetch_sub(1, Ordering::AcqRel) > 1 {
                return;
            }
            if left.released.load(Ordering::Relaxed) {
                settlement = Settlement::Release;
            }
        }
        self.settlements.tell(self.number, settlement);
    }
}

impl Told {
    /// The first who tells is heard.
    pub(super) fn tell(&self, settlement: Settlement) {
        if self.settlement.set(settlement).is_ok() {
            // Under the lock, so that whoever is added is told here or there.
            let Sources { one, more } = std::mem::take(&mut *lock(&self.sources));
            let all = one.into_iter().chain(more);
            all.for_each(|waits| waits.tell(settlement));
        }
    }

    pub(super) fn get(&self) -> Option<Settlement> {
        self.settlement.get().copied()
    }

    /// One more waits for it.
    pub(super) fn add(&self, waits: Waits) {
        let mut sources = lock(&self.sources);
        match self.get() {
            Some(settlement) => {
                drop(sources);
                waits.tell(settlement);
            }
            None if sources.one.is_none() => sources.one = Some(waits),
            None => sources.more.push(waits),
        }
    }

    /// Those who wait for another one wait for this.
    pub(super) fn join(&self, other: &Told) {
        let Sources { one, more } = std::mem::take(&mut *lock(&other.sources));
        one.into_iter()
            .chain(more)
            .for_each(|waits| self.add(waits));
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HeldDeliveries {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether an attempt of this delivery runs that began before the journal took it over.
    pub(in crate::dispatcher) fn is_taken_over(&self, id: DeliveryId) -> bool {
        let state = self.lock();
        let held = state.find(id);
        held.is_some_and(|held| held.taken_over.load(Ordering::Relaxed))
    }
}

impl State {
    pub(super) fn find(&self, id: DeliveryId) -> Option<&Arc<HeldDelivery>> {
        self.deliveries.get(self.by_id.get(&id)?)
    }

    pub(super) fn has_turn(&self, held: &HeldDelivery) -> bool {
        let line = self.lines.get(&held.trigger);
        line.is_none_or(|line| line.has_turn(held.place))
    }

    /// Odd: requests that wait in the same queue have even numbers.
    pub(super) fn next_place(&mut self) -> Seq {
        self.last += 2;
        self.last - 1
    }

    /// Gives it its place, which nobody has seen it without. Whether it is its turn.
    pub(super) fn stand_in_line(&mut self, held: &mut Arc<HeldDelivery>) -> bool {
        let place = self.next_place();
        let new = Arc::get_mut(held).expect("nobody else has it yet");
        new.place = place;
        let delivery = &held.delivery;
        let line = self.lines.entry(held.trigger).or_default();
        let first = line.enter(place, delivery.lane.as_deref(), delivery.key.as_deref());
        self.by_id.insert(delivery.id, place);
        self.deliveries.insert(place, held.clone());
        first
    }

    pub(super) fn taken_over(&mut self, held: &HeldDelivery) {
        if !held.taken_over.swap(true, Ordering::Relaxed) {
            *self.taken_over.entry(held.trigger).or_default() += 1;
        }
    }

    pub(super) fn no_longer_taken_over(&mut self, held: &HeldDelivery) {
        if held.taken_over.swap(false, Ordering::Relaxed)
            && let hash_map::Entry::Occupied(mut count) = self.taken_over.entry(held.trigger)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Places leave the line of their trigger. Whose turn it is then, and of those behind them in their
    /// lanes so many as may ride along.
    pub(super) fn step_out(
        &mut self,
        trigger: usize,
        places: &[Seq],
        riders: usize,
    ) -> Vec<(usize, Waiting)> {
        let Some(line) = self.lines.get_mut(&trigger) else {
            return Vec::new();
        };
        let mut next: Vec<Seq> = places.iter().flat_map(|place| line.leave(*place)).collect();
        next.sort_unstable();
        next.dedup();
        let (line, mut ready) = (&*line, Vec::new());
        for first in next {
            let all = std::iter::once(first).chain(line.behind(first).take(riders));
            let all = all.filter_map(|place| self.deliveries.get(&place));
            ready.extend(all.map(|held| (trigger, held.waits(held.delivery.due))));
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use Settlement::{Release, Settle};

    use super::*;

    fn told(settlements: &Settlements) -> Vec<(u64, Settlement)> {
        let mut told = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let _ = pin!(settlements.next(&mut told)).poll(&mut context);
        told
    }

    #[test]
    fn the_last_delivery_of_an_event_tells_its_source() {
        let settlements = Arc::new(Settlements::default());
        for (number, ends, expected) in [
            (0, vec![Settle], Settle),
            (1, vec![Settle, Settle, Settle], Settle),
            (2, vec![Release, Settle], Release),
        ] {
            let all = Waits::new(&settlements, number).for_each_of(ends.len());
            for (waits, end) in all.zip(ends) {
                assert_eq!(told(&settlements), []);
                let delivery = Told::default();
                delivery.add(waits);
                delivery.tell(end);
                // Only the first who tells is heard.
                delivery.tell(Release);
            }
            assert_eq!(told(&settlements), [(number, expected)]);
        }
    }

    #[test]
    fn who_offers_an_event_again_hears_of_the_one_that_runs() {
        let settlements = Arc::new(Settlements::default());
        let (running, again, late) = (Told::default(), Told::default(), Told::default());
        for (number, delivery) in [&running, &again, &late].into_iter().enumerate() {
            delivery.add(Waits::new(&settlements, number as u64));
        }
        running.join(&again);
        assert_eq!(told(&settlements), []);
        running.tell(Settle);
        assert_eq!(told(&settlements), [(0, Settle), (1, Settle)]);
        running.join(&late);
        assert_eq!(told(&settlements), [(2, Settle)]);
        again.tell(Release);
        assert_eq!(told(&settlements), []);
    }
}
