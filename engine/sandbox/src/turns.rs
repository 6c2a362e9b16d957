//! Whose turn it is to compute.
//!
//! A guest that has used up a tick goes on when it gets one of the turns of its function, of which there
//! are as many as cores; they go round. So a hundred guests of one function that compute all the time
//! keep the others waiting for a tick or two, not for a hundred.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who has used up a tick computes, if it has had so much of a core by then without waiting for anything: in that
/// tick and those before it, for behind others it may get little of each.
const COMPUTING: Duration = Duration::from_micros(500);

/// The turns of a function.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

/// The turn of one attempt, if it has one; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Turn(Arc<Own>);

#[derive(Debug)]
struct Own {
    of: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mine: Option<OwnedSemaphorePermit>,
    /// What its thread had used of a core when it got the turn.
    since: Duration,
    /// What it has had of cores in its earlier turns, one right after the other.
    used: Duration,
    /// It lets others go first, and keeps the turn meanwhile.
    yields: bool,
}

thread_local! {
    static COMPUTES: Cell<bool> = const { Cell::new(false) };
}

/// Whether an attempt that this thread polled computes: it has used up a tick just now. To be asked after
/// each poll: it is no longer so then.
pub fn computes() -> bool {
    COMPUTES.take()
}

/// What this thread has used of a core. Costs a call of the kernel.
pub fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Turns {
    pub(crate) fn new() -> Turns {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Turns(Arc::new(Semaphore::new(cores)))
    }

    /// For an attempt, which has none yet.
    pub(crate) fn turn(&self) -> Turn {
        Turn(Arc::new(Own {
            of: self.0.clone(),
            state: Mutex::default(),
        }))
    }
}

impl Turn {
    /// Lets everybody else go first, and then waits for the next turn.
    pub(crate) async fn next(self) {
        let used = {
            let mut state = self.lock();
            if state.mine.is_some() {
                // It has waited for nothing since it got the turn: the thread is the same.
                let used = cpu_time().saturating_sub(state.since);
                state.used += used;
            }
            COMPUTES.set(state.used >= COMPUTING);
            state.yields = true;
            state.used
        };
        // Behind all other tasks, and behind the runtime's own look at timers and sockets, so that no
        // guest keeps its neighbours from running. (A plain wake-up would put it before that look, which
        // then comes once in 61 ticks.)
        tokio::task::yield_now().await;
        // Only now: the runtime runs at once whoever gets the turn.
        *self.lock() = State::default();
        // Nobody closes it.
        let next = self.0.of.clone().acquire_owned().await.ok();
        *self.lock() = State {
            mine: next,
            since: cpu_time(),
            used,
            yields: false,
        };
    }

    /// Its attempt is gone: the next one may have it, as if it were new.
    pub(crate) fn renew(&self) {
        *self.lock() = State::default();
    }

    /// Gives the turn to another attempt, unless this one only lets others go first: it has ended, or
    /// waits for something.
    pub(crate) fn pause(&self) {
        let mut state = self.lock();
        if !state.yields {
            *state = State::default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
