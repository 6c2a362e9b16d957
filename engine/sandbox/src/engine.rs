//! The sandbox: one wasmtime engine with the settings that make a fresh instance cheap.
//!
//! The settings were measured; each says what it is for. Nothing here knows of functions or events.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Semaphore;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures,
    component::Linker,
};

use crate::{
    bind,
    budget::Budget,
    cache::{Cache, CacheError},
    compiler::Compiler,
    state::State,
    ticker::Ticker,
};

/// The address space of one linear memory: all that a 32-bit guest can address, so that compiled
/// code needs no bounds checks.
const MEMORY_RESERVATION: u64 = 4 << 30;
/// The unmapped rest behind it, which catches the offsets that instructions add.
const MEMORY_GUARD: u64 = 32 << 20;
/// What stays mapped of a used memory for the next event, zeroed by hand: cheaper than giving it
/// back to the kernel. More made every event pay for one rare large event.
const MEMORY_KEEP_RESIDENT: usize = 256 << 10;
/// The same for a table of function references.
const TABLE_KEEP_RESIDENT: usize = 16 << 10;
/// How many freed slots are reset with one round of system calls.
const DECOMMIT_BATCH: usize = 16;
/// The stack of one attempt, and how much of it WebAssembly may use; the rest is the host's.
const STACK: usize = 1 << 20;
const WASM_STACK: usize = 512 << 10;
/// The most elements of one table: interpreters compiled to WebAssembly have about 10,000.
const TABLE_ELEMENTS: usize = 1 << 16;
/// Tables for each instance: a component of one module has two, composed ones more.
pub(crate) const TABLES_PER_INSTANCE: u32 = 4;
/// The most memories, and the most tables, of one module: linkers make one, few need more.
const PARTS_PER_MODULE: u32 = 8;
/// Core instances for each component instance; they cost nothing until used.
const CORE_INSTANCES_PER_INSTANCE: u32 = 64;
/// The largest host-side record of one instance: what a generated module needs, with room.
const INSTANCE_RECORD: usize = 1 << 20;
/// Memory maps that the kernel keeps for one instance asleep, measured, with room.
const MAPS_PER_INSTANCE: u64 = 5;
/// Frames kept of a trap's backtrace.
const BACKTRACE_FRAMES: usize = 8;

