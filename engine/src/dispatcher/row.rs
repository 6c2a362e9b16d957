//! Rows: held deliveries of a trigger that start at once run one after the other in one task, each in an
//! instance of its own, and what of them ends ok becomes durable in one commit. So they share what an
//! attempt costs beside its handler: a task, locks, the commit, and being woken by it.
//!
//! Nobody waits for the handler of another longer than a tick: what has to wait, or computes for so long,
//! leaves the row and goes on by itself, and what comes behind a handler that took long is left to others.
//! Rows are only made while the cores have enough else to do.

use std::{
    collections::BTreeSet,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use tidemill_core::{
    delivery::Seq,
    dispatch::{Dispatch, Start, Step, Waiting},
    time::Timestamp,
};
use tidemill_journal::{Unit, UnitResult};
use tokio::time::Instant;

use super::{
    Dispatcher, Queue, Trigger,
    attempt::Attempt,
    call::Calls,
    complete::{Completes, Decision},
    held::{HeldDelivery, running_held},
    settle::usage,
};

/// The most deliveries of a row.
const MOST: usize = 8;

/// How long the handlers of a row may take before the rest of it is left to other threads.
const LONG: Duration = Duration::from_micros(500);

/// Held deliveries of a queue that have started and are to begin, one at least.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub queue: usize,
    pub seqs: Vec<Seq>,
}

impl Row {
    /// What starts next, if that is a row, and the step behind it.
    pub(super) fn next(
        dispatch: &mut Dispatch,
        now: Timestamp,
        cores: usize,
    ) -> (Option<Row>, Step) {
        // Twice as many rows as cores, before they grow.
        let most = (dispatch.running() / (2 * cores)).min(MOST);
        let mut row: Option<Row> = None;
        loop {
            match (dispatch.next(now), &mut row) {
                (Step::Start { queue, seq }, None) if most > 1 && is_held(queue, seq) => {
                    let seqs = vec![seq];
                    row = Some(Row { queue, seqs });
                }
                (Step::Start { queue, seq }, Some(row))
                    if queue == row.queue && is_held(queue, seq) && row.seqs.len() < most =>
                {
                    row.seqs.push(seq);
                }
                (step, _) => return (row, step),
            }
        }
    }
}

fn is_held(queue: usize, seq: Seq) -> bool {
    Queue::is_held(queue) && !Calls::is_call(seq)
}

/// A delivery whose handler has ended.
struct Member {
    start: Start,
    held: Arc<HeldDelivery>,
    attempt: Attempt,
}

/// Those of a row that are completed together; none, once no more may come.
struct Together(Mutex<Option<Vec<Member>>>);

impl Together {
    /// Takes one in; it comes back if it is to go on by itself.
    fn join(&self, member: Member) -> Option<Member> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.as_mut() {
            Some(all) if member.attempt.is_plain() => {
                all.push(member);
                None
            }
            _ => Some(member),
        }
    }

    fn close(&self) -> Vec<Member> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.take().unwrap_or_default()
    }
}

impl Dispatcher {
    /// Runs a row.
    pub(super) async fn run_row(self: Arc<Self>, row: Row, trigger: Arc<Trigger>) {
        let Row { queue, seqs } = row;
        let together = Arc::new(Together(Mutex::new(Some(Vec::with_capacity(seqs.len())))));
        let began = Instant::now();
        for seq in seqs {
            let start = Start::new(queue, seq);
            let run = self
                .clone()
                .run_in_row(start, trigger.clone(), together.clone());
            let mut task = self.task(&trigger, self.tasks.token(), run);
            if began.elapsed() >= LONG || !ends_at_once(&mut task).await {
                task.spawn();
            }
        }
        let all = together.close();
        if !all.is_empty() {
            self.complete_together(&trigger, all).await;
        }
    }

    async fn run_in_row(
        self: Arc<Self>,
        start: Start,
        trigger: Arc<Trigger>,
        together: Arc<Together>,
    ) {
        let run = self.run_or_join(start, &trigger, &together);
        match self.unless_killed(run).await {
            Some(Joined::Row) => {}
            Some(Joined::Nobody(again)) => self.ended([start], again),
            None => self.ended([start], None),
        }
    }

    async fn run_or_join(&self, start: Start, trigger: &Trigger, together: &Together) -> Joined {
        let held = match self.take_up_held(start.seq).await {
            Ok(held) => held,
            Err(again) => return Joined::Nobody(again),
        };
        let running = running_held(start, trigger, &held);
        let Ok(attempt) = self.attempt(&[running], BTreeSet::new()).await else {
            // One event always has an answer.
            return Joined::Nobody(None);
        };
        let member = Member {
            start,
            held,
            attempt,
        };
        match together.join(member) {
            None => Joined::Row,
            Some(member) => Joined::Nobody(self.complete_alone(trigger, member).await),
        }
    }

    /// Completes one whose handler has ended; what is returned is to be looked at again.
    async fn complete_alone(&self, trigger: &Trigger, member: Member) -> Option<Waiting> {
        let Member {
            start,
            held,
            attempt,
        } = member;
        let running = running_held(start, trigger, &held);
        let ran = self.run_on(running, attempt).await;
        self.settle_held(trigger, &held, ran).await
    }

