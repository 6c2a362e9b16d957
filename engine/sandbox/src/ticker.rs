//! The clock that makes running guests yield.
//!
//! Compiled code checks the engine's epoch at loops and calls, and yields its task when the epoch
//! has moved. A thread moves it, but only while attempts run: an idle engine is never woken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::{Engine, EngineWeak};

/// How long a guest may run before its task yields to its neighbours. A timeout is noticed at most
/// so much late.
const TICK: Duration = Duration::from_millis(1);

/// Moves the epoch of one engine while anything runs.
pub(crate) struct Ticker {
    clock: Arc<Clock>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Clock {
    running: AtomicUsize,
    /// How often something began to run while nothing did.
    begun: AtomicUsize,
    stop: AtomicBool,
    /// How often the thread woke up, for the test that it does not.
    #[cfg(test)]
    wakeups: AtomicUsize,
}

/// Keeps the epoch moving until it is dropped.
pub(crate) struct Running(Arc<Clock>);

impl Ticker {
    /// Starts the thread, parked.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Ticker> {
        let clock = Arc::new(Clock::default());
        let thread = thread::Builder::new()
            .name("sandbox-ticker".into())
            .spawn({
                let (clock, engine) = (clock.clone(), engine.weak());
                move || tick(&clock, &engine)
            })?;
        Ok(Ticker {
            clock,
            thread: Some(thread),
        })
    }

    /// Lets the epoch move while the answer lives.
    pub(crate) fn hold(&self) -> Running {
        if self.clock.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.clock.begun.fetch_add(1, Ordering::SeqCst);
            self.wake();
        }
        Running(self.clock.clone())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.clock.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It only panics if the engine does, and then that panic was already reported.
            let _ = thread.join();
        }
    }
}

fn tick(clock: &Clock, engine: &EngineWeak) {
    let mut seen = 0;
    while !clock.stop.load(Ordering::SeqCst) {
        #[cfg(test)]
        clock.wakeups.fetch_add(1, Ordering::SeqCst);
        // While attempts come one after another it stays awake: to wake it for each costs more than its ticks.
        let begun = clock.begun.load(Ordering::SeqCst);
        let began = std::mem::replace(&mut seen, begun) != begun;
        if !began && clock.running.load(Ordering::SeqCst) == 0 {
            // An attempt that begins after the look above has left a token: this returns at once.
            thread::park();
            continue;
        }
        // Not `park_timeout`: every attempt that begins would wake this thread.
        thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else {
            return;
        };
        engine.increment_epoch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
        let start = std::time::Instant::now();
        while !reached() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "never came: {what}"
            );
            thread::yield_now();
        }
    }

    #[test]
    fn ticks_while_something_runs_and_never_wakes_when_idle() {
        let engine = Engine::default();
        let ticker = Ticker::start(&engine).unwrap();
        let wakeups = || ticker.clock.wakeups.load(Ordering::SeqCst);
        wait_until("the thread has looked once", || wakeups() == 1);

        let (first, second) = (ticker.hold(), ticker.hold());
        wait_until("it ticks", || wakeups() > 5);
        drop(first);
        let before = wakeups();
        wait_until("it ticks for the second", || wakeups() > before + 2);
        drop(second);

        // At most the tick under way, one more, and the look that finds nothing to do.
        let idle = wakeups();
        thread::sleep(TICK * 20);
        assert!(
            wakeups() <= idle + 3,
            "{} wakeups while idle",
            wakeups() - idle
        );
    }
}
