//! Invoking a function by hand: one attempt of an event that no source keeps.

use std::collections::BTreeSet;

use tidemill_core::{
    event::Event,
    identity::DeliveryId,
    limits,
    outcome::{Outcome, Reply, Usage},
};
use tidemill_journal::UnitResult;

use super::{
    Dispatcher,
    attempt::{Running, object_of},
};

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
        let function = self.functions.get(function)?;
        let running = Running {
            function,
            trigger: TRIGGER,
            delivery: DeliveryId::derive(TRIGGER, &event.source, &event.id),
            attempt: 1,
            event: &event,
            object: object_of(&event, false),
        };
        let mut keys = BTreeSet::new();
        for _ in 0..=limits::CONFLICT_RERUNS {
            let mut ended = self.attempt(&running, std::mem::take(&mut keys)).await;
            self.metrics
                .attempt(&function.plan.name, &ended.outcome, &ended.usage);
            let kept = ended
                .effects
                .objects
                .iter()
                .filter(|(_, content)| content.is_some());
            let mut invoked = Invoked {
                outcome: ended.outcome.clone(),
                reply: ended.reply.take(),
                usage: ended.usage,
                emitted: ended.effects.emitted.len(),
                written: kept.map(|(place, _)| place.clone()).collect(),
            };
            if invoked.outcome != Outcome::Ok {
                return Some(invoked);
            }
            let written = match self.write_objects(&running, &ended.effects).await {
                Ok(written) => written,
                Err(reason) => {
                    invoked.outcome = Outcome::EffectFailed { reason };
                    return Some(invoked);
                }
            };
            keys = ended.effects.touched();
            let unit = self.effects_unit(function, &mut ended, written);
            let accept = unit.accept.clone();
            match self.commit(unit).await {
                Some(UnitResult::Committed { added }) => {
                    self.arrived(&accept, &added);
                    return Some(invoked);
                }
                Some(UnitResult::Conflict { .. }) => {}
                _ => break,
            }
        }
        let reason = "its effects could not be committed; the log says why".to_owned();
        Some(Invoked {
            outcome: Outcome::EffectFailed { reason },
            reply: None,
            usage: Usage::default(),
            emitted: 0,
            written: Vec::new(),
        })
    }
}
