//! The one loop that drives core's dispatch, and the drain that ends it.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use tidemill_core::{
    delivery::Seq,
    dispatch::{Start, Step, Waiting},
    time::Timestamp,
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Dispatcher, Queue, Trigger,
    call::Calls,
    computing::{Run, Task},
    row::{Row, RowGuard},
};
use crate::clock;

/// How long the driver waits before it asks the journal again for a page it could not read.
const PAGE_RETRY: Duration = Duration::from_secs(1);

/// How the drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Attempts that did not finish in time; their deliveries run again at the next start.
    pub cut_off: usize,
}

impl Dispatcher {
    /// Starts deliveries until told to stop, then waits for the running ones, at most `drain`.
    pub async fn drive(self: &Arc<Self>, drain: Duration) -> Drained {
        let tasks = &self.tasks;
        let accounts = self.clone();
        tasks.spawn(async move {
            while !accounts.stop.is_cancelled() {
                accounts.account().await;
            }
        });
        let cores = self.cores;
        while !self.stop.is_cancelled() {
            let now = clock::now();
            if self.rows.load(Ordering::Relaxed) >= cores {
                // What starts now would only wait for a core, and what waits here makes longer rows.
                self.wait(None, now).await;
                continue;
            }
            let (rows, step, table) = {
                let mut dispatch = self.lock();
                let (rows, step) = Row::next(&mut dispatch, now, cores);
                (rows, step, self.table.load())
            };
            let start = |queue, seq| {
                let trigger = table.trigger(queue).clone();
                let run = self.clone().run(queue, seq, trigger.clone());
                self.task(&trigger, tasks.token(), Box::pin(run)).spawn();
            };
            for row in rows {
                match row.seqs[..] {
                    [seq] => start(row.queue, seq),
                    _ => {
                        let trigger = table.trigger(row.queue).clone();
                        let guard = RowGuard::new(self.clone());
                        tasks.spawn(self.clone().run_row(row, trigger, guard));
                    }
                }
            }
            let Some(step) = step else { continue };
            match step {
                Step::Start { queue, seq } => start(queue, seq),
                Step::StartBatch { queue, seqs } => {
                    let trigger = table.trigger(queue).clone();
                    let run = self.clone().run_together(queue, seqs, trigger.clone());
                    self.task(&trigger, tasks.token(), Box::pin(run)).spawn();
                }
                Step::Load {
                    queue,
                    after,
                    limit,
                } => {
                    let (this, name) = (self.clone(), table.queue_name(queue));
                    tasks.spawn(async move { this.load(queue, &name, after, limit).await });
                }
                Step::Wait(until) => {
                    drop(table);
                    self.wait(until, now).await;
                }
            }
        }
        self.calls.dismiss();
        self.release(false);
        tasks.close();
        if tokio::time::timeout(drain, tasks.wait()).await.is_ok() {
            self.release(true);
            self.write_usage().await;
            return Drained { cut_off: 0 };
        }
        let cut_off = self.running();
        self.killed.store(true, Ordering::Relaxed);
        self.kill.cancel();
        tasks.wait().await;
        self.release(true);
        self.write_usage().await;
        Drained { cut_off }
    }

    /// The task of what the dispatch has started.
    pub(super) fn task(&self, trigger: &Trigger, token: TaskTrackerToken, run: Run) -> Task {
        let computes = trigger.function.computes.clone();
        Task::new(&self.computing, token, computes, run)
    }

    async fn wait(&self, until: Option<Timestamp>, now: Timestamp) {
        let sleep = async {
            match until {
                Some(until) => tokio::time::sleep(until.since(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.wake.notified() => {}
            () = sleep => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Runs one delivery to the end of its attempt; what is cut off is pending still.
    pub(super) async fn run(self: Arc<Self>, queue: usize, seq: Seq, trigger: Arc<Trigger>) {
        let start = Start::new(queue, seq);
        let again = pin!(async {
            match Queue::is_held(queue) {
                true => self.run_outside(start, &trigger).await,
                false => self.deliver(start, &trigger).await,
            }
        });
        let again = self.unless_killed(again).await;
        self.ended([start], again.flatten());
    }

    /// Runs this to its end; none, if the drain has taken too long before.
    pub(super) async fn unless_killed<T>(
        &self,
        mut run: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        // Without the token's lock, which all share.
        if self.killed.load(Ordering::Relaxed) {
            return None;
        }
        let mut killed = pin!(self.kill.cancelled());
        // In this order: what does not have to wait leaves the token alone.
        poll_fn(|context| match run.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => killed.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Attempts of a queue have ended; perhaps the last is to be looked at again.
    pub(super) fn ended(&self, starts: impl IntoIterator<Item = Start>, again: Option<Waiting>) {
        let (mut dispatch, mut goes_on) = (self.lock(), false);
        for Start { queue, seq } in starts {
            dispatch.ended(queue, seq);
            goes_on |= dispatch.is_waited_for();
            if let Some(again) = again {
                dispatch.arrived(queue, again);
                goes_on = true;
            }
        }
        drop(dispatch);
        if goes_on {
            self.wake.notify_one();
        }
    }

    /// Runs a batch, likewise.
    async fn run_together(self: Arc<Self>, queue: usize, seqs: Vec<Seq>, trigger: Arc<Trigger>) {
        let start = Start::new(queue, seqs.first().copied().unwrap_or_default());
        let batch = self.run_batch(start, seqs, &trigger);
        let ended = self.kill.run_until_cancelled(pin!(batch)).await;
        let (took_part, again) = ended.unwrap_or_default();
        let mut dispatch = self.lock();
        dispatch.ended_batch(start, &took_part);
        for again in again {
            dispatch.arrived(queue, again);
        }
        drop(dispatch);
        self.wake.notify_one();
    }

    /// Runs what the journal does not keep.
    async fn run_outside(&self, start: Start, trigger: &Trigger) -> Option<Waiting> {
        match Calls::is_call(start.seq) {
            true => {
                // In a box, so that the others carry nothing of it.
                Box::pin(self.answer(start, trigger)).await;
                None
            }
            false => self.run_held(start, trigger).await,
        }
    }

    /// The handlers of what was started have ended, and what is left of them needs no place among those
    /// that run.
    pub(super) fn make_room(&self, starts: impl IntoIterator<Item = Start>) {
        let mut dispatch = self.lock();
        for start in starts {
            dispatch.make_room(start);
        }
        let goes_on = dispatch.is_waited_for();
        drop(dispatch);
        if goes_on {
            self.wake.notify_one();
        }
    }

    pub(super) async fn load(
        self: Arc<Self>,
        queue: usize,
        name: &str,
        after: Option<(Timestamp, Seq)>,
        limit: usize,
    ) {
        match self.journal.pending(name, after, limit).await {
            Ok(page) => {
                let page = page.into_iter();
                let page = page
                    .map(|p| Waiting {
                        seq: p.seq,
                        due: p.due,
                        size: p.size,
                    })
                    .collect();
                self.lock().loaded(queue, page);
            }
            Err(error) => {
                tracing::error!(trigger = name, %error, "cannot read what is pending");
                self.watch(&error);
                self.stop
                    .run_until_cancelled(tokio::time::sleep(PAGE_RETRY))
                    .await;
                self.lock().load_failed(queue);
            }
        }
        self.wake.notify_one();
    }
}
