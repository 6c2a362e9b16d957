//! Rows: deliveries of a trigger that start at once run one after the other in one task, each in an
//! instance of its own, and what of them ends ok becomes durable in one commit. So they share what an
//! attempt costs beside its handler: a task, a look at the journal, locks, the commit, and being woken by it.
//!
//! Nobody waits long for the handler of another: what has to wait, or computes for a tick, leaves the row
//! and goes on by itself; what has ended is completed after a while, even if others of the row have yet to
//! begin; and half of those go to a core that has nothing to do. Rows are only made if there is enough for all
//! cores, and as many at a time as there are cores: what waits meanwhile makes the next ones longer.

use std::{
    collections::{BTreeSet, VecDeque},
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use tidemill_core::{
    delivery::Seq,
    dispatch::{Dispatch, Start, Step, Waiting},
    time::Timestamp,
};
use tidemill_journal::{Unit, UnitResult};
use tidemill_sandbox::Spare;
use tokio::{
    task::{unconstrained, yield_now},
    time::timeout,
};

use super::{
    Dispatcher, Queue, Trigger,
    attempt::Attempt,
    call::Calls,
    complete::Decision,
    computing::{Run, Stint},
    deliver::Taken,
    held::HeldDelivery,
    host::Tools,
    member::Member,
    settle::usage,
};

/// The most deliveries of a row.
const MOST: usize = 64;

/// How long a row runs handlers before those that have ended are completed.
const LONG: Duration = Duration::from_millis(2);

/// How long a row runs handlers before others have their turn on its core: half a tick.
const YIELDS: Duration = Duration::from_micros(500);

/// Deliveries of a queue that have started and are to begin, one at least.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub queue: usize,
    pub seqs: Vec<Seq>,
}

impl Row {
    /// The rows that start next, and the step behind them, unless they are as long as they may be.
    pub(super) fn next(
        dispatch: &mut Dispatch,
        now: Timestamp,
        cores: usize,
    ) -> (Vec<Row>, Option<Step>) {
        let (mut rows, mut started, mut most) = (Vec::<Row>::new(), 0, 1);
        while started < most {
            match dispatch.next(now) {
                Step::Start { queue, seq } if is_for_rows(queue, seq) => {
                    if started == 0 {
                        most = Row::most(dispatch, cores);
                    }
                    started += 1;
                    match rows.iter_mut().find(|row| row.queue == queue) {
                        Some(row) => row.seqs.push(seq),
                        None => rows.push(Row {
                            queue,
                            seqs: vec![seq],
                        }),
                    }
                }
                step => return (rows, Some(step)),
            }
        }
        (rows, None)
    }

    /// How many start in one row, if the first of them has: a row for each core as long as what runs, or two for each
    /// of what runs and waits.
    fn most(dispatch: &Dispatch, cores: usize) -> usize {
        let running = dispatch.running();
        let waiting = dispatch.waiting(2 * cores * MOST);
        let most = running.max((running + waiting) / 2) / cores;
        most.clamp(1, MOST)
    }
}

fn is_for_rows(queue: usize, seq: Seq) -> bool {
    match Queue::is_held(queue) {
        true => !Calls::is_call(seq),
        false => !Queue::is_outbox(queue),
    }
}

/// Counts a row among those whose handlers run; when it is dropped, another one may begin.
pub(super) struct RowGuard(Arc<Dispatcher>);

impl RowGuard {
    pub(super) fn new(of: Arc<Dispatcher>) -> RowGuard {
        of.rows.fetch_add(1, Ordering::Relaxed);
        RowGuard(of)
    }
}

impl Drop for RowGuard {
    fn drop(&mut self) {
        self.0.rows.fetch_sub(1, Ordering::Relaxed);
        self.0.wake.notify_one();
    }
}

/// A delivery that has started.
struct Turn {
    start: Start,
    what: What,
}

enum What {
    /// The journal keeps it; what it says of it.
    Journaled(Box<Taken>),
    /// Its source keeps it, and it has begun; whether it is surely behind nobody.
    Held(Arc<HeldDelivery>, bool),
    /// Its source keeps it. Whether it may begin is still to be seen.
    Elsewhere,
}

/// A delivery whose handler has ended.
struct Finished {
    start: Start,
    member: Member,
    attempt: Attempt,
}

/// What those of a row have in common. They count references to this alone: counts that all cores change
/// have to be fetched from one another.
struct Together {
    dispatcher: Arc<Dispatcher>,
    trigger: Arc<Trigger>,
    tools: Arc<Tools>,
    /// Those that are completed together; none, once no more may come.
    finished: Mutex<Option<Vec<Finished>>>,
}

