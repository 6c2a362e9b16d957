//! A backlog: a million events of one trigger wait in the journal, and another trigger's events come and go. What they
//! cost, what memory it takes, and how soon the engine is back after it was killed.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{
    Effort, component, emitter,
    figure::Figure,
    load::Load,
    machine,
    measure::{self, Sample, Timer},
    site::{Place, Site},
};

/// Events that wait, in full and for a look at whether it works, and bytes of each: small ones, so that they take
/// less than a gigabyte of disk.
const WAITING: u64 = 1_000_000;
const WAITING_QUICK: u64 = 50_000;
const WAITING_BYTES: usize = 256;

/// New events of one repetition, bytes of each, and the connections that they come over.
const EVENTS: u64 = 20_000;
const BYTES: usize = 1024;
const CONNECTIONS: usize = 32;

/// How often the engine is killed.
const KILLS: u32 = 5;

const KIND: &str = "bench.waiting";

/// The most memory, in MiB.
const MEMORY: f64 = 300.0;

/// The most time until the engine is ready again, in seconds.
const READY: f64 = 3.0;

const EMPTY: &str = "the engine itself, whose journal is empty: HTTP requests with 1 KiB over 32 connections, accepted, run and \
    completed. In the other engine's journal 1,000,000 events of another trigger wait, of 256 bytes each, because a rate lets one \
    in an hour through.";

const MEMORY_IS: &str = "no floor: 300 MiB, the most that may have been resident at a time, from the engine's start through \
    the acceptance of the million to the last repetition.";

const READY_IS: &str = "no floor: 3 s, the most from the start of the engine until /readyz says so, after it was killed with \
    the million waiting and requests under way.";

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let waiting = if effort.quick { WAITING_QUICK } else { WAITING };
    let mut full = start()?;
    let mut empty = start()?;
    let from = Instant::now();
    let address = full.http()?;
    emitter::emit(&address, KIND, &"x".repeat(WAITING_BYTES), waiting)?;
    let pending = full.metric("tidemill_deliveries_pending", "")?;
    // One was let through at once.
    ensure!(
        pending + 1 >= waiting,
        "only {pending} of {waiting} events wait"
    );
    eprintln!(
        "backlog: {waiting} events wait after {:.1?}",
        from.elapsed()
    );

    let events = effort.of(EVENTS);
    let samples = measure::in_turn(
        "backlog",
        effort,
        || throughput(&mut full, events),
        || throughput(&mut empty, events),
    )?;
    let peak = machine::peak(full.pid())?;
    empty.stop()?;
    let ready = kills(full, if effort.quick { 1 } else { KILLS })?;
    Ok(vec![
        Figure::rate("Beside 1,000,000 that wait", Some(0.8), EMPTY, &samples),
        Figure::cpu("Beside 1,000,000 that wait, CPU", None, EMPTY, &samples),
        Figure::within(
            "1,000,000 that wait, memory",
            "MiB",
            MEMORY,
            MEMORY_IS,
            [peak],
        ),
        Figure::within(
            "1,000,000 that wait, ready after a kill",
            "s",
            READY,
            READY_IS,
            ready,
        ),
    ])
}

/// An engine that has its components compiled already.
fn start() -> Result<Site> {
    let config = format!(
        r#"
[functions.work]
component = "{handler}"
[triggers.waiting]
function = "work"
event = {{ type = "{KIND}" }}
rate = "1/h"
[triggers.work]
function = "work"
http = {{ path = "/work", methods = ["POST"], mode = "async" }}
{emitter}"#,
        handler = component("bench-handler")?.display(),
        emitter = emitter::config(KIND)?,
    );
    let mut site = Place::new(&config)?.start()?;
    site.wait_ready()?;
    let mut site = site.stop()?.start()?;
    site.wait_ready()?;
    Ok(site)
}

fn load(site: &mut Site) -> Result<Load> {
    Ok(Load::post(&site.http()?, "/work", &[b'x'; BYTES], 202))
}

/// From the first request until the last event is completed.
fn throughput(site: &mut Site, events: u64) -> Result<Sample> {
    let load = load(site)?;
    let before = site.settled("work")?;
    let timer = Timer::of(site.pid())?;
    load.send(events, CONNECTIONS)?;
    measure::wait(before + events, || site.settled("work"))?;
    timer.stop(events)
}

/// The seconds that each start took after a kill.
fn kills(mut site: Site, kills: u32) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    for kill in 0..kills {
        let load = load(&mut site)?;
        let before = site.settled("work")?;
        // It ends with the engine, by an error.
        let requests = std::thread::spawn(move || load.send(u64::MAX, CONNECTIONS));
        measure::wait(before + 1000, || site.settled("work"))?;
        let place = site.kill()?;
        ensure!(
            requests.join().expect("it does not panic").is_err(),
            "all was answered"
        );
        let start = Instant::now();
        site = place.start()?;
        site.wait_ready()?;
        let took = start.elapsed().as_secs_f64();
        eprintln!("backlog: ready {took:.2} s after kill {kill}");
        seconds.push(took);
    }
    site.stop()?;
    Ok(seconds)
}
