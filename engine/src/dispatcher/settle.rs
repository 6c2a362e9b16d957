//! The settlement of an attempt in the journal: done with all that it caused, another attempt later,
//! or a dead letter.

use tidemill_config::plan::After;
use tidemill_core::{
    delivery::{AttemptRecord, Delivery, Work},
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
    /// What becomes durable with an attempt that ended ok.
    pub(super) fn completion(
        &self,
        trigger: &Trigger,
        delivery: &Delivery,
        ended: &mut Ended,
        written: Vec<WrittenObject>,
    ) -> Unit {
        let mut unit = self.effects_unit(&trigger.function, ended, written);
        unit.settle = Some(Settle::Done {
            delivery: delivery.seq,
        });
        unit.accept.extend(after(trigger, delivery));
        unit
    }

    /// The effects of an attempt that ended ok, without its settlement.
    pub(super) fn effects_unit(
        &self,
        function: &Deployed,
        ended: &mut Ended,
        written: Vec<WrittenObject>,
    ) -> Unit {
        let now = clock::now();
        let emitted = std::mem::take(&mut ended.effects.emitted);
        Unit {
            reads: ended.effects.reads(),
            writes: ended.effects.take_writes(),
            accept: emitted
                .into_iter()
                .map(|event| self.route(event, now))
                .collect(),
            written,
            usage: Some(usage(&function.plan.name, ended)),
            ..Unit::default()
        }
    }

    /// Commits a unit that ends a delivery and passes on what it caused.
    pub(super) async fn complete(&self, delivery: &Delivery, unit: Unit) -> Option<UnitResult> {
        let (accept, written) = (unit.accept.clone(), unit.written.clone());
        let result = self.commit(unit).await?;
        match &result {
            UnitResult::Committed { added } => {
                self.arrived(&accept, added);
                for object in &written {
                    self.hops.forget(&object.bucket, &object.key);
                }
                self.metrics.settled(&delivery.trigger, "ok");
            }
            UnitResult::Conflict { .. } => {}
            UnitResult::Duplicate | UnitResult::Gone => {
                tracing::warn!(delivery = %delivery.id, ?result, "settled elsewhere: its effects are thrown away");
            }
        }
        Some(result)
    }

    /// Ends a delivery whose object is gone or was replaced: the event of what is there now, or of
    /// its deletion, is another delivery.
    pub(super) async fn skip(&self, delivery: &Delivery, ended: &Ended) -> Option<Waiting> {
        let (id, trigger, object) = (delivery.id, &delivery.trigger, &delivery.event.subject);
        tracing::info!(delivery = %id, trigger, object, "skipped: the object changed or went since");
        let function = &self.trigger(trigger)?.function.plan.name;
        let unit = Unit {
            settle: Some(Settle::Done {
                delivery: delivery.seq,
            }),
            usage: Some(usage(function, ended)),
            ..Unit::default()
        };
        if let Some(UnitResult::Committed { .. }) = self.commit(unit).await {
            self.metrics.settled(trigger, "skipped");
        }
        None
    }

    /// Settles an attempt that did not end ok: another one later, or a dead letter.
    pub(super) async fn failed(
        &self,
        policy: &RetryPolicy,
        delivery: &Delivery,
        ended: Ended,
        function: &Deployed,
    ) -> Option<Waiting> {
        let record = record(delivery, &ended, Some(function.component.digest()));
        let used = usage(&function.plan.name, &ended);
        self.settle_failure(policy, delivery, &ended.outcome, record, Some(used))
            .await
    }

    pub(super) async fn settle_failure(
        &self,
        policy: &RetryPolicy,
        delivery: &Delivery,
        outcome: &Outcome,
        record: AttemptRecord,
        usage: Option<UsageEntry>,
    ) -> Option<Waiting> {
        let (id, trigger, attempt) = (delivery.id, &delivery.trigger, record.attempt);
        let trace = trace::trace_id(delivery.event.traceparent.as_deref());
        let now = clock::now();
        let verdict = policy.after(outcome, attempt, delivery.accepted, now, fastrand::u64(..));
        let (settle, again) = match verdict {
            Verdict::RetryAt(due) => {
                tracing::warn!(delivery = %id, trigger, attempt, trace, retry_at = %due, "{outcome}");
                let again = Waiting {
                    seq: delivery.seq,
                    due,
                    size: delivery.event.size(),
                };
                (
                    Settle::Retry {
                        delivery: delivery.seq,
                        due,
                        record,
                    },
                    Some(again),
                )
            }
            Verdict::GiveUp(why) => {
                let cause = why.into();
                tracing::error!(delivery = %id, trigger, attempt, trace, ?cause, "dead letter: {outcome}");
                self.metrics.dead_letter(trigger, cause);
                (
                    Settle::Dead {
                        delivery: delivery.seq,
                        cause,
                        record,
                    },
                    None,
                )
            }
        };
        let result = self
            .commit(Unit {
                settle: Some(settle),
                usage,
                ..Unit::default()
            })
            .await?;
        again.filter(|_| matches!(result, UnitResult::Committed { .. }))
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
    let outbox = NewDelivery {
        id: delivery.id.outbox(0),
        trigger: outbox_queue(&trigger.name),
        work: Work::Outbox(action),
        accepted: now,
        due: now,
        lane: None,
        key: None,
        history: Vec::new(),
        dead: None,
        redrive: None,
        only_if_last: Some(delivery.seq),
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
