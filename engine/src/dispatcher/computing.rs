//! Where attempts run: among all other tasks, and, if they compute, on threads of their own, one for each
//! core, which the kernel lets run behind all others. So whoever computes takes what is left of the cores,
//! and whatever only has to be started, answered or committed waits for nobody's tick.
//!
//! An attempt moves there once its guest has used up a whole tick. Those of a function whose last ones kept a
//! thread for long, even if for less than a tick, begin there.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::process::nice;
use tidemill_core::limits;
use tidemill_sandbox::cpu_time;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::intake::ToTheEnd;

/// Who has so much of a core at once computes.
const LONG: Duration = Duration::from_micros(500);

/// How a function is judged by its attempts: each that computed counts for so many that did not, so that it is
/// known by one of four, and not by one of a hundred. From two on that came close together its next ones are expected
/// to compute, and after the most that count until about so many have not.
const COMPUTED: u32 = 4;
const EXPECTED: u32 = 2 * COMPUTED;
const MOST: u32 = 4 * EXPECTED;

/// How old the last look may be at what a thread has used of its core.
const LOOK: Duration = Duration::from_micros(100);

/// Puts this thread behind all others.
pub fn step_back() {
    // It is always allowed.
    _ = nice(limits::STEP_BACK);
}

/// A poll, or what else a thread does without a pause.
pub(super) struct Stint {
    began: Instant,
}

thread_local! {
    /// What this thread had used of a core, and when: not long before the stint under way.
    static USED: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

impl Stint {
    pub(super) fn begin(now: Instant) -> Stint {
        // The kernel is asked now and then only.
        if USED.get().is_none_or(|(at, _)| now - at >= LOOK) {
            USED.set(Some((now, cpu_time())));
        }
        Stint { began: now }
    }

    /// Whether it computed: the kernel may have held it up.
    pub(super) fn computed(&self, now: Instant) -> bool {
        let used_before = |at: Instant| self.began - at;
        now - self.began >= LONG
            && USED
                .get()
                .is_some_and(|(at, used)| cpu_time().saturating_sub(used) >= LONG + used_before(at))
    }
}

/// The threads, once there was a need for them.
#[derive(Default)]
pub(super) struct Computing(OnceLock<Option<Runtime>>);

/// Whether a function's attempts compute, judged by the last ones.
#[derive(Debug, Default)]
pub struct Computes(AtomicU32);

/// An attempt, to its end or until it moves: then its rest runs in a task of its own.
pub(super) struct Task {
    /// Absent once it has moved.
    rest: Option<Rest>,
    place: Place,
}

enum Place {
    /// Among all others. It may go there.
    Home(Arc<Computing>),
    /// On the threads for those that compute. Its timers, its sockets and the tasks that it starts are at
    /// home, so that nobody else who needs them waits for those threads.
    Away(Handle),
}

/// An attempt, in a box: it is large, and would be copied on its way into the task, and out of it.
pub(super) type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Rest {
    run: Run,
    computes: Arc<Computes>,
    /// It has computed.
    computed: bool,
    _token: TaskTrackerToken,
}

impl Task {
    pub(super) fn new(
        computing: &Arc<Computing>,
        token: TaskTrackerToken,
        computes: Arc<Computes>,
        run: Run,
    ) -> Task {
        let rest = Rest {
            run,
            computes,
            computed: false,
            _token: token,
        };
        Task {
            rest: Some(rest),
            place: Place::Home(computing.clone()),
        }
    }

    /// Runs it in a task of its own.
    pub(super) fn spawn(self) {
        self.go_on(false);
    }

    /// Runs the rest of it in a task of its own; `computed`, if what was polled of it did.
    pub(super) fn go_on(mut self, computed: bool) {
        if let Some(rest) = &mut self.rest {
            rest.computed = computed;
        }
        if !self.moves_if(|rest| rest.computed || rest.computes.expected()) {
            tokio::spawn(self);
        }
    }

    /// Runs it in the task that waits for this, and to its end even if nobody does any more.
    pub(super) fn here(mut self) -> ToTheEnd<()> {
        self.moves_if(|rest| rest.computes.expected());
        ToTheEnd::of(self)
    }

    /// Moves it, if it is to be and there is where to. To be called at home.
    fn moves_if(&mut self, wanted: impl FnOnce(&Rest) -> bool) -> bool {
        if let Place::Home(computing) = &self.place
            && self.rest.as_ref().is_some_and(wanted)
            && let Some(threads) = computing.threads()
            && let rest @ Some(_) = self.rest.take()
        {
            let place = Place::Away(Handle::current());
            threads.spawn(Task { rest, place });
        }
        self.rest.is_none()
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(rest) = &mut this.rest else {
            return Poll::Ready(());
        };
        let stint = Stint::begin(Instant::now());
        let poll = {
            let _home = match &this.place {
                Place::Home(_) => None,
                Place::Away(home) => Some(home.enter()),
            };
            rest.run.as_mut().poll(context)
        };
        let computes = tidemill_sandbox::computes();
        rest.computed |= computes || stint.computed(Instant::now());
        if poll.is_ready() {
            rest.computes.ended(rest.computed);
            return Poll::Ready(());
        }
        match this.moves_if(|_| computes) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Computing {
    fn threads(&self) -> Option<&Handle> {
        let threads = self.0.get_or_init(|| {
            let threads = Builder::new_multi_thread()
                .thread_name("computing")
                .on_thread_start(step_back)
                .build();
            threads
                .inspect_err(|error| {
                    tracing::warn!(%error, "no threads for handlers that compute: they run among the others");
                })
                .ok()
        });
        threads.as_ref().map(Runtime::handle)
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        if let Some(Some(threads)) = self.0.take() {
            // Its tasks have ended, and this may be one of another runtime, which may not wait.
            threads.shutdown_background();
        }
    }
}

impl Computes {
    pub(super) fn expected(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= EXPECTED
    }

    /// An attempt has ended, and computed or not.
    pub(super) fn ended(&self, computed: bool) {
        let was = self.0.load(Ordering::Relaxed);
        let is = match computed {
            true => (was + COMPUTED).min(MOST),
            false => was.saturating_sub(1),
        };
        // Those that never compute, which are most, leave the memory that they share alone. That two who end
        // together may count as one does no harm.
        if is != was {
            self.0.store(is, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected_after(attempts: impl IntoIterator<Item = bool>) -> bool {
        let computes = Computes::default();
        attempts
            .into_iter()
            .for_each(|computed| computes.ended(computed));
        computes.expected()
    }

    #[test]
    fn who_computes_is_told_from_who_is_held_up() {
        let stint = Stint::begin(Instant::now());
        std::thread::sleep(4 * LONG);
        assert!(!stint.computed(Instant::now()));
        let stint = Stint::begin(Instant::now());
        let before = cpu_time();
        while cpu_time() - before < 4 * LONG {}
        assert!(stint.computed(Instant::now()));
    }

    #[test]
    fn a_function_is_judged_by_its_last_attempts() {
        let every = |n: usize| (0..1000).map(move |at| at % n == n - 1);
        assert!(!expected_after([true]));
        assert!(expected_after([true, true]));
        assert!(expected_after(every(4)));
        assert!(!expected_after(every(6)));
        let then_none = every(1).chain([false; MOST as usize]);
        assert!(!expected_after(then_none));
    }
}
