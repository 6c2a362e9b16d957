//! Match and accept: an offered event becomes deliveries that are durable.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tidemill_core::{
    BoxFuture,
    event::Event,
    identity::fingerprint,
    intake::{Answer, Call, Calls, Cursors, Intake, IntakeError, Ledgers, Mark, Offer, Receipt},
    ledger::{self, BucketMove, BucketState, Gone, LedgerEntry, LedgerMove},
    schedule::{Cursor, CursorMove},
    time::Timestamp,
};
use tidemill_journal::{Accepted, Found, JournalError, Noted, Unit, UnitResult};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use crate::{clock, trace};

/// The intake, as a source sees it.
pub struct EngineIntake {
    pub(super) dispatcher: Arc<Dispatcher>,
    /// The number of the source.
    pub(super) source: SourceNumber,
    /// The source is to stop.
    pub(super) closed: CancellationToken,
}

/// A source, among all that there ever were.
pub type SourceNumber = u64;

impl EngineIntake {
    /// The intake of a source, until it is told to stop. Its number tells it from all others.
    pub fn new(
        dispatcher: Arc<Dispatcher>,
        source: SourceNumber,
        closed: CancellationToken,
    ) -> EngineIntake {
        EngineIntake {
            dispatcher,
            source,
            closed,
        }
    }
}

/// What goes on by itself when whoever waits for it goes, a client or a source that stops: of what the
/// journal has, the dispatch must hear.
pub(super) struct ToTheEnd<T: Send + 'static> {
    future: Option<BoxFuture<'static, T>>,
    begun: bool,
}

impl<T: Send> ToTheEnd<T> {
    pub(super) fn of(future: impl Future<Output = T> + Send + 'static) -> ToTheEnd<T> {
        ToTheEnd {
            future: Some(Box::pin(future)),
            begun: false,
        }
    }
}

impl<T: Send> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let future = self
            .future
            .as_mut()
            .expect("it is not polled after its end");
        let poll = future.as_mut().poll(context);
        if poll.is_ready() {
            self.future = None;
        }
        poll
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take().filter(|_| self.begun)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(future);
        }
    }
}

impl Intake for EngineIntake {
    fn offer(&self, offer: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>> {
        let dispatcher = self.dispatcher.clone();
        Box::pin(ToTheEnd::of(async move { dispatcher.accept(offer).await }))
    }
}

impl Calls for EngineIntake {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, IntakeError>> {
        Box::pin(self.dispatcher.call(call))
    }
}

impl Ledgers for EngineIntake {
    fn ledger(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>> {
        let entries = self.dispatcher.journal.ledger(bucket, keys);
        Box::pin(async move { entries.await.map_err(refusal) })
    }

    fn ledger_page(
        &self,
        bucket: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>> {
        let entries = self.dispatcher.journal.ledger_page(bucket, after, limit);
        Box::pin(async move { entries.await.map_err(refusal) })
    }

    fn ledger_range(
        &self,
        bucket: &str,
        after: Option<String>,
        until: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>> {
        let entries = self
            .dispatcher
            .journal
            .ledger_range(bucket, after, until, limit);
        Box::pin(async move { entries.await.map_err(refusal) })
    }

    fn note(
        &self,
        bucket: &str,
        objects: Vec<LedgerEntry>,
    ) -> BoxFuture<'_, Result<(), IntakeError>> {
        let bucket = bucket.to_owned();
        let unit = Unit {
            noted: Some(Noted { bucket, objects }),
            ..Unit::default()
        };
        Box::pin(self.dispatcher.noted(unit))
    }

    fn bucket(&self, bucket: &str) -> BoxFuture<'_, Result<Option<BucketState>, IntakeError>> {
        let state = self.dispatcher.journal.bucket(bucket);
        Box::pin(async move { state.await.map_err(refusal) })
    }

    fn move_bucket(&self, step: BucketMove) -> BoxFuture<'_, Result<(), IntakeError>> {
        let unit = Unit {
            buckets: vec![step],
            ..Unit::default()
        };
        Box::pin(self.dispatcher.noted(unit))
    }

    fn gone(
        &self,
        bucket: &str,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Gone, IntakeError>> {
        let gone = self.dispatcher.journal.gone(bucket, before, limit);
        Box::pin(async move { gone.await.map_err(refusal) })
    }
}

impl Cursors for EngineIntake {
    fn cursor(&self, schedule: &str) -> BoxFuture<'_, Result<Option<Cursor>, IntakeError>> {
        let cursor = self.dispatcher.journal.cursor(schedule);
        Box::pin(async move { cursor.await.map_err(refusal) })
    }

    fn move_cursor(&self, step: CursorMove) -> BoxFuture<'_, Result<bool, IntakeError>> {
        let unit = Unit {
            cursors: vec![step],
            ..Unit::default()
        };
        Box::pin(async move {
            let result = self.dispatcher.offered(&[unit].into()).await?;
            Ok(matches!(result, UnitResult::Committed { .. }))
        })
    }

    fn is_busy(&self, trigger: &str) -> BoxFuture<'_, Result<bool, IntakeError>> {
        let busy = self.dispatcher.journal.is_busy(trigger);
        Box::pin(async move { busy.await.map_err(refusal) })
    }
}

