//! An attempt of a held delivery, from its turn to what its source is told.

use std::sync::{Arc, atomic::Ordering};

use tidemill_core::{
    delivery::{AttemptRecord, Cause, Seq, Work},
    dispatch::{Start, Waiting},
    limits,
    retry::Verdict,
};
use tidemill_journal::{Accepted, NewDelivery, Unit, UnitResult};

use super::{HeldDelivery, Stage, park::Failed};
use crate::{
    clock,
    dispatcher::{
        Dispatcher, Queue, Trigger,
        attempt::Running,
        complete::{Completes, Ended, Ran},
        forward::Given,
        settle::{record, remembered, used},
    },
    trace,
};

impl Dispatcher {
    /// Runs the held delivery whose turn has come; what is returned is to be looked at again.
    pub(in crate::dispatcher) async fn run_held(
        &self,
        start: Start,
        trigger: &Trigger,
    ) -> Option<Waiting> {
        let held = match self.take_up_held(start.seq).await {
            Ok(held) => held,
            Err(again) => return again,
        };
        let running = running_held(start, trigger, &held);
        let ran = self.run_one(running).await;
        self.settle_held(trigger, &held, ran).await
    }

    /// The held delivery whose turn has come. An error, if it does not run: when to look again, if at all.
    pub(in crate::dispatcher) async fn take_up_held(
        &self,
        place: Seq,
    ) -> Result<Arc<HeldDelivery>, Option<Waiting>> {
        let held = self.begin_held(place).await.ok_or(None)?;
        self.prepare_held(&held, false).await?;
        Ok(held)
    }

    /// Takes these out of the line to run, if nobody decides on them just now; none in place of one that is
    /// [to be begun](Self::begin_held) by itself.
    pub(in crate::dispatcher) fn begin_at_once(
        &self,
        places: &[Seq],
    ) -> Vec<Option<Arc<HeldDelivery>>> {
        let state = self.held.lock();
        let begin = |place: &Seq| {
            let held = state.deliveries.get(place)?;
            let undecided = held.stage.try_lock().ok()?;
            (*undecided != Stage::Over).then(|| {
                held.running.store(true, Ordering::Relaxed);
                held.clone()
            })
        };
        places.iter().map(begin).collect()
    }

    /// Takes a held delivery out of the line to run; none, if it is there no more.
    pub(in crate::dispatcher) async fn begin_held(&self, place: Seq) -> Option<Arc<HeldDelivery>> {
        let held = self.held.lock().deliveries.get(&place).cloned()?;
        self.go_on(&held).await.then_some(held)
    }

    /// Whether it is still to run: from now on it does.
    pub(in crate::dispatcher) async fn go_on(&self, held: &HeldDelivery) -> bool {
        // Whoever parks it holds this lock from its look at `running` to the commit.
        let stage = held.stage.lock().await;
        if *stage == Stage::Over {
            self.end(held);
            return false;
        }
        let state = self.held.lock();
        let there = state.deliveries.contains_key(&held.place);
        held.running.store(there, Ordering::Relaxed);
        there
    }

    /// It runs no more, for now. One that was parked meanwhile is the journal's.
    pub(in crate::dispatcher) async fn rest_held(&self, held: &HeldDelivery) {
        let mut stage = held.stage.lock().await;
        if let Stage::Parked { seq, blocked } = *stage {
            *stage = Stage::Over;
            self.end(held);
            if !blocked {
                let (due, size) = (held.delivery.due, held.delivery.event.size());
                let queue = Queue::Journaled.of(held.trigger);
                self.lock().arrived(queue, Waiting { seq, due, size });
                self.wake.notify_one();
            }
        } else {
            self.pause(held);
        }
    }

    /// It does not run now.
    pub(in crate::dispatcher) fn pause(&self, held: &HeldDelivery) {
        held.running.store(false, Ordering::Relaxed);
        if held.waiting.load(Ordering::Relaxed) == 0 {
            // Whoever waited for it went meanwhile.
            self.leave(held);
        }
    }

