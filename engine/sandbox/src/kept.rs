//! Instances that are kept: warm ones, made before their first event, and those of functions that reuse
//! theirs, between one event and the next.
//!
//! An instance that broke is never kept, nor one that has served long enough or has grown. Those that rest
//! belong to nobody: their host is one that refuses everything. A function that asks for neither has no
//! pool, and none of this costs it anything.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use tidemill_core::{
    BoxFuture,
    event::Field,
    host::{ByteRange, HostCalls, HostError, LogLevel, NewEvent},
    ledger::Object,
    limits,
};
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit, time::Instant};
use wasmtime::{Store, component::Instance};

use crate::{
    run::{Function, Loaded},
    state::State,
};

/// What is kept of a function's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// How many are ready, whatever comes.
    pub warm: usize,
    /// Whether one serves many events, one after another.
    pub reuse: bool,
}

/// The instances of one function that are kept.
pub(crate) struct Pool {
    keep: Keep,
    of: Weak<Loaded>,
    state: Mutex<Kept>,
    nobody: Arc<dyn HostCalls>,
}

#[derive(Default)]
struct Kept {
    /// The one that rests longest first.
    ready: VecDeque<Ready>,
    /// How many serve an event.
    busy: usize,
    filling: bool,
    sweeping: bool,
}

/// An instance that rests.
pub(crate) struct Ready {
    pub(crate) store: Store<State>,
    pub(crate) lent: Lent,
    since: Instant,
}

/// What is known of an instance beside its store.
pub(crate) struct Lent {
    pub(crate) instance: Option<Instance>,
    /// How many events it has served.
    events: u32,
    /// What it had of memory when it was made, in bytes.
    pub(crate) born: u64,
    /// Its slots of the engine's pool.
    _slots: OwnedSemaphorePermit,
}

/// Counts an instance as busy until it is dropped.
pub(crate) struct Busy(Arc<Pool>);

impl Pool {
    pub(crate) fn new(keep: Keep, of: Weak<Loaded>) -> Pool {
        Pool {
            keep,
            of,
            state: Mutex::default(),
            nobody: Arc::new(Nobody),
        }
    }

    pub(crate) fn keep(&self) -> Keep {
        self.keep
    }

    /// An instance that is ready, if there is one, and the mark that one is busy.
    pub(crate) fn take(self: &Arc<Pool>) -> (Option<Ready>, Busy) {
        let mut state = self.lock();
        state.busy += 1;
        // The one that rested least is the one with warm caches, and the others may go.
        let ready = state.ready.pop_back();
        drop(state);
        if !self.keep.reuse {
            self.refill();
        }
        (ready, Busy(self.clone()))
    }

