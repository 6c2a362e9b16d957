//! Match: from an event to the deliveries it becomes, one for each trigger that it matches.

use tidemill_config::plan::Unmatched;
use tidemill_core::{
    delivery::{Cause, Work},
    event::Event,
    identity::DeliveryId,
    limits,
    selector::Parsed,
    time::Timestamp,
};
use tidemill_journal::{Accepted, NewDelivery};

use super::{Dispatcher, Trigger, forward::Given};

impl Dispatcher {
    /// The event of a source with a delivery for each trigger that matches, and what else becomes
    /// durable with it: the forwarded dead letter of an event that is given up at once. `remember`
    /// says that the event's id is known by nothing else.
    pub(super) fn route(
        &self,
        source: &str,
        event: Event,
        due: Option<Timestamp>,
        remember: bool,
        now: Timestamp,
    ) -> Vec<Accepted> {
        let listeners = self.routes.get(source).map_or(&[][..], Vec::as_slice);
        let parsed = Parsed::new(&event);
        let mut deliveries = Vec::new();
        for trigger in listeners.iter().map(|&index| &self.triggers[index]) {
            if trigger.matches(&parsed) {
                let dead = too_many_hops(&event);
                let mut delivery = self.delivery(trigger, &parsed, now);
                delivery.dead = dead;
                deliveries.push(delivery);
            } else if trigger.is_outsized(&event) {
                let (trigger, object) = (&trigger.name, &event.subject);
                tracing::info!(
                    trigger,
                    object,
                    "left out: the object is too small or too large"
                );
                self.metrics.outsized(trigger);
            }
        }
        let mut forwarded = Vec::new();
        if deliveries.is_empty()
            && let Some(trigger) = listeners.first().map(|&index| &self.triggers[index])
        {
            self.metrics.unmatched(source);
            if trigger.unmatched == Unmatched::DeadLetter {
                let reason = format!("no trigger of source `{source}` matches the event");
                let mut delivery = self.delivery(trigger, &parsed, now);
                delivery.dead = Some((Cause::Unmatched, reason.clone()));
                let given = Given {
                    delivery: delivery.id,
                    cause: Cause::Unmatched,
                    reason: &reason,
                    attempts: 0,
                };
                forwarded = self.forward_dead(trigger, &event, given, now);
                deliveries.push(delivery);
            }
        }
        for delivery in &mut deliveries {
            delivery.remember = remember;
            delivery.due = due.unwrap_or(now);
        }
        // Without deliveries there is nothing to keep.
        let accepted = (!deliveries.is_empty()).then(|| Accepted { event, deliveries });
        accepted.into_iter().chain(forwarded).collect()
    }

    fn delivery(&self, trigger: &Trigger, parsed: &Parsed<'_>, now: Timestamp) -> NewDelivery {
        let event = parsed.event;
        let id = DeliveryId::derive(&trigger.name, &event.source, &event.id);
        let key = trigger.key(parsed);
        if key.is_none() && trigger.idempotency.is_some() {
            self.metrics.key_missing(&trigger.name);
        }
        NewDelivery {
            lane: trigger.lane(parsed),
            key,
            ..NewDelivery::new(id, &trigger.name, Work::Handle, now)
        }
    }
}

/// A chain of events that came through too many writes of the engine feeds itself.
fn too_many_hops(event: &Event) -> Option<(Cause, String)> {
    (event.hops > limits::HOPS).then(|| {
        let reason = format!(
            "the event came through {} writes of this engine: a function feeds its own trigger; \
             let it write or emit elsewhere, or narrow the trigger by prefix, suffix or filter",
            event.hops
        );
        (Cause::Loop, reason)
    })
}