    /// Looks once more before it runs. An error, if it does not: when to look again, if at all. `first`, if the
    /// journal had [nothing](Self::is_first) of its trigger since its turn came.
    ///
    /// What is rare is in boxes, here and where it settles: otherwise all that run would carry its room with them.
    pub(in crate::dispatcher) async fn prepare_held(
        &self,
        held: &HeldDelivery,
        first: bool,
    ) -> Result<(), Option<Waiting>> {
        let delivery = &held.delivery;
        let later = || {
            self.pause(held);
            Err(Some(held.look_again()))
        };
        if self.is_full() {
            return later();
        }
        if let Some((cause, reason)) = &held.dead {
            Box::pin(self.bury(held, *cause, reason, None)).await;
            return Err(None);
        }
        let find = || self.journal.find(delivery.id);
        if delivery.remember && self.read(find).await.ok_or(None)?.is_some() {
            Box::pin(self.over(held, "duplicate")).await;
            return Err(None);
        }
        let ahead = match first {
            true => 0,
            false => self.ahead(held).await.ok_or(None)?,
        };
        match ahead {
            0 => {}
            most if most >= limits::LANE_PARKED => return later(),
            _ => {
                // It did not begin.
                held.running.store(false, Ordering::Relaxed);
                Box::pin(self.park(held, None)).await;
                return Err(None);
            }
        }
        if let Some(key) = &delivery.key {
            let ask = || self.journal.key_done(&delivery.trigger, key, clock::now());
            if self.read(ask).await.ok_or(None)?.is_some() {
                Box::pin(self.over(held, "duplicate")).await;
                return Err(None);
            }
        }
        Ok(())
    }

    /// Settles a held delivery after its attempt; what is returned is to be looked at again.
    pub(in crate::dispatcher) async fn settle_held(
        &self,
        trigger: &Trigger,
        held: &HeldDelivery,
        ran: Ran,
    ) -> Option<Waiting> {
        match ran {
            Ran::Committed(_) => self.completed_held(&[held]),
            Ran::Duplicate => Box::pin(self.over(held, "duplicate")).await,
            Ran::Failed(ended) => Box::pin(self.held_failed(trigger, held, &ended)).await,
            Ran::Again => {
                self.pause(held);
                return Some(held.look_again());
            }
            // It was settled elsewhere, or the engine stops.
            Ran::Refused => {
                if let Stage::Parked { .. } = *held.stage.lock().await {
                    self.end(held);
                }
            }
        }
        held.running.store(false, Ordering::Relaxed);
        None
    }

    /// Tells the sources that these of one trigger are done, and makes way for the next in line.
    pub(in crate::dispatcher) fn completed_held(&self, all: &[&HeldDelivery]) {
        if let Some(first) = all.first() {
            let trigger = &first.delivery.trigger;
            self.metrics.settled_all(trigger, "ok", all.len());
        }
        for held in all {
            self.settle_at_source(held);
        }
        self.leave_all(all);
    }

    /// Whether no delivery of a trigger is pending in the journal.
    pub(in crate::dispatcher) fn is_first(&self, trigger: usize) -> bool {
        let taken_over = self.held.lock().taken_over.contains_key(&trigger);
        !taken_over && self.lock().is_idle(Queue::Journaled.of(trigger))
    }

    /// How many in the journal are ahead of it in its lane or with its key.
    pub(super) async fn ahead(&self, held: &HeldDelivery) -> Option<usize> {
        if !held.has_turn() || self.is_first(held.trigger) {
            return Some(0);
        }
        let (trigger, turn) = (&held.delivery.trigger, held.turn());
        self.read(|| self.journal.ahead(trigger, &turn, limits::LANE_PARKED))
            .await
    }

    /// Ends a delivery that was done before, under this id or with its key.
    pub(super) async fn over(&self, held: &HeldDelivery, how: &'static str) {
        let mut stage = held.stage.lock().await;
        match *stage {
            Stage::Held => {
                let unit = Unit {
                    event_ids: remembered(&held.delivery).into_iter().collect(),
                    offsets: self.offsets_steps(&[held]),
                    ..Unit::default()
                };
                let rest = Unit {
                    event_ids: Vec::new(),
                    ..unit.clone()
                };
                // If the id is what it was known by, the rest of it is still to be said.
                for unit in [unit, rest] {
                    if !unit.is_durable_matter() {
                        break;
                    }
                    match self.commit(unit).await {
                        Some(UnitResult::Duplicate) => {}
                        Some(_) => break,
                        None => return,
                    }
                }
                self.metrics.settled(&held.delivery.trigger, how);
            }
            Stage::Parked { seq, .. } => {
                self.duplicate(&self.trigger_of(held), &held.parked(seq))
                    .await;
            }
            Stage::Over => {}
        }
        *stage = Stage::Over;
        drop(stage);
        self.end(held);
    }

    /// Tells the source, and makes way for the next in line.
    fn end(&self, held: &HeldDelivery) {
        self.settle_at_source(held);
        self.leave(held);
    }