    /// Takes back an instance that has served an event and is sound.
    pub(crate) fn give_back(self: &Arc<Pool>, mut store: Store<State>, lent: Lent) {
        let lent = Lent {
            events: lent.events + 1,
            ..lent
        };
        let grown = store.data().limiter.total().saturating_sub(lent.born);
        let worn = lent.events >= limits::REUSE_EVENTS || grown > limits::REUSE_GROWTH;
        if !self.keep.reuse || worn {
            return;
        }
        store.data_mut().rest(&self.nobody);
        let ready = Ready {
            store,
            lent,
            since: Instant::now(),
        };
        let mut state = self.lock();
        state.ready.push_back(ready);
        if state.ready.len() > self.keep.warm && !state.sweeping {
            state.sweeping = true;
            drop(state);
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Makes as many as are to be ready and are not.
    ///
    /// # Errors
    /// If one does not start, in the words of its outcome.
    pub(crate) async fn fill(&self) -> wasmtime::Result<()> {
        while let Some(function) = self.of.upgrade().map(Function)
            && self.lock().lacks(self.keep)
        {
            let (store, lent) = function.make(self.nobody.clone()).await?;
            let since = Instant::now();
            self.lock().ready.push_back(Ready { store, lent, since });
        }
        Ok(())
    }

    /// The same in the background. If one does not start, events will say so.
    fn refill(self: &Arc<Pool>) {
        let mut state = self.lock();
        if state.filling || !state.lacks(self.keep) {
            return;
        }
        // The engine ends otherwise.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        state.filling = true;
        let pool = self.clone();
        runtime.spawn(async move {
            let filled = pool.fill().await;
            pool.lock().filling = false;
            match filled {
                Ok(()) => pool.refill_once_more(),
                Err(error) => tracing::warn!(
                    error = %error.root_cause(),
                    "a warm instance does not start; the next event tries it again"
                ),
            }
        });
    }

    /// What was taken between the last look and the end of filling.
    fn refill_once_more(self: &Arc<Pool>) {
        if self.lock().lacks(self.keep) {
            self.refill();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether fewer are ready than are to be. Those that are reused come back.
    fn lacks(&self, keep: Keep) -> bool {
        let back = if keep.reuse { self.busy } else { 0 };
        self.ready.len() + back < keep.warm
    }

    /// Drops those that have rested long enough and need not be ready. When the next one will have.
    fn drop_rested(&mut self, warm: usize, now: Instant) -> Option<Instant> {
        while self.ready.len() > warm {
            let until = self.ready.front()?.since + limits::REUSE_IDLE;
            if until > now {
                return Some(until);
            }
            self.ready.pop_front();
        }
        None
    }
}

impl Lent {
    pub(crate) fn new(slots: OwnedSemaphorePermit) -> Lent {
        Lent {
            instance: None,
            events: 0,
            born: 0,
            _slots: slots,
        }
    }
}

impl Busy {
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.refill();
    }
}

/// Lets go of what rests for too long, until nothing rests that need not.
async fn sweep(pool: Weak<Pool>) {
    loop {
        let until = {
            let Some(pool) = pool.upgrade() else { return };
            let mut state = pool.lock();
            let until = state.drop_rested(pool.keep.warm, Instant::now());
            let Some(until) = until else {
                state.sweeping = false;
                return;
            };
            until
        };
        // At most once a second, however many there are.
        let least = Instant::now() + Duration::from_secs(1);
        tokio::time::sleep_until(until.max(least)).await;
    }
}

/// The host of an instance that serves no event.
struct Nobody;

impl Nobody {
    fn refusal<T>() -> Result<T, HostError> {
        Err(HostError::Denied(
            "there is no event: an instance that starts reaches nothing but its settings"
                .to_owned(),
        ))
    }

    fn refused<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, HostError>> {
        Box::pin(std::future::ready(Nobody::refusal()))
    }
}

impl HostCalls for Nobody {
    fn kv_open(&self, _store: &str) -> Result<(), HostError> {
        Nobody::refusal()
    }

    fn kv_get<'a>(
        &'a self,
        _store: &'a str,
        _key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HostError>> {
        Nobody::refused()
    }

    fn kv_set(&self, _store: &str, _key: &str, _value: Option<Bytes>) -> Result<(), HostError> {
        Nobody::refusal()
    }

    fn kv_keys<'a>(
        &'a self,
        _store: &'a str,
        _after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>, HostError>> {
        Nobody::refused()
    }

    fn object_head<'a>(
        &'a self,
        _bucket: &'a str,
        _key: &'a str,
    ) -> BoxFuture<'a, Result<Object, HostError>> {
        Nobody::refused()
    }

    fn object_read<'a>(
        &'a self,
        _bucket: &'a str,
        _key: &'a str,
        _range: Option<ByteRange>,
        _limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, HostError>> {
        Nobody::refused()
    }

    fn object_write(
        &self,
        _bucket: &str,
        _key: &str,
        _content: Option<Bytes>,
    ) -> Result<(), HostError> {
        Nobody::refusal()
    }

    fn object_list<'a>(
        &'a self,
        _bucket: &'a str,
        _prefix: &'a str,
        _after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Object>, HostError>> {
        Nobody::refused()
    }

    fn emit(&self, _event: NewEvent) -> Result<String, HostError> {
        Nobody::refusal()
    }

    fn log(&self, _level: LogLevel, message: &str, _fields: &[Field]) {
        tracing::debug!(target: "handler", "while it starts: {message}");
    }
}
