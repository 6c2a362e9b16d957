//! A hundred functions that are compiled and have not run, each called for the first time, and then again.

use std::{fmt, fs, time::Instant};

use anyhow::Result;
use tokio::runtime::Builder;

use crate::{
    Effort, component,
    figure::Figure,
    load::{Client, Load},
    machine,
    measure::{Samples, Spread},
    site::{Place, Site},
};

const FUNCTIONS: usize = 100;

/// Calls of one function after the first: the last of them are warm.
const CALLS: usize = 10;
const WARM: usize = 5;

const BYTES: usize = 1024;

/// The most that the first event may take longer than a warm one, in milliseconds.
const LATER: f64 = 2.0;

/// The most memory of so many functions, in MiB.
const MEMORY: f64 = 60.0;

const WARM_IS: &str = "the same function's later calls: HTTP requests that are answered with the handler's reply, over one \
    connection that is open. Of 100 functions with 100 different components, which an earlier start compiled, the middle one.";

const LATER_IS: &str = "no floor: 2 ms, the most that the first event of a compiled function may take longer than a warm one.";

const MEMORY_IS: &str = "no floor: 60 MiB, the most that the engine may hold resident with 100 functions that nobody has \
    called. The components are different ones; the second figure is that of the start that compiles them.";

/// A time, in microseconds.
struct Micros(f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} us", self.0)
    }
}

/// Measures it.
pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let mut place = place()?;
    let (mut idle, mut compiled) = (Vec::new(), Vec::new());
    let mut times = Samples {
        engine: Vec::new(),
        floor: Vec::new(),
    };
    // The first start compiles. It warms the machine up too.
    for round in 0..=effort.repetitions {
        let mut site = place.start()?;
        site.wait_ready()?;
        let memory = machine::resident(site.pid())?;
        let (first, warm) = calls(&mut site)?;
        eprintln!(
            "first event {round}: {first}, warm {warm}, {memory:.1} MiB idle{}",
            if round == 0 { " (compiled now)" } else { "" }
        );
        if round == 0 {
            compiled.push(memory);
        } else {
            idle.push(memory);
            times.engine.push(first);
            times.floor.push(warm);
        }
        place = site.stop()?;
    }
    let pairs = times.engine.iter().zip(&times.floor);
    let later: Vec<f64> = pairs
        .map(|(first, warm)| (first.0 - warm.0) / 1000.0)
        .collect();
    Ok(vec![
        Figure::least("First event", "us", None, WARM_IS, &times, |time| time.0),
        Figure::within(
            "First event, later than a warm one",
            "ms",
            LATER,
            LATER_IS,
            later,
        ),
        Figure::within("100 idle functions", "MiB", MEMORY, MEMORY_IS, idle),
        Figure::within(
            "100 idle functions, just compiled",
            "MiB",
            MEMORY,
            MEMORY_IS,
            compiled,
        ),
    ])
}

/// Functions with components that differ in a section that nobody reads.
fn place() -> Result<Place> {
    let mut config = String::new();
    for n in 0..FUNCTIONS {
        config += &format!(
            "[functions.f{n}]\ncomponent = \"f{n}.wasm\"\n[triggers.t{n}]\nfunction = \"f{n}\"\n\
             http = {{ path = \"/f{n}\", methods = [\"POST\"], mode = \"sync\" }}\n"
        );
    }
    let place = Place::new(&config)?;
    let component = fs::read(component("bench-handler")?)?;
    for n in 0..FUNCTIONS {
        let name = format!("f{n:03}");
        let mut bytes = component.clone();
        // A custom section with a name and nothing else.
        bytes.extend([0, name.len() as u8 + 1, name.len() as u8]);
        bytes.extend(name.as_bytes());
        fs::write(place.path().join(format!("f{n}.wasm")), bytes)?;
    }
    Ok(place)
}

/// The middle one of the first calls of all functions, and that of the warm ones.
fn calls(site: &mut Site) -> Result<(Micros, Micros)> {
    let address = site.http()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let path = |n: usize| Load::post(&address, &format!("/f{n}"), &[b'x'; BYTES], 204);
        let mut client = path(0).connect().await?;
        // The way there is to be warm, and one function is.
        for _ in 0..CALLS {
            client.ask(&path(0)).await?;
        }
        let (mut first, mut warm) = (Vec::new(), Vec::new());
        for n in 1..FUNCTIONS {
            let path = path(n);
            first.push(time(&mut client, &path).await?);
            for call in 0..CALLS {
                let time = time(&mut client, &path).await?;
                if call >= CALLS - WARM {
                    warm.push(time);
                }
            }
        }
        Ok((
            Micros(Spread::of(first).median),
            Micros(Spread::of(warm).median),
        ))
    })
}

/// Of one call, in microseconds.
async fn time(client: &mut Client, path: &Load) -> Result<f64> {
    let start = Instant::now();
    client.ask(path).await?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}