impl Together {
    /// Takes one in; it comes back if it is to go on by itself.
    fn join(&self, finished: Finished) -> Option<Finished> {
        let mut all = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        match all.as_mut() {
            Some(all) if finished.attempt.is_plain() => {
                all.push(finished);
                None
            }
            _ => Some(finished),
        }
    }

    fn close(&self) -> Vec<Finished> {
        self.tools.spare.close();
        let mut all = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        all.take().unwrap_or_default()
    }

    async fn run(self: Arc<Self>, turn: Turn) {
        let (this, start) = (&self.dispatcher, turn.start);
        let run = pin!(this.run_or_join(turn, &self));
        match this.unless_killed(run).await {
            Some(Joined::Row) => {}
            Some(Joined::Nobody(again)) => this.ended([start], again),
            None => this.ended([start], None),
        }
    }
}

impl Dispatcher {
    /// Runs a row.
    pub(super) async fn run_row(
        self: Arc<Self>,
        row: Row,
        trigger: Arc<Trigger>,
        mut guard: RowGuard,
    ) {
        let Row { queue, seqs } = row;
        let starts = seqs.iter().map(|seq| Start::new(queue, *seq));
        let turn = |(start, what)| Turn { start, what };
        let turns = if Queue::is_held(queue) {
            let begun = self.begin_at_once(&seqs).into_iter();
            // Of each, its turn had come before.
            let first = self.is_first(Queue::trigger(queue));
            let begun =
                begun.map(|held| held.map_or(What::Elsewhere, |held| What::Held(held, first)));
            starts.zip(begun).map(turn).collect()
        } else {
            let all = pin!(self.take_all(&seqs));
            let mut taking = pin!(self.unless_killed(all));
            let taken = match timeout(LONG, &mut taking).await {
                Ok(taken) => taken,
                Err(_) => {
                    // The journal takes its time, which others may use.
                    drop(guard);
                    let taken = taking.await;
                    guard = RowGuard::new(self.clone());
                    taken
                }
            };
            let Some(all) = taken else {
                return self.ended(starts, None);
            };
            let all = all.into_iter().map(Box::new).map(What::Journaled);
            starts.zip(all).map(turn).collect()
        };
        self.run_turns(turns, trigger, guard).await;
    }

    /// Runs these, and completes those that end at once.
    fn run_turns(self: Arc<Self>, turns: Vec<Turn>, trigger: Arc<Trigger>, guard: RowGuard) -> Run {
        Box::pin(async move {
            let mut turns = VecDeque::from(turns);
            loop {
                let all = self.run_a_while(&mut turns, &trigger).await;
                if turns.is_empty() {
                    drop(guard);
                    return self.complete_together(&trigger, all).await;
                }
                let (completes, of) = (self.clone(), trigger.clone());
                self.tasks
                    .spawn(async move { completes.complete_together(&of, all).await });
                if self.rows.load(Ordering::Relaxed) < self.cores && turns.len() > 1 {
                    // Other cores have nothing to do.
                    let half = turns.split_off(turns.len() / 2);
                    let guard = RowGuard::new(self.clone());
                    let run = self.clone().run_turns(half.into(), trigger.clone(), guard);
                    self.tasks.spawn(run);
                }
                yield_now().await;
            }
        })
    }

    /// Has the first of these begin, for so long. Those that have ended, to be completed together.
    async fn run_a_while(
        self: &Arc<Self>,
        turns: &mut VecDeque<Turn>,
        trigger: &Arc<Trigger>,
    ) -> Vec<Finished> {
        let together = Arc::new(Together {
            dispatcher: self.clone(),
            trigger: trigger.clone(),
            tools: self.tools(&trigger.function, Spare::open()),
            finished: Mutex::new(Some(Vec::with_capacity(turns.len()))),
        });
        let computes = &trigger.function.computes;
        let began = Instant::now();
        let (mut went_on, mut now) = (began, began);
        while let Some(turn) = turns.pop_front() {
            let stint = Stint::begin(now);
            let mut run: Run = Box::pin(together.clone().run(turn));
            // Whoever computes does so elsewhere, and from its beginning.
            let ended = !computes.expected() && ends_at_once(&mut run).await;
            let computed = tidemill_sandbox::computes();
            if !ended {
                let token = self.tasks.token();
                self.task(trigger, token, run).go_on(computed);
            }
            now = Instant::now();
            if ended {
                computes.ended(stint.computed(now));
            }
            if now - began >= LONG {
                break;
            }
            if now - went_on >= YIELDS {
                together.tools.spare.empty();
                yield_now().await;
                now = Instant::now();
                went_on = now;
            }
        }
        let all = together.close();
        let used = all.iter().map(|finished| &finished.attempt.usage);
        self.metrics.attempts_ok(&trigger.function, used);
        self.make_room(starts_of(&all));
        all
    }

