//! Match and accept: an offered event becomes deliveries that are durable.

use std::sync::Arc;

use tidemill_core::{
    BoxFuture,
    event::Event,
    intake::{Intake, IntakeError, Offer, Receipt},
    ledger::{self, LedgerEntry, LedgerMove},
};
use tidemill_journal::{JournalError, Unit, UnitResult};

use super::Dispatcher;
use crate::{clock, trace};

/// The intake, as connectors see it.
pub struct EngineIntake(pub Arc<Dispatcher>);

impl Intake for EngineIntake {
    fn offer(&self, offer: Offer) -> BoxFuture<'_, Result<Receipt, IntakeError>> {
        Box::pin(self.0.accept(offer))
    }

    fn ledger(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>> {
        let entries = self.0.journal.ledger(bucket, keys);
        Box::pin(async move { entries.await.map_err(refusal) })
    }

    fn ledger_page(
        &self,
        bucket: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LedgerEntry>, IntakeError>> {
        let entries = self.0.journal.ledger_page(bucket, after, limit);
        Box::pin(async move { entries.await.map_err(refusal) })
    }
}

impl Dispatcher {
    async fn accept(&self, offer: Offer) -> Result<Receipt, IntakeError> {
        if self.stop.is_cancelled() {
            return Err(IntakeError::Stopping);
        }
        if self.is_full() {
            return Err(IntakeError::Full(
                "it has reached engine.journal_limit".into(),
            ));
        }
        let Offer { mut event, ledger } = offer;
        event.traceparent.get_or_insert_with(trace::new_traceparent);
        if let Some(step) = &ledger {
            event.hops = self.hops_of(&event, step).await.map_err(refusal)?;
        }
        let source = event.source.clone();
        let noticed = ledger
            .as_ref()
            .map(|step| (step.bucket.clone(), step.to.key.clone()));
        let unit = Unit {
            accept: vec![self.route(event, clock::now())],
            ledger: ledger.into_iter().collect(),
            ..Unit::default()
        };
        let accept = unit.accept.clone();
        let results = self.journal.commit(vec![unit]).await;
        let results = results
            .inspect_err(|error| self.watch(error))
            .map_err(refusal)?;
        match results.into_iter().next() {
            Some(UnitResult::Committed { added }) => {
                if let Some((bucket, key)) = noticed {
                    self.hops.forget(&bucket, &key);
                }
                self.metrics.accepted(&source, added.len());
                self.arrived(&accept, &added);
                Ok(Receipt::Accepted {
                    deliveries: added.len(),
                })
            }
            _ => {
                self.metrics.duplicate(&source);
                Ok(Receipt::Duplicate)
            }
        }
    }

    /// After how many writes of this engine the object came to be.
    async fn hops_of(&self, event: &Event, step: &LedgerMove) -> Result<u32, JournalError> {
        let Some(etag) = step
            .to
            .etag
            .as_deref()
            .filter(|_| event.kind == ledger::CREATED)
        else {
            return Ok(0);
        };
        if !self.objects.feeds_back(&step.bucket) {
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

fn refusal(error: JournalError) -> IntakeError {
    match error {
        JournalError::Full { .. } => IntakeError::Full(error.to_string()),
        JournalError::Closed => IntakeError::Stopping,
        JournalError::Broken { .. } | JournalError::Failed { .. } => {
            IntakeError::Failed(error.to_string())
        }
    }
}
