//! Requests whose clients wait: held by them, one attempt each, and journaled only in what they do.
//!
//! A call waits for its turn beside the journaled deliveries, under the same caps, and is forgotten
//! if its client goes before it begins. Once begun it runs to its end.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tidemill_core::{
    delivery::Seq,
    dispatch::{Start, Waiting},
    identity::{DeliveryId, fingerprint},
    intake::{Answer, Call, IntakeError},
    limits,
    outcome::Outcome,
    selector::Parsed,
};
use tidemill_journal::KeyDone;
use tokio::sync::oneshot;

use super::{
    Dispatcher, Queue, Trigger,
    attempt::Running,
    complete::{Completes, Ran},
    settle::used,
    table::Table,
};
use crate::clock;

/// Calls that wait for their turn, and the identities of all calls in the engine.
pub(super) struct Calls {
    waiting: Mutex<WaitingCalls>,
    in_flight: Arc<Mutex<HashSet<(usize, String)>>>,
}

#[derive(Default)]
struct WaitingCalls {
    last: Seq,
    requests: HashMap<Seq, Request>,
    by_trigger: HashMap<usize, usize>,
}

/// A call that waits for its turn.
pub(super) struct Request {
    trigger: usize,
    call: Call,
    delivery: DeliveryId,
    identity: Option<Identity>,
    answer: oneshot::Sender<Answer>,
    in_flight: Option<InFlight>,
}

/// What a call is known by when it comes again.
pub(super) struct Identity {
    pub key: String,
    /// How long it is remembered.
    pub window: Duration,
    /// What the client must say again with it; absent, whatever it says, it means the same.
    pub fingerprint: Option<[u8; 32]>,
}

/// While it lives, no other call of its identity begins.
struct InFlight {
    all: Arc<Mutex<HashSet<(usize, String)>>>,
    own: (usize, String),
}

impl Calls {
    pub(super) fn new() -> Calls {
        Calls {
            waiting: Mutex::default(),
            in_flight: Arc::default(),
        }
    }

    /// Whether it is the number of a call: they are even, and those of held deliveries odd, since both
    /// wait in one queue if a trigger goes from one kind of source to the other.
    pub(super) fn is_call(seq: Seq) -> bool {
        seq % 2 == 0
    }

    fn enter(&self, trigger: usize, key: &str) -> Option<InFlight> {
        let own = (trigger, key.to_owned());
        lock(&self.in_flight).insert(own.clone()).then(|| InFlight {
            all: self.in_flight.clone(),
            own,
        })
    }

    /// Lets a request wait; none, if too many do.
    fn wait(&self, request: Request) -> Option<Seq> {
        let mut waiting = lock(&self.waiting);
        let count = waiting.by_trigger.entry(request.trigger).or_default();
        if *count >= limits::HELD_REQUESTS {
            return None;
        }
        *count += 1;
        waiting.last += 2;
        let seq = waiting.last;
        waiting.requests.insert(seq, request);
        Some(seq)
    }

    fn take(&self, seq: Seq) -> Option<Request> {
        let mut waiting = lock(&self.waiting);
        let request = waiting.requests.remove(&seq)?;
        if let Some(count) = waiting.by_trigger.get_mut(&request.trigger) {
            *count -= 1;
        }
        Some(request)
    }

