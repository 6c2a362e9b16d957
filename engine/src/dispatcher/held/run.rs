//! An attempt of a held delivery, from its turn to what its source is told.

use std::sync::{Arc, atomic::Ordering};

use tidemill_core::{
    delivery::{AttemptRecord, Cause, Delivery, Seq, Work},
    dispatch::Waiting,
    limits,
    retry::Verdict,
};
use tidemill_journal::{Accepted, NewDelivery, Unit, UnitResult};

use super::{HeldDelivery, Stage, park::Failed};
use crate::{
    clock,
    dispatcher::{
        Dispatcher, Queue, Trigger,
        attempt::{Completes, Ended, Ran, Running},
        forward::Given,
        settle::{record, remembered, usage},
    },
    trace,
};

impl Dispatcher {
    /// Runs the held delivery whose turn has come; what is returned is to be looked at again.
    pub(in crate::dispatcher) async fn run_held(&self, place: Seq) -> Option<Waiting> {
        let held = self.held.lock().deliveries.get(&place).cloned()?;
        {
            // Whoever parks it holds this lock from its look at `running` to the commit.
            let stage = held.stage.lock().await;
            if *stage != Stage::Held {
                self.end(&held);
                return None;
            }
            held.running.store(true, Ordering::Relaxed);
        }
        let again = self.attempt_held(&held).await;
        held.running.store(false, Ordering::Relaxed);
        if again.is_some() && held.waiting.load(Ordering::Relaxed) == 0 {
            // Whoever waited for it went meanwhile.
            self.leave(&held);
        }
        again
    }

    async fn attempt_held(&self, held: &Arc<HeldDelivery>) -> Option<Waiting> {
        let trigger = self.trigger_of(held);
        let later = || held.waits(clock::now().plus(limits::HELD_LOOK));
        if self.is_full() {
            return Some(later());
        }
        if let Some((cause, reason)) = &held.dead {
            self.bury(held, *cause, reason, None).await;
            return None;
        }
        let delivery = &held.delivery;
        if delivery.remember
            && self
                .read(|| self.journal.find(delivery.id))
                .await?
                .is_some()
        {
            self.over(held, "duplicate").await;
            return None;
        }
        match self.ahead(held).await? {
            0 => {}
            most if most >= limits::LANE_PARKED => return Some(later()),
            _ => {
                // It did not begin.
                held.running.store(false, Ordering::Relaxed);
                self.park(held, None).await;
                return None;
            }
        }
        if let Some(key) = &delivery.key {
            let ask = || self.journal.key_done(&trigger.name, key, clock::now());
            if self.read(ask).await?.is_some() {
                self.over(held, "duplicate").await;
                return None;
            }
        }
        let running = Running {
            function: &trigger.function,
            trigger: &trigger.name,
            delivery: delivery.id,
            attempt: 1,
            event: &delivery.event,
            object: None,
        };
        match self
            .run_to_commit(&running, Completes::Held(trigger, held))
            .await
        {
            Ran::Committed(_) => {
                self.metrics.settled(&delivery.trigger, "ok");
                self.end(held);
            }
            Ran::Duplicate => self.over(held, "duplicate").await,
            Ran::Failed(ended) => self.held_failed(held, &ended).await,
            // It was settled elsewhere, or the engine stops.
            Ran::Refused => {
                if let Stage::Parked(_) = *held.stage.lock().await {
                    self.end(held);
                }
            }
        }
        None
    }

    /// How many in the journal are ahead of it in its lane or with its key.
    pub(super) async fn ahead(&self, held: &HeldDelivery) -> Option<usize> {
        if !held.has_turn() {
            return Some(0);
        }
        let taken_over = self.held.lock().taken_over.contains_key(&held.trigger);
        let journaled = Queue::Journaled.of(held.trigger);
        if !taken_over && self.lock().is_idle(journaled) {
            return Some(0);
        }
        let (trigger, turn) = (&held.delivery.trigger, held.turn());
        self.read(|| self.journal.ahead(trigger, &turn, limits::LANE_PARKED))
            .await
    }

    /// What a delivery that nobody needs to keep any more leaves behind: what it is known by.
    pub(in crate::dispatcher) fn leave_held(&self, held: &HeldDelivery) -> Unit {
        Unit {
            event_ids: remembered(&held.delivery).into_iter().collect(),
            offsets: self.offsets_step(held).into_iter().collect(),
            ..Unit::default()
        }
    }

    /// Ends a delivery that was done before, under this id or with its key.
    pub(super) async fn over(&self, held: &HeldDelivery, how: &'static str) {
        let mut stage = held.stage.lock().await;
        match *stage {
            Stage::Held => {
                let unit = self.leave_held(held);
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
            Stage::Parked(seq) => {
                self.duplicate(self.trigger_of(held), &held.parked(seq))
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
    async fn held_failed(&self, held: &HeldDelivery, ended: &Ended) {
        let trigger = self.trigger_of(held);
        let stage = *held.stage.lock().await;
        if let Stage::Parked(seq) = stage {
            return self.parked_failed(held, seq, ended).await;
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
                    usage: usage(&trigger.function.plan.name, ended),
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
        if let Stage::Parked(seq) = stage {
            self.parked_failed(held, seq, ended).await;
        }
    }

    /// The attempt began before the journal took the delivery over.
    async fn parked_failed(&self, held: &HeldDelivery, seq: Seq, ended: &Ended) {
        let delivery = held.parked(seq);
        let again = self.failed(self.trigger_of(held), &delivery, ended).await;
        if let Some(again) = again {
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
        let forwarded = match ended {
            Some(_) => self.forward_given(trigger, delivery, cause, reason, attempts),
            None => held.forwarded.clone(),
        };
        let used = ended
            .as_ref()
            .map(|(ended, _)| usage(&trigger.function.plan.name, ended));
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
            offsets: self.offsets_step(held).into_iter().collect(),
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

    fn forward_given(
        &self,
        trigger: &Trigger,
        delivery: &Delivery,
        cause: Cause,
        reason: &str,
        attempts: u32,
    ) -> Vec<Accepted> {
        let given = Given {
            delivery: delivery.id,
            cause,
            reason,
            attempts,
        };
        self.forward_dead(trigger, &delivery.event, given, clock::now())
    }
}