    /// An attempt that did not end ok: the journal takes the delivery over, to run again or as a dead
    /// letter.
    async fn held_failed(&self, trigger: &Trigger, held: &HeldDelivery, ended: &Ended) {
        let stage = *held.stage.lock().await;
        if let Stage::Parked { seq, blocked } = stage {
            return self
                .parked_failed(trigger, held, (seq, blocked), ended)
                .await;
        }
        let delivery = &held.delivery;
        let digest = trigger.function.component.digest();
        let record = record(delivery, ended, Some(digest));
        let (now, random) = (clock::now(), fastrand::u64(..));
        let verdict = trigger
            .retry
            .after(&ended.outcome, 1, delivery.accepted, now, random);
        let trace = trace::trace_id(delivery.event.traceparent.as_deref());
        let outcome = &ended.outcome;
        match verdict {
            Verdict::RetryAt(due) => {
                tracing::warn!(
                    delivery = %delivery.id, trigger = trigger.name, attempt = 1, trace,
                    retry_at = %due, "{outcome}"
                );
                let failed = Failed {
                    place: held.place,
                    record,
                    usage: used(&trigger.function.plan.name, ended),
                    due,
                };
                self.park(held, Some(failed)).await;
            }
            Verdict::GiveUp(why) => {
                let cause = Cause::from(why);
                let reason = record.reason.clone();
                self.bury(held, cause, &reason, Some((ended, record))).await;
            }
        }
        // It may have been parked between the look and the deed.
        let stage = *held.stage.lock().await;
        if let Stage::Parked { seq, blocked } = stage {
            self.parked_failed(trigger, held, (seq, blocked), ended)
                .await;
        }
    }

    /// The attempt began before the journal took the delivery over.
    async fn parked_failed(
        &self,
        trigger: &Trigger,
        held: &HeldDelivery,
        (seq, blocked): (Seq, bool),
        ended: &Ended,
    ) {
        let delivery = held.parked(seq);
        let again = self.failed(trigger, &delivery, ended).await;
        // Of one that has to wait for others there, the dispatch hears when its turn comes.
        if let Some(again) = again.filter(|_| !blocked) {
            self.lock()
                .arrived(Queue::Journaled.of(held.trigger), again);
        }
        self.end(held);
    }

    /// Makes a held delivery a dead letter.
    async fn bury(
        &self,
        held: &HeldDelivery,
        cause: Cause,
        reason: &str,
        ended: Option<(&Ended, AttemptRecord)>,
    ) {
        let (trigger, delivery) = (self.trigger_of(held), &held.delivery);
        let mut stage = held.stage.lock().await;
        if *stage != Stage::Held {
            drop(stage);
            if ended.is_none() {
                // It was parked as the dead letter that it is.
                self.end(held);
            }
            return;
        }
        let attempts = u32::from(ended.is_some());
        let forwarded = self.forward_given(held, cause, reason, attempts);
        let used = ended
            .as_ref()
            .and_then(|(ended, _)| used(&trigger.function.plan.name, ended));
        let new = NewDelivery {
            lane: delivery.lane.clone(),
            key: delivery.key.clone(),
            remember: delivery.remember,
            history: ended.map(|(_, record)| record).into_iter().collect(),
            dead: Some((cause, reason.to_owned())),
            ..NewDelivery::new(delivery.id, &trigger.name, Work::Handle, delivery.accepted)
        };
        let own = Accepted {
            event: delivery.event.clone(),
            deliveries: vec![new],
        };
        let unit = Unit {
            accept: std::iter::once(own).chain(forwarded).collect(),
            offsets: self.offsets_steps(&[held]),
            usage: used,
            ..Unit::default()
        };
        match self.commit_effects(unit).await {
            Some(UnitResult::Committed { .. }) => {
                let trace = trace::trace_id(delivery.event.traceparent.as_deref());
                tracing::error!(
                    delivery = %delivery.id, trigger = trigger.name, attempt = attempts, trace,
                    cause = cause.as_str(), "dead letter: {reason}"
                );
            }
            // The journal has it already.
            Some(_) => {}
            None => return,
        }
        *stage = Stage::Over;
        drop(stage);
        self.end(held);
    }

    /// What else becomes durable with a delivery that is given up.
    pub(super) fn forward_given(
        &self,
        held: &HeldDelivery,
        cause: Cause,
        reason: &str,
        attempts: u32,
    ) -> Vec<Accepted> {
        let (trigger, delivery) = (self.trigger_of(held), &held.delivery);
        let given = Given {
            delivery: delivery.id,
            cause,
            reason,
            attempts,
        };
        self.forward_dead(&trigger, &delivery.event, given, clock::now())
    }
}

/// A held delivery that runs.
pub(in crate::dispatcher) fn running_held<'a>(
    start: Start,
    trigger: &'a Trigger,
    held: &'a HeldDelivery,
) -> Running<'a> {
    let delivery = &held.delivery;
    Running {
        start: Some(start),
        function: &trigger.function,
        batch: trigger.batch.is_some(),
        trigger: &trigger.name,
        delivery: delivery.id,
        attempt: 1,
        event: &delivery.event,
        object: None,
        completes: Completes::Held(trigger, held),
    }
}