    /// Completes these, all in one commit, and each by itself if that is not to be.
    async fn complete_together(&self, trigger: &Trigger, all: Vec<Member>) {
        let starts: Vec<Start> = all.iter().map(|member| member.start).collect();
        self.make_room(starts.iter().copied());
        match self
            .unless_killed(self.commit_together(trigger, &all))
            .await
        {
            Some(true) => {
                self.completed_held(&held_of(&all));
                self.tell_together(trigger, all);
            }
            Some(false) => {
                for member in all {
                    let start = member.start;
                    let alone = self.complete_alone(trigger, member);
                    let again = self.unless_killed(alone).await;
                    self.ended([start], again.flatten());
                }
                return;
            }
            None => {}
        }
        self.ended(starts, None);
    }

    /// Whether all of them are completed, durably.
    async fn commit_together(&self, trigger: &Trigger, all: &[Member]) -> bool {
        let mut decisions = Vec::with_capacity(all.len());
        for member in all {
            decisions.push(Completes::Held(trigger, &member.held).decide().await);
        }
        if decisions.iter().any(Decision::is_parked) {
            return false;
        }
        let (mut unit, mut spare) = (Unit::default(), Vec::new());
        for member in all {
            let Member {
                start,
                held,
                attempt,
            } = member;
            let used = usage(&trigger.function.plan.name, attempt.started, attempt.usage);
            match &mut unit.usage {
                None => unit.usage = Some(used),
                Some(sum) if sum.day == used.day => sum.add(&used),
                Some(_) => spare.push(used),
            }
            let running = running_held(*start, trigger, held);
            let reply = attempt.answers[0].reply.as_ref();
            let emitted = attempt.effects.emitted(0);
            self.complete(&mut unit, &running, running.completes, reply, emitted);
        }
        unit.offsets = self.offsets_steps(&held_of(all));
        if unit.is_durable_matter() {
            let committed = self.commit_effects(unit).await;
            if !matches!(committed, Some(UnitResult::Committed { .. })) {
                return false;
            }
        } else {
            spare.extend(unit.usage);
        }
        for used in spare {
            self.spare_usage.add(used);
        }
        decisions.iter_mut().for_each(Decision::completed);
        true
    }

    fn tell_together(&self, trigger: &Trigger, all: Vec<Member>) {
        if !self.tap.is_open() {
            return;
        }
        for member in all {
            let running = running_held(member.start, trigger, &member.held);
            let ran = member.attempt.end(&BTreeSet::from([0]), true);
            self.tell_ran(&[running], &ran);
        }
    }
}

fn held_of(all: &[Member]) -> Vec<&HeldDelivery> {
    all.iter().map(|member| &*member.held).collect()
}

/// Who completes a delivery of a row.
enum Joined {
    /// Its row will.
    Row,
    /// It has ended by itself; perhaps it is to be looked at again.
    Nobody(Option<Waiting>),
}

/// Whether it has ended, when it was polled once.
async fn ends_at_once<F: Future<Output = ()> + Unpin>(future: &mut F) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_ready())).await
}

#[cfg(test)]
mod tests {
    use tidemill_core::dispatch::QueueSettings;

    use super::*;

    /// A trigger's queues; of those that are held, so many wait.
    fn dispatch(waiting: u64) -> (Dispatch, usize) {
        let settings = QueueSettings {
            gate: 0,
            rate: None,
            held: true,
            batch: None,
        };
        let mut dispatch = Dispatch::new(&[settings; 3], &[100], 100);
        let queue = Queue::Held.of(0);
        for n in 0..waiting {
            let (seq, due, size) = (2 * n as Seq + 1, Timestamp(0), 1);
            dispatch.arrived(queue, Waiting { seq, due, size });
        }
        (dispatch, queue)
    }

    /// How many start by each look, until all that wait have.
    fn sizes(waiting: u64) -> Vec<usize> {
        let (mut dispatch, _) = dispatch(waiting);
        let mut sizes = Vec::new();
        loop {
            let (row, step) = Row::next(&mut dispatch, Timestamp(0), 2);
            sizes.extend(row.map(|row| row.seqs.len()));
            match step {
                Step::Start { .. } => sizes.push(1),
                step => {
                    assert_eq!(step, Step::Wait(None));
                    return sizes;
                }
            }
        }
    }

    #[test]
    fn rows_grow_with_what_runs() {
        // The cores have nothing to do yet.
        assert_eq!(sizes(8), [1; 8]);
        let sizes = sizes(100);
        assert_eq!(sizes.iter().sum::<usize>(), 100);
        assert!(sizes.contains(&MOST), "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= MOST), "{sizes:?}");
    }

    #[test]
    fn a_call_is_in_no_row() {
        let (mut dispatch, queue) = dispatch(40);
        let due = Timestamp(0);
        for _ in 0..32 {
            dispatch.next(due);
        }
        let call = Waiting {
            seq: 80,
            due,
            size: 1,
        };
        dispatch.arrived(queue, call);
        let (row, step) = Row::next(&mut dispatch, due, 2);
        let seqs = (32..40).map(|n| 2 * n + 1).collect();
        assert_eq!(row, Some(Row { queue, seqs }));
        assert_eq!(step, Step::Start { queue, seq: 80 });
    }
}
