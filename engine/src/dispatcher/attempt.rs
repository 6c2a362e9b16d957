//! One attempt of a delivery, from the journal and back: read it, run it, commit what it did.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use tidemill_core::{
    delivery::{Delivery, Seq, Work},
    dispatch::Waiting,
    event::Event,
    identity::DeliveryId,
    ledger, limits,
    outcome::{Outcome, Reply, Usage},
    time::Timestamp,
};
use tidemill_journal::{UnitResult, WrittenObject};
use tidemill_sandbox::DeliveryInfo;

use super::{
    Dispatcher,
    effects::Effects,
    host::{self, AttemptHost},
    locks::{HeldKeys, StoreKey},
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
                if ended.effects.superseded && delivery.redrive.is_none() {
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
