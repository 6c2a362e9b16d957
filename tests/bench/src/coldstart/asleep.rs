//! Many handlers that sleep at once: what each costs in memory, and how long it takes until all have begun, over a bare
//! wasmtime that starts as many instances of the same component.

use std::{
    cell::Cell,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::runtime::Runtime;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::{
    Effort, component, emitter,
    figure::Figure,
    floors::{Floor, Role},
    guest::{Event, Guest},
    machine, measure,
    site::Place,
};

/// How many.
const HANDLERS: u64 = 10_000;

/// How long each sleeps: longer than it takes until the last one begins.
const SLEEP: Duration = Duration::from_secs(10);

const KIND: &str = "bench.sleep";

/// When all of them sleep, and none wakes up yet.
const MIDDLE: Duration = Duration::from_secs(SLEEP.as_secs() / 2);

/// What the floor's instances may call.
const LINKED: [&str; 4] = ["wasi:cli/", "wasi:clocks/", "wasi:io/", "wasi:random/"];

/// The most memory of each, in KiB.
const MEMORY: f64 = 64.0;

const FLOOR: &str = "a bare wasmtime with the engine's settings, in a process of its own, that starts as many instances of the \
    same component, each in a task of its own and with the same order to sleep. The time is that from the first event on \
    until all have ended, without the 10 s that each sleeps; the engine's has the acceptance of the events in it.";

const MEMORY_IS: &str = "no floor: 64 KiB, the most that one of 10,000 sleeping handlers may add to the engine's memory. A page \
    of the compiled component is mapped by all of them, and counted once (PSS); page tables are not counted.";

/// All of them.
struct Asleep {
    seconds: f64,
    /// What each of them took, in KiB.
    memory: f64,
}

impl fmt::Display for Asleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s, {:.1} KiB each", self.seconds, self.memory)
    }
}

/// Measures it.
pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let handlers = effort.of(HANDLERS);
    let config = format!(
        r#"
[functions.sleeper]
component = "{probe}"
concurrency = 10_000
timeout = "2m"
[triggers.sleeper]
function = "sleeper"
event = {{ type = "{KIND}" }}
{emitter}"#,
        probe = component("probe")?.display(),
        emitter = emitter::config(KIND)?,
    );
    // Compiles, so that no memory of that is left.
    let mut site = Place::new(&config)?.start()?;
    site.wait_ready()?;
    let place = Cell::new(Some(site.stop()?));
    let samples = measure::in_turn(
        "asleep",
        effort,
        || {
            let (asleep, after) = engine(place.take().context("it has a place")?, handlers)?;
            place.set(Some(after));
            Ok(asleep)
        },
        || floor(handlers),
    )?;
    let memory = samples.engine.iter().map(|asleep| asleep.memory);
    Ok(vec![
        Figure::least(
            "10,000 asleep, memory over the bare",
            "KiB",
            None,
            FLOOR,
            &samples,
            |asleep| asleep.memory,
        ),
        Figure::within(
            "10,000 asleep, memory of each",
            "KiB",
            MEMORY,
            MEMORY_IS,
            memory,
        ),
        Figure::least(
            "10,000 asleep, started",
            "s",
            Some(1.5),
            FLOOR,
            &samples,
            |asleep| asleep.seconds,
        ),
    ])
}

fn engine(place: Place, handlers: u64) -> Result<(Asleep, Place)> {
    let mut site = place.start()?;
    site.wait_ready()?;
    let address = site.http()?;
    let before = machine::proportional(site.pid())?;
    let start = Instant::now();
    emitter::emit(&address, KIND, &order(), handlers)?;
    std::thread::sleep(MIDDLE.saturating_sub(start.elapsed()));
    let most = machine::proportional(site.pid())?;
    measure::wait(handlers, || site.settled("sleeper"))?;
    let asleep = asleep(start.elapsed(), most - before, handlers)?;
    Ok((asleep, site.stop()?))
}

fn order() -> String {
    json!({ "do": "sleep", "ms": SLEEP.as_millis() as u64 }).to_string()
}

fn asleep(took: Duration, mib: f64, handlers: u64) -> Result<Asleep> {
    let started = took.saturating_sub(SLEEP);
    ensure!(
        started < SLEEP,
        "the last handler began {started:?} after the first, which slept no longer than {SLEEP:?}"
    );
    Ok(Asleep {
        seconds: started.as_secs_f64(),
        memory: mib * 1024.0 / handlers as f64,
    })
}

/// Asks a process of its own.
fn floor(handlers: u64) -> Result<Asleep> {
    let line = Floor::own(Role::Asleep, handlers)?.line()?;
    let (millis, mib) = line
        .split_once(' ')
        .context("the floor said something else")?;
    let took = Duration::from_millis(millis.parse()?);
    asleep(took, mib.parse()?, handlers)
}

/// What an instance sees of the host: clocks.
struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// The floor: says how many milliseconds it took, and how many MiB.
pub fn serve(handlers: u64) -> Result<()> {
    let probe = component("probe")?;
    let instances = u32::try_from(handlers)?;
    let guest = Guest::with(&probe, instances, &LINKED, |linker| {
        wasmtime_wasi::p2::add_to_linker_async(linker)
    })?;
    let guest = Arc::new(guest);
    let runtime = Runtime::new()?;
    let pid = std::process::id();
    let before = machine::proportional(pid)?;
    let start = Instant::now();
    let sleepers: Vec<_> = (0..handlers)
        .map(|n| {
            let guest = guest.clone();
            runtime.spawn(async move {
                let (id, order) = (format!("{n:024}"), order());
                let host = Host {
                    wasi: WasiCtx::builder().build(),
                    table: ResourceTable::new(),
                };
                let event = Event::new(&id, "function:emitter", KIND, order.as_bytes());
                guest.call_with(host, event).await
            })
        })
        .collect();
    std::thread::sleep(MIDDLE.saturating_sub(start.elapsed()));
    let most = machine::proportional(pid)?;
    runtime.block_on(async {
        for sleeper in sleepers {
            sleeper.await??;
        }
        anyhow::Ok(())
    })?;
    println!("{} {:.3}", start.elapsed().as_millis(), most - before);
    Ok(())
}
