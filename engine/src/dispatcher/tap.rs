//! A tap on the attempts: who listens is told of each one as it ends, and of each delivery that is given
//! up. The engine waits for no listener: one that is too slow hears how much it missed. While nobody
//! listens, it costs one look at a number.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tidemill_core::{
    delivery::Cause,
    event::Event,
    identity::DeliveryId,
    limits,
    outcome::{Outcome, OutcomeName},
};
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

use super::{Dispatcher, Queue, attempt::Running, complete::Ran};
use crate::{clock, views::AttemptView};

/// What is told, to whom.
pub(super) struct Tap {
    listeners: Arc<AtomicUsize>,
    views: broadcast::Sender<Arc<AttemptView>>,
}

impl Tap {
    pub(super) fn new() -> Tap {
        Tap {
            listeners: Arc::default(),
            views: broadcast::Sender::new(limits::TAIL_WAITING),
        }
    }

    /// Whether anybody listens.
    pub(super) fn is_open(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    fn tell(&self, view: AttemptView) {
        // Whoever listened may be gone by now.
        _ = self.views.send(Arc::new(view));
    }
}

/// Hears of what ends from now on.
pub struct Listener {
    listeners: Arc<AtomicUsize>,
    views: broadcast::Receiver<Arc<AttemptView>>,
}

/// What a listener hears.
pub enum Heard {
    /// An attempt ended, or a delivery was given up.
    Ended(Arc<AttemptView>),
    /// So many were not heard: the listener was too slow.
    LeftOut(u64),
}

impl Listener {
    /// The next, once there is one. None, if there will be none any more.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.views.recv().await {
            Ok(view) => Some(Heard::Ended(view)),
            Err(RecvError::Lagged(missed)) => Some(Heard::LeftOut(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next, if it is there.
    pub fn at_hand(&mut self) -> Option<Heard> {
        match self.views.try_recv() {
            Ok(view) => Some(Heard::Ended(view)),
            Err(TryRecvError::Lagged(missed)) => Some(Heard::LeftOut(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dispatcher {
    /// Listens to the attempts; none, if too many do.
    pub fn listen(&self) -> Option<Listener> {
        let listeners = &self.tap.listeners;
        let one_more = |count: usize| (count < limits::TAILS).then_some(count + 1);
        listeners
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Listener {
            listeners: listeners.clone(),
            views: self.tap.views.subscribe(),
        })
    }

    /// Tells of attempts that have ended.
    pub(super) fn tell_ran(&self, runs: &[Running<'_>], ran: &[Ran]) {
        if !self.tap.is_open() {
            return;
        }
        for (run, ran) in runs.iter().zip(ran) {
            // Of the others nothing came; they run again, or did elsewhere.
            let (Ran::Committed(ended) | Ran::Failed(ended)) = ran else {
                continue;
            };
            self.tap.tell(AttemptView {
                function: Some(run.function.plan.name.clone()),
                ms: Some(ended.used.wall_us as f64 / 1000.0),
                ..view(
                    run.trigger,
                    run.delivery,
                    run.event,
                    run.attempt,
                    &ended.outcome,
                )
            });
        }
    }

    /// Tells of an attempt to carry something out of the engine.
    pub(super) fn tell_published(
        &self,
        trigger: &str,
        delivery: DeliveryId,
        event: &Event,
        attempt: u32,
        outcome: &Outcome,
    ) {
        if self.tap.is_open() {
            self.tap
                .tell(view(trigger, delivery, event, attempt, outcome));
        }
    }

    /// Tells of a delivery that was given up.
    pub(super) fn tell_dead(
        &self,
        trigger: &str,
        delivery: DeliveryId,
        event: &Event,
        attempts: u32,
        cause: Cause,
        reason: &str,
    ) {
        if !self.tap.is_open() {
            return;
        }
        let table = self.table.load();
        // What an outbox carries, no function runs.
        let queue = table
            .queue(trigger)
            .filter(|queue| !Queue::is_outbox(*queue));
        let function = queue.map(|queue| &table.trigger(queue).function);
        self.tap.tell(AttemptView {
            function: function.map(|function| function.plan.name.clone()),
            outcome: AttemptView::DEAD.to_owned(),
            reason: Some(format!("{}: {reason}", cause.as_str())),
            ..view(trigger, delivery, event, attempts, &Outcome::Ok)
        });
    }
}

fn view(
    trigger: &str,
    delivery: DeliveryId,
    event: &Event,
    attempt: u32,
    outcome: &Outcome,
) -> AttemptView {
    let ok = outcome.name() == OutcomeName::Ok;
    AttemptView {
        time: clock::now().to_string(),
        trigger: trigger.to_owned(),
        function: None,
        delivery,
        source: event.source.clone(),
        kind: event.kind.clone(),
        subject: event.subject.clone(),
        attempt,
        outcome: outcome.name().to_string(),
        ms: None,
        reason: (!ok).then(|| outcome.to_string()),
    }
}
