//! One attempt: one call of a handler for one event, or for a batch of them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use tidemill_core::{
    dispatch::Start,
    event::Event,
    identity::DeliveryId,
    ledger,
    outcome::{Outcome, Usage},
    time::Timestamp,
};
use tidemill_sandbox::{Answered, DeliveryInfo, Spare};

use super::{
    Dispatcher,
    complete::Completes,
    effects::Effects,
    host::{self, AttemptHost, HostEvent, Tools},
    locks::{HeldKeys, StoreKey},
    settle::usage,
};
use crate::{clock, functions::Deployed, trace};

/// An event that runs, and why.
pub(super) struct Running<'a> {
    /// What it was started as, with the others of its batch, if the dispatch knows of it.
    pub start: Option<Start>,
    pub function: &'a Arc<Deployed>,
    /// Whether it is the batch handler that is called.
    pub batch: bool,
    pub trigger: &'a str,
    pub delivery: DeliveryId,
    pub attempt: u32,
    pub event: &'a Event,
    /// The object that triggered.
    pub object: Option<host::Trigger>,
    /// What it completes if it ends ok.
    pub completes: Completes<'a>,
}

/// An attempt that has ended, and of which nothing is durable yet.
pub(super) struct Attempt {
    /// The answer to each event.
    pub answers: Vec<Answered>,
    /// What all used.
    pub usage: Usage,
    /// What it would do.
    pub effects: Effects,
    /// The locks it holds, until its commit.
    pub _locks: Option<HeldKeys>,
    /// When it began.
    pub started: Timestamp,
    /// What it worked with.
    pub tools: Arc<Tools>,
}

/// A batch that gave no answers, or none that could be committed: it is to be split.
pub(super) struct Broke {
    /// The event that its handler was at, if that is known.
    pub at: Option<usize>,
}

impl Dispatcher {
    /// What attempts of a function that begin now work with.
    pub(super) fn tools(&self, function: &Arc<Deployed>, spare: Spare) -> Arc<Tools> {
        Arc::new(Tools {
            function: function.clone(),
            journal: self.journal.clone(),
            objects: self.objects(),
            locks: self.locks.clone(),
            spare,
        })
    }

    /// Calls the handler once, holding the locks of these keys. One event always has an answer. One that has
    /// answers is still to be [counted](Self::count).
    pub(super) async fn attempt(
        &self,
        tools: Arc<Tools>,
        runs: &[Running<'_>],
        keys: BTreeSet<StoreKey>,
    ) -> Result<Attempt, Broke> {
        let first = &runs[0];
        let locks = match keys.is_empty() {
            true => None,
            false => Some(self.locks.acquire(keys.clone()).await),
        };
        let started = clock::now();
        let host = Arc::new(AttemptHost {
            tools: tools.clone(),
            held: keys,
            events: runs.iter().map(host_event).collect(),
            effects: Mutex::new(Effects::new(runs.len())),
        });
        let component = &first.function.component;
        let (answers, at, usage) = if first.batch {
            let infos: Vec<DeliveryInfo> = runs.iter().map(info).collect();
            let events = runs.iter().zip(&infos);
            let events: Vec<_> = events.map(|(run, info)| (run.event, info)).collect();
            let finished = Box::pin(component.run_batch(&events, host.clone())).await;
            (finished.answers, finished.begun, finished.usage)
        } else {
            let info = info(first);
            // In a box: it is large, and all around it would be copied with it.
            let run = Box::pin(component.run(first.event, &info, host.clone(), &tools.spare));
            let finished = run.await;
            let (outcome, reply) = (finished.outcome, finished.reply);
            (Ok(vec![Answered { outcome, reply }]), None, finished.usage)
        };
        let answers = match answers {
            Ok(answers) => answers,
            Err(outcome) if runs.len() > 1 => {
                self.broke(runs, at, &outcome, started, &usage);
                return Err(Broke { at });
            }
            Err(outcome) => {
                let reply = None;
                vec![Answered { outcome, reply }]
            }
        };
        let function = &first.function.plan.name;
        for (run, Answered { outcome, .. }) in runs.iter().zip(&answers) {
            tracing::debug!(
                %function,
                delivery = %run.delivery,
                attempt = run.attempt,
                trace = trace::trace_id(run.event.traceparent.as_deref()),
                outcome = %outcome.name(),
                wall_us = usage.wall_us,
                "attempt ended"
            );
        }
        Ok(Attempt {
            answers,
            usage,
            effects: host.take_effects(),
            _locks: locks,
            started,
            tools,
        })
    }

    /// Counts an attempt at these.
    pub(super) fn count(&self, runs: &[Running<'_>], attempt: &Attempt) {
        let outcomes = attempt.answers.iter().map(|answered| &answered.outcome);
        self.metrics
            .attempt(runs[0].function, outcomes, &attempt.usage);
    }

    /// The whole of a batch ended badly. None of its events knows why, so it counts for none.
    fn broke(
        &self,
        runs: &[Running<'_>],
        at: Option<usize>,
        outcome: &Outcome,
        started: Timestamp,
        used: &Usage,
    ) {
        let function = &runs[0].function.plan.name;
        self.spare_usage.add(usage(function, started, *used));
        self.metrics.attempt(runs[0].function, [outcome], used);
        let event = at.and_then(|at| runs.get(at)).map(|run| &run.event.id);
        tracing::warn!(
            function,
            trigger = runs[0].trigger,
            events = runs.len(),
            event,
            "{outcome}: the batch is split"
        );
    }
}

fn host_event(run: &Running<'_>) -> HostEvent {
    HostEvent {
        delivery: run.delivery,
        attempt: run.attempt,
        traceparent: run.event.traceparent.clone(),
        hops: run.event.hops,
        trigger: run.object.clone(),
    }
}

fn info(run: &Running<'_>) -> DeliveryInfo {
    DeliveryInfo {
        id: run.delivery.to_string(),
        trigger: run.trigger.to_owned(),
        attempt: run.attempt,
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
