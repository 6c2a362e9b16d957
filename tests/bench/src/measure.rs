//! Measuring: how fast a count rises and what CPU that takes, in turn for engine and floor.

use std::{
    fmt,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{Effort, machine};

/// Between two looks at a count, each of which costs the engine some CPU. Against two seconds of work, 1 %.
const LOOK: Duration = Duration::from_millis(20);

/// How long a count may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// One repetition.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Events, or requests, a second.
    pub rate: f64,
    /// CPU of the process that did them, in microseconds for each.
    pub cpu: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}/s {:.1} us", self.rate, self.cpu)
    }
}

/// All repetitions.
pub struct Samples<T = Sample> {
    pub engine: Vec<T>,
    pub floor: Vec<T>,
}

/// Measures both in turn, after a round that does not count.
pub fn in_turn<T: fmt::Display>(
    what: &str,
    effort: Effort,
    mut engine: impl FnMut() -> Result<T>,
    mut floor: impl FnMut() -> Result<T>,
) -> Result<Samples<T>> {
    let mut samples = Samples {
        engine: Vec::new(),
        floor: Vec::new(),
    };
    for round in 0..=effort.repetitions {
        // Who comes first takes turns too: what the one leaves behind, the other finds.
        let (engine, floor) = if round % 2 == 0 {
            let engine = engine()?;
            (engine, floor()?)
        } else {
            let floor = floor()?;
            (engine()?, floor)
        };
        eprintln!(
            "{what} {round}: engine {engine}, floor {floor}{}",
            if round == 0 { " (to warm up)" } else { "" }
        );
        if round > 0 {
            samples.engine.push(engine);
            samples.floor.push(floor);
        }
    }
    Ok(samples)
}

/// Watches a count rise to `total`, and measures from its first tenth on: what is done once, at the
/// start, is not in it. `pid` is the process that does the work.
pub fn watch(total: u64, pid: u32, mut count: impl FnMut() -> Result<u64>) -> Result<Sample> {
    let mut last = (Instant::now(), 0);
    let mut first = None;
    loop {
        let done = count()?;
        let now = Instant::now();
        if done > last.1 {
            last = (now, done);
        }
        ensure!(
            now - last.0 < PATIENCE,
            "{done} of {total} were done, and nothing more for {PATIENCE:?}"
        );
        let (since, before, cpu) = match first {
            None if done >= total / 10 => *first.insert((now, done, machine::cpu(pid)?)),
            None => {
                sleep(LOOK);
                continue;
            }
            Some(first) => first,
        };
        if done >= total {
            let events = (total - before) as f64;
            ensure!(
                events > 0.0,
                "{total} are too few: they were done at the first look"
            );
            let cpu = machine::cpu(pid)? - cpu;
            return Ok(Sample {
                rate: events / (now - since).as_secs_f64(),
                cpu: cpu.as_secs_f64() * 1e6 / events,
            });
        }
        sleep(LOOK);
    }
}

/// The middle one, the least and the largest.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Spread {
            median,
            least: values[0],
            most: values[values.len() - 1],
        }
    }
}

/// Waits for a count to rise to `total`.
pub fn wait(total: u64, mut count: impl FnMut() -> Result<u64>) -> Result<()> {
    let mut last = (Instant::now(), 0);
    loop {
        let done = count()?;
        if done >= total {
            return Ok(());
        }
        if done > last.1 {
            last = (Instant::now(), done);
        }
        ensure!(
            last.0.elapsed() < PATIENCE,
            "{done} of {total} were done, and nothing more for {PATIENCE:?}"
        );
        sleep(LOOK);
    }
}

/// Time, and the CPU of a process.
pub struct Timer {
    pid: u32,
    start: Instant,
    cpu: Duration,
}

impl Timer {
    /// For what this process does itself.
    pub fn here() -> Result<Timer> {
        Timer::of(std::process::id())
    }

    /// For what this one does.
    pub fn of(pid: u32) -> Result<Timer> {
        Ok(Timer {
            pid,
            cpu: machine::cpu(pid)?,
            start: Instant::now(),
        })
    }

    /// So many events were done meanwhile.
    pub fn stop(self, events: u64) -> Result<Sample> {
        let took = self.start.elapsed().as_secs_f64();
        let cpu = machine::cpu(self.pid)? - self.cpu;
        Ok(Sample {
            rate: events as f64 / took,
            cpu: cpu.as_secs_f64() * 1e6 / events as f64,
        })
    }
}
