//! One attempt: an instance is called once, in the task that holds the event. It is a fresh one, unless
//! the function keeps instances (`kept.rs`).
//!
//! However the guest ends, the answer is an [`Outcome`]; nothing of a fresh instance remains. There is no
//! retry here and no judgement of what the outcome means.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tidemill_core::{
    event::Event,
    host::HostCalls,
    outcome::{Outcome, Reply, Usage},
};
use tokio::{sync::OwnedSemaphorePermit, task::unconstrained, time::sleep};
use wasmtime::{
    Store, UpdateDeadline,
    component::{ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Lower},
};

use crate::{
    batch::Batch,
    bind::handler::{self, BATCH_HANDLER, HANDLER, One, OneAnswer},
    cache::digest,
    engine::Shared,
    kept::{Busy, Keep, Lent, Pool, Ready},
    load::Problem,
    seat::{Seat, Share, Spare},
    state::State,
    turns::{Turn, Turns},
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
    /// What it used. Waiting for a free instance, and for memory to begin with, is not in it.
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
    pub(crate) turns: Turns,
    /// The instances that are kept; absent, none is.
    pub(crate) pool: Option<Arc<Pool>>,
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
    /// After the store above, which has to be gone before its slots are free for others.
    origin: Origin<'a>,
}

/// Where an instance is from.
enum Origin<'a> {
    /// It was made for this attempt, which leaves its seat here.
    Fresh(Box<Seat>, &'a Spare),
    /// It is one of those that are kept.
    Kept(Box<Lent>, Busy),
}

