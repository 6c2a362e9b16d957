//! One attempt of a delivery, from the journal and back: read it, run it, commit what it did.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use tidemill_config::plan::After;
use tidemill_core::{
    delivery::{AttemptRecord, Delivery, Seq, Work},
    destination::OutboxAction,
    dispatch::Waiting,
    event::Event,
    identity::DeliveryId,
    ledger, limits,
    outcome::{Outcome, Reply, Usage},
    retry::{RetryPolicy, Verdict},
    time::Timestamp,
};
use tidemill_journal::{
    Accepted, NewDelivery, Settle, Unit, UnitResult, UsageEntry, WrittenObject,
};
use tidemill_sandbox::DeliveryInfo;

use super::{
    Dispatcher, Trigger,
    host::{self, AttemptHost, Effects},
    locks::{HeldKeys, StoreKey},
    outbox_queue,
};
use crate::{clock, functions::Deployed, trace};

/// An attempt that has ended and is not committed yet.
pub(super) struct Ended {
    /// How.
    pub outcome: Outcome,
    /// The handler's answer.
    pub reply: Option<Reply>,
    /// What it used.
    pub usage: Usage,
    /// What it would do. Empty unless the outcome is ok.
    pub effects: Effects,
    /// The locks it holds, until its commit.
    pub _locks: Option<HeldKeys>,
    /// When it began.
    pub started: Timestamp,
}

/// Who runs, and why.
pub(super) struct Running<'a> {
    pub function: &'a Arc<Deployed>,
    pub trigger: &'a str,
    pub delivery: DeliveryId,
    pub attempt: u32,
    pub event: &'a Event,
    /// The object that triggered.
    pub object: Option<host::Trigger>,
}

impl Dispatcher {
    /// Runs the delivery once; what is returned is to run again.
    pub(super) async fn deliver(&self, seq: Seq) -> Option<Waiting> {
        let delivery = match self.journal.delivery(seq).await {
            Ok(delivery) => delivery?,
            Err(error) => {
                tracing::error!(seq, %error, "cannot read a delivery");
                self.watch(&error);
                let due = clock::now().plus(limits::JOURNAL_RETRY);
                return Some(Waiting { seq, due, size: 0 });
            }
        };
        match &delivery.work {
            Work::Handle => self.handle(delivery).await,
            Work::Outbox(action) => {
                let action = action.clone();
                self.publish(delivery, &action).await
            }
        }
    }

    async fn handle(&self, mut delivery: Delivery) -> Option<Waiting> {
        let trigger = self.trigger(&delivery.trigger)?;
        let pinned = self.refresh(&mut delivery).await;
        let running = Running {
            function: &trigger.function,
            trigger: &trigger.name,
            delivery: delivery.id,
            attempt: delivery.attempts + 1,
            event: &delivery.event,
            object: object_of(&delivery.event, pinned),
        };
        let mut wanted = BTreeSet::new();
        for _ in 0..=limits::CONFLICT_RERUNS {
            let mut ended = self.attempt(&running, std::mem::take(&mut wanted)).await;
            self.metrics
                .attempt(&trigger.function.plan.name, &ended.outcome, &ended.usage);
            if ended.outcome != Outcome::Ok {
                if ended.effects.superseded && pinned {
                    return self.skip(&delivery, &ended).await;
                }
                return self
                    .failed(&trigger.retry, &delivery, ended, &trigger.function)
                    .await;
            }
            let written = match self.write_objects(&running, &ended.effects).await {
                Ok(written) => written,
                Err(reason) => {
                    ended.outcome = Outcome::EffectFailed { reason };
                    return self
                        .failed(&trigger.retry, &delivery, ended, &trigger.function)
                        .await;
                }
            };
            let touched = ended.effects.touched();
            let unit = self.completion(trigger, &delivery, &mut ended, written);
            match self.complete(&delivery, unit).await {
                Some(UnitResult::Conflict { store, key }) => {
                    tracing::debug!(delivery = %delivery.id, store, key, "a read was overtaken");
                    self.metrics.conflict(&trigger.function.plan.name);
                    wanted = touched;
                }
                _ => return None,
            }
        }
        let reason = format!(
            "other attempts changed the keys it read, {} times in a row",
            limits::CONFLICT_RERUNS + 1
        );
        let ended = Ended {
            outcome: Outcome::Retry {
                after: None,
                reason,
            },
            reply: None,
            usage: Usage::default(),
            effects: Effects::default(),
            _locks: None,
            started: clock::now(),
        };
        self.failed(&trigger.retry, &delivery, ended, &trigger.function)
            .await
    }