/// What a sandbox is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most instances at a time. Each takes 4 GiB of address space (not of memory), so Linux
    /// on x86-64 has room for about 30,000. If the process may not have that much address space,
    /// the sandbox makes do with fewer and says so in the log.
    pub instances: u32,
    /// The memory of all instances together, in bytes, as far as they have grown: beyond it they wait
    /// for each other.
    pub memory: u64,
    /// Where compiled components are kept. The directory is made, and made private to this user:
    /// whoever can write to it decides what the engine executes.
    pub cache: PathBuf,
    /// Who compiles the others.
    pub compiler: Compiler,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Not even one instance fits into the address space.
    #[error(
        "there is no address space for even one instance, which takes 4 GiB of it (not of memory); \
         raise the limit of virtual memory (`ulimit -v unlimited`, or `LimitAS=` of a systemd unit)"
    )]
    AddressSpace(#[source] wasmtime::Error),
    /// The WebAssembly engine does not start on this machine.
    #[error("the WebAssembly engine does not start on this machine")]
    Engine(#[source] wasmtime::Error),
    /// The cache of compiled components is unusable.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The thread that interrupts long-running handlers could not be started.
    #[error("the thread that interrupts long-running handlers does not start")]
    Thread(#[source] std::io::Error),
}

/// Loads functions and holds what they share. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox(pub(crate) Arc<Shared>);

/// What all functions of a sandbox share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) cache: Cache,
    pub(crate) compiler: Compiler,
    pub(crate) ticker: Ticker,
    /// One permit for each slot of the pool: an attempt waits here rather than failing there.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) instances: u32,
    pub(crate) budget: Arc<Budget>,
    pub(crate) compiled: AtomicU64,
}

impl Sandbox {
    /// Starts an engine. Blocking: it prepares the cache on disk.
    ///
    /// # Errors
    /// If the machine does not allow it, see [`SandboxError`].
    pub fn new(settings: Settings) -> Result<Sandbox, SandboxError> {
        let (engine, instances) = engine(settings.instances.max(1))?;
        check_map_count(instances);
        let mut linker = Linker::new(&engine);
        bind::link(&mut linker).map_err(SandboxError::Engine)?;
        Ok(Sandbox(Arc::new(Shared {
            cache: Cache::open(settings.cache, &engine)?,
            compiler: settings.compiler,
            ticker: Ticker::start(&engine).map_err(SandboxError::Thread)?,
            slots: Arc::new(Semaphore::new(instances as usize)),
            instances,
            budget: Budget::new(settings.memory),
            compiled: AtomicU64::new(0),
            engine,
            linker,
        })))
    }

    /// The most instances at a time: the settings' number, or fewer if the address space is short.
    pub fn instances(&self) -> u32 {
        self.0.instances
    }

    /// The bytes of memory that all instances have now.
    pub fn memory(&self) -> u64 {
        self.0.budget.used()
    }

    /// How many attempts wait for memory.
    pub fn waiting(&self) -> usize {
        self.0.budget.waiting()
    }

    /// How many components this sandbox had to compile because the cache did not have them.
    pub fn compiled(&self) -> u64 {
        self.0.compiled.load(Ordering::Relaxed)
    }
}

/// An engine with as many slots as the address space allows, at most `wanted`.
fn engine(wanted: u32) -> Result<(Engine, u32), SandboxError> {
    let mut instances = wanted;
    loop {
        match Engine::new(&config(instances)) {
            Ok(engine) => {
                if instances < wanted {
                    tracing::warn!(
                        wanted,
                        instances,
                        "the address space holds fewer instances than asked for; \
                         attempts beyond them wait (is there a `ulimit -v`?)"
                    );
                }
                return Ok((engine, instances));
            }
            Err(error) if instances == 1 => {
                // Its type is a private dependency of wasmtime; a test holds it to this word.
                let space = error
                    .chain()
                    .any(|cause| cause.to_string().contains("mmap"));
                return Err(match space {
                    true => SandboxError::AddressSpace(error),
                    false => SandboxError::Engine(error),
                });
            }
            Err(_) => instances /= 2,
        }
    }
}

/// Warns if the kernel will refuse memory long before all instances are in use.
fn check_map_count(instances: u32) {
    const SETTING: &str = "/proc/sys/vm/max_map_count";
    let most = std::fs::read_to_string(SETTING)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let needed = u64::from(instances) * MAPS_PER_INSTANCE;
    if let Some(most) = most
        && needed > most
    {
        tracing::warn!(
            instances,
            vm.max_map_count = most,
            "so many instances need more memory maps than the kernel allows a process; \
             raise it with `sysctl vm.max_map_count={needed}`"
        );
    }
}

/// The settings of a sandbox for so many instances: for the benchmarks too, whose floor is wasmtime with
/// the same settings and nothing around it.
pub fn config(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_INSTANCE))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES_PER_INSTANCE))
        .max_memories_per_module(PARTS_PER_MODULE)
        .max_tables_per_module(PARTS_PER_MODULE)
        .total_stacks(instances)
        .max_component_instance_size(INSTANCE_RECORD)
        .max_core_instance_size(INSTANCE_RECORD)
        .max_memory_size(MEMORY_RESERVATION as usize)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        // A warm slot still holds the image of the function that used it; fewer of them than slots
        // cost most events a new mapping.
        .max_unused_warm_slots(instances)
        .decommit_batch_size(DECOMMIT_BATCH)
        // Reads from the kernel which pages were touched, so that only those are reset.
        .pagemap_scan(Enabled::Auto);

    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_may_move(false)
        .memory_init_cow(true)
        .signals_based_traps(true)
        .epoch_interruption(true)
        .async_stack_size(STACK)
        .max_wasm_stack(WASM_STACK)
        // A stack is the host's and never readable by a guest.
        .async_stack_zeroing(false)
        // One event, one call: the machinery for concurrent calls into one instance costs 12 us.
        .concurrency_support(false)
        .wasm_features(WasmFeatures::CM_ASYNC, false)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES));
    config
}
