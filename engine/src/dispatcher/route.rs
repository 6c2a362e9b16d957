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

use super::{Dispatcher, Trigger, forward::Given, table::Table};

impl Dispatcher {
    /// The event of a source with a delivery for each trigger that matches, and what else becomes
    /// durable with it: the forwarded dead letters of deliveries that are given up at once. `remember`
    /// says that the event's id is known by nothing else.
    pub(super) fn route(
        &self,
        source: &str,
        event: Event,
        due: Option<Timestamp>,
        remember: bool,
        now: Timestamp,
    ) -> Vec<Accepted> {
        let table = self.table.load();
        let listeners = table.listeners(source);
        let matched = self.matched(&table, source, listeners, &event, remember, now);
        if matched.is_empty() {
            return Vec::new();
        }
        let (mut deliveries, mut forwarded) = (Vec::with_capacity(matched.len()), Vec::new());
        for (trigger, mut delivery) in matched {
            delivery.due = due.unwrap_or(delivery.due);
            if let Some((cause, reason)) = &delivery.dead {
                let trigger = &table.triggers[trigger];
                let given = Given {
                    delivery: delivery.id,
                    cause: *cause,
                    reason,
                    attempts: 0,
                };
                forwarded.extend(self.forward_dead(trigger, &event, given, now));
            }
            deliveries.push(delivery);
        }
        let accepted = Accepted { event, deliveries };
        std::iter::once(accepted).chain(forwarded).collect()
    }

    /// A delivery for each trigger that matches the event, with its place, of those that listen to its source.
    pub(super) fn matched(
        &self,
        table: &Table,
        source: &str,
        listeners: &[usize],
        event: &Event,
        remember: bool,
        now: Timestamp,
    ) -> Vec<(usize, NewDelivery)> {
        let parsed = Parsed::new(event);
        let mut deliveries = Vec::with_capacity(listeners.len());
        for &place in listeners {
            let trigger = &table.triggers[place];
            if trigger.matches(&parsed) {
                let mut delivery = self.delivery(trigger, &parsed, now);
                delivery.dead = too_many_hops(event).or_else(|| too_large(event, trigger));
                deliveries.push((place, delivery));
            } else if trigger.is_outsized(event) {
                let (trigger, object) = (&trigger.name, &event.subject);
                tracing::info!(
                    trigger,
                    object,
                    "left out: the object is too small or too large"
                );
                self.metrics.outsized(trigger);
            }
        }
        if deliveries.is_empty()
            && let Some(&place) = listeners.first()
        {
            self.metrics.unmatched(source);
            let trigger = &table.triggers[place];
            if trigger.unmatched == Unmatched::DeadLetter {
                let reason = format!("no trigger of source `{source}` matches the event");
                let mut delivery = self.delivery(trigger, &parsed, now);
                delivery.dead = Some((Cause::Unmatched, reason));
                deliveries.push((place, delivery));
            }
        }
        for (_, delivery) in &mut deliveries {
            delivery.remember = remember;
        }
        deliveries
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

/// What is larger than the function is to be given never runs, however often it is tried.
fn too_large(event: &Event, trigger: &Trigger) -> Option<(Cause, String)> {
    let limit = trigger.max_payload?;
    let size = u64::try_from(event.data.len()).unwrap_or(u64::MAX);
    (size > limit).then(|| {
        let (size, limit) = in_mebibytes(size, limit);
        let reason = format!(
            "payload of {size} is above the limit of {limit}; \
             a redrive runs it all the same, `max_payload` of the trigger lets the next one through"
        );
        (Cause::TooLarge, reason)
    })
}

/// Both sizes for a person; to the byte, if they would look the same.
fn in_mebibytes(size: u64, limit: u64) -> (String, String) {
    let text = |bytes: u64| match format!("{:.1}", bytes as f64 / f64::from(1 << 20)) {
        text if text == "0.0" => format!("{bytes} bytes"),
        text => format!("{} MiB", text.trim_end_matches(".0")),
    };
    match (text(size), text(limit)) {
        (one, two) if one == two => (format!("{size} bytes"), format!("{limit} bytes")),
        different => different,
    }
}

#[cfg(test)]
mod tests {
    use super::in_mebibytes;

    #[test]
    fn sizes_are_told_apart() {
        let told = |size, limit| {
            let (size, limit) = in_mebibytes(size, limit);
            format!("{size}, {limit}")
        };
        assert_eq!(told(10_000_000, 6 << 20), "9.5 MiB, 6 MiB");
        assert_eq!(told((6 << 20) + 1, 6 << 20), "6291457 bytes, 6291456 bytes");
        assert_eq!(told(2000, 1024), "2000 bytes, 1024 bytes");
        assert_eq!(told(64 << 20, (3 << 20) / 2), "64 MiB, 1.5 MiB");
    }
}