    /// Runs the handler once, holding the locks of these keys.
    pub(super) async fn attempt(&self, run: &Running<'_>, keys: BTreeSet<StoreKey>) -> Ended {
        let locks = match keys.is_empty() {
            true => None,
            false => Some(self.locks.acquire(keys.clone()).await),
        };
        let started = clock::now();
        let host = Arc::new(AttemptHost {
            function: run.function.clone(),
            journal: self.journal.clone(),
            objects: self.objects.clone(),
            locks: self.locks.clone(),
            held: keys,
            delivery: run.delivery,
            attempt: run.attempt,
            traceparent: run.event.traceparent.clone(),
            hops: run.event.hops,
            trigger: run.object.clone(),
            effects: Mutex::default(),
        });
        let info = DeliveryInfo {
            id: run.delivery.to_string(),
            trigger: run.trigger.to_owned(),
            attempt: run.attempt,
        };
        let finished = run
            .function
            .component
            .run(run.event, &info, host.clone())
            .await;
        let mut effects = host.take_effects();
        if finished.outcome != Outcome::Ok {
            effects.throw_away();
        }
        let (function, delivery) = (&run.function.plan.name, run.delivery);
        let trace = trace::trace_id(run.event.traceparent.as_deref());
        let (outcome, wall_us) = (finished.outcome.name(), finished.usage.wall_us);
        tracing::debug!(%function, %delivery, attempt = run.attempt, trace, %outcome, wall_us, "attempt ended");
        Ended {
            outcome: finished.outcome,
            reply: finished.reply,
            usage: finished.usage,
            effects,
            _locks: locks,
            started,
        }
    }

    /// Writes the objects of an attempt that ended ok. They are not taken back if one fails or the
    /// commit does: objects are effects outside, at least once.
    pub(super) async fn write_objects(
        &self,
        run: &Running<'_>,
        effects: &Effects,
    ) -> Result<Vec<WrittenObject>, String> {
        let hops = run.event.hops + 1;
        let mut written = Vec::new();
        for ((bucket, key), content) in &effects.objects {
            let feeds_back = self.objects.feeds_back(bucket);
            if feeds_back {
                self.hops.announce(bucket, key, hops);
            }
            let done = match content {
                Some(content) => self
                    .objects
                    .put(bucket, key, content.clone())
                    .await
                    .map(Some),
                None => self.objects.delete(bucket, key).await.map(|()| None),
            };
            if let Some(etag) = done.map_err(|error| error.chain())?
                && feeds_back
            {
                let (bucket, key) = (bucket.clone(), key.clone());
                written.push(WrittenObject {
                    bucket,
                    key,
                    etag,
                    hops,
                });
            }
        }
        Ok(written)
    }

    /// What becomes durable with an attempt that ended ok.
    fn completion(
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
    async fn complete(&self, delivery: &Delivery, unit: Unit) -> Option<UnitResult> {
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
    async fn skip(&self, delivery: &Delivery, ended: &Ended) -> Option<Waiting> {
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

/// The object that an event of a bucket tells of.
pub(super) fn object_of(event: &Event, pinned: bool) -> Option<host::Trigger> {
    let bucket = event.source.strip_prefix("bucket:")?.to_owned();
    let etag = if pinned { ledger::etag(event) } else { None };
    Some(host::Trigger {
        bucket,
        key: event.subject.clone()?,
        etag,
    })
}

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