    /// Sends all away that wait still.
    pub(super) fn dismiss(&self) {
        let dismissed = std::mem::take(&mut *lock(&self.waiting));
        drop(dismissed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.own);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dispatcher {
    /// Takes a call, and waits for its end.
    pub(super) async fn call(self: &Arc<Self>, call: Call) -> Result<Answer, IntakeError> {
        self.open()?;
        let table = self.table.load_full();
        // Its path is about to go, too.
        let index = table.place(&call.trigger).ok_or(IntakeError::Stopping)?;
        let trigger = &table.triggers[index];
        let parsed = Parsed::new(&call.event);
        if !trigger.matches(&parsed) {
            self.metrics.unmatched(&trigger.source);
            return Ok(Answer::Unmatched);
        }
        if call.event.hops > limits::HOPS {
            let reason = "the request came through too many writes of this engine".into();
            return Ok(Answer::Rejected { reason });
        }
        let event = &call.event;
        let delivery = DeliveryId::derive(&trigger.name, &event.source, &event.id);
        let identity = self.identity(trigger, &parsed, delivery, call.stable);
        let mut in_flight = None;
        if let Some(identity) = &identity {
            in_flight = self.calls.enter(index, &identity.key);
            if in_flight.is_none() {
                return Ok(Answer::InFlight);
            }
            if let Some(stored) = self.stored(trigger, identity).await? {
                self.metrics.duplicate(&trigger.source);
                return Ok(stored);
            }
        }
        let size = event.size();
        let (answer, answered) = oneshot::channel();
        let request = Request {
            trigger: index,
            call,
            delivery,
            identity,
            answer,
            in_flight,
        };
        self.metrics.accepted(&trigger.source, 1);
        let seq = self.calls.wait(request).ok_or(IntakeError::Busy)?;
        let due = clock::now();
        let waiting = Waiting { seq, due, size };
        self.begin(Queue::Held.of(index), waiting, &table).await;
        answered.await.map_err(|_| IntakeError::Stopping)
    }

    /// Lets a call stand in line. If there is none it runs at once, in the client's own task, and to its
    /// end even if the client goes.
    async fn begin(self: &Arc<Self>, queue: usize, waiting: Waiting, table: &Table) {
        // Before the look whether to stop: the drain waits for it.
        let token = self.tasks.token();
        let starts = {
            let mut dispatch = self.lock();
            dispatch.arrived(queue, waiting);
            !self.stop.is_cancelled() && dispatch.start_now(queue, waiting.seq, waiting.due)
        };
        match starts {
            true => {
                let trigger = table.trigger(queue).clone();
                let run = self.clone().run(queue, waiting.seq, trigger.clone());
                self.task(&trigger, token, Box::pin(run)).here().await;
            }
            false => self.wake.notify_one(),
        }
    }

    fn identity(
        &self,
        trigger: &Trigger,
        parsed: &Parsed<'_>,
        delivery: DeliveryId,
        stable: bool,
    ) -> Option<Identity> {
        if let (Some(key), Some(window)) = (trigger.key(parsed), trigger.window()) {
            return Some(Identity {
                key,
                window,
                fingerprint: None,
            });
        }
        if trigger.idempotency.is_some() {
            self.metrics.key_missing(&trigger.name);
        }
        stable.then(|| Identity {
            key: format!("event-id:{delivery}"),
            window: limits::EVENT_IDS,
            fingerprint: Some(fingerprint(parsed.event)),
        })
    }

    /// What was answered before to a call of this identity.
    async fn stored(
        &self,
        trigger: &Trigger,
        identity: &Identity,
    ) -> Result<Option<Answer>, IntakeError> {
        let done = self
            .journal
            .key_done(&trigger.name, &identity.key, clock::now());
        let done = done.await.map_err(super::intake::refusal)?;
        Ok(done.map(|done| answer_again(done, identity)))
    }

    /// Runs the call whose turn has come.
    pub(super) async fn answer(&self, start: Start, trigger: &Trigger) {
        let Some(request) = self.calls.take(start.seq) else {
            return;
        };
        if request.answer.is_closed() {
            return;
        }
        let running = Running {
            start: Some(start),
            function: &trigger.function,
            batch: false,
            trigger: &trigger.name,
            delivery: request.delivery,
            attempt: 1,
            event: &request.call.event,
            object: None,
            completes: Completes::Call(trigger, request.identity.as_ref()),
        };
        let answer = match self.run_one(running).await {
            Ran::Committed(ended) => Answer::Replied(ended.reply.unwrap_or_default()),
            Ran::Failed(ended) => {
                if let Some(used) = used(&trigger.function.plan.name, &ended) {
                    self.spare_usage.add(used);
                }
                tracing::warn!(
                    delivery = %request.delivery, trigger = trigger.name, "{}", ended.outcome
                );
                match ended.outcome {
                    Outcome::Retry { after, .. } => Answer::Retry(after),
                    Outcome::Reject { reason } => Answer::Rejected { reason },
                    Outcome::Timeout { .. } => Answer::Timeout,
                    _ => Answer::Failed(request.delivery),
                }
            }
            Ran::Duplicate => match &request.identity {
                Some(identity) => {
                    let stored = self.stored(trigger, identity).await.ok().flatten();
                    stored.unwrap_or(Answer::Failed(request.delivery))
                }
                None => Answer::Failed(request.delivery),
            },
            Ran::Refused | Ran::Again => return,
        };
        // First: whoever has the answer may ask again at once. A client that went is told nothing.
        drop(request.in_flight);
        _ = request.answer.send(answer);
    }
}

fn answer_again(done: KeyDone, identity: &Identity) -> Answer {
    match (done.fingerprint, identity.fingerprint) {
        (Some(before), Some(now)) if before != now => Answer::Reused,
        _ => Answer::Stored(done.reply.unwrap_or_default()),
    }
}