impl Dispatcher {
    /// Whether anything new may come in.
    pub(super) fn open(&self) -> Result<(), IntakeError> {
        if self.stop.is_cancelled() {
            return Err(IntakeError::Stopping);
        }
        if self.is_full() {
            return Err(IntakeError::Full(
                "it has reached engine.journal_limit".into(),
            ));
        }
        Ok(())
    }

    async fn accept(&self, offer: Offer) -> Result<Receipt, IntakeError> {
        self.open()?;
        let Offer {
            source,
            mut event,
            mark,
            due,
        } = offer;
        event.traceparent.get_or_insert_with(trace::new_traceparent);
        let (mut ledger, mut cursors, mut remember) = (Vec::new(), Vec::new(), false);
        match mark {
            Mark::Ledger(step) => {
                let known = self.hops_of(&event, &step).await.map_err(refusal)?;
                event.hops = event.hops.max(known);
                ledger.push(step);
            }
            Mark::Cursor(step) => cursors.push(step),
            Mark::Id => remember = true,
            Mark::Fresh => {}
        }
        let accept = self.route(&source, event, due, remember, clock::now());
        let deliveries = accept.first().map_or(0, |one| one.deliveries.len());
        if deliveries == 0 && self.table.load().listeners(&source).is_empty() {
            // The plan has changed, and the source is about to be told.
            return Err(IntakeError::Stopping);
        }
        if deliveries == 0 && ledger.is_empty() && cursors.is_empty() {
            self.metrics.accepted(&source, 1);
            return Ok(Receipt::Accepted { deliveries });
        }
        let noticed = ledger.first().map(|step| {
            let (bucket, key) = (&step.bucket, &step.to.key);
            (bucket.clone(), key.clone())
        });
        let unit = Unit {
            accept,
            ledger,
            cursors,
            ..Unit::default()
        };
        let units: Arc<[Unit]> = [unit].into();
        let accept = &units[0].accept;
        match self.offered(&units).await? {
            UnitResult::Committed { added, released } => {
                if let Some((bucket, key)) = noticed {
                    self.hops.forget(&bucket, &key);
                }
                self.metrics.accepted(&source, 1);
                self.arrived(accept, &added, &released);
                Ok(Receipt::Accepted { deliveries })
            }
            _ if remember && self.is_reused(accept).await? => Ok(Receipt::Reused),
            _ => {
                self.metrics.duplicate(&source);
                Ok(Receipt::Duplicate)
            }
        }
    }

    /// Commits what a connector notes that is no event.
    async fn noted(&self, unit: Unit) -> Result<(), IntakeError> {
        self.open()?;
        self.offered(&[unit].into()).await.map(drop)
    }

    /// Commits what a connector brings, once; it tries again itself.
    pub(super) async fn offered(&self, unit: &Arc<[Unit]>) -> Result<UnitResult, IntakeError> {
        let results = self.journal.commit(unit.clone()).await;
        let results = results
            .inspect_err(|error| self.watch(error))
            .map_err(refusal)?;
        let lost = || IntakeError::Failed("the journal gave no result".into());
        results.into_iter().next().ok_or_else(lost)
    }

    /// Whether an event that the journal refused as a duplicate says something else than the one it
    /// knows under the same id.
    async fn is_reused(&self, accept: &[Accepted]) -> Result<bool, IntakeError> {
        for Accepted { event, deliveries } in accept {
            let own = fingerprint(event);
            for delivery in deliveries {
                let known = match self.journal.find(delivery.id).await.map_err(refusal)? {
                    Some(Found::Kept(kept)) => Some(fingerprint(&kept)),
                    Some(Found::Remembered(known)) => known,
                    None => None,
                };
                if known.is_some_and(|known| known != own) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// After how many writes of this engine the object came to be, as far as the engine itself has to
    /// know it: objects of stores with metadata tell it themselves.
    async fn hops_of(&self, event: &Event, step: &LedgerMove) -> Result<u32, JournalError> {
        let Some(etag) = step
            .to
            .etag
            .as_deref()
            .filter(|_| event.kind == ledger::CREATED)
        else {
            return Ok(0);
        };
        if !self.table.load().objects.feeds_back(&step.bucket) {
            return Ok(0);
        }
        match self.hops.get(&step.bucket, &step.to.key) {
            Some(hops) => Ok(hops),
            None => {
                let hops = self.journal.hops(&step.bucket, &step.to.key, etag).await?;
                Ok(hops.unwrap_or_default())
            }
        }
    }
}

pub(super) fn refusal(error: JournalError) -> IntakeError {
    match error {
        JournalError::Full { .. } => IntakeError::Full(error.to_string()),
        JournalError::Closed => IntakeError::Stopping,
        JournalError::Broken { .. } | JournalError::Failed { .. } => {
            IntakeError::Failed(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::timeout};

    use super::ToTheEnd;

    #[tokio::test]
    async fn what_has_begun_ends_though_nobody_waits_for_it() {
        let (go, going) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let mut offer = ToTheEnd::of(async move {
            going.await.unwrap();
            done.send(()).unwrap();
        });
        assert!(timeout(Duration::ZERO, &mut offer).await.is_err());
        drop(offer);
        go.send(()).unwrap();
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn what_has_not_begun_never_does() {
        let (done, ended) = oneshot::channel();
        drop(ToTheEnd::of(async move { done.send(()) }));
        assert!(ended.await.is_err());
    }
}
