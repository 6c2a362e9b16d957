//! Parking: the journal takes held deliveries over, so that their source may let them go.
//!
//! Whoever is parked takes along all that share its lane or key, directly or not, in their order, in
//! one commit, the one that runs included: no restart can reorder them, and whoever comes later finds
//! them in the journal ahead of itself.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use tidemill_core::{
    delivery::{AttemptRecord, Seq, Work},
    hold::Settlement,
    identity::DeliveryId,
    time::Timestamp,
    turn::Turn,
};
use tidemill_journal::{Accepted, Added, NewDelivery, Unit, UnitResult, UsageEntry};
use tokio::sync::MutexGuard;

use super::{HeldDelivery, Stage};
use crate::dispatcher::Dispatcher;

/// An attempt that failed, after which its delivery waits in the journal.
pub(super) struct Failed {
    /// The delivery.
    pub place: Seq,
    /// How it failed.
    pub record: AttemptRecord,
    /// What it used.
    pub usage: Option<UsageEntry>,
    /// Not to run again before.
    pub due: Timestamp,
}

/// A place in the line of a trigger. Until it is dropped, nobody who comes later passes whoever is
/// added to the journal meanwhile.
pub struct Reserved<'d> {
    dispatcher: &'d Dispatcher,
    trigger: usize,
    place: Seq,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.dispatcher.held.lock();
        let riders = self.dispatcher.riders(self.trigger);
        let ready = state.step_out(self.trigger, &[self.place], riders);
        drop(state);
        self.dispatcher.stand_by(ready);
    }
}

impl Dispatcher {
    /// Parks the delivery with all that may not pass it.
    pub(super) async fn park(&self, held: &HeldDelivery, failed: Option<Failed>) {
        self.park_all(self.connected(held.trigger, held.place), failed)
            .await;
    }

