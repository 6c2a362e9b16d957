//! The benchmarks: each figure of the engine stands beside a bare floor, the same work done with the
//! bare libraries, measured in the same run and in turn with it. `make bench` runs this.
//!
//! Only ratios from one run mean anything: machines drift, and differ. Nothing here is part of the
//! engine, and nothing here is tested by it.

mod amqp;
mod backlog;
mod coldstart;
mod commits;
mod dispatch;
mod emitter;
mod endtoend;
mod figure;
mod floors;
mod guest;
mod http;
mod kafka;
mod listing;
mod load;
mod machine;
mod measure;
mod neighbours;
mod report;
mod site;

#[path = "../../services/addresses.rs"]
#[allow(dead_code, reason = "not every service is measured")]
mod addresses;

#[path = "../../services/synthetic.rs"]
#[allow(dead_code, reason = "not all that it can is measured")]
mod synthetic;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

/// The engine's, in the floors too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the engine beside the bare libraries it is made of. Writes tests/bench/report.json and
/// tests/bench/REPORT.md if all scenarios ran.
#[derive(Parser)]
struct Arguments {
    /// Only these; without any, all.
    scenarios: Vec<Scenario>,
    /// A look at whether it works: small counts, few repetitions, nothing is written.
    #[arg(long)]
    quick: bool,
    /// How often engine and floor are measured in turn, after a round to warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..))]
    repetitions: u32,
    /// Be a floor, for this program itself.
    #[arg(long, hide = true)]
    floor: Option<floors::Role>,
    /// Of what the floor does.
    #[arg(long, hide = true, default_value_t = 0)]
    count: u64,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Amqp,
    Kafka,
    /// Batches over single events.
    Batch,
    /// The first look at a large bucket.
    Listing,
    /// Requests made durable, and requests answered.
    Http,
    /// The dispatcher and the sandbox alone.
    Dispatch,
    /// From an event's acceptance to its completion.
    Endtoend,
    /// Functions that have not run yet, and handlers that sleep.
    Coldstart,
    /// New events while many wait.
    Backlog,
    /// A trigger beside one that is flooded.
    Neighbours,
}

/// How thoroughly to measure.
#[derive(Clone, Copy)]
struct Effort {
    repetitions: u32,
    quick: bool,
}

impl Effort {
    /// Of the full count, as much as is wanted.
    fn of(self, full: u64) -> u64 {
        if self.quick { full / 5 } else { full }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(role) = arguments.floor {
        return role.play(arguments.count);
    }
    let effort = Effort {
        repetitions: if arguments.quick {
            1
        } else {
            arguments.repetitions
        },
        quick: arguments.quick,
    };
    ensure!(
        effort.quick || !cfg!(debug_assertions),
        "this was built without optimisation: run `make bench`, or `cargo run --release --package tidemill-bench`"
    );
    let all = Scenario::value_variants();
    let asked = match arguments.scenarios.as_slice() {
        [] => all,
        asked => asked,
    };
    let mut figures: Vec<figure::Figure> = Vec::new();
    for scenario in all.iter().filter(|one| asked.contains(one)) {
        let found = match scenario {
            Scenario::Amqp => amqp::run(effort),
            Scenario::Kafka => kafka::run(effort),
            Scenario::Batch => kafka::run_batches(effort),
            Scenario::Listing => listing::run(effort),
            Scenario::Http => http::run(effort),
            Scenario::Dispatch => dispatch::run(effort),
            Scenario::Endtoend => endtoend::run(effort),
            Scenario::Coldstart => coldstart::run(effort),
            Scenario::Backlog => backlog::run(effort),
            Scenario::Neighbours => neighbours::run(effort),
        };
        figures.extend(found.with_context(|| format!("{scenario:?} could not be measured"))?);
    }
    print!("{}", report::table(&figures));
    if effort.quick || asked.len() < all.len() {
        println!("Nothing is written: not everything was measured in full.");
        return Ok(());
    }
    report::write(&root().join("tests/bench"), &figures)
}

/// The root of the repository.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .expect("this package lies in tests/bench")
}

/// A component that `make functions` built.
fn component(name: &str) -> Result<PathBuf> {
    let path = root().join(format!("functions/build/{name}.wasm"));
    ensure!(
        path.exists(),
        "{} is missing: run `make functions`",
        path.display()
    );
    Ok(path)
}
