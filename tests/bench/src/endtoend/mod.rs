//! End to end: events that the journal accepts, are run and completed, over a bare file that takes them, a bare loop
//! that runs them, and the file again that lets them go.

mod floor;

use anyhow::Result;

use crate::{
    Effort, component, emitter,
    figure::Figure,
    guest::Guest,
    measure::{self, Sample, Timer},
    site::Site,
};

/// Events of one repetition, and bytes of each.
const EVENTS: u64 = 60_000;
const BYTES: usize = 1024;

const KIND: &str = "bench.work";

const FLOOR: &str = "a bare SQLite file (WAL, synchronous=FULL, greedy group commit) that takes events of 1 KiB, two threads \
    that call the same component in a fresh instance of a bare wasmtime as soon as an event is durable, and the file again, \
    from which the event is then deleted. The engine's events are emitted by a function of its own, which is in its figure.";

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let guest = Guest::load(&component("bench-handler")?)?;
    let events = effort.of(EVENTS);
    let name = "Accepted, end to end";
    let samples = measure::in_turn(
        name,
        effort,
        || engine(events),
        || floor::run(&guest, events),
    )?;
    Ok(vec![
        Figure::rate(name, Some(0.5), FLOOR, &samples),
        Figure::cpu(&format!("{name}, CPU"), None, FLOOR, &samples),
    ])
}

fn engine(events: u64) -> Result<Sample> {
    let config = format!(
        r#"
[functions.work]
component = "{handler}"
[triggers.work]
function = "work"
event = {{ type = "{KIND}" }}
{emitter}"#,
        handler = component("bench-handler")?.display(),
        emitter = emitter::config(KIND)?,
    );
    let mut site = Site::start(&config)?;
    let (address, text) = (site.http()?, "x".repeat(BYTES));
    let warm = events / 10;
    emitter::emit(&address, KIND, &text, warm)?;
    measure::wait(warm, || site.settled("work"))?;
    let timer = Timer::of(site.pid())?;
    emitter::emit(&address, KIND, &text, events)?;
    measure::wait(warm + events, || site.settled("work"))?;
    let sample = timer.stop(events)?;
    site.stop()?;
    Ok(sample)
}
