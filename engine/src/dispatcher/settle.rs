//! The settlement of an attempt in the journal: done with all that it caused, another attempt later,
//! or a dead letter.

use tidemill_config::plan::After;
use tidemill_core::{
    delivery::{AttemptRecord, Cause, Delivery, Work},
    destination::OutboxAction,
    dispatch::Waiting,
    ledger, limits,
    outcome::{Outcome, Usage},
    retry::{RetryPolicy, Verdict},
};
use tidemill_journal::{
    Accepted, NewDelivery, Settle, Unit, UnitResult, UsageEntry, WrittenObject,
};

use super::{
    Dispatcher, Trigger,
    attempt::{Ended, object_of},
    outbox_queue,
};
use crate::{clock, functions::Deployed, trace};

impl Dispatcher {
    /// What becomes durable with an attempt that ended ok: its effects, and the completion of its
    /// delivery if there is one.
    pub(super) fn completion(
        &self,
        function: &Deployed,
        delivered: Option<(&Trigger, &Delivery)>,
        ended: &Ended,
        written: Vec<WrittenObject>,
    ) -> Unit {
        let now = clock::now();
        let emitted = ended.effects.emitted.iter();
        let emitted = emitted.map(|event| self.route(event.clone(), now));
        let after = delivered.and_then(|(trigger, delivery)| after(trigger, delivery));
        Unit {
            settle: delivered.map(|(_, delivery)| Settle::Done {
                delivery: delivery.seq,
            }),
            reads: ended.effects.reads(),
            writes: ended.effects.writes(),
            accept: emitted.chain(after).collect(),
            written,
            usage: Some(usage(&function.plan.name, ended)),
            ..Unit::default()
        }
    }

    /// Commits a unit and passes on what it caused.
    pub(super) async fn commit_effects(&self, unit: Unit) -> Option<UnitResult> {
        let (accept, written) = (unit.accept.clone(), unit.written.clone());
        let result = self.commit(unit).await?;
        if let UnitResult::Committed { added } = &result {
            self.arrived(&accept, added);
            for object in &written {
                self.hops.forget(&object.bucket, &object.key);
            }
        }
        Some(result)
    }

    /// Ends a delivery whose object is gone or was replaced: the event of what is there now, or of
    /// its deletion, is another delivery.
    pub(super) async fn skip(
        &self,
        trigger: &Trigger,
        delivery: &Delivery,
        ended: &Ended,
    ) -> Option<Waiting> {
        let unit = Unit {
            settle: Some(Settle::Done {
                delivery: delivery.seq,
            }),
            usage: Some(usage(&trigger.function.plan.name, ended)),
            ..Unit::default()
        };
        if let Some(UnitResult::Committed { .. }) = self.commit(unit).await {
            let (id, object) = (delivery.id, &delivery.event.subject);
            tracing::info!(
                delivery = %id, trigger = trigger.name, object,
                "skipped: the object changed or went since"
            );
            self.metrics.settled(&trigger.name, "skipped");
        }
        None
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
        let used = usage(&function.plan.name, ended);
        self.settle_failure(&trigger.retry, delivery, &ended.outcome, record, Some(used))
            .await
    }

    /// Commits what the policy makes of a failure, and then says so.
    pub(super) async fn settle_failure(
        &self,
        policy: &RetryPolicy,
        delivery: &Delivery,
        outcome: &Outcome,
        record: AttemptRecord,
        usage: Option<UsageEntry>,
    ) -> Option<Waiting> {
        let (seq, attempt) = (delivery.seq, record.attempt);
        let (now, random) = (clock::now(), fastrand::u64(..));
        let verdict = policy.after(outcome, attempt, delivery.accepted, now, random);
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
            settle: Some(settle),
            usage,
            ..Unit::default()
        };
        let UnitResult::Committed { .. } = self.commit(unit).await? else {
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
                None
            }
        }
    }
}

/// The outbox delivery that deals with an object once all its deliveries are ok.
fn after(trigger: &Trigger, delivery: &Delivery) -> Option<Accepted> {
    if delivery.event.kind != ledger::CREATED {
        return None;
    }
    let object = object_of(&delivery.event, true)?;
    let (bucket, key, etag) = (object.bucket, object.key, object.etag?);
    let action = match &trigger.after {
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

fn usage(function: &str, ended: &Ended) -> UsageEntry {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let kib_ms = ended.usage.memory.div_ceil(1024) * ended.usage.wall_us.div_ceil(1000);
    UsageEntry {
        function: function.to_owned(),
        day: ended.started.0.div_euclid(DAY_MS),
        invocations: 1,
        used: Usage {
            memory: kib_ms,
            ..ended.usage
        },
    }
}
