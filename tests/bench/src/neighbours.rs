//! Neighbours: the latency of one trigger while another one is flooded, over that while nothing else goes on.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::runtime::Builder;

use crate::{Effort, component, figure::Figure, load::Load, measure, site::Site};

/// Requests whose time is taken, in one repetition, and how long it is from one to the next.
const PROBES: u64 = 400;
const PAUSE: Duration = Duration::from_millis(5);

/// The clients of the flood: each has one request under way all the time.
const FLOOD: usize = 64;

/// How long one handler of the flood computes.
const BUSY_MS: u64 = 5;

const BYTES: usize = 1024;

const QUIET: &str = "the same engine while nothing else goes on: a request every 5 ms, answered with the reply of a handler that \
    does nothing. The flood is 64 clients of another trigger and function, whose handler computes for 5 ms each time; \
    both cores are busy with it.";

const PAGES: &str = "the same, with a flood of requests to be made durable: 64 clients, as fast as they are answered, and a \
    handler that does nothing.";

/// What the probes took, in microseconds.
struct Latency {
    middle: f64,
    /// 99 of 100 took less.
    high: f64,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} us, p99 {:.0} us", self.middle, self.high)
    }
}

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let config = format!(
        r#"
[functions.quiet]
component = "{handler}"
[triggers.quiet]
function = "quiet"
http = {{ path = "/quiet", methods = ["POST"], mode = "sync" }}
[functions.busy]
component = "{probe}"
env = {{ ORDER = '{{ "do": "busy", "ms": {BUSY_MS} }}' }}
[triggers.busy]
function = "busy"
http = {{ path = "/busy", methods = ["POST"], mode = "sync" }}
[functions.durable]
component = "{handler}"
[triggers.durable]
function = "durable"
http = {{ path = "/durable", methods = ["POST"], mode = "async" }}
"#,
        handler = component("bench-handler")?.display(),
        probe = component("probe")?.display(),
    );
    let mut site = Site::start(&config)?;
    let address = site.http()?;
    let quiet = Load::post(&address, "/quiet", &[b'x'; BYTES], 204);
    let probes = effort.of(PROBES);
    let mut figures = Vec::new();
    for (name, path, status, floor_is) in [
        ("Beside a flood that computes", "/busy", 204, QUIET),
        ("Beside a flood that is journaled", "/durable", 202, PAGES),
    ] {
        let flood = Load::post(&address, path, &[b'x'; BYTES], status);
        let samples = measure::in_turn(
            name,
            effort,
            || beside(&flood, || probe(&quiet, probes)),
            || probe(&quiet, probes),
        )?;
        let high = format!("{name}, p99");
        figures.push(Figure::least(
            name,
            "us",
            Some(2.0),
            floor_is,
            &samples,
            |latency| latency.middle,
        ));
        figures.push(Figure::least(
            &high,
            "us",
            Some(2.0),
            floor_is,
            &samples,
            |latency| latency.high,
        ));
    }
    site.stop()?;
    Ok(figures)
}

/// Does it while the flood is on, and waits until that is over.
fn beside<T>(flood: &Load, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // As many rounds as take a moment.
                flood.send(FLOOD as u64 * 10, FLOOD)?;
            }
            anyhow::Ok(())
        });
        // Until all of its clients are there.
        std::thread::sleep(Duration::from_millis(300));
        let done = work();
        over.store(true, Ordering::Relaxed);
        flooding.join().expect("it does not panic").and(done)
    })
}

fn probe(load: &Load, probes: u64) -> Result<Latency> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut times = runtime.block_on(async {
        let mut client = load.connect().await?;
        client.ask(load).await?;
        let mut times = Vec::new();
        for _ in 0..probes {
            let start = Instant::now();
            client.ask(load).await?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok(times)
    })?;
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    Ok(Latency {
        middle: at(0.5),
        high: at(0.99),
    })
}
