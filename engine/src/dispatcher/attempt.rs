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
use tidemill_journal::{JournalError, UnitResult, WrittenObject};
use tidemill_sandbox::DeliveryInfo;
use tokio::sync::MutexGuard;

use super::{
    Dispatcher, Trigger,
    call::Identity,
    effects::Effects,
    held::{HeldDelivery, Stage},
    host::{self, AttemptHost},
    locks::{HeldKeys, StoreKey},
    settle::usage,
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

impl Ended {
    /// Whether the handler replied with a status of 500 or more, or with one that no client may get.
    fn is_server_error(&self) -> bool {
        let status = self.reply.as_ref().and_then(|reply| reply.status);
        status.is_some_and(|status| !(200..500).contains(&status))
    }

    /// One without a run of a handler behind it.
    pub fn without_effects(outcome: Outcome, started: Timestamp) -> Ended {
        Ended {
            outcome,
            reply: None,
            usage: Usage::default(),
            effects: Effects::default(),
            _locks: None,
            started,
        }
    }
}

/// How running to the commit ended.
pub(super) enum Ran {
    /// Not ok; nothing of it is durable, but for objects that were written.
    Failed(Ended),
    /// Ok, and all of it that is to be durable is.
    Committed(Ended),
    /// Ok, but another one of its idempotency key was completed before: nothing of it is durable.
    Duplicate,
    /// Ok, but the journal does not take it: the engine stops, or it was settled elsewhere.
    Refused,
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

/// What an attempt that ends ok completes.
#[derive(Clone, Copy)]
pub(super) enum Completes<'a> {
    /// A delivery that the journal keeps.
    Delivery(&'a Trigger, &'a Delivery),
    /// A request whose client waits, and what it is known by when it comes again.
    Call(&'a Trigger, Option<&'a Identity>),
    /// A delivery that its source keeps, unless it was parked meanwhile.
    Held(&'a Trigger, &'a HeldDelivery),
    /// Nothing: somebody invoked the function by hand.
    Nothing,
}

impl Completes<'_> {
    fn has_key(&self) -> bool {
        match self {
            Completes::Delivery(_, delivery) => delivery.key.is_some(),
            Completes::Call(_, identity) => identity.is_some(),
            // By its id or its offset.
            Completes::Held(..) => true,
            Completes::Nothing => false,
        }
    }
}

/// The decision on a held delivery, while it is being made.
struct Decision<'a> {
    stage: Option<MutexGuard<'a, Stage>>,
    /// If the journal has taken the delivery over.
    parked: Option<Delivery>,
}

impl<'a> Completes<'a> {
    /// Whether all that it completes is kept elsewhere, so that without effects there is nothing to
    /// commit.
    fn is_kept_elsewhere(&self) -> bool {
        matches!(self, Completes::Call(..) | Completes::Held(..))
    }

    /// Nobody else decides on what it completes until the decision is dropped.
    async fn decide(self) -> Decision<'a> {
        let Completes::Held(_, held) = self else {
            return Decision {
                stage: None,
                parked: None,
            };
        };
        let stage = held.stage.lock().await;
        let parked = match *stage {
            Stage::Parked(seq) => Some(held.parked(seq)),
            _ => None,
        };
        let stage = Some(stage);
        Decision { stage, parked }
    }

    /// What it completes as things are.
    fn now<'b>(self, decision: &'b Decision<'_>) -> Completes<'b>
    where
        'a: 'b,
    {
        match (self, &decision.parked) {
            (Completes::Held(trigger, _), Some(delivery)) => Completes::Delivery(trigger, delivery),
            _ => self,
        }
    }
}

impl Decision<'_> {
    fn completed(&mut self) {
        if let Some(stage) = &mut self.stage {
            **stage = Stage::Over;
        }
    }
}

impl Dispatcher {
    /// Runs the delivery once; what is returned is to run again.
    pub(super) async fn deliver(&self, seq: Seq) -> Option<Waiting> {
        let delivery = self.read(|| self.journal.delivery(seq)).await??;
        if delivery.due > clock::now() {
            // News of it came late, after it had run from a page and failed: its rest is not over.
            return Some(Waiting {
                seq,
                due: delivery.due,
                size: delivery.event.size(),
            });
        }
        if self.held.is_taken_over(delivery.id) {
            // It was parked while it ran, and runs still.
            return Some(Waiting {
                seq,
                due: clock::now().plus(limits::HELD_LOOK),
                size: delivery.event.size(),
            });
        }
        match &delivery.work {
            Work::Handle => self.handle(delivery).await,
            Work::Outbox(action) => {
                let action = action.clone();
                self.publish(delivery, &action).await
            }
        }
    }

