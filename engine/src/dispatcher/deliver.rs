//! A delivery that the journal keeps, from its turn to how it is settled.

use tidemill_config::plan::Missing;
use tidemill_core::{
    delivery::{Delivery, Seq, Work},
    dispatch::{Start, Waiting},
    limits,
    outcome::Outcome,
};
use tidemill_journal::JournalError;

use super::{
    Dispatcher, Trigger,
    attempt::{Running, object_of},
    complete::{Completes, Ran},
};
use crate::clock;

/// A delivery whose turn has come, or when to look at it again, if at all.
pub(super) type Taken = Result<Delivery, Option<Waiting>>;

impl Dispatcher {
    /// Runs the delivery once; what is returned is to run again.
    pub(super) async fn deliver(&self, start: Start, trigger: &Trigger) -> Option<Waiting> {
        let mut delivery = match self.take(start.seq).await {
            Ok(delivery) => delivery,
            Err(later) => return later,
        };
        if let Work::Outbox(action) = &delivery.work {
            let action = action.clone();
            // In a box, as all that few deliveries come to: the others would carry its room with them.
            return Box::pin(self.publish(delivery, &action)).await;
        }
        let pinned = self.prepare(trigger, &mut delivery).await?;
        let ran = self
            .run_one(running(start, trigger, &delivery, pinned))
            .await;
        self.settle(trigger, &delivery, ran).await
    }

    /// The delivery whose turn has come; if it has not, when to look at it again.
    pub(super) async fn take(&self, seq: Seq) -> Taken {
        let delivery = self.read(|| self.journal.delivery(seq)).await.flatten();
        self.taken(delivery)
    }

    /// The same for several, in one look.
    pub(super) async fn take_all(&self, seqs: &[Seq]) -> Vec<Taken> {
        let all = self.read(|| self.journal.deliveries(seqs)).await;
        let all = all.unwrap_or_else(|| vec![None; seqs.len()]);
        all.into_iter().map(|one| self.taken(one)).collect()
    }

    fn taken(&self, delivery: Option<Delivery>) -> Taken {
        let delivery = delivery.ok_or(None)?;
        let now = clock::now();
        let due = if delivery.due > now {
            // News of it came late, after it had run from a page and failed: its rest is not over.
            delivery.due
        } else if self.held.is_taken_over(delivery.id) {
            // It was parked while it ran, and runs still.
            now.plus(limits::HELD_LOOK)
        } else {
            return Ok(delivery);
        };
        let (seq, size) = (delivery.seq, delivery.event.size());
        Err(Some(Waiting { seq, due, size }))
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

    /// Looks once more before the delivery runs. Whether it is about the very object that its event
    /// tells of; none, if it does not run: another one of its idempotency key is completed.
    pub(super) async fn prepare(&self, trigger: &Trigger, delivery: &mut Delivery) -> Option<bool> {
        if let Some(key) = &delivery.key
            && trigger.idempotency.is_some()
        {
            let ask = || self.journal.key_done(&trigger.name, key, clock::now());
            if self.read(ask).await?.is_some() {
                Box::pin(self.duplicate(trigger, delivery)).await;
                return None;
            }
        }
        Some(trigger.is_about_objects() && Box::pin(self.refresh(delivery)).await)
    }

    /// Settles a delivery after its attempt; what is returned is to run again.
    pub(super) async fn settle(
        &self,
        trigger: &Trigger,
        delivery: &Delivery,
        ran: Ran,
    ) -> Option<Waiting> {
        match ran {
            Ran::Failed(mut ended) if ended.superseded => {
                match trigger.missing {
                    // Who asks for it once more wants to know.
                    Missing::Skip if delivery.redrive.is_some() => {}
                    Missing::Skip => {
                        Box::pin(self.skip(trigger, delivery, &ended)).await;
                        return None;
                    }
                    Missing::Retry => {
                        let (reason, after) = (missing(&ended.outcome), None);
                        ended.outcome = Outcome::Retry { reason, after };
                    }
                    Missing::DeadLetter => {
                        let reason = missing(&ended.outcome);
                        ended.outcome = Outcome::Reject { reason };
                    }
                }
                Box::pin(self.failed(trigger, delivery, &ended)).await
            }
            Ran::Failed(ended) => Box::pin(self.failed(trigger, delivery, &ended)).await,
            Ran::Committed(_) => {
                self.metrics.settled(&delivery.trigger, "ok");
                None
            }
            Ran::Duplicate => {
                Box::pin(self.duplicate(trigger, delivery)).await;
                None
            }
            Ran::Again => {
                let (seq, due, size) = (delivery.seq, delivery.due, delivery.event.size());
                Some(Waiting { seq, due, size })
            }
            Ran::Refused => None,
        }
    }
}

/// Why a handler failed whose object was not there.
fn missing(outcome: &Outcome) -> String {
    format!("the object is gone, or was replaced since: {outcome}")
}

/// A delivery of the journal that runs.
pub(super) fn running<'a>(
    start: Start,
    trigger: &'a Trigger,
    delivery: &'a Delivery,
    pinned: bool,
) -> Running<'a> {
    let objects = trigger.is_about_objects();
    Running {
        start: Some(start),
        function: &trigger.function,
        batch: trigger.batch.is_some(),
        trigger: &trigger.name,
        delivery: delivery.id,
        attempt: delivery.attempts + 1,
        event: &delivery.event,
        object: objects
            .then(|| object_of(&delivery.event, pinned))
            .flatten(),
        completes: Completes::Delivery(trigger, delivery),
    }
}
