//! One attempt: a fresh instance is called once, in the task that holds the event.
//!
//! However the guest ends, the answer is an [`Outcome`]; nothing of the instance remains. There is no
//! retry here and no judgement of what the outcome means.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tidemill_core::{
    event::Event,
    host::HostCalls,
    outcome::{Outcome, Reply, Usage},
};
use tokio::sync::SemaphorePermit;
use wasmtime::{
    Store, UpdateDeadline,
    component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower},
};

use crate::{
    bind::handler::{self, BATCH_HANDLER, HANDLER, One, OneAnswer},
    cache::digest,
    engine::Shared,
    load::Problem,
    state::State,
    verdict,
};

/// What an attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: u64,
    /// From the start of the instance, asleep or not.
    pub timeout: Duration,
    /// Bytes of all that the attempt gives out together: keys and values, objects, events, its reply
    /// and its log.
    pub output: u64,
    /// Bytes of one emitted event, and of the reply.
    pub payload: u64,
}

/// Settings and secrets of a function, by name.
pub(crate) type Config = Arc<[(String, String)]>;

/// Why a handler sees an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryInfo {
    /// The delivery's identity, the same over all its attempts.
    pub id: String,
    /// The trigger that matched.
    pub trigger: String,
    /// Counts from 1.
    pub attempt: u32,
}

/// The end of an attempt.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// The handler's answer, if the outcome is ok and it gave one.
    pub reply: Option<Reply>,
    /// What it used. Waiting for a free instance is not in it.
    pub usage: Usage,
}

/// What a component can be called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One event: [`Function::run`].
    One,
    /// Many events: [`Function::run_batch`].
    Batch,
}

impl Entry {
    /// The interface that a component exports for it.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Entry::One => HANDLER,
            Entry::Batch => BATCH_HANDLER,
        }
    }
}

/// A loaded component with its limits. Cheap to clone.
#[derive(Clone)]
pub struct Function(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) shared: Arc<Shared>,
    pub(crate) digest: String,
    pub(crate) instance: InstancePre<State>,
    pub(crate) entries: Entries,
    /// Slots of the pool that one instance takes.
    pub(crate) slots: u32,
    pub(crate) limits: Limits,
    pub(crate) config: Config,
}

/// Where to enter a component. It has at least one of them.
#[derive(Clone, Copy)]
pub(crate) struct Entries {
    pub(crate) one: Option<ComponentExportIndex>,
    pub(crate) batch: Option<ComponentExportIndex>,
}

impl Entries {
    fn get(self, entry: Entry) -> Option<ComponentExportIndex> {
        match entry {
            Entry::One => self.one,
            Entry::Batch => self.batch,
        }
    }
}

/// How a call ended, with what remains of it.
pub(crate) struct Ended<'a, R> {
    /// Absent if its time was up.
    pub(crate) answer: Option<wasmtime::Result<R>>,
    pub(crate) store: Store<State>,
    pub(crate) usage: Usage,
    /// Its slots of the pool, which are free for others once the store above is gone.
    _slots: SemaphorePermit<'a>,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("digest", &self.0.digest)
            .finish_non_exhaustive()
    }
}

impl Function {
    /// The SHA-256 of the component's bytes, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Whether loading these bytes with these limits and settings would come to the same.
    pub fn is_made_of(&self, bytes: &[u8], limits: Limits, config: &[(String, String)]) -> bool {
        let loaded = &self.0;
        *loaded.config == *config && loaded.limits == limits && loaded.digest == digest(bytes)
    }

    /// Whether the component can be called for this, to be asked when it is deployed.
    ///
    /// # Errors
    /// [`Problem::OtherHandler`], if it cannot.
    pub fn check(&self, entry: Entry) -> Result<(), Problem> {
        match self.0.entries.get(entry) {
            Some(_) => Ok(()),
            None => Err(Problem::OtherHandler { needed: entry }),
        }
    }

    /// Runs one attempt. If all instances are in use, it waits for one first. Dropping the future ends
    /// the attempt. Needs a tokio runtime with its timer on.
    pub async fn run(
        &self,
        event: &Event,
        delivery: &DeliveryInfo,
        host: Arc<dyn HostCalls>,
    ) -> Finished {
        let Some(entry) = self.0.entries.one else {
            return Finished {
                outcome: verdict::cannot(Entry::One),
                reply: None,
                usage: Usage::default(),
            };
        };
        let state = State::new(host, self.0.limits, self.0.config.clone(), None);
        let arguments = (handler::Event::new(event, delivery),);
        let ended: Ended<'_, OneAnswer> = self.attempt::<One<'_>, _>(state, entry, arguments).await;
        let (outcome, reply) = verdict::of_one(ended.answer, ended.store.data());
        Finished {
            outcome,
            reply,
            usage: ended.usage,
        }
    }

    /// Makes an instance, calls it and waits for its end, whichever way it comes.
    pub(crate) async fn attempt<A, R>(
        &self,
        state: State,
        entry: ComponentExportIndex,
        arguments: A,
    ) -> Ended<'_, R>
    where
        A: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let slots = self.slots().await;
        let _running = self.0.shared.ticker.hold();
        let output = state.output.clone();
        let mut store = self.store(state);

        let started = Instant::now();
        let mut busy = Duration::ZERO;
        let answer = {
            let mut call = pin!(self.call(&mut store, entry, arguments));
            let timed = poll_fn(|context| {
                let polled = Instant::now();
                let poll = call.as_mut().poll(context);
                busy += polled.elapsed();
                poll
            });
            // The timer is only set once the guest has to wait or has used up its first tick.
            tokio::time::timeout(self.0.limits.timeout, timed)
                .await
                .ok()
        };
        let usage = Usage {
            wall_us: micros(started.elapsed()),
            busy_us: micros(busy),
            memory: store.data().limiter.largest(),
        };
        output.finish();
        Ended {
            answer,
            store,
            usage,
            _slots: slots,
        }
    }

    async fn slots(&self) -> SemaphorePermit<'_> {
        let permit = self.0.shared.slots.acquire_many(self.0.slots).await;
        permit.expect("the semaphore is never closed")
    }

    fn store(&self, state: State) -> Store<State> {
        let mut store = Store::new(&self.0.shared.engine, state);
        store.limiter(|state| &mut state.limiter);
        // At every tick the task goes behind all others, and behind the runtime's own look at timers
        // and sockets, so that no guest keeps its neighbours from running. (A plain wake-up would put it
        // before that look, which then comes once in 61 ticks.)
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| {
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        // What one call may copy to the host before its size can be counted.
        store.set_hostcall_fuel(fuel(self.0.limits.output));
        store
    }

    async fn call<A, R>(
        &self,
        store: &mut Store<State>,
        entry: ComponentExportIndex,
        arguments: A,
    ) -> wasmtime::Result<R>
    where
        A: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let instance = self
            .0
            .instance
            .instantiate_async(&mut *store)
            .await
            .map_err(|error| error.context(verdict::NotStarted))?;
        let handle = instance.get_typed_func::<A, R>(&mut *store, entry)?;
        handle.call_async(store, arguments).await
    }
}

/// A call may carry a little more than all output together: names, and the host's own records of lists.
fn fuel(output: u64) -> usize {
    const ROOM: u64 = 1 << 20;
    usize::try_from(output.saturating_add(ROOM)).unwrap_or(usize::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
