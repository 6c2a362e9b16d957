//! Invoking a function by hand: one attempt of an event that no source keeps.

use tidemill_core::{
    event::Event,
    identity::DeliveryId,
    outcome::{Outcome, Reply, Usage},
};

use tidemill_journal::Unit;
use tidemill_sandbox::Entry;

use super::{
    Dispatcher,
    attempt::{Running, object_of},
    complete::{Completes, Ended, Ran},
    settle::used,
};
use crate::clock;

/// The trigger's name that an invoked function sees.
const TRIGGER: &str = "invoke";

/// How an invocation ended.
#[derive(Clone, Debug)]
pub struct Invoked {
    /// How the attempt ended.
    pub outcome: Outcome,
    /// The handler's answer.
    pub reply: Option<Reply>,
    /// What it used.
    pub usage: Usage,
    /// How many events it emitted.
    pub emitted: usize,
    /// The objects it wrote: bucket and key.
    pub written: Vec<(String, String)>,
}

impl Dispatcher {
    /// Runs the function once with the event. Its effects are committed if it ends ok; a failure is
    /// told and neither retried nor kept. None, if there is no such function.
    pub async fn invoke(&self, function: &str, event: Event) -> Option<Invoked> {
        let function = &self.table.load().functions.get(function)?.clone();
        let running = Running {
            start: None,
            function,
            // One that takes batches alone gets a batch of one.
            batch: function.component.check(Entry::One).is_err(),
            trigger: TRIGGER,
            delivery: DeliveryId::derive(TRIGGER, &event.source, &event.id),
            attempt: 1,
            event: &event,
            object: object_of(&event, false),
            completes: Completes::Nothing,
        };
        let ended = match self.run_one(running).await {
            Ran::Committed(ended) => ended,
            Ran::Failed(ended) => {
                self.commit(Unit {
                    usage: used(&function.plan.name, &ended),
                    ..Unit::default()
                })
                .await;
                ended
            }
            Ran::Refused | Ran::Duplicate | Ran::Again => {
                let reason = "the journal does not take its effects; the log says why".to_owned();
                Ended::without_effects(Outcome::EffectFailed { reason }, clock::now())
            }
        };
        Some(Invoked {
            outcome: ended.outcome,
            reply: ended.reply,
            usage: ended.used,
            emitted: ended.emitted,
            written: ended.written,
        })
    }
}
