//! The settlement of an attempt in the journal: done with all that it caused, another attempt later,
//! or a dead letter.

use std::sync::Arc;

use tidemill_config::plan::After;
use tidemill_core::{
    delivery::{AttemptRecord, Cause, Delivery, Work},
    destination::OutboxAction,
    dispatch::Waiting,
    event::Event,
    identity::fingerprint,
    ledger, limits,
    outcome::{Outcome, Reply, Usage},
    retry::{RetryPolicy, Verdict},
    time::Timestamp,
};
use tidemill_journal::{
    Accepted, EventId, KeyDone, NewDelivery, Settle, Unit, UnitResult, UsageEntry,
};

use super::{
    Dispatcher, Trigger,
    attempt::{Running, object_of},
    complete::{Completes, Ended},
    emitted_source,
    forward::Given,
    outbox_queue,
};
use crate::{clock, trace};

impl Dispatcher {
    /// Adds what becomes durable with an event that ended ok, besides what it wrote: what it emitted and
    /// replied, and what it completes.
    pub(super) fn complete(
        &self,
        unit: &mut Unit,
        run: &Running<'_>,
        completes: Completes<'_>,
        reply: Option<&Reply>,
        emitted: &[Event],
    ) {
        let now = clock::now();
        match completes {
            Completes::Delivery(_, delivery) => leave(unit, delivery),
            // Its offset goes with those of the others of its batch.
            Completes::Held(_, held) => unit.event_ids.extend(remembered(&held.delivery)),
            Completes::Call(..) | Completes::Nothing => {}
        }
        for event in emitted {
            let source = emitted_source(&event.kind);
            let routed = self.route(&source, event.clone(), None, false, now);
            unit.accept.extend(routed);
        }
        if let Completes::Delivery(trigger, _)
        | Completes::Held(trigger, _)
        | Completes::Call(trigger, _) = completes
        {
            let forwarded = self.forward_reply(trigger, run.event, run.delivery, reply, now);
            unit.accept.extend(forwarded);
        }
        match completes {
            Completes::Delivery(trigger, delivery) => {
                unit.accept.extend(after(trigger, delivery));
                unit.keys.extend(completed_key(trigger, delivery, now));
            }
            Completes::Held(trigger, held) => {
                unit.keys
                    .extend(completed_key(trigger, &held.delivery, now));
            }
            Completes::Call(trigger, Some(identity)) => unit.keys.push(KeyDone {
                trigger: trigger.name.clone(),
                key: identity.key.clone(),
                delivery: run.delivery,
                completed: now,
                expires: now.plus(identity.window),
                fingerprint: identity.fingerprint,
                reply: Some(reply.cloned().unwrap_or_default()),
            }),
            Completes::Call(_, None) | Completes::Nothing => {}
        }
    }

    /// Commits a unit and passes on what it caused.
    pub(super) async fn commit_effects(&self, unit: Unit) -> Option<UnitResult> {
        let units: Arc<[Unit]> = [unit].into();
        let result = self.commit_shared(&units).await?;
        if let UnitResult::Committed { added, released } = &result {
            let unit = &units[0];
            self.arrived(&unit.accept, added, released);
            for object in &unit.written {
                self.hops.forget(&object.bucket, &object.key);
            }
        }
        Some(result)
    }

    /// Ends a delivery whose object is gone or was replaced: the event of what is there now, or of
    /// its deletion, is another delivery.
    pub(super) async fn skip(&self, trigger: &Trigger, delivery: &Delivery, ended: &Ended) {
        let mut unit = Unit {
            usage: used(&trigger.function.plan.name, ended),
            ..Unit::default()
        };
        leave(&mut unit, delivery);
        if let Some(UnitResult::Committed { .. }) = self.commit_effects(unit).await {
            let (id, object) = (delivery.id, &delivery.event.subject);
            tracing::info!(
                delivery = %id, trigger = trigger.name, object,
                "skipped: the object changed or went since"
            );
            self.metrics.settled(&trigger.name, "skipped");
        }
    }

    /// Ends a delivery whose idempotency key another one completed.
    pub(super) async fn duplicate(&self, trigger: &Trigger, delivery: &Delivery) {
        let mut unit = Unit::default();
        leave(&mut unit, delivery);
        if let Some(UnitResult::Committed { .. }) = self.commit_effects(unit).await {
            let (id, key) = (delivery.id, &delivery.key);
            tracing::debug!(delivery = %id, trigger = trigger.name, key, "a duplicate: not run");
            self.metrics.settled(&trigger.name, "duplicate");
        }
    }

    /// Settles an attempt that did not end ok: another one later, or a dead letter.
    pub(super) async fn failed(
        &self,
        trigger: &Trigger,
        delivery: &Delivery,
        ended: &Ended,
    ) -> Option<Waiting> {
        let function = &trigger.function;
        let record = record(delivery, ended, Some(function.component.digest()));
        let used = used(&function.plan.name, ended);
        let policy = &trigger.retry;
        self.settle_failure(
            Some(trigger),
            policy,
            delivery,
            &ended.outcome,
            record,
            used,
        )
        .await
    }