    /// Reads from the journal as soon as that can be read; none, if the engine stops before.
    pub(super) async fn read<T, F>(&self, ask: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, JournalError>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(error) => {
                    tracing::error!(%error, "cannot read the journal; trying again");
                    self.watch(&error);
                    let rest = tokio::time::sleep(limits::JOURNAL_RETRY);
                    self.stop.run_until_cancelled(rest).await?;
                }
            }
        }
    }

    async fn handle(&self, mut delivery: Delivery) -> Option<Waiting> {
        let trigger = self.trigger(&delivery.trigger)?;
        if let Some(key) = &delivery.key
            && trigger.idempotency.is_some()
        {
            let ask = || self.journal.key_done(&trigger.name, key, clock::now());
            if self.read(ask).await?.is_some() {
                return self.duplicate(trigger, &delivery).await;
            }
        }
        let objects = trigger.is_about_objects();
        let pinned = objects && self.refresh(&mut delivery).await;
        let running = Running {
            function: &trigger.function,
            trigger: &trigger.name,
            delivery: delivery.id,
            attempt: delivery.attempts + 1,
            event: &delivery.event,
            object: objects
                .then(|| object_of(&delivery.event, pinned))
                .flatten(),
        };
        let completes = Completes::Delivery(trigger, &delivery);
        match self.run_to_commit(&running, completes).await {
            Ran::Failed(ended) if ended.effects.superseded && delivery.redrive.is_none() => {
                self.skip(trigger, &delivery, &ended).await
            }
            Ran::Failed(ended) => self.failed(trigger, &delivery, &ended).await,
            Ran::Committed(_) => {
                self.metrics.settled(&delivery.trigger, "ok");
                None
            }
            Ran::Duplicate => self.duplicate(trigger, &delivery).await,
            Ran::Refused => None,
        }
    }

    /// Runs the handler until it fails or its effects are committed, together with what they
    /// complete. A run whose reads were overtaken is repeated, uncounted.
    pub(super) async fn run_to_commit(&self, run: &Running<'_>, completes: Completes<'_>) -> Ran {
        let function = &run.function.plan.name;
        let mut wanted = BTreeSet::new();
        for _ in 0..=limits::CONFLICT_RERUNS {
            let mut ended = self.attempt(run, wanted).await;
            self.metrics.attempt(function, &ended.outcome, &ended.usage);
            if ended.outcome != Outcome::Ok {
                return Ran::Failed(ended);
            }
            let called = matches!(completes, Completes::Call(..));
            if called && ended.is_server_error() {
                // The handler says itself that it failed, and its client hears it.
                ended.effects.throw_away();
                self.spare_usage.add(usage(function, &ended));
                return Ran::Committed(ended);
            }
            let written = match self.write_objects(run, &ended.effects).await {
                Ok(written) => written,
                Err(reason) => {
                    ended.outcome = Outcome::EffectFailed { reason };
                    return Ran::Failed(ended);
                }
            };
            let mut decision = completes.decide().await;
            let completes = completes.now(&decision);
            let unit = self.completion(run, completes, &ended, written);
            if completes.is_kept_elsewhere() && !unit.is_durable_matter() {
                self.spare_usage.add(usage(function, &ended));
                decision.completed();
                return Ran::Committed(ended);
            }
            let has_key = completes.has_key();
            match self.commit_effects(unit).await {
                Some(UnitResult::Committed { .. }) => {
                    decision.completed();
                    return Ran::Committed(ended);
                }
                Some(UnitResult::Conflict { store, key }) => {
                    tracing::debug!(delivery = %run.delivery, store, key, "a read was overtaken");
                    self.metrics.conflict(function);
                    wanted = ended.effects.touched();
                }
                Some(UnitResult::Duplicate) if has_key => return Ran::Duplicate,
                Some(result) => {
                    tracing::warn!(
                        delivery = %run.delivery, ?result,
                        "settled elsewhere: its effects are thrown away"
                    );
                    return Ran::Refused;
                }
                None => return Ran::Refused,
            }
        }
        let times = limits::CONFLICT_RERUNS + 1;
        let reason = format!("other attempts changed the keys it read, {times} times in a row");
        let overtaken = Outcome::Retry {
            after: None,
            reason,
        };
        Ran::Failed(Ended::without_effects(overtaken, clock::now()))
    }

    /// Runs the handler once, holding the locks of these keys.
    async fn attempt(&self, run: &Running<'_>, keys: BTreeSet<StoreKey>) -> Ended {
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
    async fn write_objects(
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
