//! The outbox: effects outside the engine, carried out after the commit that decided on them.

use std::time::Duration;

use tidemill_core::{
    delivery::Delivery,
    destination::{OutboxAction, PublishError},
    dispatch::Waiting,
    outcome::Outcome,
    retry::RetryPolicy,
};
use tidemill_journal::{Settle, Unit, UnitResult};

use super::{Dispatcher, complete::Ended, settle::record};
use crate::clock;

/// The outbox tries by itself, for longer than an outage should last: what it carries is decided
/// and only waits for the other side.
const PATIENCE: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    first: Duration::from_secs(1),
    max: Duration::from_secs(300),
    max_age: Duration::from_secs(24 * 3600),
};

impl Dispatcher {
    pub(super) async fn publish(
        &self,
        delivery: Delivery,
        action: &OutboxAction,
    ) -> Option<Waiting> {
        let started = clock::now();
        let destination = self.table.load().destination.clone();
        let outcome = match destination.publish(action, &delivery.event).await {
            Ok(()) => Outcome::Ok,
            Err(PublishError::Failed(reason)) => Outcome::Retry {
                after: None,
                reason,
            },
            Err(PublishError::Rejected(reason)) => Outcome::Reject { reason },
        };
        let (trigger, attempt) = (&delivery.trigger, delivery.attempts + 1);
        self.tell_published(trigger, delivery.id, &delivery.event, attempt, &outcome);
        if outcome == Outcome::Ok {
            let settle = vec![Settle::Done {
                delivery: delivery.seq,
            }];
            let result = self
                .commit(Unit {
                    settle,
                    ..Unit::default()
                })
                .await?;
            if matches!(result, UnitResult::Committed { .. }) {
                self.metrics.settled(&delivery.trigger, "ok");
            }
            return None;
        }
        let ended = Ended::without_effects(outcome, started);
        let record = record(&delivery, &ended, None);
        self.settle_failure(None, &PATIENCE, &delivery, &ended.outcome, record, None)
            .await
    }
}