    /// Commits what the policy makes of a failure, and then says so. A dead letter of `trigger` is
    /// forwarded as it says.
    pub(super) async fn settle_failure(
        &self,
        trigger: Option<&Trigger>,
        policy: &RetryPolicy,
        delivery: &Delivery,
        outcome: &Outcome,
        record: AttemptRecord,
        usage: Option<UsageEntry>,
    ) -> Option<Waiting> {
        let (seq, attempt) = (delivery.seq, record.attempt);
        let (now, random) = (clock::now(), fastrand::u64(..));
        let verdict = policy.after(outcome, attempt, delivery.accepted, now, random);
        let mut accept = Vec::new();
        if let (Verdict::GiveUp(why), Some(trigger)) = (verdict, trigger) {
            let given = Given {
                delivery: delivery.id,
                cause: why.into(),
                reason: &record.reason,
                attempts: attempt,
            };
            accept = self.forward_dead(trigger, &delivery.event, given, now);
        }
        let settle = match verdict {
            Verdict::RetryAt(due) => Settle::Retry {
                delivery: seq,
                due,
                record,
            },
            Verdict::GiveUp(why) => Settle::Dead {
                delivery: seq,
                cause: why.into(),
                record,
            },
        };
        let unit = Unit {
            settle: vec![settle],
            accept,
            usage,
            ..Unit::default()
        };
        let UnitResult::Committed { .. } = self.commit_effects(unit).await? else {
            tracing::warn!(delivery = %delivery.id, "settled elsewhere: this failure counts no more");
            return None;
        };
        let (id, trigger) = (delivery.id, &delivery.trigger);
        let trace = trace::trace_id(delivery.event.traceparent.as_deref());
        match verdict {
            Verdict::RetryAt(due) => {
                tracing::warn!(delivery = %id, trigger, attempt, trace, retry_at = %due, "{outcome}");
                let size = delivery.event.size();
                Some(Waiting { seq, due, size })
            }
            Verdict::GiveUp(why) => {
                let cause = Cause::from(why);
                tracing::error!(
                    delivery = %id, trigger, attempt, trace, cause = cause.as_str(),
                    "dead letter: {outcome}"
                );
                self.metrics.dead_letter(trigger, cause);
                let reason = outcome.to_string();
                self.tell_dead(trigger, id, &delivery.event, attempt, cause, &reason);
                None
            }
        }
    }
}

/// What becomes durable when a delivery is done, whatever else does: its id stays known, if nothing
/// else knows it.
fn leave(unit: &mut Unit, delivery: &Delivery) {
    unit.settle.push(Settle::Done {
        delivery: delivery.seq,
    });
    unit.event_ids.extend(remembered(delivery));
}

/// The id of a delivery that is about to leave the journal, to be remembered.
pub(super) fn remembered(delivery: &Delivery) -> Option<EventId> {
    delivery.remember.then(|| EventId {
        delivery: delivery.id,
        window: limits::EVENT_IDS,
        fingerprint: Some(fingerprint(&delivery.event)),
    })
}

/// The idempotency key that the delivery completes.
fn completed_key(trigger: &Trigger, delivery: &Delivery, now: Timestamp) -> Option<KeyDone> {
    Some(KeyDone {
        trigger: trigger.name.clone(),
        key: delivery.key.clone()?,
        delivery: delivery.id,
        completed: now,
        expires: now.plus(trigger.window()?),
        fingerprint: None,
        reply: None,
    })
}

/// The outbox delivery that deals with an object once all its deliveries are ok.
fn after(trigger: &Trigger, delivery: &Delivery) -> Option<Accepted> {
    if !trigger.is_about_objects() || delivery.event.kind != ledger::CREATED {
        return None;
    }
    let object = object_of(&delivery.event, true)?;
    let (bucket, key, etag) = (object.bucket, object.key, object.etag?);
    let action = match trigger.after() {
        After::Keep => return None,
        After::Delete => OutboxAction::DeleteObject { bucket, key, etag },
        After::Move {
            bucket: to_bucket,
            prefix,
        } => {
            let (to_bucket, to_key) = (to_bucket.clone(), format!("{prefix}{key}"));
            OutboxAction::MoveObject {
                bucket,
                key,
                etag,
                to_bucket,
                to_key,
            }
        }
    };
    let now = clock::now();
    let id = delivery.id.outbox(0);
    let queue = outbox_queue(&trigger.name);
    let outbox = NewDelivery {
        only_if_last: Some(delivery.seq),
        ..NewDelivery::new(id, queue, Work::Outbox(action), now)
    };
    Some(Accepted {
        event: delivery.event.clone(),
        deliveries: vec![outbox],
    })
}

/// What the history keeps of an attempt; `digest` is that of the component, if one ran.
pub(super) fn record(delivery: &Delivery, ended: &Ended, digest: Option<&str>) -> AttemptRecord {
    AttemptRecord {
        attempt: delivery.attempts + 1,
        started: ended.started,
        ended: clock::now(),
        outcome: ended.outcome.name(),
        reason: cut(ended.outcome.to_string()),
        digest: digest.map(str::to_owned),
    }
}

fn cut(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(limits::REASON));
    reason
}

/// What an attempt that began then adds to the account of its function.
pub(super) fn usage(function: &str, started: Timestamp, used: Usage) -> UsageEntry {
    let kib_ms = used.memory.div_ceil(1024) * used.wall_us.div_ceil(1000);
    UsageEntry {
        function: function.to_owned(),
        day: started.day(),
        invocations: 1,
        used: Usage {
            memory: kib_ms,
            ..used
        },
    }
}

/// The same, unless it is accounted for.
pub(super) fn used(function: &str, ended: &Ended) -> Option<UsageEntry> {
    (!ended.accounted).then(|| usage(function, ended.started, ended.used))
}
