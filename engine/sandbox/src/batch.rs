//! One call of a handler for many events.
//!
//! The call has one instance, one set of limits and one host; each event has an answer of its own. Whose
//! effects are whose, the handler says by beginning an event, and the engine's host keeps them apart.
//! Nothing here splits a batch that broke, or decides what becomes of its events.

use std::sync::Arc;

use tidemill_core::{
    event::Event,
    host::BatchCalls,
    outcome::{Outcome, Reply, Usage},
};

use crate::{
    bind::handler::{self, Many, ManyAnswers},
    run::{DeliveryInfo, Ended, Entry, Function},
    seat::Spare,
    verdict,
};

/// The end of a call for many events.
#[derive(Debug)]
pub struct FinishedBatch {
    /// The answer to each event, in their order; or the one outcome of the whole call, if the handler
    /// broke, passed a limit or [miscounted](Outcome::Miscounted).
    pub answers: Result<Vec<Answered>, Outcome>,
    /// What all events together used. Waiting for a free instance is not in it.
    pub usage: Usage,
    /// The index of the event that was begun last. Where a call broke as a whole, it broke there or in
    /// what the handler does for all events.
    pub begun: Option<usize>,
}

/// The answer to one event of a batch.
#[derive(Debug)]
pub struct Answered {
    /// Ok, retry or reject; too much output, if the reply is larger than a payload may be.
    pub outcome: Outcome,
    /// The reply, if the outcome is ok and there is one.
    pub reply: Option<Reply>,
}

impl Function {
    /// Runs one attempt of many events in one call of the batch handler, like [`Function::run`]. The
    /// limits hold for the call as a whole; the payload limit for each reply.
    pub async fn run_batch(
        &self,
        events: &[(&Event, &DeliveryInfo)],
        host: Arc<dyn BatchCalls>,
    ) -> FinishedBatch {
        let Some(entry) = self.0.entries.batch else {
            return FinishedBatch {
                answers: Err(verdict::cannot(Entry::Batch)),
                usage: Usage::default(),
                begun: None,
            };
        };
        let batch = Batch {
            host: host.clone(),
            events: events.len(),
            begun: None,
        };
        let arguments = events
            .iter()
            .map(|(event, delivery)| handler::Event::new(event, delivery))
            .collect();
        let spare = Spare::default();
        let mut ended: Ended<'_, ManyAnswers> = self
            .attempt::<Many<'_>, _>(host, Some(batch), entry, (arguments,), &spare)
            .await;
        let answer = ended.answer.take();
        let answered = matches!(answer, Some(Ok(_)));
        let state = ended.store.data();
        let finished = FinishedBatch {
            answers: verdict::of_many(answer, events.len(), state),
            usage: ended.usage,
            begun: state.batch.as_ref().and_then(|batch| batch.begun),
        };
        ended.leave(answered);
        finished
    }
}

/// A batch while its handler runs.
pub(crate) struct Batch {
    host: Arc<dyn BatchCalls>,
    events: usize,
    /// The event that was begun last.
    begun: Option<usize>,
}

impl Batch {
    pub(crate) fn events(&self) -> usize {
        self.events
    }

    /// Whether there is an event that effects belong to.
    pub(crate) fn may_write(&self) -> Result<(), Misuse> {
        self.begun.map(drop).ok_or(Misuse::NothingBegun)
    }

    pub(crate) fn begin(&mut self, event: u32) -> Result<(), Misuse> {
        let event = self.index("begin", event)?;
        self.begun = Some(event);
        self.host.begin(event);
        Ok(())
    }

    pub(crate) fn discard(&mut self, event: u32) -> Result<(), Misuse> {
        let event = self.index("discard", event)?;
        self.host.discard(event);
        Ok(())
    }

    fn index(&self, call: &'static str, event: u32) -> Result<usize, Misuse> {
        usize::try_from(event)
            .ok()
            .filter(|event| *event < self.events)
            .ok_or(Misuse::NoEvent {
                call,
                event,
                events: self.events,
            })
    }
}

/// A handler that does not keep to the rules of a batch. Ends the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    #[error(
        "it emits or writes before it has begun an event of the batch; let it call `batch.begin` with \
         the index of the event that this is for"
    )]
    NothingBegun,
    #[error("it calls `batch.{call}`, and was called for one event, not for a batch")]
    NoBatch {
        /// The function it called.
        call: &'static str,
    },
    #[error(
        "it calls `batch.{call}` for event {event}, and the batch has {events} events, counted from 0"
    )]
    NoEvent {
        /// The function it called.
        call: &'static str,
        /// The index it gave.
        event: u32,
        /// Events of the batch.
        events: usize,
    },
}