impl<R> Ended<'_, R> {
    /// Lets go of the instance, after a look at how it ended. One that is kept goes back, if it is `sound`:
    /// it has answered, whatever it said, and kept to its limits.
    pub(crate) fn leave(self, sound: bool) {
        let Ended { store, origin, .. } = self;
        match origin {
            Origin::Fresh(seat, spare) => spare.leave(seat, store.into_data().into_share()),
            Origin::Kept(lent, busy) => {
                if sound && !store.data().output.exceeded() {
                    busy.pool().give_back(store, *lent);
                }
            }
        }
    }
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

    /// The same function, with instances that are kept; those of this one are not among them. Free slots
    /// of the engine are taken by instances that rest, too.
    pub fn keeping(&self, keep: Keep) -> Function {
        let loaded = &self.0;
        let kept = keep != Keep::default();
        Function(Arc::new_cyclic(|own| Loaded {
            shared: loaded.shared.clone(),
            digest: loaded.digest.clone(),
            instance: loaded.instance.clone(),
            entries: loaded.entries,
            slots: loaded.slots,
            limits: loaded.limits,
            config: loaded.config.clone(),
            turns: loaded.turns.clone(),
            pool: kept.then(|| Arc::new(Pool::new(keep, own.clone()))),
        }))
    }

    /// What is kept of its instances.
    pub fn keeps(&self) -> Keep {
        self.0
            .pool
            .as_ref()
            .map(|pool| pool.keep())
            .unwrap_or_default()
    }

    /// Makes the instances that are to be ready. Needs a tokio runtime with its timer on.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn warm_up(&self) -> Result<(), Problem> {
        match &self.0.pool {
            Some(pool) => pool.fill().await.map_err(Problem::Start),
            None => Ok(()),
        }
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
    /// the attempt. Needs a tokio runtime with its timer on. What an attempt has to take of what all share, it
    /// takes from `spare`, and leaves it there.
    pub async fn run(
        &self,
        event: &Event,
        delivery: &DeliveryInfo,
        host: Arc<dyn HostCalls>,
        spare: &Spare,
    ) -> Finished {
        let Some(entry) = self.0.entries.one else {
            return Finished {
                outcome: verdict::cannot(Entry::One),
                reply: None,
                usage: Usage::default(),
            };
        };
        let arguments = (handler::Event::new(event, delivery),);
        let mut ended: Ended<'_, OneAnswer> = self
            .attempt::<One<'_>, _>(host, None, entry, arguments, spare)
            .await;
        let answer = ended.answer.take();
        let answered = matches!(answer, Some(Ok(_)));
        let (outcome, reply) = verdict::of_one(answer, ended.store.data());
        let usage = ended.usage;
        ended.leave(answered);
        Finished {
            outcome,
            reply,
            usage,
        }
    }

    /// Calls an instance and waits for its end, whichever way it comes.
    pub(crate) async fn attempt<'a, A, R>(
        &'a self,
        host: Arc<dyn HostCalls>,
        batch: Option<Batch>,
        entry: ComponentExportIndex,
        arguments: A,
        spare: &'a Spare,
    ) -> Ended<'a, R>
    where
        A: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        match &self.0.pool {
            None => {
                let (seat, share) = self.seat(spare).await;
                let store = self.begin(host, batch, share);
                self.serve(Origin::Fresh(seat, spare), store, entry, arguments)
                    .await
            }
            // In a box, so that the others carry nothing of it.
            Some(pool) => Box::pin(self.attempt_kept(pool, host, batch, entry, arguments)).await,
        }
    }

    /// The same with an instance that was kept, or will be.
    async fn attempt_kept<'a, A, R>(
        &'a self,
        pool: &Arc<Pool>,
        host: Arc<dyn HostCalls>,
        batch: Option<Batch>,
        entry: ComponentExportIndex,
        arguments: A,
    ) -> Ended<'a, R>
    where
        A: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let (ready, busy) = pool.take();
        let (store, lent) = match ready {
            Some(Ready {
                mut store, lent, ..
            }) => {
                store.data_mut().renew(host, batch);
                self.set_bounds(&mut store);
                (store, lent)
            }
            None => {
                let lent = Lent::new(self.slots().await);
                (self.begin(host, batch, self.share().await), lent)
            }
        };
        let _running = self.0.shared.ticker.hold();
        let origin = Origin::Kept(Box::new(lent), busy);
        self.serve(origin, store, entry, arguments).await
    }

    /// Calls the instance of a store, which is made if there is none yet, and waits for its end. If it is dropped, the
    /// store goes first.
    async fn serve<'a, A, R>(
        &'a self,
        mut origin: Origin<'a>,
        mut store: Store<State>,
        entry: ComponentExportIndex,
        arguments: A,
    ) -> Ended<'a, R>
    where
        A: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let (output, turn) = (store.data().output.clone(), store.data().turn.clone());
        let (answer, mut usage) = {
            let call = pin!(async {
                let instance = match &mut origin {
                    Origin::Fresh(..) => self.instantiate(&mut store).await?,
                    Origin::Kept(lent, _) => self.instance(&mut store, lent).await?,
                };
                let handle = instance.get_typed_func::<A, R>(&mut store, entry)?;
                handle.call_async(&mut store, arguments).await
            });
            timed(self.0.limits.timeout, &turn, call).await
        };
        usage.memory = store.data().limiter.largest();
        output.finish();
        Ended {
            answer,
            store,
            usage,
            origin,
        }
    }

    /// Makes an instance that is to rest.
    pub(crate) async fn make(
        &self,
        nobody: Arc<dyn HostCalls>,
    ) -> wasmtime::Result<(Store<State>, Lent)> {
        let mut lent = Lent::new(self.slots().await);
        let mut store = self.begin(nobody, None, self.share().await);
        let _running = self.0.shared.ticker.hold();
        let made = self.instance(&mut store, &mut lent);
        match tokio::time::timeout(self.0.limits.timeout, made).await {
            Ok(made) => made?,
            Err(_) => wasmtime::bail!("it does not start within {:?}", self.0.limits.timeout),
        };
        store.data_mut().limiter.rest();
        // Whoever rests takes no turn from those that compute.
        store.data().turn.pause();
        Ok((store, lent))
    }

    /// The instance that is kept, made if there is none yet.
    async fn instance(
        &self,
        store: &mut Store<State>,
        lent: &mut Lent,
    ) -> wasmtime::Result<Instance> {
        if let Some(instance) = lent.instance {
            return Ok(instance);
        }
        let instance = self.instantiate(store).await?;
        lent.instance = Some(instance);
        lent.born = store.data().limiter.total();
        Ok(instance)
    }

    async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Instance> {
        let made = self.0.instance.instantiate_async(store).await;
        made.map_err(|error| error.context(verdict::NotStarted))
    }

    /// A seat that was left, or a new one.
    async fn seat(&self, spare: &Spare) -> (Box<Seat>, Share) {
        if let Some(left) = spare.take() {
            return left;
        }
        let slots = self.slots().await;
        let share = self.share().await;
        let seat = Seat {
            _running: self.0.shared.ticker.hold(),
            _slots: slots,
        };
        (Box::new(seat), share)
    }

    async fn slots(&self) -> OwnedSemaphorePermit {
        let slots = self.0.shared.slots.clone();
        let permit = slots.acquire_many_owned(self.0.slots).await;
        permit.expect("the semaphore is never closed")
    }

    /// What the host of an instance needs, once there is memory for it.
    async fn share(&self) -> Share {
        Share {
            config: self.0.config.clone(),
            turn: self.0.turns.turn(),
            room: self.0.shared.budget.enter().await,
        }
    }

    /// Where an attempt begins.
    fn begin(&self, host: Arc<dyn HostCalls>, batch: Option<Batch>, share: Share) -> Store<State> {
        let loaded = &*self.0;
        let state = State::new(host, loaded.limits, share, batch);
        let mut store = Store::new(&loaded.shared.engine, state);
        store.limiter_async(|state| &mut state.limiter);
        store.epoch_deadline_callback(|store| {
            let next = store.data().turn.clone().next();
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(next)))
        });
        self.set_bounds(&mut store);
        store
    }

    /// What holds for one call.
    fn set_bounds(&self, store: &mut Store<State>) {
        store.set_epoch_deadline(1);
        // What one call may copy to the host before its size can be counted.
        store.set_hostcall_fuel(fuel(self.0.limits.output));
    }
}

/// Polls a call until it ends or its time is up. What it used, but for its memory.
async fn timed<F: Future>(
    limit: Duration,
    turn: &Turn,
    mut call: Pin<&mut F>,
) -> (Option<F::Output>, Usage) {
    let started = Instant::now();
    // Most are polled once, where each look at the clock is felt.
    let (mut busy, mut looked) = (Duration::ZERO, started);
    let (mut polled, mut timer) = (false, None);
    let answer = poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            looked = Instant::now();
        }
        let poll = call.as_mut().poll(context);
        let now = Instant::now();
        busy += now - looked;
        looked = now;
        turn.pause();
        if let Poll::Ready(answer) = poll {
            return Poll::Ready(Some(answer));
        }
        // It has to wait, or has used up its first tick. Most never do, and a timer counts references to the
        // runtime, which all cores count. It fires also for who has used up all that a task may do at once.
        let timer = timer.get_or_insert_with(|| {
            let left = limit.saturating_sub(now - started);
            Box::pin(unconstrained(sleep(left)))
        });
        timer.as_mut().poll(context).map(|()| None)
    })
    .await;
    let usage = Usage {
        wall_us: micros(looked - started),
        busy_us: micros(busy),
        memory: 0,
    };
    (answer, usage)
}

/// A call may carry a little more than all output together: names, and the host's own records of lists.
fn fuel(output: u64) -> usize {
    const ROOM: u64 = 1 << 20;
    usize::try_from(output.saturating_add(ROOM)).unwrap_or(usize::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
