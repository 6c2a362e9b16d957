//! Many events in one call: which of them an effect is for, and an answer for each. What becomes of the effects of
//! those that fail is the engine's matter.

use crate::{
    Event, Failure, IntoReply, Reply,
    bindings::{batch::tidemill::function::batch, tidemill::function::types},
    run::RawAnswer,
};

/// The events of one call, and the answers to them; see [`batch_handler!`](crate::batch_handler).
///
/// An event that gets no answer is ok, without a reply. What the handler emits and writes belongs to the event that it
/// has begun last; before the first there may be reads only.
#[derive(Debug)]
pub struct Batch {
    events: Vec<Event>,
    answers: Vec<Result<Option<Reply>, Failure>>,
}

impl Batch {
    pub(crate) fn new(events: Vec<types::Event>) -> Self {
        let events: Vec<Event> = events.into_iter().map(Event::from).collect();
        let answers = events.iter().map(|_| Ok(None)).collect();
        Self { events, answers }
    }

    /// The events, in the order in which they came.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Runs `handle` for each event that has not failed yet, with its index. What it returns is the answer to that
    /// event.
    pub fn each<R: IntoReply>(
        &mut self,
        mut handle: impl FnMut(usize, &Event) -> Result<R, Failure>,
    ) {
        for index in 0..self.events.len() {
            if self.answers[index].is_err() {
                continue;
            }
            match handle(index, self.begin(index)) {
                Ok(reply) => self.reply(index, reply),
                Err(failure) => self.fail(index, failure),
            }
        }
    }

    /// From here on, what the handler emits and writes is for the event at `index`, which may have begun before.
    ///
    /// # Panics
    ///
    /// If there is no such event; so do [`reply`](Self::reply) and [`fail`](Self::fail).
    pub fn begin(&self, index: usize) -> &Event {
        let event = &self.events[index];
        batch::begin(raw(index));
        event
    }

    /// The event at `index` is done, with this reply. The last answer to an event counts.
    pub fn reply(&mut self, index: usize, reply: impl IntoReply) {
        self.answers[index] = Ok(reply.into_reply());
    }

    /// The event at `index` has failed. What was emitted and written for it so far is thrown away.
    pub fn fail(&mut self, index: usize, failure: Failure) {
        self.answers[index] = Err(failure);
        batch::discard(raw(index));
    }

    /// The answers, given how the handler ended: its failure is that of every event which has none of its own.
    pub(crate) fn into_answers(self, done: Result<(), Failure>) -> Vec<RawAnswer> {
        let whole = done.err();
        self.answers
            .into_iter()
            .map(|answer| match (answer, &whole) {
                (Err(own), _) => Err(own.into()),
                (Ok(_), Some(failure)) => Err(failure.clone().into()),
                (Ok(reply), None) => Ok(reply.map(Into::into)),
            })
            .collect()
    }
}

/// An index as the engine takes it.
fn raw(index: usize) -> u32 {
    u32::try_from(index).expect("a list of the component model has at most 2^32 - 1 elements")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(answers: Vec<Result<Option<Reply>, Failure>>) -> Batch {
        Batch {
            events: Vec::new(),
            answers,
        }
    }

    #[test]
    fn each_event_has_its_own_answer() {
        let answers = batch(vec![
            Ok(None),
            Err(Failure::reject("no")),
            Ok(Some(Reply::of("x"))),
        ])
        .into_answers(Ok(()));
        assert!(matches!(answers[0], Ok(None)));
        assert!(matches!(&answers[1], Err(types::Failure::Reject(reason)) if reason == "no"));
        assert!(matches!(&answers[2], Ok(Some(reply)) if reply.body == b"x"));
    }

    #[test]
    fn the_failure_of_the_whole_is_that_of_all_but_those_that_have_their_own() {
        let answers = batch(vec![Ok(Some(Reply::of("x"))), Err(Failure::reject("no"))])
            .into_answers(Err(Failure::retry("busy")));
        assert!(matches!(&answers[0], Err(types::Failure::Retry(retry)) if retry.reason == "busy"));
        assert!(matches!(&answers[1], Err(types::Failure::Reject(reason)) if reason == "no"));
    }
}
