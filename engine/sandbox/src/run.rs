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
    host::{HostCalls, LogLevel},
    limits,
    outcome::{Outcome, Reply, Usage},
};
use tokio::sync::SemaphorePermit;
use wasmtime::{
    Store, Trap, WasmBacktrace,
    component::{ComponentExportIndex, InstancePre},
};
use wasmtime_wasi::I32Exit;

use crate::{
    bind::handler::{self, Answer, Arguments},
    engine::Shared,
    output::{Output, cut},
    state::State,
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
        let state = State::new(host.clone(), limits, self.0.config.clone());
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
            tokio::time::timeout(limits.timeout, timed).await
        };
        let wall = started.elapsed();
        output.finish();

        let limiter = &store.data().limiter;
        let too_much = |limit| (Outcome::TooMuchOutput { limit }, None);
        let (outcome, reply) = match ended {
            _ if output.exceeded() => too_much(limits.output),
            Err(_) => (
                Outcome::Timeout {
                    limit: limits.timeout,
                },
                None,
            ),
            Ok(Err(error)) if copied_too_much(&error) => too_much(limits.output),
            Ok(Err(_)) if limiter.denied() => (
                Outcome::OutOfMemory {
                    limit: limits.memory,
                },
                None,
            ),
            Ok(Err(error)) => (broke(&error, &output, &*host), None),
            Ok(Ok((Err(failure),))) => (failure.into(), None),
            Ok(Ok((Ok(None),))) => (Outcome::Ok, None),
            Ok(Ok((Ok(Some(reply)),))) => {
                if reply.size() as u64 > limits.payload {
                    too_much(limits.payload)
                } else if output.spend(reply.size()).is_err() {
                    too_much(limits.output)
                } else {
                    (Outcome::Ok, Some(reply.into()))
                }
            }
        };
        let usage = Usage {
            wall_us: micros(wall),
            busy_us: micros(busy),
            memory: store.data().limiter.largest(),
        };
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
        // At every tick the task yields, so that no guest keeps its neighbours from running.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
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
            .map_err(|error| error.context(NotStarted))?;
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

/// Whether a guest was stopped while it copied more to the host than [`fuel`] allows.
fn copied_too_much(error: &wasmtime::Error) -> bool {
    // wasmtime keeps the type of this error to itself; a test holds it to these words.
    error
        .root_cause()
        .to_string()
        .contains("fuel allocated for hostcalls has been exhausted")
}

/// Says that an error came from making the instance.
#[derive(Debug, thiserror::Error)]
#[error("the instance did not start")]
struct NotStarted;

/// The outcome of a guest that broke, and a line in its log that says where.
fn broke(error: &wasmtime::Error, output: &Output, host: &dyn HostCalls) -> Outcome {
    let what = match (
        error.downcast_ref::<Trap>(),
        error.downcast_ref::<I32Exit>(),
    ) {
        (Some(Trap::StackOverflow), _) => "stack overflow: it calls itself too deep".to_owned(),
        (Some(trap), _) => trap.to_string(),
        (None, Some(I32Exit(status))) => format!("it exited with status {status}"),
        (None, None) if error.is::<NotStarted>() => {
            return Outcome::Unavailable {
                reason: error.root_cause().to_string(),
            };
        }
        (None, None) => error.root_cause().to_string(),
    };
    let reason = match output.last_words() {
        Some(words) => format!("{words} ({what})"),
        None => what,
    };
    let reason = cut(&reason, limits::REASON).into_owned();
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let fields = backtrace.map(|backtrace| ("backtrace".to_owned(), backtrace.to_string()));
    host.log(
        LogLevel::Error,
        &format!("the handler broke: {reason}"),
        &fields.into_iter().collect::<Vec<_>>(),
    );
    Outcome::Trap { reason }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