    /// Parks all that stand in line where a delivery is about to join the journal, and reserves the
    /// place behind them.
    pub async fn make_way(&self, trigger: &str, turn: &Turn) -> Option<Reserved<'_>> {
        let trigger = self.table.load().place(trigger)?;
        let place = {
            let mut state = self.held.lock();
            let place = state.next_place();
            let line = state.lines.entry(trigger).or_default();
            line.enter(place, turn.lane.as_deref(), turn.key.as_deref());
            place
        };
        let reserved = Reserved {
            dispatcher: self,
            trigger,
            place,
        };
        self.park_all(self.connected(trigger, place), None).await;
        Some(reserved)
    }

    fn connected(&self, trigger: usize, place: Seq) -> Vec<Arc<HeldDelivery>> {
        let state = self.held.lock();
        let places = state.lines.get(&trigger).map(|line| line.connected(place));
        // Without a lane or a key it is alone.
        let places = places.unwrap_or_else(|| vec![place]).into_iter();
        places
            .filter_map(|place| state.deliveries.get(&place).cloned())
            .collect()
    }

    /// Parks these, which come in their order. What is over or in the journal already is left alone.
    async fn park_all(&self, mut members: Vec<Arc<HeldDelivery>>, failed: Option<Failed>) {
        while !members.is_empty() {
            let mut stages = Vec::new();
            for held in &members {
                stages.push(held.stage.lock().await);
            }
            let (mut unit, mut mine) = (Unit::default(), Vec::new());
            for (held, stage) in members.iter().zip(&stages) {
                let failed = failed.as_ref().filter(|one| one.place == held.place);
                if **stage == Stage::Held && self.begin_to_park(held, failed.is_some()) {
                    mine.push(held.clone());
                    unit.usage = failed
                        .and_then(|failed| failed.usage.clone())
                        .or(unit.usage);
                    unit.accept.push(parked(held, failed));
                    if let Some((cause, reason)) = &held.dead {
                        let forwarded = self.forward_given(held, *cause, reason, 0);
                        unit.accept.extend(forwarded);
                    }
                }
            }
            if unit.accept.is_empty() {
                return;
            }
            let leave: Vec<&HeldDelivery> = mine.iter().map(|held| &**held).collect();
            unit.offsets = self.offsets_steps(&leave);
            let units: Arc<[Unit]> = [unit].into();
            match self.commit_shared(&units).await {
                Some(UnitResult::Committed { added, released }) => {
                    let ended = failed.as_ref().map(|failed| failed.place);
                    let idle = self.taken_over(&members, stages, &added, ended);
                    // Of those that run, the dispatch hears when they have ended.
                    let runs = |new: &NewDelivery| self.held.is_taken_over(new.id);
                    let rest = |one: &&Accepted| !one.deliveries.iter().any(runs);
                    self.arrived(units[0].accept.iter().filter(rest), &added, &released);
                    for held in &idle {
                        self.leave(held);
                    }
                    return;
                }
                Some(UnitResult::Duplicate) => {
                    self.not_parked(&mine);
                    drop(stages);
                    let before = mine.len();
                    members = self.without_known(mine).await;
                    if members.len() == before {
                        tracing::error!("a held delivery cannot be parked, which is a bug");
                        return;
                    }
                }
                // The engine stops: their sources keep them.
                _ => return self.not_parked(&mine),
            }
        }
    }

    /// Marks one that runs, before the journal shows it to anybody. False, if it is here no more.
    fn begin_to_park(&self, held: &HeldDelivery, ended: bool) -> bool {
        let mut state = self.held.lock();
        if held.running.load(Ordering::Relaxed) && !ended {
            state.taken_over(held);
        }
        state.deliveries.contains_key(&held.place)
    }

    fn not_parked(&self, members: &[Arc<HeldDelivery>]) {
        let mut state = self.held.lock();
        for held in members {
            state.no_longer_taken_over(held);
        }
    }

    /// The journal has these now; their sources are told. Those that do not run.
    fn taken_over(
        &self,
        members: &[Arc<HeldDelivery>],
        stages: Vec<MutexGuard<'_, Stage>>,
        added: &[Added],
        ended: Option<Seq>,
    ) -> Vec<Arc<HeldDelivery>> {
        let by_id = added.iter().map(|added| (added.id, added));
        let by_id: HashMap<DeliveryId, &Added> = by_id.collect();
        let mut idle = Vec::new();
        for (held, mut stage) in members.iter().zip(stages) {
            let Some(&added) = by_id.get(&held.delivery.id) else {
                continue;
            };
            let runs = held.taken_over.load(Ordering::Relaxed) && ended != Some(held.place);
            if runs {
                let Added { seq, blocked, .. } = *added;
                *stage = Stage::Parked { seq, blocked };
            } else {
                *stage = Stage::Over;
                idle.push(held.clone());
            }
            self.metrics.parked(&held.delivery.trigger);
            self.settle_at_source(held);
        }
        idle
    }

    /// Tells the source that it may let the delivery go.
    pub(super) fn settle_at_source(&self, held: &HeldDelivery) {
        if let Some(place) = &held.log {
            self.held.offsets.completed(place, held.trigger);
        }
        held.told.tell(Settlement::Settle);
    }

    /// Settles those that the journal knows already, and gives the others.
    async fn without_known(&self, members: Vec<Arc<HeldDelivery>>) -> Vec<Arc<HeldDelivery>> {
        let mut others = Vec::new();
        for held in members {
            let ask = || self.journal.find(held.delivery.id);
            match self.read(ask).await {
                Some(Some(_)) => self.over(&held, "duplicate").await,
                Some(None) => others.push(held),
                None => return Vec::new(),
            }
        }
        others
    }
}

/// A delivery as the journal takes it over.
fn parked(held: &HeldDelivery, failed: Option<&Failed>) -> Accepted {
    let delivery = &held.delivery;
    let new = NewDelivery {
        due: failed.map_or(delivery.due, |failed| failed.due),
        lane: delivery.lane.clone(),
        key: delivery.key.clone(),
        remember: delivery.remember,
        history: failed
            .map(|failed| failed.record.clone())
            .into_iter()
            .collect(),
        dead: held.dead.clone(),
        ..NewDelivery::new(
            delivery.id,
            &delivery.trigger,
            Work::Handle,
            delivery.accepted,
        )
    };
    Accepted {
        event: delivery.event.clone(),
        deliveries: vec![new],
    }
}
