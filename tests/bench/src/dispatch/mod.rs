//! Dispatch: the dispatcher and the sandbox without a broker and without a journal to write to, over a bare loop that
//! calls the same component. The engine is its library here, in this process: the events come from memory, held as a
//! broker's are, and without ids that would have to be remembered, so that nothing of them is made durable.

mod floor;

use std::{collections::HashMap, fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use tidemill::{
    assemble::{self, Assembled, Selection, StartErrors},
    dispatcher::intake::EngineIntake,
};
use tidemill_core::{
    event::Event,
    hold::{Held, Holds as _, Settlement, Settlements},
    time::Timestamp,
};
use tidemill_sandbox::Compiler;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::{
    Effort, component,
    figure::Figure,
    guest::Guest,
    measure::{self, Sample},
    site,
};

/// Events of one repetition, and bytes of each.
const EVENTS: u64 = 100_000;
const BYTES: usize = 1024;

/// Events that are held at a time: fewer than a broker's prefetch, and more than threads.
const HELD: usize = 64;

/// What they come from, which is never started.
const SOURCE: &str = "amqp:memory/work";

const FLOOR: &str = "a bare loop on each thread that calls the same component in a fresh instance of a bare wasmtime with \
    the engine's settings. The engine is its library in the same process: 64 events of 1 KiB are held at a time, as a \
    broker's would be, and nothing is written.";

/// Measures it.
pub fn run(effort: Effort) -> Result<Vec<Figure>> {
    let handler = component("bench-handler")?;
    let guest = Arc::new(Guest::load(&handler)?);
    let mut figures = Vec::new();
    for (threads, name) in [(1, "Dispatch, 1 thread"), (2, "Dispatch, 2 threads")] {
        let events = effort.of(EVENTS);
        let samples = measure::in_turn(
            name,
            effort,
            || engine(&handler, threads, events),
            || floor::run(&guest, threads, events),
        )?;
        figures.push(Figure::cpu(
            &format!("{name}, CPU"),
            Some(1.5),
            FLOOR,
            &samples,
        ));
        figures.push(Figure::rate(name, None, FLOOR, &samples));
    }
    Ok(figures)
}

fn engine(handler: &Path, threads: usize, events: u64) -> Result<Sample> {
    let dir = site::folder()?;
    let file = dir.path().join("tidemill.toml");
    let config = format!(
        r#"
[connections.memory]
amqp = "amqp://127.0.0.1:1/%2f"
[functions.work]
component = "{handler}"
[triggers.work]
function = "work"
amqp = {{ connection = "memory", queue = "work" }}
"#,
        handler = handler.display(),
    );
    fs::write(&file, config)?;
    let plan = tidemill_config::load(&file)
        .map_err(|_| anyhow!("the configuration is wrong"))?
        .plan;
    fs::create_dir_all(&plan.engine.data)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let Assembled {
            dispatcher,
            journal,
            ..
        } = assemble::assemble(&plan, Selection::All, Compiler::Here, &stop)
            .await
            .map_err(StartErrors::into_error)?;
        let driver = dispatcher.clone();
        let driver = tokio::spawn(async move { driver.drive(Duration::from_secs(10)).await });
        let intake = Arc::new(EngineIntake::new(dispatcher, 0, stop.clone()));
        hold(&intake, events / 10).await?;
        let timer = measure::Timer::here()?;
        hold(&intake, events).await?;
        let sample = timer.stop(events)?;
        stop.cancel();
        driver.await?;
        journal.close();
        Ok(sample)
    })
}

/// Holds so many events, and returns when all are settled. One task, as connectors do it: what is settled
/// makes room for as many, which are held together.
async fn hold(intake: &Arc<EngineIntake>, events: u64) -> Result<()> {
    let intake = intake.clone();
    let data = Bytes::from(vec![b'x'; BYTES]);
    let source = async move {
        let (settlements, mut told) = (Arc::new(Settlements::default()), Vec::new());
        let (mut next, mut holding) = (0, HashMap::new());
        loop {
            let room = HELD.saturating_sub(holding.len()) as u64;
            let numbers = next..events.min(next + room);
            next = numbers.end;
            let new = numbers.clone().map(|n| (n, held(n, data.clone())));
            let tickets = intake.hold_all(new.collect(), &settlements);
            holding.extend(numbers.zip(tickets));
            if holding.is_empty() {
                return Ok(());
            }
            settlements.next(&mut told).await;
            for (number, settlement) in told.drain(..) {
                ensure!(settlement == Settlement::Settle, "the engine stopped");
                holding.remove(&number);
            }
        }
    };
    tokio::spawn(source).await.context("the source broke")?
}

fn held(n: u64, data: Bytes) -> Held {
    Held {
        source: SOURCE.to_owned(),
        event: Event {
            id: format!("{n:024}"),
            source: SOURCE.to_owned(),
            kind: "amqp.message".to_owned(),
            subject: Some("work".to_owned()),
            time: Timestamp(1_700_000_000_000),
            datacontenttype: None,
            traceparent: None,
            hops: 0,
            headers: Vec::new(),
            data,
        },
        stable: false,
        position: None,
    }
}
