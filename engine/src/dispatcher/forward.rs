//! Forward: where the handler's replies and the dead letters of a trigger go, besides the journal.
//!
//! What goes to another trigger is accepted in the very commit that completes the delivery, or gives
//! it up. What leaves the engine is an outbox delivery written there and published afterwards, under
//! an id that is the same over all tries.

use bytes::Bytes;
use serde_json::json;
use tidemill_core::{
    delivery::{Cause, Work},
    destination::{OutboxAction, Role},
    event::{Event, Field},
    identity::DeliveryId,
    outcome::Reply,
    time::Timestamp,
};
use tidemill_journal::{Accepted, NewDelivery};

use super::{
    Dispatcher, Trigger, outbox_queue,
    trigger::{Target, emitted_source},
};
use crate::views::EventView;

/// The outbox delivery number 0 of a delivery is for its object; see `settle`.
const ON_SUCCESS: u32 = 1;
const DEAD_LETTER: u32 = 2;

/// A delivery that is given up.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub delivery: DeliveryId,
    pub cause: Cause,
    pub reason: &'a str,
    pub attempts: u32,
}

impl Dispatcher {
    /// What becomes durable with a completion, so that the reply gets to where the trigger says.
    pub(super) fn forward_reply(
        &self,
        trigger: &Trigger,
        event: &Event,
        delivery: DeliveryId,
        reply: Option<&Reply>,
        now: Timestamp,
    ) -> Vec<Accepted> {
        let Some(target) = &trigger.on_success else {
            return Vec::new();
        };
        let reply = reply.cloned().unwrap_or_default();
        let content_type = |(name, _): &&Field| name.eq_ignore_ascii_case("content-type");
        let mut message = Event {
            id: format!("{delivery}.on-success"),
            kind: "tidemill.success".into(),
            datacontenttype: reply.headers.iter().find(content_type).map(|h| h.1.clone()),
            headers: origin(trigger, event, delivery),
            data: reply.body,
            ..derived(trigger, event, now)
        };
        let others = reply.headers.iter().filter(|header| !content_type(header));
        message.headers.extend(others.cloned());
        self.send(trigger, target, Role::OnSuccess, message, delivery, now)
    }

    /// What becomes durable with the end of a delivery that is given up. A loop is not forwarded: it
    /// would go round once more.
    pub(super) fn forward_dead(
        &self,
        trigger: &Trigger,
        event: &Event,
        given: Given<'_>,
        now: Timestamp,
    ) -> Vec<Accepted> {
        let Some(target) = trigger
            .dead_letter
            .as_ref()
            .filter(|_| given.cause != Cause::Loop)
        else {
            return Vec::new();
        };
        let Given {
            delivery,
            cause,
            reason,
            attempts,
        } = given;
        let mut message = Event {
            id: format!("{delivery}.dead-letter"),
            kind: "tidemill.dead-letter".into(),
            datacontenttype: event.datacontenttype.clone(),
            headers: origin(trigger, event, delivery),
            data: event.data.clone(),
            ..derived(trigger, event, now)
        };
        message.headers.extend([
            ("tidemill-cause".into(), cause.as_str().into()),
            ("tidemill-reason".into(), reason.into()),
            ("tidemill-attempts".into(), attempts.to_string()),
        ]);
        if let Target::Object { .. } = target {
            // A file has no headers: all of it is in its content.
            let letter = json!({
                "id": delivery, "trigger": trigger.name, "cause": cause, "reason": reason,
                "attempts": attempts, "died": now.to_string(), "event": EventView::from(event),
            });
            message.data = Bytes::from(letter.to_string());
            message.datacontenttype = Some("application/json".into());
        }
        self.send(trigger, target, Role::DeadLetter, message, delivery, now)
    }

    fn send(
        &self,
        trigger: &Trigger,
        target: &Target,
        role: Role,
        mut message: Event,
        delivery: DeliveryId,
        now: Timestamp,
    ) -> Vec<Accepted> {
        let name = || trigger.name.clone();
        let action = match target {
            Target::Event { kind } => {
                message.kind.clone_from(kind);
                return self.route(&emitted_source(kind), message, None, false, now);
            }
            Target::Http => OutboxAction::Post {
                trigger: name(),
                role,
            },
            Target::Amqp => OutboxAction::PublishAmqp {
                trigger: name(),
                role,
            },
            Target::Kafka => OutboxAction::PublishKafka {
                trigger: name(),
                role,
            },
            Target::Object { bucket, key } => OutboxAction::PutObject {
                bucket: bucket.clone(),
                key: object_key(key, trigger, &message, delivery),
            },
        };
        let n = match role {
            Role::OnSuccess => ON_SUCCESS,
            Role::DeadLetter => DEAD_LETTER,
        };
        let queue = outbox_queue(&trigger.name);
        let outbox = NewDelivery::new(delivery.outbox(n), queue, Work::Outbox(action), now);
        vec![Accepted {
            event: message,
            deliveries: vec![outbox],
        }]
    }
}

/// What a message has of the event that led to it.
fn derived(trigger: &Trigger, event: &Event, now: Timestamp) -> Event {
    Event {
        id: String::new(),
        source: format!("function:{}", trigger.function.plan.name),
        kind: String::new(),
        subject: event.subject.clone(),
        time: now,
        datacontenttype: None,
        traceparent: event.traceparent.clone(),
        hops: event.hops + 1,
        headers: Vec::new(),
        data: Bytes::new(),
    }
}

/// Where a message comes from, for whoever gets it.
fn origin(trigger: &Trigger, event: &Event, delivery: DeliveryId) -> Vec<Field> {
    vec![
        ("tidemill-trigger".into(), trigger.name.clone()),
        ("tidemill-delivery".into(), delivery.to_string()),
        ("tidemill-event-id".into(), event.id.clone()),
        ("tidemill-event-source".into(), event.source.clone()),
        ("tidemill-event-type".into(), event.kind.clone()),
    ]
}

/// The key with its placeholders filled in. A subject may lead into folders, but not out of them.
fn object_key(template: &str, trigger: &Trigger, message: &Event, delivery: DeliveryId) -> String {
    let subject = message.subject.as_deref().unwrap_or_default();
    let kind = message
        .headers
        .iter()
        .find(|h| h.0 == "tidemill-event-type");
    let time = message.time.to_string();
    template
        .replace("{trigger}", &trigger.name)
        .replace("{id}", &delivery.to_string())
        .replace("{date}", &time[..time.len().min(10)])
        .replace("{type}", kind.map_or("", |h| &h.1))
        .replace("{subject}", subject.trim_start_matches('/'))
}
