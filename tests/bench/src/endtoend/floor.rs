//! The bare way of an event: into the file, through the handler, out of the file. One thread brings events, two call
//! the handler, and the file has one of its own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};
use tokio::{runtime::Builder, sync::mpsc};

use super::{BYTES, KIND};
use crate::{
    commits::Commits,
    guest::{Event, Guest},
    measure::{Sample, Timer},
    site,
};

const THREADS: usize = 2;

const TABLE: &str = "CREATE TABLE events (event INTEGER PRIMARY KEY, id TEXT, data BLOB) STRICT";

/// What is to be durable.
enum Step {
    Accept(Work),
    Complete(u64),
}

/// An event.
struct Work {
    event: u64,
    id: String,
    data: Arc<[u8]>,
}

/// Brings so many events all the way, after a tenth of them to warm up.
pub fn run(guest: &Guest, events: u64) -> Result<Sample> {
    pass(guest, events / 10)?;
    pass(guest, events)
}

fn pass(guest: &Guest, events: u64) -> Result<Sample> {
    let dir = site::folder()?;
    let completed = Arc::new(AtomicU64::new(0));
    // What waits in them is no more than what there is.
    let (ready, works): (Vec<_>, Vec<_>) = (0..THREADS)
        .map(|_| mpsc::unbounded_channel::<Work>())
        .unzip();
    let counted = completed.clone();
    let commits = Commits::open(&dir.path().join("floor.db"), TABLE, write, move |group| {
        for step in group {
            match step {
                Step::Accept(work) => drop(ready[work.event as usize % THREADS].send(work)),
                Step::Complete(_) => drop(counted.fetch_add(1, Ordering::Relaxed)),
            }
        }
    })?;
    let sender = &commits.sender;
    let timer = Timer::here()?;
    std::thread::scope(|scope| {
        let bringer = scope.spawn(move || {
            let data: Arc<[u8]> = vec![b'x'; BYTES].into();
            for event in 0..events {
                let id = format!("{event:024}");
                let data = data.clone();
                sender.blocking_send(Step::Accept(Work { event, id, data }))?;
            }
            anyhow::Ok(())
        });
        let workers: Vec<_> = works
            .into_iter()
            .map(|works| scope.spawn(move || work(guest, works, sender, events)))
            .collect();
        bringer.join().expect("it does not panic")?;
        for worker in workers {
            worker.join().expect("it does not panic")?;
        }
        anyhow::Ok(())
    })?;
    commits.close()?;
    ensure!(
        completed.load(Ordering::Relaxed) == events,
        "not all events were completed"
    );
    timer.stop(events)
}

/// Works off what comes to one thread: each of them in turn.
fn work(
    guest: &Guest,
    mut works: mpsc::UnboundedReceiver<Work>,
    sender: &mpsc::Sender<Step>,
    events: u64,
) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        loop {
            let work = works.recv().await.context("the file has closed")?;
            guest
                .call(Event::new(&work.id, "function:emitter", KIND, &work.data))
                .await?;
            sender.send(Step::Complete(work.event)).await?;
            if work.event + THREADS as u64 >= events {
                return Ok(());
            }
        }
    })
}

fn write(connection: &Connection, step: &Step) -> rusqlite::Result<()> {
    match step {
        Step::Accept(Work { event, id, data }) => {
            let insert = "INSERT INTO events (event, id, data) VALUES (?1, ?2, ?3)";
            let mut insert = connection.prepare_cached(insert)?;
            insert.execute(params![event.cast_signed(), id, &data[..]])?;
        }
        Step::Complete(event) => {
            let mut delete = connection.prepare_cached("DELETE FROM events WHERE event = ?1")?;
            delete.execute([event.cast_signed()])?;
        }
    }
    Ok(())
}
