//! One attempt: a fresh instance handles one event, in the task that holds it.
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
    component::{ComponentExportIndex, InstancePre},
};

use crate::{
    bind::handler::{self, Answer, Arguments},
    engine::Shared,
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

/// A loaded component with its limits. Cheap to clone.
#[derive(Clone)]
pub struct Function(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) shared: Arc<Shared>,
    pub(crate) digest: String,
    pub(crate) instance: InstancePre<State>,
    pub(crate) handle: ComponentExportIndex,
    /// Slots of the pool that one instance takes.
    pub(crate) slots: u32,
    pub(crate) limits: Limits,
    pub(crate) config: Config,
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

    /// Runs one attempt. If all instances are in use, it waits for one first. Dropping the future ends
    /// the attempt. Needs a tokio runtime with its timer on.
    pub async fn run(
        &self,
        event: &Event,
        delivery: &DeliveryInfo,
        host: Arc<dyn HostCalls>,
    ) -> Finished {
        let _slots = self.slots().await;
        let _running = self.0.shared.ticker.hold();
        let limits = self.0.limits;
        let state = State::new(host, limits, self.0.config.clone());
        let output = state.output.clone();
        let mut store = self.store(state);

        let started = Instant::now();
        let mut busy = Duration::ZERO;
        let ended = {
            let mut call = pin!(self.call(&mut store, event, delivery));
            let timed = poll_fn(|context| {
                let polled = Instant::now();
                let poll = call.as_mut().poll(context);
                busy += polled.elapsed();
                poll
            });
            // The timer is only set once the guest has to wait or has used up its first tick.
            tokio::time::timeout(limits.timeout, timed).await.ok()
        };
        let usage = Usage {
            wall_us: micros(started.elapsed()),
            busy_us: micros(busy),
            memory: store.data().limiter.largest(),
        };
        output.finish();
        let (outcome, reply) = verdict::of(ended, store.data());
        Finished {
            outcome,
            reply,
            usage,
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

    async fn call(
        &self,
        store: &mut Store<State>,
        event: &Event,
        delivery: &DeliveryInfo,
    ) -> wasmtime::Result<Answer> {
        let instance = self
            .0
            .instance
            .instantiate_async(&mut *store)
            .await
            .map_err(|error| error.context(verdict::NotStarted))?;
        let handle = instance.get_typed_func::<Arguments, Answer>(&mut *store, self.0.handle)?;
        handle
            .call_async(store, (handler::Event::new(event, delivery),))
            .await
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