    async fn run_or_join(&self, turn: Turn, together: &Together) -> Joined {
        let (trigger, start) = (&together.trigger, turn.start);
        let member = match self.begin_turn(turn, trigger).await {
            Ok(member) => member,
            Err(again) => return Joined::Nobody(again),
        };
        let running = member.running(start, trigger);
        let tools = together.tools.clone();
        let Ok(attempt) = self.attempt(tools, &[running], BTreeSet::new()).await else {
            // One event always has an answer.
            return Joined::Nobody(None);
        };
        let finished = Finished {
            start,
            member,
            attempt,
        };
        match together.join(finished) {
            None => Joined::Row,
            // In a box, as all that few come to: the others would carry its room with them.
            Some(finished) => {
                let running = finished.member.running(start, trigger);
                self.count(&[running], &finished.attempt);
                Joined::Nobody(Box::pin(self.complete_alone(trigger, finished)).await)
            }
        }
    }

    /// Takes up a delivery whose turn has come. An error, if it does not run: when to look again, if at all.
    async fn begin_turn(&self, turn: Turn, trigger: &Trigger) -> Result<Member, Option<Waiting>> {
        let taken = match turn.what {
            What::Journaled(taken) => taken,
            What::Held(held, first) => {
                self.prepare_held(&held, first).await?;
                return Ok(Member::Held(held));
            }
            What::Elsewhere => {
                let held = Box::pin(self.take_up_held(turn.start.seq)).await?;
                return Ok(Member::Held(held));
            }
        };
        let mut delivery = Box::new((*taken)?);
        let pinned = self.prepare(trigger, &mut delivery).await.ok_or(None)?;
        Ok(Member::Journaled(delivery, pinned))
    }

    /// Completes one whose handler has ended; what is returned is to be looked at again.
    async fn complete_alone(&self, trigger: &Trigger, finished: Finished) -> Option<Waiting> {
        let Finished {
            start,
            member,
            attempt,
        } = finished;
        let running = member.running(start, trigger);
        let ran = self.run_on(running, attempt).await;
        self.settle_member(trigger, &member, ran).await
    }

    /// Completes these, all in one commit, and each by itself if that is not to be.
    async fn complete_together(&self, trigger: &Trigger, all: Vec<Finished>) {
        if all.is_empty() {
            return;
        }
        let starts: Vec<Start> = starts_of(&all).collect();
        let committed = {
            let commit = pin!(self.commit_together(trigger, &all));
            self.unless_killed(commit).await
        };
        match committed {
            Some(true) => {
                match &held_of(&all)[..] {
                    [] => self.metrics.settled_all(&trigger.name, "ok", all.len()),
                    held => self.completed_held(held),
                }
                self.tell_together(trigger, all);
            }
            Some(false) => {
                for finished in all {
                    let start = finished.start;
                    let alone = pin!(self.complete_alone(trigger, finished));
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
    async fn commit_together(&self, trigger: &Trigger, all: &[Finished]) -> bool {
        let mut decisions = Vec::with_capacity(all.len());
        for finished in all {
            decisions.push(finished.member.completes(trigger).decide().await);
        }
        if decisions.iter().any(Decision::is_parked) {
            return false;
        }
        let (mut unit, mut spare) = (Unit::default(), Vec::new());
        for finished in all {
            let Finished {
                start,
                member,
                attempt,
            } = finished;
            let used = usage(&trigger.function.plan.name, attempt.started, attempt.usage);
            match &mut unit.usage {
                None => unit.usage = Some(used),
                Some(sum) if sum.day == used.day => sum.add(&used),
                Some(_) => spare.push(used),
            }
            let running = member.running(*start, trigger);
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

    fn tell_together(&self, trigger: &Trigger, all: Vec<Finished>) {
        if !self.tap.is_open() {
            return;
        }
        for finished in all {
            let running = finished.member.running(finished.start, trigger);
            let ran = finished.attempt.end(&BTreeSet::from([0]), true);
            self.tell_ran(&[running], &ran);
        }
    }
}

fn starts_of(all: &[Finished]) -> impl Iterator<Item = Start> {
    all.iter().map(|finished| finished.start)
}

fn held_of(all: &[Finished]) -> Vec<&HeldDelivery> {
    let all = all.iter();
    all.filter_map(|finished| finished.member.held()).collect()
}

/// Who completes a delivery of a row.
enum Joined {
    /// Its row will.
    Row,
    /// It has ended by itself; perhaps it is to be looked at again.
    Nobody(Option<Waiting>),
}

/// Whether it has ended, when it was polled once. It does not count as what its row may do before that yields:
/// nobody is to leave a row because of those before it.
async fn ends_at_once(future: &mut Run) -> bool {
    let mut future = pin!(unconstrained(future));
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

#[cfg(test)]
mod tests;
